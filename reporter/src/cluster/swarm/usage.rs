//! A container's memory and CPU from its control group, versions 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a container is accounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// One hierarchy for each controller: the folders of memory and of CPU time.
    V1 {
        /// `memory.usage_in_bytes`, `memory.stat`
        memory: PathBuf,
        /// `cpuacct.usage`
        cpu: PathBuf,
    },
    /// One hierarchy: `memory.current`, `memory.stat`, `cpu.stat`.
    V2(PathBuf),
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory without file pages that can be dropped at once; with the kernel's socket memory.
    pub memory_bytes: u64,
    /// CPU time since its start.
    pub cpu_ns: u64,
}

impl Group {
    /// The group of a container whose first process this is, from `/proc/PID/cgroup` (man 7 cgroups).
    /// None where that names another one: a process that exits is moved to the roots of version 1,
    /// which account for the whole host, and its line of version 2 stays as it was.
    pub fn of_container(pid: u32, container: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Self::parse(&text, container, Path::new("/sys/fs/cgroup"))
    }

    fn parse(text: &str, container: &str, root: &Path) -> Option<Self> {
        let path_of = |controller: &str| {
            text.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(|own| own == controller).then_some(path)
            })
        };
        let own = |path: &str| !container.is_empty() && path.contains(container);
        let below =
            |hierarchy: &str, path: &str| root.join(hierarchy).join(path.trim_start_matches('/'));
        match (path_of("memory"), path_of("cpuacct")) {
            (Some(memory), Some(cpu)) => (own(memory) && own(cpu))
                .then(|| Self::V1 { memory: below("memory", memory), cpu: below("cpuacct", cpu) }),
            _ => {
                let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
                own(path).then(|| Self::V2(root.join(path.trim_start_matches('/'))))
            }
        }
    }

    /// What it uses now; none once it is gone.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::V1 { memory, cpu } => {
                let used = number(&memory.join("memory.usage_in_bytes"))?;
                let droppable = field(&memory.join("memory.stat"), "total_inactive_file");
                Some(Usage {
                    memory_bytes: used.saturating_sub(droppable.unwrap_or(0)),
                    cpu_ns: number(&cpu.join("cpuacct.usage"))?,
                })
            }
            Self::V2(path) => {
                let used = number(&path.join("memory.current"))?;
                let droppable = field(&path.join("memory.stat"), "inactive_file").unwrap_or(0);
                let cpu_us = field(&path.join("cpu.stat"), "usage_usec")?;
                Some(Usage {
                    memory_bytes: used.saturating_sub(droppable),
                    cpu_ns: cpu_us.saturating_mul(1_000),
                })
            }
        }
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_by_what_the_kernel_lists() {
        let root = Path::new("/r");
        let v1 = "11:memory:/docker/c1\n4:cpu,cpuacct:/docker/c1\n0::/system.slice\n";
        assert_eq!(
            Group::parse(v1, "c1", root),
            Some(Group::V1 {
                memory: PathBuf::from("/r/memory/docker/c1"),
                cpu: PathBuf::from("/r/cpuacct/docker/c1"),
            })
        );
        let v2 = "0::/system.slice/docker-c1.scope\n";
        let expected = Group::V2(PathBuf::from("/r/system.slice/docker-c1.scope"));
        assert_eq!(Group::parse(v2, "c1", root), Some(expected));
        assert_eq!(Group::parse("", "c1", root), None);
    }

    #[test]
    fn the_whole_host_is_no_container() {
        let root = Path::new("/r");
        let exiting = "11:memory:/\n4:cpu,cpuacct:/\n0::/docker/c1\n";
        assert_eq!(Group::parse(exiting, "c1", root), None);
        assert_eq!(Group::parse("0::/\n", "c1", root), None);
        assert_eq!(Group::parse("0::/docker/c1\n", "", root), None, "its name is not known");
    }

    #[test]
    fn version_2_counts_microseconds_and_leaves_droppable_pages_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writes");
        let group = Group::V2(dir.path().to_owned());
        assert_eq!(group.usage(), None);
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file_x 7\ninactive_file 1000\n");
        write("cpu.stat", "usage_usec 12\nuser_usec 3\n");
        assert_eq!(group.usage(), Some(Usage { memory_bytes: 4_000, cpu_ns: 12_000 }));
    }
}
