//! What is asked of this host: the plan that every need is computed from. It knows no host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which end of the connections lives on this host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum, Hash,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The load generator only.
    Generator,
    /// The server's replicas only.
    Server,
    /// Both ends, over loopback: every connection costs two sockets here.
    #[default]
    Both,
}

impl Role {
    /// Whether the load generator runs on this host.
    pub fn generates(self) -> bool {
        matches!(self, Role::Generator | Role::Both)
    }

    /// Whether server replicas run on this host.
    pub fn serves(self) -> bool {
        matches!(self, Role::Server | Role::Both)
    }

    /// Sockets of this host that one connection costs.
    pub fn ends(self) -> u64 {
        match self {
            Role::Generator | Role::Server => 1,
            Role::Both => 2,
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Generator => "generator",
            Role::Server => "server",
            Role::Both => "both",
        }
    }
}

/// Seconds a server may stop accepting (a full collection, a saturated core) before its listen
/// queue has to hold what arrives: the queue is sized by this and the connect rate.
pub const ACCEPT_STALL_MS: u64 = 200;
/// Server memory a session with `rmcp` (stateful, axum), measured.
pub const SESSION_BYTES: u64 = 51_000;
/// The connect rate that is assumed where the plan names none.
pub const RAMP_PER_S: u64 = 10_000;

/// One run, as far as this host is concerned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Connections held at once.
    pub connections: u64,
    /// Requests a second over all connections; 0 if none.
    pub rate_per_s: u64,
    /// New connections a second while ramping.
    pub ramp_per_s: u64,
    /// Connections closed (and replaced) a second while holding: churn.
    pub closes_per_s: u64,
    /// Destination addresses; empty: those of the local replicas.
    pub targets: Vec<SocketAddr>,
    /// Source addresses; empty: all of 127.0.0.0/8 on loopback, else the one that routing picks.
    pub sources: SourceSet,
    /// Server processes on this host.
    pub replicas: u32,
    /// Which end of the connections lives on this host.
    pub role: Role,
    /// Generator workers; 0: as many as the plan needs.
    pub workers: u32,
    /// Server processes that run already, by pid.
    pub server_pids: Vec<u32>,
    /// Server memory one session costs.
    pub session_bytes: u64,
    /// How long a server may stop accepting, in ms.
    pub accept_stall_ms: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            connections: 1_000,
            rate_per_s: 0,
            ramp_per_s: RAMP_PER_S,
            closes_per_s: 0,
            targets: Vec::new(),
            sources: SourceSet::default(),
            replicas: 12,
            role: Role::Both,
            workers: 0,
            server_pids: Vec::new(),
            session_bytes: SESSION_BYTES,
            accept_stall_ms: ACCEPT_STALL_MS,
        }
    }
}

impl Plan {
    /// The destinations: as named, or the local replicas on 127.0.0.11:8080 and up.
    pub fn destinations(&self) -> Vec<SocketAddr> {
        if !self.targets.is_empty() {
            return self.targets.clone();
        }
        (1..=self.replicas.max(1)).map(|i| SocketAddr::from((replica_address(i), 8080))).collect()
    }

    /// D: how many distinct address and port pairs are connected to.
    pub fn destination_count(&self) -> u64 {
        let mut all = self.destinations();
        all.sort();
        all.dedup();
        all.len() as u64
    }

    /// Whether every destination is a loopback address.
    pub fn on_loopback(&self) -> bool {
        self.destinations().iter().all(|t| t.ip().is_loopback())
    }

    /// The sources in use: as named, or the default for the destinations.
    pub fn effective_sources(&self) -> SourceSet {
        if !self.sources.is_empty() {
            return self.sources.clone();
        }
        if self.on_loopback() && self.destinations().iter().all(SocketAddr::is_ipv4) {
            SourceSet::loopback()
        } else {
            SourceSet::default()
        }
    }

    /// S: how many source addresses there are; one where routing picks it.
    pub fn source_count(&self) -> u64 {
        self.effective_sources().count().max(1)
    }

