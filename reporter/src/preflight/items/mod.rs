//! The items of the table: each a pure function of plan, host and profile. No I/O.

mod machine;
mod memory;
mod network;
mod process;
mod server;

use super::facts::HostFacts;
use super::plan::Plan;
use super::profile::{Profile, Scope, Wanted, ports};
use super::report::{Item, Tuning};

/// What every item is computed from.
pub struct Given<'a> {
    /// What is asked.
    pub plan: &'a Plan,
    /// What is there.
    pub host: &'a HostFacts,
    /// What is wanted.
    pub profile: &'a Profile,
}

/// All items, in the order in which a connection would meet them.
pub fn all(given: &Given<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    if given.plan.role.generates() {
        items.extend(network::generator(given));
        items.extend(process::generator(given));
    }
    if given.plan.role.serves() {
        items.extend(server::all(given));
    }
    items.extend(process::host(given));
    items.extend(network::conntrack(given));
    items.extend(memory::all(given));
    items.extend(machine::all(given));
    items
}

/// The host's settings beside the profile's, a plan's larger need taken in.
pub fn tuning(given: &Given<'_>) -> Vec<Tuning> {
    given.profile.for_role(given.plan.role).map(|w| given.tuning(w)).collect()
}

/// Whether a setting can be changed from here, and what to say about it.
struct Reach {
    /// Whether a write has a chance.
    reachable: bool,
    /// Why not, or what else to know.
    note: String,
}

impl Given<'_> {
    /// The profile's value for this host and plan.
    pub fn wanted(&self, key: &str) -> String {
        let Some(wanted) = self.profile.get(key) else { return String::new() };
        let value = wanted.resolve(self.host);
        match self.need(key) {
            Some(need) => raise(&value, need),
            None => value,
        }
    }

    /// What the plan itself needs of a numeric setting.
    fn need(&self, key: &str) -> Option<u64> {
        match key {
            "net.netfilter.nf_conntrack_max" => Some(network::conntrack_need(self)),
            "net.netfilter.nf_conntrack_buckets" => Some(network::conntrack_need(self).div_ceil(4)),
            "net.ipv4.tcp_max_tw_buckets" => Some(network::time_wait_need(self)),
            "net.core.somaxconn" | "net.ipv4.tcp_max_syn_backlog" => {
                self.plan.role.serves().then(|| server::backlog_need(self))
            }
            "net.ipv4.tcp_max_orphans" => Some(self.plan.connections),
            "net.core.netdev_max_backlog" => Some(machine::burst_need(self)),
            "fs.nr_open" => Some(process::largest_limit(self)),
            "fs.file-max" => Some(process::files_need(self)),
            _ => None,
        }
    }

    fn tuning(&self, wanted: &Wanted) -> Tuning {
        let value = self.wanted(&wanted.key);
        let actual = self.host.settings.get(&wanted.key);
        Tuning {
            key: wanted.key.clone(),
            actual: actual.map(|s| s.value.clone()),
            rule: wanted.rule,
            differs: actual.is_some_and(|s| !wanted.rule.satisfied(&s.value, &value)),
            writable: actual.is_some_and(|s| s.writable),
            scope: wanted.scope,
            reason: wanted.reason.clone(),
            source: wanted.source.clone(),
            wanted: value,
        }
    }

    /// The command that gives a setting its wanted value.
    pub fn set(&self, key: &str) -> String {
        let wanted = self.wanted(key);
        let rule = self.profile.get(key).map(|w| w.rule);
        let value = match (rule, self.host.text(key)) {
            (Some(rule), Some(actual)) => rule.combine(actual, &wanted),
            _ => wanted,
        };
        set_command(key, &value)
    }

    /// The value that the setting's first number has after the fix; `None` out of reach.
    fn after_fix(&self, key: &str) -> Option<u64> {
        let actual = self.host.number(key)?;
        if !self.reach(key).reachable {
            return Some(actual);
        }
        let first = self.wanted(key).split_whitespace().next().and_then(|n| n.parse().ok());
        Some(first.unwrap_or(0).max(actual))
    }

    fn reach(&self, key: &str) -> Reach {
        let no = |note: String| Reach { reachable: false, note };
        let scope = self.profile.get(key).map(|w| w.scope);
        match self.host.settings.get(key) {
            Some(s) if s.writable => Reach { reachable: true, note: String::new() },
            // Another user could write it; being root is part of running the command.
            Some(_) if !self.host.root => Reach { reachable: true, note: "needs root".to_owned() },
            Some(_) => {
                no(format!("{key} is read-only in this {}: set it on the host", self.place()))
            }
            None if scope == Some(Scope::Host) && !self.host.initial_network => no(format!(
                "{key} belongs to the whole machine and is not visible in this {}",
                self.place()
            )),
            None => no(format!("this kernel has no {key}")),
        }
    }

    fn place(&self) -> String {
        match (self.host.initial_network, &self.host.container) {
            (false, None) => "network namespace".to_owned(),
            (false, Some(kind)) => format!("network namespace ({kind})"),
            (true, Some(_)) => "container".to_owned(),
            (true, None) => "system".to_owned(),
        }
    }

    /// An item that cannot be told because its setting is not visible.
    fn invisible(&self, item: Item, key: &str) -> Item {
        item.has("not visible").unknown(self.reach(key).note)
    }

    /// Ports that may be used as sources: the range without the reserved ones.
    fn usable_ports(&self) -> Option<u64> {
        let range = self.host.numbers("net.ipv4.ip_local_port_range")?;
        let [first, last] = range[..] else { return None };
        let reserved = ports(self.host.text("net.ipv4.ip_local_reserved_ports").unwrap_or(""));
        Some(super::needs::usable_ports(first, last, &reserved))
    }

    /// Ports after the profile is applied.
    fn widened_ports(&self) -> Option<u64> {
        let key = "net.ipv4.ip_local_port_range";
        if !self.reach(key).reachable {
            return self.usable_ports();
        }
        let combine = |key: &str| -> String {
            let wanted = self.wanted(key);
            let actual = self.host.text(key).unwrap_or("");
            self.profile.get(key).map(|w| w.rule.combine(actual, &wanted)).unwrap_or_default()
        };
        let range = combine(key);
        let (first, last) = range.split_once(' ')?;
        let reserved = ports(&combine("net.ipv4.ip_local_reserved_ports"));
        Some(super::needs::usable_ports(first.parse().ok()?, last.parse().ok()?, &reserved))
    }

    /// Source addresses that can be used: those that were bound, where that was tried.
    fn usable_sources(&self) -> u64 {
        let tried = &self.host.trials.sources;
        let failed = tried.iter().filter(|s| s.error.is_some()).count() as u64;
        let count = self.plan.source_count();
        if tried.is_empty() { count } else { count.saturating_sub(failed) }
    }
}

/// A command that sets a sysctl.
pub fn set_command(key: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("sysctl -w {key}=\"{value}\"")
    } else {
        format!("sysctl -w {key}={value}")
    }
}

/// Lifts every number of `value` to at least `need`; a value that is not one number stays.
fn raise(value: &str, need: u64) -> String {
    match value.parse::<u64>() {
        Ok(n) => n.max(need).to_string(),
        Err(_) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
