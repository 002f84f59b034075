//! What `/proc` says about a process and about the host. Parsing is pure; a file that is absent or
//! has another shape yields nothing, never a zero that nobody measured.

use std::fs;
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

use super::record::HostRecord;

/// One process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessSample {
    /// Resident memory.
    pub rss_bytes: u64,
    /// CPU time since its start, all threads, in steps of the kernel's clock tick (10 ms).
    pub cpu_ns: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
}

/// Sizes that `/proc` counts in; constant while the system runs.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    page_bytes: u64,
    tick_ns: u64,
}

impl Units {
    /// Asks the C library.
    pub fn of_this_host() -> Self {
        let ask = |name, default| {
            sysconf(name).ok().flatten().and_then(|v| u64::try_from(v).ok()).unwrap_or(default)
        };
        Self {
            page_bytes: ask(SysconfVar::PAGE_SIZE, 4_096),
            tick_ns: 1_000_000_000 / ask(SysconfVar::CLK_TCK, 100).max(1),
        }
    }
}

/// Samples a process; none once it is gone.
pub fn process(pid: u32, units: Units) -> Option<ProcessSample> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut sample = parse_stat(&stat, units)?;
    sample.fds = open_descriptors(pid)?;
    Some(sample)
}

/// Samples a process and all that descend from it, summed: a server may fork workers. None once
/// the process itself is gone. Where the kernel does not list children
/// (`CONFIG_PROC_CHILDREN`), it is the process alone.
pub fn tree(pid: u32, units: Units) -> Option<ProcessSample> {
    let mut sum = process(pid, units)?;
    let mut waiting = children(pid);
    for _ in 0..DESCENDANTS_MAX {
        let Some(child) = waiting.pop() else { break };
        let Some(sample) = process(child, units) else { continue };
        sum.rss_bytes += sample.rss_bytes;
        sum.cpu_ns += sample.cpu_ns;
        sum.fds += sample.fds;
        sum.threads += sample.threads;
        waiting.extend(children(child));
    }
    Some(sum)
}

/// Descendants of one replica that are looked at.
const DESCENDANTS_MAX: usize = 1_024;

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| text(thread.path().join("children")))
        .flat_map(|list| {
            let pids = list.split_ascii_whitespace().filter_map(|word| word.parse().ok());
            pids.collect::<Vec<u32>>()
        })
        .collect()
}

/// Open descriptors of a process; none if it is gone or belongs to somebody else.
pub fn open_descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    // Linux 6.2 and later give the number as the directory's size; before that it is 0.
    match fs::metadata(&path).ok()?.len() {
        0 => fs::read_dir(&path).ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

/// The soft RLIMIT_NOFILE of a process.
pub fn nofile_of(pid: u32) -> Option<u64> {
    let limits = text(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `/proc/<pid>/stat` (man 5 proc_pid_stat): fields 14, 15, 20 and 24. The name in field 2 may
/// hold spaces and parentheses, so counting starts after the last one.
fn parse_stat(stat: &str, units: Units) -> Option<ProcessSample> {
    let after_name = stat.get(stat.rfind(')')? + 1..)?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessSample {
        rss_bytes: field(24)?.checked_mul(units.page_bytes)?,
        cpu_ns: field(14)?.checked_add(field(15)?)?.checked_mul(units.tick_ns)?,
        fds: 0,
        threads: field(20)?,
    })
}

/// A `Key: value kB` line of `/proc/meminfo`, in bytes.
pub fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// A counter of `/proc/net/netstat` or `/proc/net/snmp`, whose lines come in pairs of names and
/// values with one prefix, such as `TcpExt:`.
pub fn net_counter(text: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix)?.strip_prefix(':'));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|found| found == name)?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// Packets dropped because the backlog of a core was full: the second column of each line of
/// `/proc/net/softnet_stat`, hexadecimal, summed.
pub fn softnet_dropped(text: &str) -> Option<u64> {
    let column = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    text.lines().map(column).sum()
}

/// A field of a `/proc/net/sockstat` line, such as (`TCP`, `inuse`).
pub fn sockstat(text: &str, protocol: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'))?;
    let mut words = rest.split_ascii_whitespace();
    words.find(|word| *word == field)?;
    words.next()?.parse().ok()
}

/// CPU time of the whole host since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// In user, nice, system, irq and softirq.
    pub busy_ns: u64,
    /// Idle or waiting for a disk.
    pub idle_ns: u64,
    /// Wanted, but given to another guest by the hypervisor.
    pub steal_ns: u64,
}

