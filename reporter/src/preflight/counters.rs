//! The kernel's counters that explain a bad number, read around phases and each second of a run.
//!
//! They belong to a whole network namespace (softnet: to the host), not to one program. This file
//! knows the formats under /proc and no clock: the caller says what time it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: $kind:ident $(, $meaning:literal)?;)*) => {
        /// One reading, or the difference of two. A counter that this kernel lacks stays 0.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct Counters {
            /// When it was read on the caller's clock, ns; in a difference: the time between.
            pub at_ns: u64,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            /// Column names, `at_ns` first.
            pub const NAMES: &'static [&'static str] = &["at_ns", $(stringify!($field)),*];

            /// The fields in the order of `NAMES`.
            pub fn values(&self) -> Vec<u64> {
                vec![self.at_ns, $(self.$field),*]
            }

            /// What happened since `earlier`; gauges keep their present value.
            pub fn delta(&self, earlier: &Counters) -> Counters {
                Counters {
                    at_ns: self.at_ns.saturating_sub(earlier.at_ns),
                    $($field: counters!(@delta $kind self earlier $field),)*
                }
            }

            /// The counters that rose in this difference and say why a figure is bad.
            pub fn findings(&self) -> Vec<Finding> {
                let mut found = Vec::new();
                $($(if self.$field > 0 {
                    found.push(Finding {
                        counter: stringify!($field),
                        value: self.$field,
                        text: $meaning,
                    });
                })?)*
                found
            }
        }
    };
    (@delta count $new:ident $old:ident $field:ident) => {
        $new.$field.saturating_sub($old.$field)
    };
    (@delta gauge $new:ident $old:ident $field:ident) => { $new.$field };
}

counters! {
    /// TcpExt ListenOverflows.
    listen_overflows: count, "connections met a full accept queue: the server accepted too slowly \
        for its backlog (somaxconn and its own listen argument)";
    /// TcpExt ListenDrops.
    listen_drops: count, "SYNs or final ACKs were dropped by a listening socket";
    /// TcpExt TCPTimeouts.
    tcp_timeouts: count, "retransmission timers expired: packets were lost or a peer was silent";
    /// TcpExt TCPSynRetrans.
    tcp_syn_retrans: count, "SYNs were sent again: those connects took a second or longer";
    /// Tcp RetransSegs.
    retrans_segs: count, "segments were sent again";
    /// Tcp OutSegs.
    out_segs: count;
    /// Tcp InErrs.
    in_errs: count, "segments arrived damaged";
    /// Tcp OutRsts.
    out_rsts: count;
    /// Tcp AttemptFails.
    attempt_fails: count, "connects failed";
    /// Tcp EstabResets.
    estab_resets: count;
    /// TcpExt TCPReqQFullDrop.
    req_q_full_drop: count, "SYNs met a full SYN queue (tcp_max_syn_backlog, somaxconn)";
    /// TcpExt TCPTimeWaitOverflow.
    tw_overflow: count, "TIME_WAIT was cut short (tcp_max_tw_buckets)";
    /// TcpExt TCPAbortOnMemory.
    abort_on_memory: count, "connections were ended for want of memory (tcp_mem, \
        tcp_max_orphans)";
    /// TcpExt TCPMemoryPressures.
    memory_pressures: count, "TCP came under memory pressure (tcp_mem)";
    /// TcpExt PruneCalled.
    prune_called: count, "receive queues were pruned: a socket's buffer was full";
    /// TcpExt RcvPruned.
    rcv_pruned: count, "received data was thrown away for want of buffer";
    /// TcpExt OfoPruned.
    ofo_pruned: count, "out-of-order data was thrown away for want of buffer";
    /// TcpExt TCPBacklogDrop.
    backlog_drop: count, "segments were dropped at a busy socket's backlog";
    /// TcpExt TCPRcvQDrop.
    rcvq_drop: count, "segments were dropped at a full receive queue";
    /// Packets dropped by a full per-core backlog (softnet_stat, column 2).
    softnet_dropped: count, "packets were dropped at a core's backlog (netdev_max_backlog)";
    /// Times a core stopped receiving with work left (softnet_stat, column 3).
    softnet_squeezed: count;
    /// Conntrack drops: most often the table is full.
    conntrack_drop: count, "connection tracking dropped packets (nf_conntrack_max)";
    /// Conntrack entries that were evicted for new ones.
    conntrack_early_drop: count, "connection tracking evicted entries (nf_conntrack_max)";
    /// Conntrack entries that could not be inserted.
    conntrack_insert_failed: count, "connection tracking refused entries";
    /// Tracked connections.
    conntrack_count: gauge;
    /// TCP sockets in use.
    tcp_inuse: gauge;
    /// Orphaned TCP sockets.
    tcp_orphan: gauge;
    /// Sockets in TIME_WAIT.
    tcp_tw: gauge;
    /// TCP sockets allocated.
    tcp_alloc: gauge;
    /// Pages of TCP buffer memory.
    tcp_mem_pages: gauge;
    /// Established connections.
    curr_estab: gauge;
    /// Open files of the host.
    files_open: gauge;
    /// MemAvailable.
    mem_available_bytes: gauge;
    /// Slab memory, sockets among it.
    slab_bytes: gauge;
}

