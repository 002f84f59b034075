//! Ports, sources, TIME_WAIT, connection tracking, neighbours.

use super::Given;
use crate::preflight::needs;
use crate::preflight::profile::Rule;
use crate::preflight::report::{Item, Side, grouped};

const RANGE: &str = "net.ipv4.ip_local_port_range";
const CONNTRACK_MAX: &str = "net.netfilter.nf_conntrack_max";
const CONNTRACK_BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";
const CONNTRACK_STAY: &str = "net.netfilter.nf_conntrack_tcp_timeout_time_wait";
const TW_BUCKETS: &str = "net.ipv4.tcp_max_tw_buckets";
const TW_REUSE: &str = "net.ipv4.tcp_tw_reuse";
const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";

/// What the generator's side of the network needs.
pub fn generator(g: &Given<'_>) -> Vec<Item> {
    let mut items = vec![sources(g), ports(g), half_range(g), time_wait_buckets(g)];
    if g.plan.closes_per_s > 0 {
        items.push(churn(g));
        items.push(reuse(g));
    }
    items.push(neighbours(g));
    items
}

fn sources(g: &Given<'_>) -> Item {
    let item = Item::new("sources", "source addresses", Side::Generator);
    let tried = &g.host.trials.sources;
    let set: Vec<String> = g.plan.effective_sources().into();
    let item = item.needs(
        if set.is_empty() { "1, by routing".to_owned() } else { set.join(",") },
        "each address must bind",
    );
    if set.is_empty() {
        return item.has("the kernel picks it").noted("name --sources to use several");
    }
    if tried.is_empty() {
        return item.unknown("no address was tried");
    }
    let bad: Vec<_> = tried.iter().filter_map(|s| Some((s.address, s.error.clone()?))).collect();
    let item = item
        .has(format!("{} of {} tried bind", grouped((tried.len() - bad.len()) as u64), tried.len()))
        .fits(bad.is_empty())
        .tried();
    match bad.first() {
        Some((address, error)) => {
            let width = if address.is_ipv4() { 32 } else { 128 };
            let item = item.noted(format!("{address}: {error}"));
            item.fixed_by(format!("ip address add {address}/{width} dev <device>"))
        }
        None => item,
    }
}

fn ports(g: &Given<'_>) -> Item {
    let item = Item::new("ports", "source ports", Side::Generator);
    let n = g.plan.connections;
    let (s, d) = (g.usable_sources(), g.plan.destination_count());
    let item = item.needs(
        format!("{} tuples", grouped(n)),
        "N <= ports x sources x destinations; ports = range - reserved",
    );
    let Some(usable) = g.usable_ports() else { return g.invisible(item, RANGE) };
    let holds = needs::port_tuples(usable, s, d);
    let widened = g.widened_ports().unwrap_or(usable);
    let could = needs::port_tuples(widened.max(usable), s, d);
    let item = item
        .has(format!("{} x {} x {d}", grouped(usable), grouped(s)))
        .fits(n <= holds)
        .bounds(holds, Some(could));
    if n <= could {
        let reach = g.reach(RANGE);
        return item.noted(reach.note).fixed_by(g.set(RANGE));
    }
    let more = needs::sources_needed(n, widened.max(usable), d);
    match more {
        Some(more) => item.fixed_by(format!(
            "reporter preflight --apply, then run with {} source addresses (--sources)",
            grouped(more)
        )),
        None => item.noted("the range holds no usable port").fixed_by(g.set(RANGE)),
    }
}

/// The kernel prefers ports of one parity and searches once they are used up; a generator that
/// assigns ports is not affected.
fn half_range(g: &Given<'_>) -> Item {
    let item = Item::new("half_range", "half of the port range", Side::Generator).advice();
    let (s, d) = (g.usable_sources().max(1), g.plan.destination_count().max(1));
    let share = g.plan.connections.div_ceil(s.saturating_mul(d).max(1));
    let item = item.needs(
        format!("{} a pair", grouped(share)),
        "N / (S x D) <= ports / 2, or connects slow down (20,000/s to 600/s)",
    );
    let Some(usable) = g.usable_ports() else { return g.invisible(item, RANGE) };
    item.has(grouped(usable / 2))
        .fits(share <= usable / 2)
        .noted(if share > usable / 2 {
            "loadgen assigns ports itself: no slow-down there"
        } else {
            ""
        })
        .fixed_by(g.set(RANGE))
}

/// Sockets in TIME_WAIT that the plan makes.
pub fn time_wait_need(g: &Given<'_>) -> u64 {
    needs::time_wait_sockets(g.plan.closes_per_s)
}

fn time_wait_buckets(g: &Given<'_>) -> Item {
    let item = Item::new("tcp_max_tw_buckets", "TIME_WAIT sockets", Side::Generator);
    let need = time_wait_need(g);
    let item = item.needs(
        format!(">= {}", grouped(need)),
        format!("60 s x {} closes/s; never lower it", grouped(g.plan.closes_per_s)),
    );
    let Some(actual) = g.host.number(TW_BUCKETS) else { return g.invisible(item, TW_BUCKETS) };
    let reach = g.reach(TW_BUCKETS);
    let item = item.has(grouped(actual)).fits(actual >= need);
    item.noted(reach.note).fixed_by(g.set(TW_BUCKETS))
}

/// Whether a port in TIME_WAIT may be used again by a connect.
fn reuses(g: &Given<'_>) -> bool {
    let timestamps = g.host.number(TIMESTAMPS).is_some_and(|v| v > 0);
    let reuse = g.host.number(TW_REUSE);
    timestamps && (reuse == Some(1) || (reuse == Some(2) && g.plan.on_loopback()))
}

