//! Which local address and port each connection starts from.
//!
//! A TCP connection is named by both ends, so N connections need N <= ports x source addresses x
//! destinations. The answer is solved before the run and each connection gets its own pair, so
//! that neither the kernel nor this program ever searches for a free port: with half of the range
//! in use that search costs most of the connect rate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

/// Ports that connections may start from: the host's range without the reserved ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<u16>);

impl Ports {
    /// From the texts of `ip_local_port_range` and `ip_local_reserved_ports`.
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace().map(|n| n.parse::<u16>());
        let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
        let mut taken = Vec::new();
        for part in reserved.trim().split(',').filter(|p| !p.is_empty()) {
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            taken.push(a.trim().parse::<u16>().ok()?..=b.trim().parse::<u16>().ok()?);
        }
        let ports = (first..=last).filter(|p| !taken.iter().any(|t| t.contains(p))).collect();
        Some(Self(ports))
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Where every connection starts from.
#[derive(Clone, Debug)]
pub struct Sources {
    addresses: Vec<IpAddr>,
    ports: Ports,
    destinations: u32,
    turns: Turns,
}

/// Pairs that a session has in turn on loopback, where addresses cost nothing: its next connection
/// does not meet what the kernel still remembers of its last one, and where somebody listens on one
/// of its ports, which bars that to everybody, it has others.
const TURNS: u32 = 4;

/// How a session comes to the pair of its next connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// It has [`TURNS`] of its own, and takes them in turn.
    Own,
    /// It goes around all of them, `cycle` pairs in number, by a long step: few enough others start
    /// there for the same destination, and the one after is another pair again.
    Around { cycle: u64, step: u64 },
    /// Every pair is needed for every destination: it has one only, shared with sessions for each
    /// other destination, and its way to another one is barred by them.
    Barred,
}

impl Turns {
    fn among(pairs: u64, connections: u32, destinations: u32) -> Self {
        let destinations = u64::from(destinations.max(1));
        // Whole rounds over the destinations, in a number without a divisor in common with theirs:
        // then those that share a pair are for different ones, by [`planned_target`].
        let rounds = (1..=pairs / destinations).rev().find(|&n| coprime(n, destinations));
        let cycle = rounds.unwrap_or(0) * destinations;
        if cycle * destinations < u64::from(connections) {
            return Self::Barred;
        }
        // Near the golden section, where multiples stay far from each other.
        let golden = (cycle as f64 * 0.618) as u64;
        let step = (golden..=golden + cycle).find(|&step| coprime(step, cycle)).unwrap_or(1);
        Self::Around { cycle, step }
    }
}

/// The target that a session is planned for. Round after round over the targets, each beginning one
/// further on: the targets of one round differ, as the planned ports want it, and every worker gets
/// sessions on every target, also where the numbers of both have a divisor in common. Its share of
/// the schedule then has somewhere to go while one target hangs.
pub fn planned_target(global: u32, count: u32) -> u16 {
    ((global % count + global / count) % count) as u16
}

/// Pairs that an attempt to connect tries before it counts as failed: with one in seven taken for a
/// target, as with 100,000 sessions on one address and 12 targets, one attempt in five million.
pub const PAIRS_TRIED_MAX: u8 = 8;

fn coprime(a: u64, b: u64) -> bool {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// A plan that no arrangement of ports can carry.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Serialize)]
#[error(
    "{connections} connections need more than {ports} local ports x {sources} source addresses x \
     {destinations} destinations = {most}: add --sources or targets, or widen \
     net.ipv4.ip_local_port_range"
)]
pub struct TooFewPorts {
    connections: u32,
    ports: u32,
    sources: u32,
    destinations: u32,
    most: u64,
}

impl Sources {
    /// Spreads `connections` over given source addresses. With `force`, connections beyond what the
    /// ports carry share pairs with others, and fail as they connect (EADDRNOTAVAIL).
    ///
    /// # Errors
    /// [`TooFewPorts`] with the numbers.
    pub fn given(
        connections: u32,
        addresses: Vec<IpAddr>,
        ports: Ports,
        destinations: u32,
        force: bool,
    ) -> Result<Self, TooFewPorts> {
        let sources = addresses.len() as u32;
        let pairs = u64::from(ports.count()) * u64::from(sources);
        let most = pairs * u64::from(destinations);
        if u64::from(connections) > most && !force {
            let ports = ports.count();
            return Err(TooFewPorts { connections, ports, sources, destinations, most });
        }
        let turns = Turns::among(pairs, connections, destinations);
        Ok(Self { addresses, ports, destinations, turns })
    }

