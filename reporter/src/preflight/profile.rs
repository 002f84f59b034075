//! The tuning profile: wanted values as data, from `sysctl/tuning.toml` and nowhere else.
//! It knows how a value is compared and combined, not how it is read or written.

use serde::{Deserialize, Serialize};

use super::facts::HostFacts;
use super::plan::Role;

const TUNING: &str = include_str!("../../../sysctl/tuning.toml");

/// The whole profile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the file's layout.
    pub version: u32,
    /// Connections of one host that the values are sized for.
    pub sized_for_connections: u64,
    /// Limits of processes.
    pub limits: Limits,
    /// Kernel settings.
    pub sysctl: Vec<Wanted>,
}

/// Wanted limits of processes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// RLIMIT_NOFILE.
    pub nofile: u64,
    /// Why.
    pub nofile_reason: String,
    /// Where that is written.
    pub nofile_source: String,
    /// RLIMIT_MEMLOCK, bytes.
    pub memlock: u64,
    /// Why.
    pub memlock_reason: String,
    /// Where that is written.
    pub memlock_source: String,
}

/// One wanted kernel setting.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Name, with dots.
    pub key: String,
    /// The value, see the file's head.
    pub value: String,
    /// How it is compared.
    pub rule: Rule,
    /// Who wants it.
    pub roles: Vec<Role>,
    /// Whether each network namespace has its own.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Where that is written.
    pub source: String,
}

/// How a host's value is compared with a wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Each number is at least the wanted one.
    AtLeast,
    /// The host's range contains the wanted one.
    Covers,
    /// The host's list of ports contains the wanted ones.
    Contains,
    /// The middle number is at most the wanted one.
    DefaultAtMost,
    /// The same text.
    Equals,
}

/// Who a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each network namespace.
    Namespace,
    /// The machine.
    Host,
}

impl Profile {
    /// The profile that is built in.
    ///
    /// # Panics
    /// If the file is malformed, which a test rules out.
    pub fn built_in() -> Profile {
        toml::from_str(TUNING).expect("sysctl/tuning.toml is checked by a test")
    }

    /// The settings that a role wants.
    pub fn for_role(&self, role: Role) -> impl Iterator<Item = &Wanted> {
        self.sysctl.iter().filter(move |w| w.is_for(role))
    }

    /// One setting by name.
    pub fn get(&self, key: &str) -> Option<&Wanted> {
        self.sysctl.iter().find(|w| w.key == key)
    }
}

impl Wanted {
    fn is_for(&self, role: Role) -> bool {
        role == Role::Both || self.roles.contains(&role)
    }

