//! The formulas: what a plan needs, as pure functions of numbers. No host, no text, no I/O.

/// How long TIME_WAIT lasts (Linux: TCP_TIMEWAIT_LEN, tcp.h).
pub const TIME_WAIT_S: u64 = 60;
/// How long conntrack keeps a closed connection unless told otherwise
/// (nf_conntrack_tcp_timeout_time_wait).
pub const CONNTRACK_TIME_WAIT_S: u64 = 120;
/// Descriptors that a process holds besides its connections: log, pipes, rings, libraries.
pub const DESCRIPTOR_MARGIN: u64 = 64;
/// Files of the host besides the plan's sockets, on top of those open already.
pub const FILE_MARGIN: u64 = 4_096;
/// Kernel memory a TCP socket, measured on Linux 6.18; used where it cannot be measured.
pub const KERNEL_SOCKET_BYTES: u64 = 4_300;
/// Kernel memory a tracked connection (struct nf_conn with extensions, and its two hash nodes).
pub const CONNTRACK_ENTRY_BYTES: u64 = 384;
/// The generator's own memory a connection, measured.
pub const GENERATOR_CONNECTION_BYTES: u64 = 600;
/// The generator's memory a worker: rings, receive buffers, log blocks.
pub const GENERATOR_WORKER_BYTES: u64 = 16 << 20;
/// Workers that the generator starts at most, where its probe does not say.
pub const WORKERS_MAX: u64 = 1_024;
/// Bytes that one busy connection queues in each direction: one request or answer with overhead.
pub const QUEUED_BYTES: u64 = 8_192;
/// Pages of tcp_mem that each core keeps in reserve (SK_MEMORY_PCPU_RESERVE is 1 MiB).
pub const TCP_MEM_CORE_PAGES: u64 = 256;
/// Packets of one connect over the wire, and of one request with its answer and ACKs.
pub const PACKETS_PER_CONNECT: u64 = 3;
/// See [`PACKETS_PER_CONNECT`].
pub const PACKETS_PER_REQUEST: u64 = 4;
/// A core that receives may be kept from its backlog for this long, in ms.
pub const SOFTIRQ_STALL_MS: u64 = 50;

/// Ports of a range, both ends included, without the reserved ones in it.
pub fn usable_ports(first: u64, last: u64, reserved: &[(u16, u16)]) -> u64 {
    if last < first {
        return 0;
    }
    let mut taken: Vec<(u64, u64)> = reserved
        .iter()
        .map(|(a, b)| (u64::from(*a).max(first), u64::from(*b).min(last)))
        .filter(|(a, b)| a <= b)
        .collect();
    taken.sort_unstable();
    let mut gone = 0;
    let mut next = first;
    for (a, b) in taken {
        let a = a.max(next);
        if a <= b {
            gone += b - a + 1;
            next = b + 1;
        }
    }
    last - first + 1 - gone
}

/// Connections that so many ports, source addresses and destinations give: P x S x D.
pub fn port_tuples(ports: u64, sources: u64, destinations: u64) -> u64 {
    ports.saturating_mul(sources).saturating_mul(destinations)
}

/// Source addresses that N connections need: ceil(N / (P x D)). `None` without a port.
pub fn sources_needed(connections: u64, ports: u64, destinations: u64) -> Option<u64> {
    shares(connections, ports.saturating_mul(destinations))
}

/// New connections a second that TIME_WAIT lets through without reuse: P x S x D / 60.
pub fn churn_per_s(ports: u64, sources: u64, destinations: u64) -> u64 {
    port_tuples(ports, sources, destinations) / TIME_WAIT_S
}

/// Sockets in TIME_WAIT at C closes a second: 60 x C.
pub fn time_wait_sockets(closes_per_s: u64) -> u64 {
    closes_per_s.saturating_mul(TIME_WAIT_S)
}

/// Connections that one process or ring holds under a descriptor limit.
pub fn under_limit(limit: u64) -> u64 {
    limit.saturating_sub(DESCRIPTOR_MARGIN)
}

/// Shares of at most `each` connections that N make. `None`: no number does.
pub fn shares(connections: u64, each: u64) -> Option<u64> {
    (each > 0).then(|| connections.div_ceil(each).max(1))
}

/// Processes that N connections need under a descriptor limit. `None`: no number does.
pub fn holders_needed(connections: u64, limit: u64) -> Option<u64> {
    shares(connections, under_limit(limit))
}

/// The descriptor limit that each of `holders` needs.
pub fn limit_needed(connections: u64, holders: u64) -> u64 {
    connections.div_ceil(holders.max(1)).saturating_add(DESCRIPTOR_MARGIN)
}

/// Files of the host: those open, the plan's sockets (both ends where both are here), a margin.
pub fn files_needed(open: u64, connections: u64, ends: u64) -> u64 {
    open.saturating_add(connections.saturating_mul(ends)).saturating_add(FILE_MARGIN)
}

/// Tracked connections: those there, one a connection (a loopback flow is tracked once), and the
/// closed ones that stay for a while.
pub fn conntrack_needed(present: u64, connections: u64, closes_per_s: u64, stay_s: u64) -> u64 {
    present.saturating_add(connections).saturating_add(closes_per_s.saturating_mul(stay_s))
}

/// What the accept queue of each of D destinations must hold while the server does not accept.
pub fn backlog_needed(ramp_per_s: u64, destinations: u64, stall_ms: u64) -> u64 {
    ramp_per_s.saturating_mul(stall_ms).div_ceil(1_000).div_ceil(destinations.max(1))
}

