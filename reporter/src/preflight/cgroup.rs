//! Limits by control group, v1 and v2, of any process: the tightest one on the way up to the root.
//! It knows the files under the cgroup mounts and nothing of plans.

use std::fs;
use std::path::{Path, PathBuf};

use super::facts::Cgroup;

/// v1 writes "no limit" as the largest multiple of a page below 2^63.
const V1_NO_LIMIT: u64 = 1 << 60;

/// Where a controller is mounted, and which group of it a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    mount: PathBuf,
    group: PathBuf,
    v2: bool,
}

/// Reads the limits of the process whose directory under /proc is `process`.
pub fn read(process: &Path) -> Cgroup {
    let membership = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |controller| find(&membership, &mounts, controller);
    let mut limits = Cgroup { version: version(&mounts), ..Cgroup::default() };
    if let Some(memory) = place("memory") {
        read_memory(&memory, &mut limits);
    }
    if let Some(cpu) = place("cpu") {
        limits.cpu_quota_cores = levels(&cpu)
            .filter_map(|dir| if cpu.v2 { quota_v2(&dir) } else { quota_v1(&dir) })
            .reduce(f64::min);
    }
    if let Some(pids) = place("pids") {
        let tightest = levels(&pids)
            .filter_map(|dir| Some((number(&dir, "pids.max")?, number(&dir, "pids.current")?)))
            .min_by_key(|(max, used)| max.saturating_sub(*used));
        (limits.pids_max, limits.pids_used) = match tightest {
            Some((max, used)) => (Some(max), used),
            None => (None, 0),
        };
    }
    limits
}

fn read_memory(place: &Place, limits: &mut Cgroup) {
    let (max, used) = match place.v2 {
        true => ("memory.max", "memory.current"),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    };
    let tightest = levels(place)
        .filter_map(|dir| Some((number(&dir, max)?, number(&dir, used)?)))
        .filter(|(max, _)| *max < V1_NO_LIMIT)
        .min_by_key(|(max, used)| max.saturating_sub(*used));
    if let Some((max, used)) = tightest {
        limits.memory_limit_bytes = Some(max);
        limits.memory_used_bytes = used;
    }
}

/// The group's directory and those above it, as far as they are visible.
fn levels(place: &Place) -> impl Iterator<Item = PathBuf> + use<> {
    let mount = place.mount.clone();
    let start = mount.join(&place.group);
    let all: Vec<PathBuf> = start.ancestors().map(Path::to_path_buf).collect();
    all.into_iter().take_while(move |dir| dir.starts_with(&mount))
}

/// A file of one number; "max" and anything else is `None`.
fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

fn quota_v2(dir: &Path) -> Option<f64> {
    parse_quota_v2(&fs::read_to_string(dir.join("cpu.max")).ok()?)
}

fn parse_quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1(dir: &Path) -> Option<f64> {
    let read = |file: &str| -> Option<f64> {
        fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    };
    let quota = read("cpu.cfs_quota_us")?;
    (quota > 0.0).then_some(quota / read("cpu.cfs_period_us")?)
}

/// Which hierarchies are mounted where this process can see them.
fn version(mountinfo: &str) -> String {
    let has = |kind| mountinfo.lines().any(|l| mount_of(l).is_some_and(|(_, _, k, _)| k == kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "v1+v2",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none visible",
    }
    .to_owned()
}

/// Finds the controller's v1 hierarchy, else the unified one.
fn find(membership: &str, mountinfo: &str, controller: &str) -> Option<Place> {
    let mounts: Vec<_> = mountinfo.lines().filter_map(mount_of).collect();
    let group_of = |wanted: &dyn Fn(&str, &str) -> bool| {
        membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(id, names).then(|| path.to_owned())
        })
    };
    let v1_mount = mounts.iter().find(|(_, _, kind, options)| {
        *kind == "cgroup" && options.split(',').any(|o| o == controller)
    });
    let v1_group = group_of(&|_, names| names.split(',').any(|n| n == controller));
    if let (Some((root, at, ..)), Some(group)) = (v1_mount, v1_group) {
        return Some(place(root, at, &group, false));
    }
    let (root, at, ..) = mounts.iter().find(|(_, _, kind, _)| *kind == "cgroup2")?;
    let group = group_of(&|id, names| id == "0" && names.is_empty())?;
    Some(place(root, at, &group, true))
}

/// A container often sees only its own part of the tree, mounted at the root: then the group's
/// path is relative to that part, or, with a cgroup namespace, is the mount itself.
fn place(root: &str, mount: &str, group: &str, v2: bool) -> Place {
    let relative = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
    let relative = relative.strip_prefix("/").unwrap_or(relative);
    let visible = !relative.components().any(|c| c.as_os_str() == "..");
    let group = if visible { relative.to_path_buf() } else { PathBuf::new() };
    Place { mount: PathBuf::from(mount), group, v2 }
}

/// (root, mount point, kind, super options) of a line of mountinfo (proc(5)).
fn mount_of(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let (root, at) = (left.nth(3)?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1).unwrap_or(""));
    Some((root, at, kind, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V2: &str = "33 23 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_v1_controller_is_found_before_the_unified_tree() {
        let member = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/x\n";
        let found = find(member, V1, "memory").unwrap();
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!((found.group.as_path(), found.v2), (Path::new("a/b"), false));
        assert_eq!(find(member, V1, "cpu").unwrap().group, Path::new(""));
        assert!(find(member, V1, "pids").unwrap().v2, "the unified tree is what is left");
        assert_eq!(version(V1), "v1+v2");
    }

    #[test]
    fn the_unified_tree_serves_every_controller() {
        let found = find("0::/system.slice/x.service\n", V2, "memory").unwrap();
        assert_eq!(found.group, Path::new("system.slice/x.service"));
        assert!(found.v2);
        let dirs: Vec<PathBuf> = levels(&found).collect();
        assert_eq!(dirs.len(), 3);
        assert_eq!(dirs[2], Path::new("/sys/fs/cgroup"));
        assert_eq!((version(V2).as_str(), version("").as_str()), ("v2", "none visible"));
    }

    #[test]
    fn a_container_that_sees_its_own_part_reads_the_mount() {
        let mount = "33 23 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(find("4:memory:/docker/abc\n", mount, "memory").unwrap().group, Path::new(""));
        assert_eq!(find("4:memory:/docker/abc/x", mount, "memory").unwrap().group, Path::new("x"));
        assert_eq!(find("0::/../other\n", V2, "cpu").unwrap().group, Path::new(""));
    }

    #[test]
    fn quotas_are_in_cores() {
        assert_eq!(parse_quota_v2("150000 100000\n"), Some(1.5));
        assert_eq!(parse_quota_v2("max 100000\n"), None);
    }

    #[test]
    fn the_tightest_level_wins() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |path: &Path, file: &str, text: &str| fs::write(path.join(file), text).unwrap();
        write(&inner, "memory.max", "max\n");
        write(&inner, "memory.current", "5\n");
        write(&dir.path().join("a"), "memory.max", "1000\n");
        write(&dir.path().join("a"), "memory.current", "400\n");
        let mut limits = Cgroup::default();
        let place = Place { mount: dir.path().into(), group: "a/b".into(), v2: true };
        read_memory(&place, &mut limits);
        assert_eq!((limits.memory_limit_bytes, limits.memory_used_bytes), (Some(1000), 400));
    }
}
