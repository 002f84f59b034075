//! Fills [`HostFacts`] by reading: /proc, /sys, `ss`, `chronyc`. Nothing here tries or changes
//! anything, and nothing here knows what is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit};

use super::cgroup;
use super::counters::{Counters, meminfo};
use super::facts::{
    ClockFacts, HostFacts, Limit, Listener, ServerFacts, Setting, SockStat, Trials,
};
use super::plan::Plan;
use super::profile::{Profile, normal};
use crate::clock;

/// Settings that are read although no value is wanted for them.
const ALSO_READ: &[&str] = &[
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.ip_unprivileged_port_start",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "vm.max_map_count",
    "vm.overcommit_memory",
];

/// CAP_SYS_RESOURCE (linux/capability.h).
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The file of a sysctl.
pub fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// Reads the host.
pub fn read(plan: &Plan, profile: &Profile) -> HostFacts {
    let memory = file("/proc/meminfo");
    let status = file("/proc/self/status");
    let uname = nix::sys::utsname::uname().ok();
    let name = |pick: &dyn Fn(&nix::sys::utsname::UtsName) -> String| {
        uname.as_ref().map(pick).unwrap_or_default()
    };
    HostFacts {
        host: name(&|u| u.nodename().to_string_lossy().into_owned()),
        kernel: name(&|u| u.release().to_string_lossy().into_owned()),
        cpus_online: cpu_list(&file("/sys/devices/system/cpu/online")).max(1),
        cpus_allowed: cpu_list(field(&status, "Cpus_allowed_list:").unwrap_or("")).max(1),
        governors: governors(),
        clocksource: some(&file(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        )),
        huge_pages: chosen(&file("/sys/kernel/mm/transparent_hugepage/enabled")),
        irqbalance: process_runs("irqbalance"),
        page_bytes: page_bytes(),
        memory_total_bytes: meminfo(&memory, "MemTotal:").unwrap_or(0),
        memory_available_bytes: meminfo(&memory, "MemAvailable:").unwrap_or(0),
        cgroup: cgroup::read(Path::new("/proc/self")),
        nofile: own_limit(Resource::RLIMIT_NOFILE),
        memlock: own_limit(Resource::RLIMIT_MEMLOCK),
        may_raise_limits: effective_capabilities(&status) & CAP_SYS_RESOURCE != 0,
        root: nix::unistd::geteuid().is_root(),
        seccomp: field(&status, "Seccomp:").and_then(|s| s.parse().ok()),
        files_open: file("/proc/sys/fs/file-nr")
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok()),
        settings: settings(profile),
        sockstat: sockstat(&file("/proc/net/sockstat")),
        conntrack_count: file("/proc/sys/net/netfilter/nf_conntrack_count").trim().parse().ok(),
        initial_network: Path::new("/proc/sys/net/ipv4/tcp_max_orphans").exists(),
        container: container(),
        listeners: listeners(),
        counters: Counters::read(clock::mono_ns()).unwrap_or_default(),
        servers: plan.server_pids.iter().map(|pid| server(*pid)).collect(),
        clock: clock_facts(),
        trials: Trials::default(),
    }
}

/// Reads one sysctl; `None` if it is not there.
pub fn setting(key: &str) -> Option<Setting> {
    let path = sysctl_path(key);
    let value = normal(&fs::read_to_string(&path).ok()?);
    let writable = fs::OpenOptions::new().write(true).open(&path).is_ok();
    Some(Setting { value, writable })
}

fn settings(profile: &Profile) -> BTreeMap<String, Setting> {
    let keys = profile.sysctl.iter().map(|w| w.key.as_str()).chain(ALSO_READ.iter().copied());
    keys.filter_map(|key| Some((key.to_owned(), setting(key)?))).collect()
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn some(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The chosen word of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    some(rest.split_once(']')?.0)
}

/// The value behind a label of a `label:<blank>value` file.
fn field<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(label)).map(str::trim)
}

/// How many are named by `0-3,8`.
fn cpu_list(text: &str) -> u64 {
    let part = |p: &str| -> Option<u64> {
        match p.trim().split_once('-') {
            Some((a, b)) => {
                b.parse::<u64>().ok()?.checked_sub(a.parse().ok()?).map(|n| n.saturating_add(1))
            }
            None => p.trim().parse::<u64>().ok().map(|_| 1),
        }
    };
    text.split(',').filter_map(part).sum()
}

fn governors() -> Vec<String> {
    let Ok(cpus) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let paths = cpus.flatten().map(|e| e.path().join("cpufreq/scaling_governor"));
    let mut all: Vec<String> = paths.filter_map(|p| some(&fs::read_to_string(p).ok()?)).collect();
    all.sort();
    all.dedup();
    all
}

/// Whether a process of that name is visible; `None` where not even pid 1 of a host is.
fn process_runs(name: &str) -> Option<bool> {
    let entries = fs::read_dir("/proc").ok()?;
    let mut names = entries.flatten().filter_map(|e| {
        fs::read_to_string(e.path().join("comm")).ok().map(|c| c.trim().to_owned())
    });
    Some(names.any(|n| n == name))
}

fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|s| u64::try_from(s).ok()).unwrap_or(4096)
}

fn own_limit(resource: Resource) -> Limit {
    let (soft, hard) = getrlimit(resource).unwrap_or((0, 0));
    Limit { soft, hard }
}

fn effective_capabilities(status: &str) -> u64 {
    field(status, "CapEff:").and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(0)
}

