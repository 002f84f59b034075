//! Needs against hosts made by hand: each item at its edge, its command, its reach.

use std::net::SocketAddr;

use super::*;
use crate::preflight::facts::{Limit, Listener, ServerFacts, SourceTrial};
use crate::preflight::fake::{host, probe, set};
use crate::preflight::judge;
use crate::preflight::plan::Role;
use crate::preflight::report::{Evidence, Report, Verdict};

fn plan(connections: u64) -> Plan {
    Plan { connections, ..Plan::default() }
}

/// A plan with one named source and one destination: ports are scarce.
fn narrow(connections: u64) -> Plan {
    Plan {
        sources: "127.0.0.1".parse().unwrap(),
        targets: vec!["127.0.0.11:8080".parse().unwrap()],
        replicas: 1,
        role: Role::Generator,
        ..plan(connections)
    }
}

fn check(plan: &Plan, host: &HostFacts) -> Report {
    judge(plan, host.clone(), &Profile::built_in())
}

fn item(plan: &Plan, host: &HostFacts, id: &str) -> Item {
    check(plan, host).item(id).unwrap_or_else(|| panic!("no item {id}")).clone()
}

#[test]
fn a_hundred_thousand_fit_on_the_plain_machine() {
    let report = check(&plan(100_000), &host());
    let bad: Vec<_> = report.problems().collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Ok, 0));
}

#[test]
fn ids_are_unique_and_every_problem_has_a_command() {
    let mut tight = host();
    for key in ["net.core.somaxconn", "net.netfilter.nf_conntrack_max", "fs.file-max"] {
        set(&mut tight, key, "10");
    }
    let report = check(&plan(10_000_000), &tight);
    let mut ids: Vec<&str> = report.items.iter().map(|i| i.id).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(report.problems().count() > 4);
    for item in report.problems() {
        assert!(item.fix.is_some(), "{}", item.id);
        assert!(!item.needed.is_empty() && !item.formula.is_empty(), "{}", item.id);
    }
}

#[test]
fn ports_fit_to_the_last_one() {
    let fits = item(&narrow(28_232), &host(), "ports");
    assert_eq!((fits.verdict, fits.holds, fits.fix), (Verdict::Ok, Some(28_232), None));
    let over = item(&narrow(28_233), &host(), "ports");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    let fix = r#"sysctl -w net.ipv4.ip_local_port_range="1024 65535""#;
    assert_eq!(over.fix.as_deref(), Some(fix));
    // The widened range loses the three ports of the replicas.
    assert_eq!(over.could_hold, Some(64_509));
}

#[test]
fn more_than_a_widened_range_needs_more_sources() {
    let over = item(&narrow(64_510), &host(), "ports");
    assert!(over.fix.unwrap().contains("2 source addresses"));
    let more = Plan { sources: "127.0.0.1,127.0.0.2".parse().unwrap(), ..narrow(56_464) };
    assert_eq!(item(&more, &host(), "ports").verdict, Verdict::Ok);
}

#[test]
fn a_source_that_does_not_bind_counts_for_nothing() {
    let mut host = host();
    let bad = SourceTrial {
        address: "10.9.9.9".parse().unwrap(),
        error: Some("Cannot assign requested address".to_owned()),
    };
    let good = SourceTrial { address: "127.0.0.1".parse().unwrap(), error: None };
    host.trials.sources = vec![good, bad];
    let plan = Plan { sources: "127.0.0.1,10.9.9.9".parse().unwrap(), ..narrow(30_000) };
    let found = item(&plan, &host, "sources");
    assert_eq!((found.verdict, found.evidence), (Verdict::DoesNotFit, Evidence::Tried));
    assert_eq!(found.fix.as_deref(), Some("ip address add 10.9.9.9/32 dev <device>"));
    assert_eq!(item(&plan, &host, "ports").holds, Some(28_232));
}

#[test]
fn half_of_the_range_is_advice() {
    let over = item(&narrow(14_117), &host(), "half_range");
    assert_eq!((over.verdict, over.required), (Verdict::DoesNotFit, false));
    assert_eq!(item(&narrow(14_116), &host(), "half_range").verdict, Verdict::Ok);
}