    /// Connections that one server process of this host holds when they are spread evenly.
    pub fn connections_per_replica(&self) -> u64 {
        self.connections.div_ceil(u64::from(self.replicas.max(1)))
    }
}

fn replica_address(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 10)).saturating_add(i))
}

/// A list of addresses and prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(into = "Vec<String>")]
pub struct SourceSet(Vec<Prefix>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    first: IpAddr,
    bits: u8,
}

impl SourceSet {
    /// All of 127.0.0.0/8: Linux lets any of it be bound without set-up.
    pub fn loopback() -> Self {
        SourceSet(vec![Prefix { first: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 }])
    }

    /// Whether no address is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many addresses these are, without the network and broadcast address of a prefix.
    pub fn count(&self) -> u64 {
        self.0.iter().map(Prefix::count).fold(0, u64::saturating_add)
    }

    /// The first `limit` addresses, in order.
    pub fn first(&self, limit: usize) -> Vec<IpAddr> {
        self.0.iter().flat_map(Prefix::addresses).take(limit).collect()
    }

    /// Whether all of them are loopback addresses.
    pub fn is_loopback(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|p| p.first.is_loopback())
    }
}

impl Prefix {
    fn host_bits(&self) -> u32 {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        width - u32::from(self.bits)
    }

    /// A prefix with at least two host bits loses its first and last address (v4).
    fn trimmed(&self) -> bool {
        self.first.is_ipv4() && self.host_bits() >= 2
    }

    fn count(&self) -> u64 {
        let all = 1u64.checked_shl(self.host_bits()).unwrap_or(u64::MAX);
        if self.trimmed() { all - 2 } else { all }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let skip = u64::from(self.trimmed());
        let first = self.first;
        (skip..skip + self.count().min(u64::MAX - 1)).map(move |i| match first {
            IpAddr::V4(a) => IpAddr::from(Ipv4Addr::from(u32::from(a).wrapping_add(i as u32))),
            IpAddr::V6(a) => {
                IpAddr::from(std::net::Ipv6Addr::from(u128::from(a).wrapping_add(u128::from(i))))
            }
        })
    }
}

impl From<SourceSet> for Vec<String> {
    fn from(set: SourceSet) -> Self {
        set.0
            .iter()
            .map(|p| match p.host_bits() {
                0 => p.first.to_string(),
                _ => format!("{}/{}", p.first, p.bits),
            })
            .collect()
    }
}

impl FromStr for SourceSet {
    type Err = String;

    /// Parses `10.0.0.5,10.0.1.0/28,10.0.2.1-20,127.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let mut all = Vec::new();
        for part in parts {
            match part.split_once('-') {
                Some((first, last)) => all.extend(parse_range(part, first, last)?),
                None => all.push(parse_prefix(part)?),
            }
        }
        Ok(SourceSet(all))
    }
}

/// `a.b.c.d-e`: from d to e in the last octet, as the generator reads it.
fn parse_range(text: &str, first: &str, last: &str) -> Result<Vec<Prefix>, String> {
    let bad = || format!("'{text}' is not a range such as 10.0.0.1-20");
    let first: Ipv4Addr = first.parse().map_err(|_| bad())?;
    let last: u8 = last.parse().map_err(|_| bad())?;
    let [a, b, c, start] = first.octets();
    if start > last {
        return Err(bad());
    }
    let one = |d| Prefix { first: IpAddr::from(Ipv4Addr::new(a, b, c, d)), bits: 32 };
    Ok((start..=last).map(one).collect())
}

fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let bad = || format!("'{text}' is not an address or address/prefix-length");
    let (address, bits) = match text.split_once('/') {
        Some((a, b)) => (a, Some(b.parse::<u8>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    if bits > width {
        return Err(bad());
    }
    let first = match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from(u32::from(a) & mask))
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::from(std::net::Ipv6Addr::from(u128::from(a) & mask))
        }
    };
    Ok(Prefix { first, bits })
}