    /// Takes as many loopback addresses as are needed, beginning at a block chosen by `seed` so
    /// that generators side by side do not meet. All of 127.0.0.0/8 can be bound as it is.
    pub fn loopback(connections: u32, ports: Ports, seed: u32) -> Self {
        let block = 64 + seed % 128;
        let needed = TURNS * connections.div_ceil(ports.count().max(1));
        let address = |n: u32| {
            let host = n + 1 + n / 254;
            IpAddr::V4(Ipv4Addr::from(127 << 24 | block << 16 | (host & 0xffff)))
        };
        let addresses = (0..needed).map(address).collect();
        Self { addresses, ports, destinations: 1, turns: Turns::Own }
    }

    /// Where connection number `use_number` of session `index` starts from.
    ///
    /// Never a port for the kernel to choose: `connect(2)` skips every port that any socket of any
    /// address has bound by number (`__inet_hash_connect`, kernel 6.18), so that where most ports
    /// are planned a connect without one finds none (EADDRNOTAVAIL).
    pub fn start(&self, index: u32, use_number: u32) -> SocketAddr {
        let (index, use_number) = (u64::from(index), u64::from(use_number));
        let ports = u64::from(self.ports.count());
        let ordinal = match self.turns {
            Turns::Own => {
                // Each turn has its addresses, and another port of each session.
                let turn = use_number % u64::from(TURNS);
                let first = self.addresses.len() as u64 / u64::from(TURNS) * ports * turn;
                let port = index + ports * turn / u64::from(TURNS);
                first + index / ports * ports + port % ports
            }
            Turns::Around { cycle, step } => (index + use_number * step) % cycle,
            Turns::Barred => index / u64::from(self.destinations),
        };
        let source = self.addresses[(ordinal / ports) as usize % self.addresses.len()];
        SocketAddr::new(source, self.ports.0[(ordinal % ports) as usize])
    }

    /// Whether a session has another pair where one is taken: by another session, or for good by a
    /// program that listens on that port.
    pub fn has_other_pairs(&self) -> bool {
        match self.turns {
            Turns::Own | Turns::Around { .. } => true,
            Turns::Barred => false,
        }
    }

    /// The addresses used, for the record.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }
}

/// The numbers under which [`Sources`] knows the connections of all workers. Where pairs are shared
/// between destinations, those that share one have to go to different ones: sessions do so by their
/// order, and streams in the same order; helpers, which go anywhere, share with nobody.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    workers: u32,
    destinations: u32,
    helpers: u32,
    /// Numbers of the sessions; those of the streams follow.
    sessions: u32,
    streams: u32,
}

impl Places {
    /// For workers with these limits.
    pub fn new(limits: &super::Limits, workers: u32, destinations: u32) -> Self {
        let destinations = destinations.max(1);
        let whole = |slots: u32| (slots * workers).next_multiple_of(destinations);
        let (sessions, streams) = (whole(limits.sessions), whole(limits.streams));
        Self { workers, destinations, helpers: limits.helpers, sessions, streams }
    }

    /// How many numbers there are, where `sessions` are all that is needed beside the others.
    pub fn count(&self, sessions: u32) -> u32 {
        match self.streams + self.helpers {
            0 => sessions,
            _ => self.sessions + self.streams + self.helpers * self.workers * self.destinations,
        }
    }

    /// The number of a worker's session.
    pub fn session(&self, worker: u32, session: u32) -> u32 {
        session * self.workers + worker
    }

    /// The number of the stream of a worker's session.
    pub fn stream(&self, worker: u32, session: u32) -> u32 {
        self.sessions + self.session(worker, session)
    }

    /// The number of a worker's helper.
    pub fn helper(&self, worker: u32, helper: u32) -> u32 {
        self.sessions + self.streams + self.session(worker, helper) * self.destinations
    }
}