/// A counter that rose, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The field's name.
    pub counter: &'static str,
    /// By how much it rose.
    pub value: u64,
    /// What it means, with the setting to look at.
    pub text: &'static str,
}

impl Counters {
    /// Reads the counters of this process's network namespace.
    pub fn read(at_ns: u64) -> io::Result<Counters> {
        Self::read_at(Path::new("/proc"), &PathBuf::from("self/net"), at_ns)
    }

    /// Reads those of the network namespace that process `pid` lives in.
    pub fn read_for(pid: u32, at_ns: u64) -> io::Result<Counters> {
        Self::read_at(Path::new("/proc"), &PathBuf::from(format!("{pid}/net")), at_ns)
    }

    fn read_at(proc: &Path, net: &Path, at_ns: u64) -> io::Result<Counters> {
        let net = proc.join(net);
        let netstat = fs::read_to_string(net.join("netstat"))?;
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let mut c = Counters { at_ns, ..Counters::default() };
        c.take_netstat(&netstat);
        c.take_snmp(&text(net.join("snmp")));
        c.take_softnet(&text(net.join("softnet_stat")));
        c.take_conntrack(&text(net.join("stat/nf_conntrack")));
        c.take_sockstat(&text(net.join("sockstat")));
        c.take_meminfo(&text(proc.join("meminfo")));
        let files = text(proc.join("sys/fs/file-nr"));
        c.files_open = files.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(c)
    }

    /// The header of a CSV file, without a newline.
    pub fn csv_header() -> String {
        Self::NAMES.join(",")
    }

    /// One row of it, without a newline.
    pub fn csv_row(&self) -> String {
        let all: Vec<String> = self.values().iter().map(u64::to_string).collect();
        all.join(",")
    }

    fn take_netstat(&mut self, text: &str) {
        let get = |name| named(text, "TcpExt:", name);
        self.listen_overflows = get("ListenOverflows");
        self.listen_drops = get("ListenDrops");
        self.tcp_timeouts = get("TCPTimeouts");
        self.tcp_syn_retrans = get("TCPSynRetrans");
        self.req_q_full_drop = get("TCPReqQFullDrop");
        self.tw_overflow = get("TCPTimeWaitOverflow");
        self.abort_on_memory = get("TCPAbortOnMemory");
        self.memory_pressures = get("TCPMemoryPressures");
        self.prune_called = get("PruneCalled");
        self.rcv_pruned = get("RcvPruned");
        self.ofo_pruned = get("OfoPruned");
        self.backlog_drop = get("TCPBacklogDrop");
        self.rcvq_drop = get("TCPRcvQDrop");
    }

    fn take_snmp(&mut self, text: &str) {
        let get = |name| named(text, "Tcp:", name);
        self.retrans_segs = get("RetransSegs");
        self.out_segs = get("OutSegs");
        self.in_errs = get("InErrs");
        self.out_rsts = get("OutRsts");
        self.attempt_fails = get("AttemptFails");
        self.estab_resets = get("EstabResets");
        self.curr_estab = get("CurrEstab");
    }

    fn take_softnet(&mut self, text: &str) {
        let column = |n: usize| -> u64 {
            let cells = text.lines().filter_map(|l| l.split_whitespace().nth(n));
            cells.filter_map(|c| u64::from_str_radix(c, 16).ok()).sum()
        };
        self.softnet_dropped = column(1);
        self.softnet_squeezed = column(2);
    }

    /// One row a core; the entries column repeats the same total in each.
    fn take_conntrack(&mut self, text: &str) {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        for line in lines {
            for (name, cell) in names.iter().zip(line.split_whitespace()) {
                let value = u64::from_str_radix(cell, 16).unwrap_or(0);
                match *name {
                    "entries" => self.conntrack_count = value,
                    "drop" => self.conntrack_drop += value,
                    "early_drop" => self.conntrack_early_drop += value,
                    "insert_failed" => self.conntrack_insert_failed += value,
                    _ => {}
                }
            }
        }
    }