#[test]
fn conntrack_holds_what_is_left_of_it() {
    let fits = item(&plan(262_129), &host(), "conntrack");
    assert_eq!((fits.verdict, fits.holds), (Verdict::Ok, Some(262_129)));
    assert_eq!(fits.evidence, Evidence::Tried);
    let over = item(&plan(262_130), &host(), "conntrack");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    assert_eq!(over.fix.as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_max=2097152"));
    let huge = item(&plan(5_000_000), &host(), "conntrack");
    assert_eq!(huge.fix.as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_max=5000015"));
    let churning = Plan { closes_per_s: 1_000, ..plan(150_000) };
    assert_eq!(item(&churning, &host(), "conntrack").verdict, Verdict::DoesNotFit);
}

#[test]
fn conntrack_bounds_nothing_where_it_does_not_track_or_is_not_there() {
    let mut idle = host();
    if let Some(Ok(trial)) = &mut idle.trials.sockets {
        trial.conntrack_rise = Some(3);
    }
    let found = item(&plan(1_000_000), &idle, "conntrack");
    assert_eq!((found.verdict, found.holds, found.evidence), (Verdict::Ok, None, Evidence::Tried));
    let mut absent = host();
    absent.settings.retain(|key, _| !key.starts_with("net.netfilter"));
    absent.conntrack_count = None;
    assert_eq!(item(&plan(1_000_000), &absent, "conntrack").actual, "not loaded");
}

#[test]
fn a_trial_that_could_not_run_means_conntrack_counts() {
    let mut host = host();
    host.trials.sockets = Some(Err("no descriptor is free".to_owned()));
    let found = item(&plan(300_000), &host, "conntrack");
    assert_eq!((found.verdict, found.evidence), (Verdict::DoesNotFit, Evidence::Read));
    assert_eq!(item(&plan(1), &host, "connect_rate").verdict, Verdict::CannotTell);
}

#[test]
fn direct_descriptors_want_workers_and_not_a_limit() {
    let found = item(&plan(100_000), &host(), "workers");
    assert_eq!((found.verdict, found.needed.as_str()), (Verdict::Ok, "6 workers"));
    let one = Plan { workers: 1, ..plan(100_000) };
    let found = item(&one, &host(), "workers");
    assert_eq!(found.fix.as_deref(), Some("run with --workers 6"));
    assert_eq!(found.holds, Some(19_936));
}

#[test]
fn a_generator_on_epoll_is_bound_by_its_process() {
    let mut host = host();
    let mut epoll = probe();
    epoll.io_uring = false;
    epoll.engine = "epoll".to_owned();
    epoll.error = Some("io_uring_setup: EPERM".to_owned());
    host.trials.probe = Some(Ok(epoll));
    host.seccomp = Some(2);
    let report = check(&plan(100_000), &host);
    assert_eq!(report.item("descriptors").unwrap().holds, Some(19_936));
    let ring = report.item("io_uring").unwrap();
    assert!(!ring.required && ring.fix.as_ref().unwrap().contains("seccomp"), "{ring:?}");
}

#[test]
fn io_uring_that_is_switched_off_names_the_switch() {
    let mut host = host();
    set(&mut host, "kernel.io_uring_disabled", "2");
    let failed = facts_probe("io_uring_setup: EPERM");
    host.trials.probe = Some(Ok(failed));
    let found = item(&plan(10), &host, "io_uring");
    assert_eq!(found.fix.as_deref(), Some("sysctl -w kernel.io_uring_disabled=0"));
    assert_eq!(found.verdict, Verdict::DoesNotFit);
}

fn facts_probe(error: &str) -> crate::preflight::facts::Probe {
    crate::preflight::facts::Probe {
        engine: "none".to_owned(),
        error: Some(error.to_owned()),
        ..Default::default()
    }
}

#[test]
fn a_silent_probe_cannot_tell_and_a_missing_feature_names_its_kernel() {
    let mut host = host();
    host.trials.probe = Some(Err("loadgen --probe did not start".to_owned()));
    let report = check(&plan(10), &host);
    assert_eq!((report.verdict, report.exit_code()), (Verdict::CannotTell, 4));
    let mut old = probe();
    old.features.insert("defer_taskrun".to_owned(), false);
    host.trials.probe = Some(Ok(old));
    let found = item(&plan(10), &host, "io_uring_features");
    assert!(found.actual.contains("Linux 6.1"), "{}", found.actual);
}

#[test]
fn a_server_with_ordinary_descriptors_needs_limit_or_replicas() {
    let server = |replicas| Plan { role: Role::Server, replicas, ..plan(100_000) };
    assert_eq!(item(&server(6), &host(), "server_descriptors").verdict, Verdict::Ok);
    let over = item(&server(5), &host(), "server_descriptors");
    assert_eq!((over.verdict, over.holds), (Verdict::DoesNotFit, Some(5 * 19_936)));
    assert!(over.note.unwrap().contains("--replicas 6"));
    let mut soft = host();
    soft.nofile = Limit { soft: 1_024, hard: 524_288 };
    let fits = item(&server(5), &soft, "server_descriptors");
    assert_eq!((fits.verdict, fits.holds), (Verdict::Ok, Some(5 * (524_288 - 64))));
    let advice = item(&server(5), &soft, "server_soft_limit");
    assert_eq!((advice.required, advice.fix.as_deref()), (false, Some("ulimit -n 20064")));
}

#[test]
fn a_running_server_is_judged_by_its_own_limits() {
    let mut host = host();
    let server = ServerFacts {
        pid: 77,
        name: "beam.smp".to_owned(),
        nofile: Limit { soft: 1_024, hard: 4_096 },
        open: Some(30),
        same_network: Some(false),
        cgroup: Default::default(),
    };
    host.servers = vec![Ok(server), Err("process 78: gone".to_owned())];
    let plan = Plan { role: Role::Server, server_pids: vec![77, 78], ..plan(10_000) };
    let report = check(&plan, &host);
    let found = report.item("server_process").unwrap();
    assert_eq!(found.fix.as_deref(), Some("prlimit --pid 77 --nofile=5064:5064"));
    assert!(found.note.as_ref().unwrap().contains("nsenter -t 77 -n"));
    assert!(report.items.iter().any(|i| i.verdict == Verdict::CannotTell && i.id == found.id));
    assert!(report.item("server_descriptors").is_none());
}

#[test]
fn the_accept_queue_holds_a_stall() {
    let one = |ramp_per_s| Plan {
        ramp_per_s,
        targets: vec!["127.0.0.11:8080".parse::<SocketAddr>().unwrap()],
        ..plan(10)
    };
    assert_eq!(item(&one(20_480), &host(), "somaxconn").verdict, Verdict::Ok);
    let over = item(&one(20_485), &host(), "somaxconn");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    assert!(over.note.unwrap().contains("stall after 4097"));
    let huge = item(&one(1_000_000), &host(), "somaxconn");
    assert_eq!(huge.fix.as_deref(), Some("sysctl -w net.core.somaxconn=200000"));
    let cookies = item(&one(20_485), &host(), "tcp_max_syn_backlog");
    assert!(!cookies.required);
    let mut bare = host();
    set(&mut bare, "net.ipv4.tcp_syncookies", "0");
    assert!(item(&one(20_485), &bare, "tcp_max_syn_backlog").required);
}

#[test]
fn a_listener_keeps_the_backlog_it_was_made_with() {
    let mut host = host();
    let at = |address: &str, backlog| Listener { address: address.to_owned(), queued: 0, backlog };
    host.listeners =
        Some(vec![at("127.0.0.11:8080", 128), at("0.0.0.0:8080", 511), at("127.0.0.1:22", 5)]);
    let plan = Plan { ramp_per_s: 20_000, ..plan(10) };
    let found = item(&plan, &host, "listener_backlog");
    assert_eq!(
        (found.verdict, found.actual.as_str()),
        (Verdict::DoesNotFit, "128 at 127.0.0.11:8080")
    );
    host.listeners = Some(vec![at("127.0.0.1:22", 5)]);
    assert!(check(&plan, &host).item("listener_backlog").is_none());
}

#[test]
fn churn_without_reuse_is_bound_by_time_wait() {
    let mut host = host();
    let churning = |closes_per_s| Plan { closes_per_s, ..narrow(100) };
    assert_eq!(item(&churning(9_999), &host, "churn").verdict, Verdict::Ok, "2: on loopback");
    set(&mut host, "net.ipv4.tcp_tw_reuse", "0");
    assert_eq!(item(&churning(470), &host, "churn").verdict, Verdict::Ok);
    let over = item(&churning(471), &host, "churn");
    assert!(over.fix.unwrap().starts_with("sysctl -w net.ipv4.tcp_tw_reuse=1"));
    set(&mut host, "net.ipv4.tcp_tw_reuse", "1");
    set(&mut host, "net.ipv4.tcp_timestamps", "0");
    assert_eq!(item(&churning(471), &host, "churn").verdict, Verdict::DoesNotFit);
}

#[test]
fn time_wait_buckets_are_raised_and_never_lowered() {
    let churning = Plan { closes_per_s: 3_000, ..plan(10) };
    let over = item(&churning, &host(), "tcp_max_tw_buckets");
    assert_eq!(over.fix.as_deref(), Some("sysctl -w net.ipv4.tcp_max_tw_buckets=1048576"));
    let mut large = host();
    set(&mut large, "net.ipv4.tcp_max_tw_buckets", "9000000");
    let report = check(&churning, &large);
    let tuning = report.tuning.iter().find(|t| t.key == "net.ipv4.tcp_max_tw_buckets").unwrap();
    assert!(!tuning.differs);
}

#[test]
fn memory_bounds_the_plan_and_a_cgroup_may_be_tighter() {
    let plan = plan(100_000);
    let roomy = item(&plan, &host(), "memory");
    assert_eq!(roomy.verdict, Verdict::Ok);
    let mut small = host();
    small.memory_available_bytes = 6 << 30;
    let over = item(&plan, &small, "memory");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    let holds = over.holds.unwrap();
    assert!((60_000..100_000).contains(&holds), "{holds}");
    assert_eq!(
        item(&Plan { connections: holds, ..plan.clone() }, &small, "memory").verdict,
        Verdict::Ok
    );
    let mut bound = host();
    bound.cgroup.memory_limit_bytes = Some(1 << 30);
    let over = item(&plan, &bound, "cgroup_memory");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    assert!(over.holds.unwrap() < 20_000);
}

#[test]
fn what_a_namespace_cannot_see_is_cannot_tell_and_says_so() {
    let mut inner = host();
    inner.initial_network = false;
    inner.settings.retain(|k, _| k != "net.ipv4.tcp_max_orphans" && k != "net.ipv4.tcp_mem");
    let orphans = item(&plan(1_000), &inner, "tcp_max_orphans");
    assert_eq!(orphans.verdict, Verdict::CannotTell);
    assert!(orphans.note.unwrap().contains("not visible in this network namespace"));
    let idle = item(&plan(1_000), &inner, "tcp_mem");
    assert!(!idle.required, "an idle plan does not hang on it");
    let busy = Plan { rate_per_s: 1_000_000, ..plan(1_000_000) };
    assert!(item(&busy, &inner, "tcp_mem").required);
}

#[test]
fn a_read_only_setting_is_out_of_reach_and_bounds_what_could_be() {
    let mut inner = host();
    inner.container = Some("docker".to_owned());
    inner.settings.get_mut("net.netfilter.nf_conntrack_max").unwrap().writable = false;
    let over = item(&plan(300_000), &inner, "conntrack");
    assert!(over.note.unwrap().contains("read-only in this container: set it on the host"));
    assert_eq!(over.could_hold, Some(262_129));
    inner.root = false;
    let over = item(&plan(300_000), &inner, "conntrack");
    assert!(over.note.unwrap().contains("needs root"));
    assert_eq!(over.could_hold, None);
}

#[test]
fn neighbours_matter_off_loopback_only() {
    let near = item(&plan(1_000), &host(), "neighbours");
    assert_eq!(near.verdict, Verdict::Ok);
    let targets = (0..1_100u32).map(|i| SocketAddr::from(((0x0a00_0001 + i).to_be_bytes(), 80)));
    let far = Plan { targets: targets.collect(), ..plan(1_000) };
    let over = item(&far, &host(), "neighbours");
    assert_eq!(over.verdict, Verdict::DoesNotFit);
    assert!(over.fix.unwrap().contains("gc_thresh1=4096 && sysctl"));
}

#[test]
fn tuning_shows_the_value_beside_the_wanted_one() {
    let report = check(&plan(100_000), &host());
    let of = |key: &str| report.tuning.iter().find(|t| t.key == key).unwrap();
    let range = of("net.ipv4.ip_local_port_range");
    assert_eq!((range.wanted.as_str(), range.differs), ("1024 65535", true));
    assert_eq!(range.actual.as_deref(), Some("32768 60999"));
    assert!(!of("fs.nr_open").differs);
    let server = Plan { role: Role::Server, ..plan(10) };
    assert!(!check(&server, &host()).tuning.iter().any(|t| t.key.contains("port_range")));
}

#[test]
fn the_summary_names_the_largest_plans_and_what_bounds_them() {
    let report = check(&narrow(100_000), &host());
    assert_eq!(report.exit_code(), 1);
    let text = report.summary();
    assert!(text.contains("28,232 connections (ports) as it is"), "{text}");
    assert!(text.contains("64,509 connections (ports) as it could be"), "{text}");
}

#[test]
fn zero_and_enormous_plans_do_not_overflow() {
    for connections in [0, 1, u64::MAX / 2, u64::MAX] {
        for role in [Role::Generator, Role::Server, Role::Both] {
            let plan = Plan {
                role,
                replicas: 0,
                rate_per_s: u64::MAX,
                ramp_per_s: u64::MAX,
                closes_per_s: u64::MAX,
                ..plan(connections)
            };
            let mut bare = host();
            bare.settings.clear();
            bare.page_bytes = 0;
            bare.nofile = Limit { soft: 0, hard: u64::MAX };
            for host in [host(), bare] {
                assert!(!check(&plan, &host).summary().is_empty());
            }
        }
    }
}
