//! The conditions of a measurement: a number without them says nothing.

use std::fs;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

/// What the measurement ran on, as name and value.
pub fn conditions() -> Vec<(&'static str, String)> {
    let kernel = uname().map_or_else(
        |errno| errno.to_string(),
        |names| names.release().to_string_lossy().into_owned(),
    );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE)
        .map_or_else(|errno| errno.to_string(), |(soft, hard)| format!("{soft} soft, {hard} hard"));
    vec![
        ("kernel", kernel),
        ("processor", processor()),
        ("cores", cores.to_string()),
        ("memory available", format!("{} MiB", memory_available_bytes() >> 20)),
        ("load average", load_average()),
        ("descriptor limit", descriptors),
        ("commit", commit()),
    ]
}

/// The three load averages and the run queue, as in /proc/loadavg.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").map_or_else(|e| e.to_string(), |text| text.trim().into())
}

/// MemAvailable in bytes; 0 if it cannot be read.
pub fn memory_available_bytes() -> u64 {
    kib_field("/proc/meminfo", "MemAvailable:").unwrap_or(0)
}

/// Kernel objects (sockets, files, inodes, dentries) in bytes, the meminfo field Slab; 0 if it
/// cannot be read. Other processes' memory does not move it, as it would MemAvailable.
pub fn kernel_objects_bytes() -> u64 {
    kib_field("/proc/meminfo", "Slab:").unwrap_or(0)
}

/// Resident memory of a process in bytes; `None` once it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    kib_field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// A line such as `VmRSS:  1234 kB`, in bytes.
fn kib_field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or_else(|| "unknown".into(), |rest| rest.trim_matches([' ', '\t', ':']).into())
}

/// The checked-out commit, `+` if files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let run = Command::new("git").args(arguments).output().ok()?;
        run.status.success().then(|| String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown (no git here)".into();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|files| !files.is_empty()) { commit + "+" } else { commit }
}
