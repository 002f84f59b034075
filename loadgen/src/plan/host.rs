//! What this host offers, read once: cores, descriptors, ports. The only file that looks.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::sources::Ports;

/// The host as the plan needs to know it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Name, for the log.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// The cores that this process may run on.
    pub cores: Vec<usize>,
    /// RLIMIT_NOFILE after the soft limit was raised to the hard one.
    pub descriptors: u64,
    /// Ports that the kernel hands out.
    pub ports: Ports,
}

impl Host {
    /// Reads the host, and raises the soft descriptor limit as far as it goes.
    pub fn read() -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let text = |value: Option<&std::ffi::OsStr>| {
            value.map_or_else(|| "unknown".to_owned(), |v| v.to_string_lossy().into_owned())
        };
        Self {
            name: text(uname.as_ref().map(|u| u.nodename())),
            kernel: text(uname.as_ref().map(|u| u.release())),
            cores: cores(),
            descriptors: raise_descriptors(),
            ports: ports(),
        }
    }
}

fn cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> =
        (0..CpuSet::count()).filter(|&c| set.is_set(c).unwrap_or(false)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

fn ports() -> Ports {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let range = read("ip_local_port_range").unwrap_or_default();
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    Ports::parse(&range, &reserved)
        .or_else(|| Ports::parse("32768 60999", ""))
        .expect("the default range parses")
}