/// The `cpu` line of `/proc/stat` (man 5 proc_stat).
pub fn host_cpu(stat: &str, units: Units) -> Option<HostCpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(HostCpu {
        busy_ns: (user + nice + system + irq + softirq).checked_mul(units.tick_ns)?,
        idle_ns: (idle + iowait).checked_mul(units.tick_ns)?,
        steal_ns: steal.checked_mul(units.tick_ns)?,
    })
}

/// The load over one minute.
pub fn load_1min(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Describes this host; what cannot be read stays empty or zero.
pub fn host() -> HostRecord {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let cpuinfo = read("/proc/cpuinfo");
    let cpu_model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(String::new, |(_, model)| model.trim().to_owned());
    let (nofile_soft, nofile_hard) = nofile();
    HostRecord {
        name: read("/proc/sys/kernel/hostname").trim().to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        cpu_model,
        mem_bytes: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
        mem_available_bytes: meminfo_bytes(&meminfo, "MemAvailable").unwrap_or(0),
        nofile_soft,
        nofile_hard,
        clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .trim()
            .to_owned(),
        load_1min: load_1min(&read("/proc/loadavg")).unwrap_or(0.0),
    }
}

/// RLIMIT_NOFILE of this process, (soft, hard).
pub fn nofile() -> (u64, u64) {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((0, 0))
}

/// Raises the soft limit of descriptors to the hard one, for this process and its children.
pub fn raise_nofile() {
    let (soft, hard) = nofile();
    if soft < hard {
        // A refusal leaves the soft limit, which the plan's check then names.
        let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
        let _ = nix::sys::resource::setrlimit(resource, hard, hard);
    }
}

/// A file's text, none if it cannot be read.
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units { page_bytes: 4_096, tick_ns: 10_000_000 };

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 12 3 0 0 20 0 9 0 500 1000 250 1";
        let sample = parse_stat(stat, UNITS).expect("parses");
        assert_eq!(sample.rss_bytes, 250 * 4_096);
        assert_eq!(sample.cpu_ns, 150_000_000);
        assert_eq!(sample.threads, 9);
        assert_eq!(parse_stat("77 (a) S 1", UNITS), None);
        assert_eq!(parse_stat("", UNITS), None);
    }

    #[test]
    fn this_process_is_there_and_a_pid_that_cannot_exist_is_not() {
        let units = Units::of_this_host();
        let own = process(std::process::id(), units).expect("this process");
        assert!(own.rss_bytes > 0 && own.fds > 2 && own.threads > 0, "{own:?}");
        assert_eq!(process(u32::MAX, units), None);
    }

    #[test]
    fn counters_are_found_by_name_in_their_pair_of_lines() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 7 9\n\
                    IpExt: InNoRoutes\nIpExt: 4\n";
        assert_eq!(net_counter(text, "TcpExt", "ListenDrops"), Some(9));
        assert_eq!(net_counter(text, "IpExt", "InNoRoutes"), Some(4));
        assert_eq!(net_counter(text, "TcpExt", "Unknown"), None);
        assert_eq!(net_counter(text, "Tcp", "ListenDrops"), None);
    }

    #[test]
    fn memory_and_drops_and_sockets() {
        let meminfo = "MemTotal:       24000 kB\nMemAvailable:   1000 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable"), Some(1_024_000));
        assert_eq!(meminfo_bytes(meminfo, "Mem"), None);
        assert_eq!(softnet_dropped("000a 00000010 0\n000b 00000001 0\n"), Some(17));
        assert_eq!(softnet_dropped("000a\n"), None);
        let sockstat_text = "sockets: used 5\nTCP: inuse 3 orphan 0 tw 11 alloc 6 mem 2\n";
        assert_eq!(sockstat(sockstat_text, "TCP", "tw"), Some(11));
        assert_eq!(sockstat(sockstat_text, "TCP6", "tw"), None);
    }

    #[test]
    fn host_cpu_splits_busy_idle_and_steal() {
        let cpu = host_cpu("cpu  1 2 3 40 5 6 7 8 0 0\ncpu0 1\n", UNITS).expect("parses");
        assert_eq!(
            cpu,
            HostCpu { busy_ns: 190_000_000, idle_ns: 450_000_000, steal_ns: 80_000_000 }
        );
        assert_eq!(host_cpu("cpu  1 2 3\n", UNITS), None);
    }
}