fn churn(g: &Given<'_>) -> Item {
    let item = Item::new("churn", "new connections a second", Side::Generator);
    let c = g.plan.closes_per_s;
    let item = item.needs(
        format!("{}/s", grouped(c)),
        "C <= ports x S x D / 60 s, unless TIME_WAIT is reused",
    );
    let Some(usable) = g.usable_ports() else { return g.invisible(item, RANGE) };
    let rate = needs::churn_per_s(usable, g.usable_sources(), g.plan.destination_count());
    let reused = reuses(g);
    item.has(if reused { "TIME_WAIT is reused".to_owned() } else { format!("{}/s", grouped(rate)) })
        .fits(reused || c <= rate)
        .noted(g.reach(TW_REUSE).note)
        .fixed_by(format!("{} && {}", g.set(TW_REUSE), g.set(TIMESTAMPS)))
}

fn reuse(g: &Given<'_>) -> Item {
    let item = Item::new("tcp_tw_reuse", "reuse of TIME_WAIT", Side::Generator).advice();
    let item = item.needs("1 (2 on loopback)", "the side that closes; needs tcp_timestamps");
    let (Some(reuse), Some(stamps)) = (g.host.text(TW_REUSE), g.host.text(TIMESTAMPS)) else {
        return g.invisible(item, TW_REUSE);
    };
    item.has(format!("{reuse}, timestamps {stamps}"))
        .fits(reuses(g))
        .noted(g.reach(TW_REUSE).note)
        .fixed_by(format!("{} && {}", g.set(TW_REUSE), g.set(TIMESTAMPS)))
}

fn neighbours(g: &Given<'_>) -> Item {
    let key = "net.ipv4.neigh.default.gc_thresh3";
    let item = Item::new("neighbours", "neighbour table", Side::Host);
    let mut peers: Vec<_> = g.plan.destinations().iter().map(|t| t.ip()).collect();
    peers.retain(|ip| !ip.is_loopback());
    peers.sort();
    peers.dedup();
    let need = peers.len() as u64;
    let item = item.needs(format!("> {}", grouped(need)), "peers on one link; loopback has none");
    if need == 0 {
        return item.has(g.host.text(key).unwrap_or("not visible").to_owned());
    }
    let Some(actual) = g.host.number(key) else { return g.invisible(item.advice(), key) };
    let keys = ["gc_thresh1", "gc_thresh2", "gc_thresh3"];
    let all: Vec<String> =
        keys.iter().map(|k| g.set(&format!("net.ipv4.neigh.default.{k}"))).collect();
    let item = item.has(grouped(actual)).fits(actual > need);
    item.noted(g.reach(key).note).fixed_by(all.join(" && "))
}

/// Tracked connections that the plan makes, besides those there.
pub fn conntrack_need(g: &Given<'_>) -> u64 {
    let stay_s = g.host.number(CONNTRACK_STAY).unwrap_or(needs::CONNTRACK_TIME_WAIT_S);
    let present = g.host.conntrack_count.unwrap_or(0);
    needs::conntrack_needed(present, g.plan.connections, g.plan.closes_per_s, stay_s)
}

/// Whether connections are tracked here: `None` if that could not be tried.
fn tracked(g: &Given<'_>) -> Option<bool> {
    let trial = g.host.socket_trial()?;
    let rise = trial.conntrack_rise?;
    // A trial that was stopped early by a full table says nothing about a table with room.
    (trial.opened > 0).then_some(rise.saturating_mul(2) >= trial.opened as i64)
}

/// Connection tracking, where it is.
pub fn conntrack(g: &Given<'_>) -> Vec<Item> {
    let item = Item::new("conntrack", "connection tracking", Side::Host);
    let item = item.needs(
        format!(">= {}", grouped(conntrack_need(g))),
        "tracked already + N (a loopback flow counts once) + 120 s x closes",
    );
    let Some(max) = g.host.number(CONNTRACK_MAX) else {
        let note = match g.host.initial_network && g.host.container.is_none() {
            true => "",
            false => "the host around this namespace may track too: look there as well",
        };
        return vec![item.has("not loaded").noted(note)];
    };
    let counting = tracked(g);
    if counting == Some(false) {
        let item = item.has(format!("{}, not tracking", grouped(max))).tried();
        return vec![item.noted("a trial's connections did not count; that changes with a rule")];
    }
    let need = conntrack_need(g);
    let others = need - g.plan.connections.min(need);
    let reach = g.reach(CONNTRACK_MAX);
    let could = if reach.reachable { None } else { Some(max.saturating_sub(others)) };
    let mut item = item.has(format!("{} (holds {})", grouped(max), count(g))).fits(max >= need);
    item = item.bounds(max.saturating_sub(others), could);
    if counting == Some(true) {
        item = item.tried();
    } else {
        item = item.noted("taken as tracking: that could not be tried");
    }
    vec![item.noted(reach.note).fixed_by(g.set(CONNTRACK_MAX)), buckets(g)]
}

fn count(g: &Given<'_>) -> String {
    g.host.conntrack_count.map_or("?".to_owned(), grouped)
}

fn buckets(g: &Given<'_>) -> Item {
    let item = Item::new("conntrack_buckets", "tracking hash buckets", Side::Host).advice();
    let need = conntrack_need(g).div_ceil(4);
    let item = item.needs(format!(">= {}", grouped(need)), "needed entries / 4");
    let Some(text) = g.host.text(CONNTRACK_BUCKETS) else {
        return g.invisible(item, CONNTRACK_BUCKETS);
    };
    let fits = Rule::AtLeast.satisfied(text, &need.to_string());
    let item = item.has(text.parse().map_or(text.to_owned(), grouped)).fits(fits);
    item.noted(g.reach(CONNTRACK_BUCKETS).note).fixed_by(g.set(CONNTRACK_BUCKETS))
}
