//! Descriptors, io_uring, locked memory, tasks: what a process is allowed.

use super::Given;
use crate::preflight::facts::Probe;
use crate::preflight::needs;
use crate::preflight::report::{Item, Side, bytes, grouped, limit};

const NR_OPEN: &str = "fs.nr_open";
const FILE_MAX: &str = "fs.file-max";
const URING_DISABLED: &str = "kernel.io_uring_disabled";

/// The kernel that brought a feature, by the probe's name for it.
const FEATURES: &[(&str, &str)] = &[
    ("single_issuer", "6.0"),
    ("defer_taskrun", "6.1"),
    ("direct_descriptors", "5.19"),
    ("buffer_ring", "5.19"),
    ("recv_multishot", "6.0"),
    ("connect", "5.5"),
    ("send", "5.6"),
    ("ext_arg", "5.11"),
    ("cancel", "5.5"),
    ("close_direct", "5.15"),
];

/// What the generator's process needs.
pub fn generator(g: &Given<'_>) -> Vec<Item> {
    let mut items = vec![io_uring(g)];
    if let Some(probe) = g.host.probe()
        && !probe.features.is_empty()
    {
        items.push(features(probe));
    }
    items.push(if epoll(g) { ordinary_descriptors(g) } else { workers(g) });
    items.push(locked_memory(g));
    items
}

fn epoll(g: &Given<'_>) -> bool {
    g.host.probe().is_some_and(|p| p.engine == "epoll")
}

fn io_uring(g: &Given<'_>) -> Item {
    let item = Item::new("io_uring", "io_uring", Side::Generator)
        .needs("a ring, its table, its buffers", "one operation of each kind, by loadgen --probe");
    let disabled = g.host.number(URING_DISABLED).unwrap_or(0);
    let blocked = match (disabled, g.host.seccomp) {
        (1.., _) => format!("{URING_DISABLED} is {disabled}"),
        (0, Some(2)) => "a seccomp filter is in force".to_owned(),
        _ => String::new(),
    };
    match &g.host.trials.probe {
        Some(Ok(probe)) if probe.io_uring => item.has("works").tried(),
        Some(Ok(probe)) => {
            let error = probe.error.clone().unwrap_or_else(|| "no reason given".to_owned());
            let item = item.has(error).fits(false).tried().noted(blocked);
            let item =
                if epoll(g) { item.advice().noted("loadgen falls back to epoll") } else { item };
            let fix = match (disabled, g.host.seccomp) {
                (1.., _) => g.set(URING_DISABLED),
                (0, Some(2)) => "run with a seccomp profile that allows io_uring_setup, \
                     io_uring_enter and io_uring_register (docker: --security-opt seccomp=FILE)"
                    .to_owned(),
                _ => "loadgen --probe   # names the step; Linux 6.1 or newer is needed".to_owned(),
            };
            item.fixed_by(fix)
        }
        Some(Err(why)) => item.unknown(why.clone()).noted(blocked),
        None => item.unknown("the generator was not asked"),
    }
}

fn features(probe: &Probe) -> Item {
    let item = Item::new("io_uring_features", "io_uring features", Side::Generator).tried();
    let missing: Vec<String> = probe
        .features
        .iter()
        .filter(|(_, there)| !**there)
        .map(|(name, _)| match FEATURES.iter().find(|(n, _)| n == name) {
            Some((_, version)) => format!("{name} (Linux {version})"),
            None => name.clone(),
        })
        .collect();
    let total = probe.features.len();
    let item = item.needs(format!("all {total}"), "each tried, whatever the version says");
    if missing.is_empty() {
        item.has(format!("all {total}"))
    } else {
        let item = item.has(format!("missing: {}", missing.join(", "))).fits(false);
        let item = if probe.engine == "epoll" { item.advice() } else { item };
        item.fixed_by("boot a kernel of the version named, or newer")
    }
}

/// Connections that one ring's table holds: proved by the probe, else by the limit (the generator
/// raises its soft limit to the hard one).
pub fn table(g: &Given<'_>) -> u64 {
    let proved = g.host.probe().map(|p| p.ring_table_max).filter(|n| *n > 0);
    proved.unwrap_or(needs::under_limit(g.host.nofile.hard))
}

/// Direct descriptors: RLIMIT_NOFILE bounds each ring's table, so more workers, not a higher limit.
fn workers(g: &Given<'_>) -> Item {
    let item = Item::new("workers", "workers for the descriptors", Side::Generator);
    let n = g.plan.connections;
    let table = table(g);
    let max = g.host.probe().and_then(|p| p.workers_max).unwrap_or(needs::WORKERS_MAX);
    let allowed = if g.plan.workers > 0 { u64::from(g.plan.workers) } else { max };
    let needed = needs::shares(n, table);
    let item = item
        .needs(
            needed.map_or("no number".to_owned(), |w| format!("{} workers", grouped(w))),
            format!("N / a ring's table (RLIMIT_NOFILE - {})", needs::DESCRIPTOR_MARGIN),
        )
        .has(format!("table of {} a ring, {} at most", grouped(table), grouped(allowed)))
        .fits(needed.is_some_and(|w| w <= allowed));
    let holds = table.saturating_mul(allowed);
    let ceiling = needs::under_limit(raised_limit(g)).max(table);
    let could = ceiling.saturating_mul(max);
    let item = item.bounds(holds, Some(could));
    let item = match g.host.probe() {
        Some(p) if p.ring_table_max > 0 => item.tried(),
        _ => item.noted("limit as read; the table was not tried"),
    };
    match needed {
        Some(w) if w <= max => item.fixed_by(format!("run with --workers {w}")),
        _ => item.fixed_by(raise_limit(g, needs::limit_needed(n, max))),
    }
}