/// Reads `a.b.c.d`, an IPv6 address, or `a.b.c.d-e` for a range of last octets.
pub fn parse_addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let wrong = || format!("'{text}' is neither an address nor a range such as 10.0.0.1-20");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: Ipv4Addr = first.parse().map_err(|_| wrong())?;
    let last: u8 = last.parse().map_err(|_| wrong())?;
    let [a, b, c, start] = first.octets();
    if start > last {
        return Err(wrong());
    }
    Ok((start..=last).map(|d| IpAddr::V4(Ipv4Addr::new(a, b, c, d))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn ports() -> Ports {
        Ports::parse("40000 40099", "").expect("parses")
    }

    #[test]
    fn reserved_ports_are_left_out() {
        let ports = Ports::parse("32768\t60999\n", "40000,41000-41009\n").expect("parses");
        assert_eq!(ports.count(), 28_232 - 11);
        assert!(Ports::parse("", "").is_none());
    }

    #[test]
    fn the_limit_is_exact() {
        let one = vec!["10.0.0.1".parse().expect("address")];
        assert!(Sources::given(300, one.clone(), ports(), 3, false).is_ok());
        let error = Sources::given(301, one.clone(), ports(), 3, false).expect_err("one too many");
        assert_eq!(error.most, 300);
        let forced = Sources::given(301, one, ports(), 3, true).expect("forced");
        assert_eq!(forced.start(300, 0), forced.start(0, 0), "the surplus shares a pair");
    }

    #[test]
    fn where_pairs_are_short_a_session_still_has_many_in_turn() {
        let one = vec!["10.0.0.1".parse().expect("address")];
        // 50,000 or 100,000 on 64,511 ports of one address, for 12 destinations.
        for connections in [60, 150, 1_000] {
            let plan = Sources::given(connections, one.clone(), ports(), 12, false).expect("fits");
            let starts: HashSet<_> = (0..20).map(|turn| plan.start(7, turn)).collect();
            assert_eq!(starts.len(), 20, "{connections}");
        }
        let all = Sources::given(1_200, one, ports(), 12, false).expect("fits exactly");
        assert_eq!(all.turns, Turns::Barred);
    }

    #[test]
    fn address_ranges_parse() {
        assert_eq!(parse_addresses("10.0.0.1-3").map(|a| a.len()), Ok(3));
        assert_eq!(parse_addresses("::1").map(|a| a.len()), Ok(1));
        assert!(parse_addresses("10.0.0.9-3").is_err());
        assert!(parse_addresses("host").is_err());
    }

    proptest! {
        #[test]
        fn no_two_connections_to_one_destination_share_a_pair(
            connections in 1u32..900, sources in 1usize..4, destinations in 1u32..14, turn in 0u32..5,
        ) {
            let addresses: Vec<IpAddr> =
                (1..=sources).map(|n| Ipv4Addr::new(10, 0, 0, n as u8).into()).collect();
            let Ok(plan) = Sources::given(connections, addresses, ports(), destinations, false) else {
                prop_assert!(u64::from(connections) > 100 * sources as u64 * u64::from(destinations));
                return Ok(());
            };
            let mut seen = HashSet::new();
            for i in 0..connections {
                prop_assert!(seen.insert((plan.start(i, turn), planned_target(i, destinations))));
            }
        }

        #[test]
        fn loopback_pairs_are_unique_in_every_turn(connections in 1u32..3_000, seed: u32) {
            let plan = Sources::loopback(connections, ports(), seed);
            let turns = |i| (0..TURNS).map(move |turn| (i, turn));
            let all: HashSet<_> =
                (0..connections).flat_map(turns).map(|(i, turn)| plan.start(i, turn)).collect();
            prop_assert_eq!(all.len() as u32, TURNS * connections);
            prop_assert!(all.iter().all(|a| a.ip().is_loopback()));
            prop_assert_eq!(plan.start(0, TURNS), plan.start(0, 0));
            // A port that is barred is one of a session's turns, and no more.
            for i in 0..connections {
                let ports: HashSet<_> = (0..TURNS).map(|turn| plan.start(i, turn).port()).collect();
                prop_assert_eq!(ports.len() as u32, TURNS);
            }
        }
    }
}