fn sockstat(text: &str) -> SockStat {
    let line = text.lines().find(|l| l.starts_with("TCP:")).unwrap_or("");
    let words: Vec<&str> = line.split_whitespace().collect();
    let get = |name: &str| {
        let at = words.iter().position(|w| *w == name)?;
        words.get(at + 1)?.parse().ok()
    };
    SockStat {
        inuse: get("inuse").unwrap_or(0),
        orphan: get("orphan").unwrap_or(0),
        time_wait: get("tw").unwrap_or(0),
        mem_pages: get("mem").unwrap_or(0),
    }
}

/// Signs of a container that its makers document.
fn container() -> Option<String> {
    if Path::new("/.dockerenv").exists() {
        return Some("docker".to_owned());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".to_owned());
    }
    let first = fs::read("/proc/1/environ").unwrap_or_default();
    let first = String::from_utf8_lossy(&first);
    first.split('\0').find_map(|e| e.strip_prefix("container=").and_then(some))
}

/// Runs a program that only prints; `None` if it is missing or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).env("LC_ALL", "C").output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

fn listeners() -> Option<Vec<Listener>> {
    Some(parse_listeners(&output("ss", &["-Hltn"])?))
}

fn parse_listeners(text: &str) -> Vec<Listener> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let (queued, backlog, address) = (words.nth(1)?, words.next()?, words.next()?);
        Some(Listener {
            address: address.to_owned(),
            queued: queued.parse().ok()?,
            backlog: backlog.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

fn server(pid: u32) -> Result<ServerFacts, String> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let limits = fs::read_to_string(dir.join("limits"))
        .map_err(|e| format!("process {pid}: /proc/{pid}/limits: {e}"))?;
    let network = |d: &Path| fs::read_link(d.join("ns/net")).ok();
    let (own, theirs) = (network(Path::new("/proc/self")), network(&dir));
    Ok(ServerFacts {
        pid,
        name: file(&format!("/proc/{pid}/comm")).trim().to_owned(),
        nofile: limit_line(&limits, "Max open files")
            .ok_or_else(|| format!("process {pid}: no 'Max open files' in its limits"))?,
        open: fs::read_dir(dir.join("fd")).ok().map(|d| d.count() as u64),
        same_network: own.zip(theirs).map(|(a, b)| a == b),
        cgroup: cgroup::read(&dir),
    })
}

/// One line of /proc/PID/limits: `Max open files   1024   20000   files`.
fn limit_line(text: &str, label: &str) -> Option<Limit> {
    let rest = text.lines().find_map(|l| l.strip_prefix(label))?;
    let mut words = rest.split_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    Some(Limit { soft: value()?, hard: value()? })
}

fn clock_facts() -> Option<ClockFacts> {
    if let Some(csv) = output("chronyc", &["-c", "-n", "tracking"]) {
        return parse_chrony(&csv);
    }
    let text = output("timedatectl", &["show", "-p", "NTPSynchronized", "--value"])?;
    Some(ClockFacts {
        by: "timedatectl".to_owned(),
        synchronized: text.trim() == "yes",
        offset_us: None,
        uncertainty_us: None,
    })
}

/// `chronyc -c tracking`: the offset is within root delay / 2 + root dispersion (chronyc(1)).
fn parse_chrony(csv: &str) -> Option<ClockFacts> {
    let cells: Vec<&str> = csv.trim().split(',').collect();
    let seconds = |n: usize| cells.get(n).and_then(|c| c.parse::<f64>().ok());
    Some(ClockFacts {
        by: "chrony".to_owned(),
        synchronized: cells.last().is_some_and(|s| *s != "Not synchronised"),
        offset_us: seconds(4).map(|s| s * 1e6),
        uncertainty_us: seconds(10).zip(seconds(11)).map(|(delay, d)| (delay / 2.0 + d) * 1e6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(cpu_list("0-3,8\n"), 5);
        assert_eq!((cpu_list("0"), cpu_list(""), cpu_list("3-1")), (1, 0, 0));
    }

    #[test]
    fn the_chosen_word_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen("never"), None);
    }

    #[test]
    fn another_process_has_its_own_limits() {
        let text = "Limit   Soft Limit  Hard Limit  Units\n\
                    Max open files            1024                 unlimited            files\n";
        let limit = limit_line(text, "Max open files").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, u64::MAX));
        assert_eq!(limit_line(text, "Max locked memory"), None);
    }

    #[test]
    fn listeners_show_their_queue_and_its_limit() {
        let text = "LISTEN 3      4096       127.0.0.11:8080      0.0.0.0:*\nLISTEN x\n";
        let all = parse_listeners(text);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].queued, all[0].backlog), (3, 4096));
        assert_eq!(all[0].address, "127.0.0.11:8080");
    }

    #[test]
    fn chrony_states_offset_and_uncertainty() {
        let csv = "A29FC87B,162.159.200.123,3,1718000000.0,0.000012000,-0.000001,0.00002,-1.0,\
                   0.0,0.01,0.004000000,0.000500000,64.2,Normal\n";
        let clock = parse_chrony(csv).unwrap();
        assert!(clock.synchronized);
        assert_eq!(clock.offset_us, Some(12.0));
        assert_eq!(clock.uncertainty_us, Some(2500.0));
        assert!(
            !parse_chrony("7F7F0101,,10,0,0,0,0,0,0,0,0,0,0,Not synchronised")
                .unwrap()
                .synchronized
        );
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_with_its_number() {
        assert!(server(u32::MAX - 1).unwrap_err().contains("4294967294"));
        let own = server(std::process::id()).unwrap();
        assert_eq!(own.same_network, Some(true));
        assert!(own.open.unwrap() > 0);
    }
}
