//! The machine: cores, clocks, packet backlog. Mostly advice: it spoils figures, not connections.

use super::Given;
use crate::preflight::needs;
use crate::preflight::report::{Item, Side, grouped};

const NETDEV_BACKLOG: &str = "net.core.netdev_max_backlog";
/// Clock sources that are read without a trap or a slow device.
const FAST_CLOCKS: &[&str] =
    &["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

/// All items about the machine.
pub fn all(g: &Given<'_>) -> Vec<Item> {
    let mut items = vec![backlog(g), cores(g)];
    items.extend(connect_rate(g));
    items.push(governor(g));
    items.push(clock_source(g));
    items.push(huge_pages(g));
    items.push(interrupts(g));
    items.push(clock(g));
    items
}

/// Packets that one core may find waiting.
pub fn burst_need(g: &Given<'_>) -> u64 {
    needs::burst_packets(g.plan.ramp_per_s, g.plan.rate_per_s, g.host.cpus_online)
}

fn backlog(g: &Given<'_>) -> Item {
    let item = Item::new("netdev_max_backlog", "packets waiting a core", Side::Host).advice();
    let need = burst_need(g);
    let item = item.needs(
        format!(">= {}", grouped(need)),
        "(3 x connects/s + 4 x requests/s) / cores x 50 ms",
    );
    let Some(actual) = g.host.number(NETDEV_BACKLOG) else {
        return g.invisible(item, NETDEV_BACKLOG);
    };
    item.has(format!("{}, {} dropped", grouped(actual), grouped(g.host.counters.softnet_dropped)))
        .fits(actual >= need)
        .noted(g.reach(NETDEV_BACKLOG).note)
        .fixed_by(g.set(NETDEV_BACKLOG))
}

fn cores(g: &Given<'_>) -> Item {
    let item = Item::new("cores", "cores", Side::Host).advice();
    let allowed = g.host.cpus_allowed as f64;
    let usable = g.host.cgroup.cpu_quota_cores.map_or(allowed, |q| q.min(allowed));
    let need = if g.plan.role.ends() == 2 { 2.0 } else { 1.0 };
    let quota =
        g.host.cgroup.cpu_quota_cores.map_or("no quota".to_owned(), |q| format!("quota {q:.1}"));
    item.needs(format!(">= {need:.0}"), "one for each side; a quota stalls workers in mid-request")
        .has(format!("{} of {}, {quota}", g.host.cpus_allowed, g.host.cpus_online))
        .fits(usable >= need)
        .fixed_by("docker run --cpus N / systemd CPUQuota=, or move one side to another host")
}

fn connect_rate(g: &Given<'_>) -> Option<Item> {
    let item = Item::new("connect_rate", "connects a second", Side::Host).advice();
    let want = g.plan.ramp_per_s;
    let item = item.needs(format!("{}/s", grouped(want)), "the plan's ramp");
    match g.host.trials.sockets.as_ref()? {
        Err(why) => Some(item.unknown(why.clone())),
        Ok(t) => {
            let item = item
                .has(format!(
                    "{}/s, {} opened, one thread",
                    grouped(t.connects_per_s),
                    grouped(t.opened)
                ))
                .tried();
            Some(match &t.stopped_by {
                Some(why) => item.fits(false).noted(format!("the trial ended early: {why}")),
                None => item
                    .fits(t.connects_per_s >= want)
                    .fixed_by(format!("ramp more slowly: --ramp {}", t.connects_per_s.max(1))),
            })
        }
    }
}

fn governor(g: &Given<'_>) -> Item {
    let item = Item::new("governor", "frequency governor", Side::Host).advice();
    let item = item.needs("performance", "others add wake-up time to every latency");
    if g.host.governors.is_empty() {
        return item.has("none visible").noted("a virtual machine leaves this to its host");
    }
    item.has(g.host.governors.join(", "))
        .fits(g.host.governors.iter().all(|v| v == "performance"))
        .fixed_by("cpupower frequency-set -g performance")
}

fn clock_source(g: &Given<'_>) -> Item {
    let item = Item::new("clocksource", "clock source", Side::Host).advice();
    let item = item.needs(FAST_CLOCKS[..2].join(" or "), "read once for each completion");
    let Some(source) = &g.host.clocksource else {
        return item.unknown("/sys/devices/system/clocksource is not visible");
    };
    item.has(source.clone())
        .fits(FAST_CLOCKS.contains(&source.as_str()))
        .fixed_by("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
}

fn huge_pages(g: &Given<'_>) -> Item {
    let item = Item::new("huge_pages", "transparent huge pages", Side::Host).advice();
    let item = item.needs("madvise or never", "'always' makes resident memory jump and stalls");
    match g.host.huge_pages.as_deref() {
        None => item.unknown("/sys/kernel/mm/transparent_hugepage is not visible"),
        Some(mode) => item
            .has(mode)
            .fits(mode != "always")
            .fixed_by("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    }
}

fn interrupts(g: &Given<'_>) -> Item {
    let item = Item::new("irqbalance", "interrupt balancing", Side::Host).advice();
    let item = item.needs("fixed during a run", "irqbalance moves interrupts onto pinned workers");
    let matters = !g.plan.on_loopback();
    match g.host.irqbalance {
        None => item.unknown("other processes are not visible"),
        Some(false) => item.has("not running"),
        Some(true) => {
            item.has("running").fits(!matters).fixed_by("systemctl stop irqbalance  # for the run")
        }
    }
}

fn clock(g: &Given<'_>) -> Item {
    let item = Item::new("clock", "clock against other hosts", Side::Host).advice();
    let item = item.needs("offset known", "logs of several hosts merge on it; one host needs none");
    match &g.host.clock {
        None => item.has("nobody says").unknown("neither chrony nor timedatectl answers"),
        Some(c) => {
            let distance = match (c.offset_us, c.uncertainty_us) {
                (Some(o), Some(u)) => format!(", {o:.0} us +- {u:.0} us"),
                _ => ", offset unknown".to_owned(),
            };
            let state = if c.synchronized { "synchronized" } else { "free running" };
            item.has(format!("{}: {state}{distance}", c.by))
                .fits(c.synchronized)
                .fixed_by("systemctl enable --now chrony")
        }
    }
}
