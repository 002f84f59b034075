//! The server's side: listen queues, its own descriptor limits, what happens when it dies.

use super::Given;
use super::process::{raise_limit, raised_limit};
use crate::preflight::facts::ServerFacts;
use crate::preflight::needs;
use crate::preflight::report::{Item, Side, bytes, grouped, limit};

const SOMAXCONN: &str = "net.core.somaxconn";
const SYN_BACKLOG: &str = "net.ipv4.tcp_max_syn_backlog";
const SYNCOOKIES: &str = "net.ipv4.tcp_syncookies";
const ORPHANS: &str = "net.ipv4.tcp_max_orphans";

/// Everything about the servers of this host.
pub fn all(g: &Given<'_>) -> Vec<Item> {
    let mut items = vec![somaxconn(g), syn_backlog(g), orphans(g)];
    if g.host.servers.is_empty() {
        items.push(descriptors(g));
        items.extend(soft_limit(g));
    }
    for server in &g.host.servers {
        match server {
            Ok(facts) => items.extend(process(g, facts)),
            Err(why) => items.push(
                Item::new("server_process", "server process", Side::Server)
                    .needs("its limits", "/proc/PID/limits")
                    .unknown(why.clone()),
            ),
        }
    }
    items.extend(listeners(g));
    items.push(overflows(g));
    items
}

/// What the accept queue of one destination must hold.
pub fn backlog_need(g: &Given<'_>) -> u64 {
    let d = g.plan.destination_count();
    needs::backlog_needed(g.plan.ramp_per_s, d, g.plan.accept_stall_ms)
}

fn backlog_formula(g: &Given<'_>) -> String {
    format!(
        "{} connects/s x {} ms without accept / {} destinations",
        grouped(g.plan.ramp_per_s),
        g.plan.accept_stall_ms,
        grouped(g.plan.destination_count())
    )
}

fn somaxconn(g: &Given<'_>) -> Item {
    let item = Item::new("somaxconn", "accept queue", Side::Server);
    let need = backlog_need(g);
    let item = item.needs(format!(">= {}", grouped(need)), backlog_formula(g));
    let Some(actual) = g.host.number(SOMAXCONN) else { return g.invisible(item, SOMAXCONN) };
    let item = item.has(grouped(actual)).fits(actual >= need);
    if actual >= need {
        return item;
    }
    // The kernel lets one more in than the limit says (sk_acceptq_is_full compares with >).
    item.noted(format!("connects stall after {} while the server does not accept", actual + 1))
        .noted("takes effect at the server's next listen()")
        .noted(g.reach(SOMAXCONN).note)
        .fixed_by(g.set(SOMAXCONN))
}

fn syn_backlog(g: &Given<'_>) -> Item {
    let item = Item::new("tcp_max_syn_backlog", "half-open connections", Side::Server);
    let need = backlog_need(g);
    let item = item.needs(format!(">= {}", grouped(need)), backlog_formula(g));
    let Some(actual) = g.host.number(SYN_BACKLOG) else { return g.invisible(item, SYN_BACKLOG) };
    let cookies = g.host.number(SYNCOOKIES).unwrap_or(0) > 0;
    let item = item.has(grouped(actual)).fits(actual >= need);
    let item =
        if cookies { item.advice().noted("SYN cookies are on: not a hard bound") } else { item };
    item.noted(g.reach(SYN_BACKLOG).note).fixed_by(g.set(SYN_BACKLOG))
}

fn orphans(g: &Given<'_>) -> Item {
    let item = Item::new("tcp_max_orphans", "orphans when a server dies", Side::Server).advice();
    let need = g.plan.connections;
    let item = item.needs(format!(">= {}", grouped(need)), "N: a killed server leaves them all");
    let Some(actual) = g.host.number(ORPHANS) else { return g.invisible(item, ORPHANS) };
    let item = item.has(grouped(actual)).fits(actual >= need);
    item.noted(g.reach(ORPHANS).note).fixed_by(g.set(ORPHANS))
}

/// A server that does not raise its own soft limit stops there.
fn soft_limit(g: &Given<'_>) -> Option<Item> {
    let need = needs::limit_needed(g.plan.connections, u64::from(g.plan.replicas.max(1)));
    let (soft, hard) = (g.host.nofile.soft, g.host.nofile.hard);
    (soft < need && need <= hard).then(|| {
        Item::new("server_soft_limit", "soft limit of a server", Side::Server)
            .advice()
            .needs(
                format!(">= {} each", grouped(need)),
                "unless it raises its own (erlmcp-server does)",
            )
            .has(limit(soft))
            .fits(false)
            .fixed_by(raise_limit(g, need))
    })
}

