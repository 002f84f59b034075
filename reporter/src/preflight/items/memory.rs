//! Memory: what TCP may queue, what sockets cost the kernel, what both sides take together.

use super::Given;
use crate::preflight::facts::Cgroup;
use crate::preflight::needs;
use crate::preflight::profile::Rule;
use crate::preflight::report::{Evidence, Item, Side, bytes, grouped};

const TCP_MEM: &str = "net.ipv4.tcp_mem";

/// All items about memory.
pub fn all(g: &Given<'_>) -> Vec<Item> {
    let mut items =
        vec![tcp_mem(g), buffers(g, "net.ipv4.tcp_rmem"), buffers(g, "net.ipv4.tcp_wmem")];
    items.push(kernel(g));
    items.push(total(g));
    items.extend(cgroup(g));
    items
}

fn tcp_mem(g: &Given<'_>) -> Item {
    let item = Item::new("tcp_mem", "TCP buffer pages", Side::Host);
    let busy = needs::busy_connections(g.plan.connections, g.plan.rate_per_s);
    let more =
        needs::tcp_pages_needed(busy, g.plan.role.ends(), g.host.page_bytes, g.host.cpus_online);
    let need = more.saturating_add(g.host.sockstat.mem_pages);
    let item = item.needs(
        format!(">= {} pages", grouped(need)),
        format!("in use + {} busy x 16 KB a socket + cores x 256", grouped(busy)),
    );
    let Some(limits) = g.host.numbers(TCP_MEM).filter(|v| v.len() == 3) else {
        // Without the setting, only an administrator who lowered it can be below this.
        let usual = g.host.memory_total_bytes / g.host.page_bytes.max(1) / 16;
        let item = g
            .invisible(item, TCP_MEM)
            .noted(format!("the kernel's own choice would be about {} pages", grouped(usual)));
        return if need < usual { item.advice() } else { item };
    };
    let (pressure, max) = (limits[1], limits[2]);
    let item = item.has(format!("{} (pressure {})", grouped(max), grouped(pressure)));
    item.fits(pressure >= need).noted(g.reach(TCP_MEM).note).fixed_by(g.set(TCP_MEM))
}

fn buffers(g: &Given<'_>, key: &'static str) -> Item {
    let id = key.rsplit('.').next().unwrap_or(key);
    let item = Item::new(id, &format!("{id} default"), Side::Host).advice();
    let wanted = g.wanted(key);
    let middle = |text: &str| text.split_whitespace().nth(1).unwrap_or("?").to_owned();
    let Some(actual) = g.host.numbers(key).filter(|v| v.len() == 3) else {
        return g.invisible(item.needs(format!("<= {}", middle(&wanted)), ""), key);
    };
    let sockets = g.plan.connections.saturating_mul(g.plan.role.ends());
    let worst = bytes(sockets.saturating_mul(actual[1]));
    let fits = Rule::DefaultAtMost.satisfied(g.host.text(key).unwrap_or(""), &wanted);
    item.needs(
        format!("<= {}", middle(&wanted)),
        format!("worst case sockets x default = {worst}; tcp_mem cuts it off"),
    )
    .has(actual[1].to_string())
    .fits(fits)
    .fixed_by(g.set(key))
}

/// Kernel memory a socket: measured, else the known figure.
pub fn socket_bytes(g: &Given<'_>) -> u64 {
    let measured = g.host.socket_trial().and_then(|t| t.kernel_bytes_per_socket);
    measured.unwrap_or(needs::KERNEL_SOCKET_BYTES)
}

/// Kernel memory that one connection of the plan costs this host.
fn kernel_per_connection(g: &Given<'_>) -> u64 {
    let tracked = g.host.conntrack_count.is_some();
    let entry = if tracked { needs::CONNTRACK_ENTRY_BYTES } else { 0 };
    socket_bytes(g) * g.plan.role.ends() + entry
}