fn ordinary_descriptors(g: &Given<'_>) -> Item {
    let item = Item::new("descriptors", "descriptors of loadgen (epoll)", Side::Generator);
    let need = needs::limit_needed(g.plan.connections, 1);
    let actual = g.host.nofile.hard;
    item.needs(format!(">= {}", grouped(need)), format!("N + {}", needs::DESCRIPTOR_MARGIN))
        .has(limit(actual))
        .fits(actual >= need)
        .bounds(needs::under_limit(actual), Some(needs::under_limit(raised_limit(g))))
        .fixed_by(raise_limit(g, need))
}

/// The hard limit that this process could come to have.
pub fn raised_limit(g: &Given<'_>) -> u64 {
    let hard = g.host.nofile.hard;
    if g.host.may_raise_limits {
        hard.max(g.after_fix(NR_OPEN).unwrap_or(hard).min(g.profile.limits.nofile.max(hard)))
    } else {
        hard
    }
}

/// The command that raises a descriptor limit for what is started from this shell.
pub fn raise_limit(g: &Given<'_>, need: u64) -> String {
    if need <= g.host.nofile.hard {
        format!("ulimit -n {need}")
    } else if g.host.may_raise_limits {
        format!("prlimit --pid $$ --nofile={need}:{need}")
    } else {
        "reporter preflight --print limits > /etc/security/limits.d/90-mcp-load.conf  # log in anew"
            .to_owned()
    }
}

fn locked_memory(g: &Given<'_>) -> Item {
    let item = Item::new("memlock", "locked memory", Side::Generator).advice();
    let works = g.host.probe().map(|p| p.io_uring);
    let wanted = g.profile.limits.memlock;
    let actual = g.host.memlock.soft;
    let show = if actual == u64::MAX { "unlimited".to_owned() } else { bytes(actual) };
    let item = item.needs("rings and buffers register", "charged before Linux 5.12 only");
    match works {
        Some(true) => item.has(format!("{show}, they do")).tried(),
        Some(false) => {
            item.has(show).fits(actual >= wanted).fixed_by(format!("ulimit -l {}", wanted / 1024))
        }
        None => item.has(show).unknown("the probe did not try"),
    }
}

/// The largest descriptor limit that a process of this plan needs.
pub fn largest_limit(g: &Given<'_>) -> u64 {
    let server = needs::limit_needed(g.plan.connections, u64::from(g.plan.replicas.max(1)));
    if g.plan.role.serves() { server } else { 0 }
}

/// Files that the plan makes of the whole host.
pub fn files_need(g: &Given<'_>) -> u64 {
    let open = g.host.files_open.unwrap_or(0);
    needs::files_needed(open, g.plan.connections, g.plan.role.ends())
}

/// What the whole host allows.
pub fn host(g: &Given<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    if g.plan.role.serves() {
        items.push(nr_open(g));
    }
    items.push(file_max(g));
    items.push(tasks(g));
    items
}

fn nr_open(g: &Given<'_>) -> Item {
    let item = Item::new("nr_open", "highest descriptor limit", Side::Host);
    let need = largest_limit(g);
    let item = item.needs(
        format!(">= {}", grouped(need)),
        format!("N / replicas + {}", needs::DESCRIPTOR_MARGIN),
    );
    let Some(actual) = g.host.number(NR_OPEN) else { return g.invisible(item, NR_OPEN) };
    let replicas = u64::from(g.plan.replicas.max(1));
    let each = |limit| needs::under_limit(limit).saturating_mul(replicas);
    let reachable = g.reach(NR_OPEN).reachable;
    item.has(grouped(actual))
        .fits(actual >= need)
        .bounds(each(actual), (!reachable).then(|| each(actual)))
        .noted(g.reach(NR_OPEN).note)
        .fixed_by(g.set(NR_OPEN))
}

fn file_max(g: &Given<'_>) -> Item {
    let item = Item::new("file_max", "open files of the host", Side::Host);
    let need = files_need(g);
    let ends = g.plan.role.ends();
    let item = item.needs(
        format!(">= {}", grouped(need)),
        format!("open now + {ends} x N + {}", grouped(needs::FILE_MARGIN)),
    );
    let Some(actual) = g.host.number(FILE_MAX) else { return g.invisible(item, FILE_MAX) };
    let present = g.host.files_open.unwrap_or(0) + needs::FILE_MARGIN;
    let holds = actual.saturating_sub(present) / ends;
    let reach = g.reach(FILE_MAX);
    item.has(grouped(actual))
        .fits(actual >= need)
        .bounds(holds, (!reach.reachable).then_some(holds))
        .noted(reach.note)
        .fixed_by(g.set(FILE_MAX))
}

/// Threads of both sides: a worker each, and a server's workers (one a core).
fn tasks(g: &Given<'_>) -> Item {
    let item = Item::new("tasks", "processes and threads", Side::Host).advice();
    let workers = needs::shares(g.plan.connections, table(g)).unwrap_or(0);
    let workers = workers.max(g.host.cpus_allowed);
    let servers = u64::from(g.plan.replicas) * (g.host.cpus_allowed + 4);
    let need = match (g.plan.role.generates(), g.plan.role.serves()) {
        (true, true) => workers + servers,
        (true, false) => workers,
        _ => servers,
    };
    let item = item.needs(format!("{} more", grouped(need)), "workers + replicas x (cores + 4)");
    match g.host.cgroup.pids_max {
        None => item.has("no limit in this cgroup"),
        Some(max) => item
            .has(format!("{} of {} used", grouped(g.host.cgroup.pids_used), grouped(max)))
            .fits(g.host.cgroup.pids_used.saturating_add(need) <= max)
            .fixed_by("docker run --pids-limit -1, or systemd: TasksMax=infinity"),
    }
}