/// Ordinary descriptors: the hard limit bounds each server process.
fn descriptors(g: &Given<'_>) -> Item {
    let item = Item::new("server_descriptors", "descriptors a server", Side::Server);
    let replicas = u64::from(g.plan.replicas.max(1));
    let need = needs::limit_needed(g.plan.connections, replicas);
    let actual = g.host.nofile.hard;
    let all = |limit| needs::under_limit(limit).saturating_mul(replicas);
    let ceiling = raised_limit(g);
    let item = item
        .needs(
            format!(">= {} each", grouped(need)),
            format!("N / {} replicas + {}", grouped(replicas), needs::DESCRIPTOR_MARGIN),
        )
        .has(limit(actual))
        .fits(actual >= need)
        .bounds(all(actual), Some(all(ceiling)));
    if need <= ceiling {
        return item.fixed_by(raise_limit(g, need));
    }
    match needs::holders_needed(g.plan.connections, g.host.nofile.hard) {
        Some(more) => item
            .noted(format!("or, without a higher limit: --replicas {more}"))
            .fixed_by(raise_limit(g, need)),
        None => item.fixed_by(raise_limit(g, need)),
    }
}

fn process(g: &Given<'_>, server: &ServerFacts) -> Vec<Item> {
    let title = format!("descriptors of {} ({})", server.name, server.pid);
    let item = Item::new("server_process", &title, Side::Server);
    let processes = g.host.servers.len() as u64;
    let need = needs::limit_needed(g.plan.connections, processes);
    let soft = server.nofile.soft;
    let all = |limit| needs::under_limit(limit).saturating_mul(processes);
    let mut item = item
        .needs(
            format!(">= {}", grouped(need)),
            format!("N / {processes} processes + {}", needs::DESCRIPTOR_MARGIN),
        )
        .has(format!("{} (hard {})", limit(soft), limit(server.nofile.hard)))
        .fits(soft >= need)
        .bounds(all(soft), Some(all(soft.max(server.nofile.hard).max(raised_limit(g)))))
        .fixed_by(format!(
            "prlimit --pid {} --nofile={need}:{}",
            server.pid,
            need.max(server.nofile.hard)
        ));
    if let Some(open) = server.open {
        item = item.noted(format!("{} open now", grouped(open)));
    }
    if server.same_network == Some(false) {
        item = item.noted(format!(
            "it lives in another network namespace: check there with \
             nsenter -t {} -n reporter preflight --role server",
            server.pid
        ));
    }
    let mut items = vec![item];
    items.extend(process_memory(g, server));
    items
}

/// A server in a container is bounded by its own group, not by this process's.
fn process_memory(g: &Given<'_>, server: &ServerFacts) -> Option<Item> {
    let max = server.cgroup.memory_limit_bytes?;
    let processes = (g.host.servers.len() as u64).max(1);
    let share = g.plan.connections.div_ceil(processes);
    let each = g.plan.session_bytes + super::memory::socket_bytes(g);
    let need = share.saturating_mul(each);
    let free = max.saturating_sub(server.cgroup.memory_used_bytes);
    let title = format!("memory of {} ({})", server.name, server.pid);
    let item = Item::new("server_memory", &title, Side::Server)
        .needs(bytes(need), format!("N / {processes} x ({} a session + socket)", bytes(each)))
        .has(format!("{} left of {} (cgroup {})", bytes(free), bytes(max), server.cgroup.version))
        .fits(free >= need)
        .fixed_by(format!("docker update --memory {need} --memory-swap -1 CONTAINER"));
    let holds = (free / each.max(1)).saturating_mul(processes);
    Some(item.bounds(holds, Some(holds)))
}

/// Listeners of the plan's destinations: their backlog is fixed at listen().
fn listeners(g: &Given<'_>) -> Option<Item> {
    let all = g.host.listeners.as_ref()?;
    let destinations: Vec<String> = g.plan.destinations().iter().map(ToString::to_string).collect();
    let ports: Vec<String> =
        g.plan.destinations().iter().map(|d| format!(":{}", d.port())).collect();
    let any = |a: &str| a.starts_with("0.0.0.0:") || a.starts_with("*:") || a.starts_with("[::]:");
    let ours = all.iter().filter(|l| {
        destinations.contains(&l.address)
            || (any(&l.address) && ports.iter().any(|p| l.address.ends_with(p)))
    });
    let least = ours.min_by_key(|l| l.backlog)?;
    let need = backlog_need(g);
    let item = Item::new("listener_backlog", "backlog of the listeners", Side::Server)
        .needs(format!(">= {}", grouped(need)), backlog_formula(g))
        .has(format!("{} at {}", grouped(least.backlog), least.address))
        .fits(least.backlog >= need);
    Some(item.fixed_by(format!(
        "start the server with a listen backlog >= {need} (and net.core.somaxconn as large)"
    )))
}

/// Listen queues that overflowed already: evidence, not a need.
fn overflows(g: &Given<'_>) -> Item {
    let c = &g.host.counters;
    Item::new("listen_overflows", "overflowed accept queues", Side::Server)
        .advice()
        .needs("none to come", "ListenOverflows, ListenDrops since boot")
        .has(format!("{}, {}", grouped(c.listen_overflows), grouped(c.listen_drops)))
        .noted(if c.listen_overflows > 0 {
            "queues overflowed before this plan; each run records its own difference"
        } else {
            ""
        })
}