/// Memory that may be planned with.
fn free(g: &Given<'_>) -> u64 {
    let reserve = needs::memory_reserve(g.host.memory_total_bytes);
    g.host.memory_available_bytes.saturating_sub(reserve)
}

fn kernel(g: &Given<'_>) -> Item {
    let each = kernel_per_connection(g);
    let need = g.plan.connections.saturating_mul(each);
    let measured = g.host.socket_trial().and_then(|t| t.kernel_bytes_per_socket).is_some();
    let socket = bytes(socket_bytes(g));
    let how = if measured { "measured" } else { "known" };
    let mut item = Item::new("kernel_memory", "kernel memory for sockets", Side::Host)
        .needs(bytes(need), format!("N x {} x {socket} a socket ({how})", g.plan.role.ends()))
        .has(format!("{} free", bytes(free(g))))
        .fits(free(g) >= need)
        .fixed_by("# add memory, or spread the plan over more hosts");
    if measured {
        item.evidence = Evidence::Tried;
    }
    item
}

/// User and kernel memory of one connection, and what does not grow with connections.
fn plan_memory(g: &Given<'_>) -> (u64, u64) {
    let mut each = kernel_per_connection(g);
    let mut fixed = 0;
    if g.plan.role.generates() {
        let probe = g.host.probe();
        each += probe
            .and_then(|p| p.memory_per_connection_bytes)
            .unwrap_or(needs::GENERATOR_CONNECTION_BYTES);
        let worker =
            probe.and_then(|p| p.memory_per_worker_bytes).unwrap_or(needs::GENERATOR_WORKER_BYTES);
        let workers = needs::shares(g.plan.connections, super::process::table(g));
        fixed += workers.unwrap_or(0).max(g.host.cpus_allowed).saturating_mul(worker);
    }
    if g.plan.role.serves() {
        each += g.plan.session_bytes;
    }
    (each, fixed)
}

fn parts(g: &Given<'_>) -> String {
    let both = match (g.plan.role.generates(), g.plan.role.serves()) {
        (true, true) => "kernel + generator + server session",
        (true, false) => "kernel + generator",
        _ => "kernel + server session",
    };
    let (each, fixed) = plan_memory(g);
    if fixed == 0 {
        format!("N x {} ({both})", bytes(each))
    } else {
        format!("N x {} ({both}) + {} for workers", bytes(each), bytes(fixed))
    }
}

fn total(g: &Given<'_>) -> Item {
    let (each, fixed) = plan_memory(g);
    let need = g.plan.connections.saturating_mul(each).saturating_add(fixed);
    let free = free(g);
    let holds = free.saturating_sub(fixed) / each.max(1);
    let reserve = needs::memory_reserve(g.host.memory_total_bytes);
    Item::new("memory", "memory of all together", Side::Host)
        .needs(bytes(need), parts(g))
        .has(format!("{} (MemAvailable - {})", bytes(free), bytes(reserve)))
        .fits(free >= need)
        .bounds(holds, Some(holds))
        .fixed_by("# add memory, or spread the plan over more hosts")
}

fn cgroup(g: &Given<'_>) -> Option<Item> {
    let Cgroup { memory_limit_bytes, memory_used_bytes, version, .. } = &g.host.cgroup;
    let max = (*memory_limit_bytes)?;
    let (each, fixed) = plan_memory(g);
    let need = g.plan.connections.saturating_mul(each).saturating_add(fixed);
    let left = max.saturating_sub(*memory_used_bytes);
    let holds = left.saturating_sub(fixed) / each.max(1);
    Some(
        Item::new("cgroup_memory", "memory of this cgroup", Side::Host)
            .needs(bytes(need), parts(g))
            .has(format!("{} left of {} ({version})", bytes(left), bytes(max)))
            .fits(left >= need)
            .bounds(holds, Some(holds))
            .noted("socket memory of the kernel counts here too")
            .fixed_by(format!(
                "raise its limit to {}",
                bytes(need.saturating_add(*memory_used_bytes))
            )),
    )
}