/// Resolves one `--targets` element: `IP:PORT`, `NAME:PORT`, `http://…`, `https://…`, `tcp://…`.
///
/// A name that stands for several addresses gives several targets.
pub fn parse_target(text: &str) -> Result<Vec<SocketAddr>, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let default_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
    let full = match default_port {
        Some(port) if !has_port => format!("{authority}:{port}"),
        _ => authority.to_owned(),
    };
    let found: Vec<SocketAddr> =
        full.to_socket_addrs().map_err(|e| format!("target '{text}': {e}"))?.collect();
    if found.is_empty() { Err(format!("target '{text}': no address")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_loopback_prefix_counts_without_its_ends() {
        let set: SourceSet = "127.0.0.0/8".parse().unwrap();
        assert_eq!(set.count(), (1 << 24) - 2);
        assert_eq!(set.first(2)[0].to_string(), "127.0.0.1");
        assert_eq!(set, SourceSet::loopback());
        assert!(set.is_loopback());
    }

    #[test]
    fn single_addresses_and_small_prefixes_keep_every_address() {
        let set: SourceSet = "10.0.0.5, 10.0.0.7/31,fd00::1".parse().unwrap();
        let all: Vec<String> = set.first(9).iter().map(IpAddr::to_string).collect();
        assert_eq!(all, ["10.0.0.5", "10.0.0.6", "10.0.0.7", "fd00::1"]);
        assert_eq!(set.count(), 4);
        assert_eq!("10.0.0.250-255,10.0.1.1".parse::<SourceSet>().unwrap().count(), 7);
        let texts: Vec<String> = set.into();
        assert_eq!(texts, ["10.0.0.5", "10.0.0.6/31", "fd00::1"]);
    }

    #[test]
    fn a_prefix_of_every_length_counts_without_overflow() {
        for bits in 0..=32u8 {
            let set: SourceSet = format!("10.0.0.0/{bits}").parse().unwrap();
            let all = 1u64 << (32 - bits);
            assert_eq!(set.count(), if bits <= 30 { all - 2 } else { all }, "/{bits}");
        }
        assert_eq!("::/0".parse::<SourceSet>().unwrap().count(), u64::MAX);
        assert_eq!("::/0,::/0".parse::<SourceSet>().unwrap().count(), u64::MAX);
    }

    #[test]
    fn nonsense_sources_are_refused_by_name() {
        for text in ["10.0.0", "10.0.0.1/33", "a.b.c.d", "10.0.0.1/x", "fd00::/129", "10.0.0.9-8"] {
            let error = text.parse::<SourceSet>().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn targets_are_found_in_urls() {
        let one = |text| parse_target(text).unwrap()[0].to_string();
        assert_eq!(one("127.0.0.11:8080"), "127.0.0.11:8080");
        assert_eq!(one("http://127.0.0.11:8080/mcp?x=1"), "127.0.0.11:8080");
        assert_eq!(one("http://127.0.0.11/mcp"), "127.0.0.11:80");
        assert_eq!(one("https://[::1]/"), "[::1]:443");
        assert_eq!(one("tcp://127.0.0.12:5555"), "127.0.0.12:5555");
        assert!(parse_target("127.0.0.11").is_err());
    }

    #[test]
    fn the_local_replicas_are_the_default_destinations() {
        let plan = Plan { replicas: 3, ..Plan::default() };
        assert_eq!(plan.destination_count(), 3);
        assert_eq!(plan.destinations()[2].to_string(), "127.0.0.13:8080");
        assert!(plan.on_loopback());
        assert_eq!(plan.source_count(), (1 << 24) - 2);
        let twice = Plan { targets: vec![plan.destinations()[0]; 2], ..plan };
        assert_eq!(twice.destination_count(), 1);
    }

    #[test]
    fn one_source_is_assumed_where_routing_picks_it() {
        let plan = Plan { targets: vec!["192.0.2.1:80".parse().unwrap()], ..Plan::default() };
        assert_eq!(plan.source_count(), 1);
        assert!(plan.effective_sources().is_empty());
    }
}