/// Pages of tcp_mem: what is really queued (idle sockets queue none), and each core's reserve.
pub fn tcp_pages_needed(busy: u64, ends: u64, page_bytes: u64, cores: u64) -> u64 {
    let queued = busy.saturating_mul(ends).saturating_mul(2 * QUEUED_BYTES);
    queued.div_ceil(page_bytes.max(1)).saturating_add(cores.saturating_mul(TCP_MEM_CORE_PAGES))
}

/// Connections with a request in flight: at most one second's worth, never more than there are.
pub fn busy_connections(connections: u64, rate_per_s: u64) -> u64 {
    connections.min(rate_per_s)
}

/// Packets that one core may find waiting after a stall.
pub fn burst_packets(ramp_per_s: u64, rate_per_s: u64, cores: u64) -> u64 {
    let connects = ramp_per_s.saturating_mul(PACKETS_PER_CONNECT);
    let each_s = connects.saturating_add(rate_per_s.saturating_mul(PACKETS_PER_REQUEST));
    (each_s / cores.max(1)).saturating_mul(SOFTIRQ_STALL_MS).div_ceil(1_000)
}

/// Memory that is not to be planned away: a twentieth, at least 256 MiB, at most 2 GiB.
pub fn memory_reserve(total: u64) -> u64 {
    (total / 20).clamp(256 << 20, 2 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_widened_ranges_have_the_known_sizes() {
        assert_eq!(usable_ports(32_768, 60_999, &[]), 28_232);
        assert_eq!(usable_ports(1_024, 65_535, &[]), 64_512);
        assert_eq!(usable_ports(5, 5, &[]), 1);
        assert_eq!(usable_ports(6, 5, &[]), 0);
    }

    #[test]
    fn reserved_ports_count_once_and_only_inside_the_range() {
        assert_eq!(usable_ports(100, 199, &[(150, 159), (155, 164)]), 85);
        assert_eq!(usable_ports(100, 199, &[(1, 99), (200, 300)]), 100);
        assert_eq!(usable_ports(100, 199, &[(0, 65_535)]), 0);
        assert_eq!(usable_ports(100, 199, &[(90, 100), (199, 210)]), 98);
        assert_eq!(usable_ports(100, 199, &[(110, 120), (112, 113), (130, 130)]), 88);
    }

    #[test]
    fn ports_multiply_without_overflow() {
        assert_eq!(port_tuples(28_232, 1, 1), 28_232);
        assert_eq!(port_tuples(64_512, 2, 12), 1_548_288);
        assert_eq!(port_tuples(u64::MAX, 2, 2), u64::MAX);
        assert_eq!(sources_needed(100_000, 28_232, 1), Some(4));
        assert_eq!(sources_needed(28_232, 28_232, 1), Some(1));
        assert_eq!(sources_needed(28_233, 28_232, 1), Some(2));
        assert_eq!(sources_needed(0, 28_232, 1), Some(1));
        assert_eq!(sources_needed(1, 0, 1), None);
    }

    #[test]
    fn a_limit_of_twenty_thousand_needs_six_holders_for_a_hundred_thousand() {
        assert_eq!(holders_needed(100_000, 20_000), Some(6));
        assert_eq!(holders_needed(19_936, 20_000), Some(1));
        assert_eq!(holders_needed(19_937, 20_000), Some(2));
        assert_eq!(holders_needed(1, DESCRIPTOR_MARGIN), None);
        assert_eq!(holders_needed(0, 20_000), Some(1));
        assert_eq!(holders_needed(5, u64::MAX), Some(1));
        for connections in [1, 999, 100_000, 1_000_001] {
            let limit = limit_needed(connections, 12);
            assert!(holders_needed(connections, limit).unwrap() <= 12);
        }
    }

    #[test]
    fn queues_and_time_wait_follow_the_rates() {
        assert_eq!(backlog_needed(20_000, 12, 200), 334);
        assert_eq!(backlog_needed(20_000, 1, 200), 4_000);
        assert_eq!(backlog_needed(0, 0, 200), 0);
        assert_eq!(backlog_needed(1, 1, 1), 1);
        assert_eq!(time_wait_sockets(1_000), 60_000);
        assert_eq!(churn_per_s(28_232, 1, 1), 470);
    }

    #[test]
    fn conntrack_counts_the_closed_ones_too() {
        assert_eq!(conntrack_needed(15, 100_000, 0, 120), 100_015);
        assert_eq!(conntrack_needed(0, 1_000, 100, 120), 13_000);
        assert_eq!(conntrack_needed(1, u64::MAX, 1, 1), u64::MAX);
    }

    #[test]
    fn idle_sockets_queue_no_pages() {
        assert_eq!(tcp_pages_needed(0, 2, 4_096, 2), 512);
        assert_eq!(tcp_pages_needed(1_000, 2, 4_096, 0), 8_000);
        assert_eq!(busy_connections(100, 5_000), 100);
        assert_eq!(busy_connections(100_000, 5_000), 5_000);
    }

    #[test]
    fn the_reserve_stays_within_its_bounds() {
        assert_eq!(memory_reserve(1 << 30), 256 << 20);
        assert_eq!(memory_reserve(20 << 30), 1 << 30);
        assert_eq!(memory_reserve(1 << 42), 2 << 30);
    }

    #[test]
    fn files_count_both_ends() {
        assert_eq!(files_needed(600, 100_000, 2), 600 + 200_000 + FILE_MARGIN);
        assert_eq!(burst_packets(10_000, 5_000, 2), 1_250);
        assert_eq!(burst_packets(10_000, 0, 0), 1_500);
    }
}