    /// The value for a host with this much RAM: shares of memory become pages.
    pub fn resolve(&self, host: &HostFacts) -> String {
        let pages = host.memory_total_bytes / host.page_bytes.max(1);
        let word = |w: &str| match w.strip_suffix("%mem").and_then(|n| n.parse::<u64>().ok()) {
            Some(percent) => (pages * percent / 100).to_string(),
            None => w.to_owned(),
        };
        self.value.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Rule {
    /// Whether a host's value satisfies a wanted one.
    pub fn satisfied(self, actual: &str, wanted: &str) -> bool {
        match self {
            Rule::Equals => normal(actual) == normal(wanted),
            Rule::AtLeast => match (numbers(actual), numbers(wanted)) {
                (Some(a), Some(w)) => a.len() == w.len() && a.iter().zip(&w).all(|(a, w)| a >= w),
                _ => false,
            },
            Rule::Covers => match (numbers(actual).as_deref(), numbers(wanted).as_deref()) {
                (Some([a, b]), Some([w, x])) => a <= w && b >= x,
                _ => false,
            },
            Rule::Contains => {
                let have = ports(actual);
                ports(wanted).iter().all(|p| covers_port(&have, *p))
            }
            Rule::DefaultAtMost => match (numbers(actual).as_deref(), numbers(wanted).as_deref()) {
                (Some([_, a, _]), Some([_, w, _])) => a <= w,
                _ => false,
            },
        }
    }

    /// What to write so that the wanted value is satisfied and nothing that the host has more of
    /// is lost; the actual value itself if it satisfies already.
    pub fn combine(self, actual: &str, wanted: &str) -> String {
        if self.satisfied(actual, wanted) {
            return normal(actual);
        }
        match (self, numbers(actual).as_deref(), numbers(wanted).as_deref()) {
            (Rule::AtLeast, Some(a), Some(w)) if a.len() == w.len() => {
                join(a.iter().zip(w).map(|(a, w)| *a.max(w)))
            }
            (Rule::Covers, Some([a, b]), Some([w, x])) => join([*a.min(w), *b.max(x)]),
            (Rule::DefaultAtMost, Some([a, b, c]), Some([_, w, _])) => {
                join([*a.min(w), *b.min(w), *c])
            }
            (Rule::Contains, ..) => merge_ports(actual, wanted),
            _ => normal(wanted),
        }
    }
}

/// The text with single blanks, as two readings are compared.
pub fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    let all: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    all.ok().filter(|v| !v.is_empty())
}

fn join(all: impl IntoIterator<Item = u64>) -> String {
    all.into_iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

/// Parses `8080,9148,10000-10010`; parts that are not ports are left out.
pub fn ports(text: &str) -> Vec<(u16, u16)> {
    let part = |p: &str| match p.split_once('-') {
        Some((a, b)) => Some((a.trim().parse().ok()?, b.trim().parse().ok()?)),
        None => p.trim().parse().ok().map(|one| (one, one)),
    };
    text.split(',').filter_map(part).filter(|(a, b)| a <= b).collect()
}

fn covers_port(have: &[(u16, u16)], (first, last): (u16, u16)) -> bool {
    (first..=last).all(|p| have.iter().any(|(a, b)| (*a..=*b).contains(&p)))
}

fn merge_ports(actual: &str, wanted: &str) -> String {
    let have = ports(actual);
    let missing = ports(wanted).into_iter().filter(|p| !covers_port(&have, *p));
    let mut all: Vec<(u16, u16)> = have.iter().copied().chain(missing).collect();
    all.sort_unstable();
    let show = |(a, b): &(u16, u16)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    all.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::fake::host;

    #[test]
    fn every_entry_of_the_file_is_complete_and_unique() {
        let profile = Profile::built_in();
        assert_eq!(profile.version, 1);
        let mut keys: Vec<&str> = profile.sysctl.iter().map(|w| w.key.as_str()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "a key is there twice");
        for w in &profile.sysctl {
            assert!(w.reason.len() > 10 && w.source.len() > 5, "{}", w.key);
            assert!(!w.roles.is_empty() && !w.roles.contains(&Role::Both), "{}", w.key);
            let value = w.resolve(&host());
            assert!(w.rule.satisfied(&value, &value), "{} does not satisfy itself", w.key);
        }
    }

    #[test]
    fn known_bad_advice_is_not_in_the_file() {
        let profile = Profile::built_in();
        assert!(profile.get("net.ipv4.tcp_tw_recycle").is_none());
        let buckets = profile.get("net.ipv4.tcp_max_tw_buckets").unwrap();
        assert_eq!(buckets.rule, Rule::AtLeast);
        assert_eq!(buckets.rule.combine("2000000", &buckets.value), "2000000");
    }

    #[test]
    fn shares_of_memory_become_pages() {
        let wanted = Profile::built_in();
        let wanted = wanted.get("net.ipv4.tcp_mem").unwrap();
        let mut small = host();
        small.memory_total_bytes = 4096 * 1000;
        small.page_bytes = 4096;
        assert_eq!(wanted.resolve(&small), "60 90 150");
    }

    #[test]
    fn a_value_is_never_lowered() {
        assert_eq!(Rule::AtLeast.combine("10 500 7", "20 100 9"), "20 500 9");
        assert_eq!(Rule::Covers.combine("512\t60000", "1024 65535"), "512 65535");
        assert_eq!(Rule::Covers.combine("512 65535", "1024 65535"), "512 65535");
    }

    #[test]
    fn a_socket_default_comes_down_and_its_maximum_stays() {
        let rule = Rule::DefaultAtMost;
        assert!(rule.satisfied("4096 16384 1", "4096 16384 4194304"));
        assert_eq!(rule.combine("8192 262144 33554432", "4096 131072 1"), "8192 131072 33554432");
        assert_eq!(rule.combine("262144 262144 300000", "1 131072 1"), "131072 131072 300000");
    }

    #[test]
    fn lists_of_ports_are_merged() {
        let rule = Rule::Contains;
        assert!(!rule.satisfied("", "5555,8080"));
        assert!(rule.satisfied("5000-6000,8080", "5555,8080"));
        assert_eq!(rule.combine("", "5555,8080"), "5555,8080");
        assert_eq!(rule.combine("9000-9200,80", "9100,5555"), "80,5555,9000-9200");
    }

    #[test]
    fn nonsense_never_satisfies() {
        for rule in [Rule::AtLeast, Rule::Covers, Rule::DefaultAtMost] {
            assert!(!rule.satisfied("", "1"));
            assert!(!rule.satisfied("x", "1 2 3"));
            assert_eq!(rule.combine("x", "1 2 3"), "1 2 3");
        }
    }
}
