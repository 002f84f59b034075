//! A host made by hand, for tests: a plain machine on which 100,000 connections fit.

use std::collections::BTreeMap;

use super::counters::Counters;
use super::facts::{
    Cgroup, ClockFacts, HostFacts, Limit, Probe, Setting, SockStat, SocketTrial, SourceTrial,
    Trials,
};

/// The machine.
pub fn host() -> HostFacts {
    HostFacts {
        host: "fake".to_owned(),
        kernel: "6.18.0".to_owned(),
        cpus_online: 4,
        cpus_allowed: 4,
        governors: Vec::new(),
        clocksource: Some("tsc".to_owned()),
        huge_pages: Some("madvise".to_owned()),
        irqbalance: Some(false),
        page_bytes: 4_096,
        memory_total_bytes: 24 << 30,
        memory_available_bytes: 22 << 30,
        cgroup: Cgroup { version: "v2".to_owned(), ..Cgroup::default() },
        nofile: Limit { soft: 20_000, hard: 20_000 },
        memlock: Limit { soft: 8 << 20, hard: 8 << 20 },
        may_raise_limits: false,
        root: true,
        seccomp: Some(0),
        files_open: Some(600),
        settings: settings(),
        sockstat: SockStat::default(),
        conntrack_count: Some(15),
        initial_network: true,
        container: None,
        listeners: None,
        counters: Counters::default(),
        servers: Vec::new(),
        clock: Some(ClockFacts {
            by: "chrony".to_owned(),
            synchronized: true,
            offset_us: Some(10.0),
            uncertainty_us: Some(100.0),
        }),
        trials: Trials {
            sources: vec![SourceTrial {
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                error: None,
            }],
            sockets: Some(Ok(SocketTrial {
                asked: 2_000,
                opened: 2_000,
                stopped_by: None,
                kernel_bytes_per_socket: Some(4_200),
                connects_per_s: 25_000,
                conntrack_rise: Some(2_000),
            })),
            probe: Some(Ok(probe())),
        },
    }
}

/// A generator that works.
pub fn probe() -> Probe {
    Probe {
        io_uring: true,
        engine: "io_uring".to_owned(),
        error: None,
        features: BTreeMap::from([("defer_taskrun".to_owned(), true)]),
        ring_table_max: 19_936,
        workers_max: Some(256),
        workers_for: BTreeMap::new(),
        memory_per_connection_bytes: Some(560),
        memory_per_worker_bytes: Some(8 << 20),
    }
}

/// Gives a setting a value.
pub fn set(host: &mut HostFacts, key: &str, value: &str) {
    let setting = Setting { value: value.to_owned(), writable: true };
    host.settings.insert(key.to_owned(), setting);
}

fn settings() -> BTreeMap<String, Setting> {
    let values = [
        ("net.ipv4.ip_local_port_range", "32768 60999"),
        ("net.ipv4.ip_local_reserved_ports", ""),
        ("net.ipv4.tcp_timestamps", "1"),
        ("net.ipv4.tcp_tw_reuse", "2"),
        ("net.ipv4.tcp_max_tw_buckets", "131072"),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.tcp_max_syn_backlog", "2048"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_max_orphans", "131072"),
        ("net.ipv4.tcp_mem", "287898 383867 575796"),
        ("net.ipv4.tcp_rmem", "4096 131072 33554432"),
        ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
        ("net.core.netdev_max_backlog", "1000"),
        ("net.ipv4.neigh.default.gc_thresh1", "128"),
        ("net.ipv4.neigh.default.gc_thresh2", "512"),
        ("net.ipv4.neigh.default.gc_thresh3", "1024"),
        ("net.netfilter.nf_conntrack_max", "262144"),
        ("net.netfilter.nf_conntrack_buckets", "262144"),
        ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "120"),
        ("fs.nr_open", "1048576"),
        ("fs.file-max", "2466170"),
        ("kernel.io_uring_disabled", "0"),
    ];
    let setting = |v: &str| Setting { value: v.to_owned(), writable: true };
    values.iter().map(|(k, v)| ((*k).to_owned(), setting(v))).collect()
}