    fn take_sockstat(&mut self, text: &str) {
        let line = text.lines().find(|l| l.starts_with("TCP:")).unwrap_or("");
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.get(1..).unwrap_or(&[]).chunks_exact(2) {
            let value = pair[1].parse().unwrap_or(0);
            match pair[0] {
                "inuse" => self.tcp_inuse = value,
                "orphan" => self.tcp_orphan = value,
                "tw" => self.tcp_tw = value,
                "alloc" => self.tcp_alloc = value,
                "mem" => self.tcp_mem_pages = value,
                _ => {}
            }
        }
    }

    fn take_meminfo(&mut self, text: &str) {
        self.mem_available_bytes = meminfo(text, "MemAvailable:").unwrap_or(0);
        self.slab_bytes = meminfo(text, "Slab:").unwrap_or(0);
    }
}

/// One line of /proc/meminfo, in bytes.
pub(super) fn meminfo(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with(label))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// A value of /proc/net/netstat or /proc/net/snmp: a line of names, then one of numbers.
fn named(text: &str, prefix: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|l| l.starts_with(prefix));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let position = names.split_whitespace().position(|n| n == name);
    position
        .and_then(|i| values.split_whitespace().nth(i))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "TcpExt: PruneCalled ListenOverflows ListenDrops TCPSynRetrans\n\
        TcpExt: 1 20 21 7\nIpExt: InNoRoutes\nIpExt: 99\n";

    #[test]
    fn values_are_found_by_name_and_absent_ones_are_zero() {
        let mut c = Counters::default();
        c.take_netstat(NETSTAT);
        assert_eq!((c.prune_called, c.listen_overflows, c.listen_drops), (1, 20, 21));
        assert_eq!((c.tcp_syn_retrans, c.rcvq_drop), (7, 0));
    }

    #[test]
    fn a_negative_or_torn_line_is_not_a_number() {
        let mut c = Counters::default();
        c.take_snmp("Tcp: MaxConn RetransSegs OutSegs\nTcp: -1 5\n");
        assert_eq!((c.retrans_segs, c.out_segs), (5, 0));
        c.take_snmp("Tcp: RetransSegs");
        assert_eq!(c.retrans_segs, 0);
    }

    #[test]
    fn cores_add_up_and_hexadecimal_is_read() {
        let mut c = Counters::default();
        c.take_softnet("0000000f 0000000a 00000001\n00002a95 00000010 00000002\n");
        assert_eq!((c.softnet_dropped, c.softnet_squeezed), (26, 3));
        c.take_conntrack(
            "entries  clashres insert_failed drop early_drop\n\
             00000011 00000000 00000001 0000000a 00000000\n\
             00000011 00000000 00000002 00000001 00000003\n",
        );
        assert_eq!((c.conntrack_count, c.conntrack_drop), (17, 11));
        assert_eq!((c.conntrack_insert_failed, c.conntrack_early_drop), (3, 3));
    }

    #[test]
    fn a_difference_keeps_gauges_and_survives_a_reset() {
        let old = Counters { at_ns: 5, listen_drops: 9, tcp_inuse: 7, ..Counters::default() };
        let new = Counters { at_ns: 8, listen_drops: 4, tcp_inuse: 3, ..Counters::default() };
        let d = new.delta(&old);
        assert_eq!((d.at_ns, d.listen_drops, d.tcp_inuse), (3, 0, 3));
    }

    #[test]
    fn only_counters_that_rose_are_findings() {
        assert!(
            Counters { out_segs: 10, tcp_inuse: 4, ..Counters::default() }.findings().is_empty()
        );
        let found = Counters { listen_overflows: 2, ..Counters::default() }.findings();
        assert_eq!((found.len(), found[0].counter, found[0].value), (1, "listen_overflows", 2));
        assert!(found[0].text.contains("somaxconn"));
    }

    #[test]
    fn rows_and_header_have_the_same_columns() {
        let row = Counters::default().csv_row();
        assert_eq!(row.split(',').count(), Counters::csv_header().split(',').count());
        assert_eq!(Counters::NAMES.len(), Counters::default().values().len());
    }

    #[test]
    fn this_host_can_be_read() {
        let c = Counters::read(7).unwrap();
        assert_eq!(c.at_ns, 7);
        assert!(c.mem_available_bytes > 0 && c.files_open > 0);
        assert_eq!(Counters::read_for(std::process::id(), 7).unwrap().at_ns, 7);
        assert!(Counters::read_for(u32::MAX, 0).is_err());
    }
}
