//! `--apply`, `--revert` and `--print` on real settings, in a network namespace; every writable
//! setting of the kernel is compared before and after.

mod preflight_support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use preflight_support::{Guard, Namespace, REPORTER, able, helper_main, item};

/// Not a test: what the tests start inside a namespace.
#[test]
#[ignore = "a helper process of the other tests"]
fn helper() {
    helper_main();
}

/// A place for the back-up. Whatever ends this process, the machine's own settings are put back;
/// those of the namespace go with it.
fn back_up() -> (tempfile::TempDir, String, Guard) {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_string_lossy().into_owned();
    let undo = format!("{REPORTER} preflight --revert --state {dir}; rm -rf {dir}");
    (state, dir, Guard::new(&undo))
}

/// Some settings belong to the whole machine: one test at a time changes them.
static MACHINE: Mutex<()> = Mutex::new(());

/// Every setting that root may write and read, by name.
fn settings(ns: &Namespace) -> BTreeMap<String, String> {
    let text = ns.sh("find /proc/sys -type f -perm -200 -perm -400 2>/dev/null | sort | \
                      while read -r f; do printf '%s\\t' \"$f\"; tr '\\n' ' ' < \"$f\" 2>/dev/null; \
                      echo; done");
    text.lines()
        .filter_map(|l| l.split_once('\t'))
        // Written by the kernel itself while time passes.
        .filter(|(name, _)| !name.contains("/random/") && !name.contains("ns_last_pid"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Settings that stayed the same between two readings are those that can be compared.
fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let changed = a.iter().filter(|(k, v)| b.get(*k) != Some(*v));
    changed.map(|(k, v)| format!("{k}: {v:?} -> {:?}", b.get(k))).collect()
}

#[test]
fn apply_then_revert_leaves_every_setting_as_it_was() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if !able(&["ip", "setsid", "sysctl"]) {
        return;
    }
    let ns = Namespace::new();
    let (state, dir, _undo) = back_up();
    let before = settings(&ns);
    assert!(before.len() > 300, "{} settings", before.len());
    let done = ns.reporter(&["--apply", "--state", &dir]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let changed = differences(&before, &settings(&ns));
    let range = "net.ipv4.ip_local_port_range";
    assert!(changed.iter().any(|c| c.contains("ip_local_port_range")), "{text}\n{changed:?}");
    assert!(
        text.contains(range) && text.contains("written    32768 60999 -> 1024 65535"),
        "{text}"
    );
    assert!(state.path().join("sysctl-before.json").is_file());
    assert_eq!(done.status.code(), Some(refused(&text)), "{text}");
    let again = ns.reporter(&["--apply", "--state", &dir]);
    assert!(!String::from_utf8_lossy(&again.stdout).contains("written "), "a second apply is idle");
    let undone = ns.reporter(&["--revert", "--state", &dir]);
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stdout));
    assert_eq!(differences(&before, &settings(&ns)), Vec::<String>::new());
    assert!(!state.path().join("sysctl-before.json").exists());
    let nothing = ns.reporter(&["--revert", "--state", &dir]);
    assert_eq!(nothing.status.code(), Some(4));
}

/// A setting that this namespace sees read-only is refused, and that is exit code 1.
fn refused(text: &str) -> i32 {
    for line in text.lines().filter(|l| l.contains("nf_conntrack")) {
        assert!(
            line.contains("REFUSED") || line.contains("fine") || line.contains("absent"),
            "global settings cannot be written here: {line}"
        );
    }
    i32::from(text.contains("REFUSED") || text.contains("NOT TAKEN"))
}

/// Killed at whatever point: the back-up is enough to get everything back.
#[test]
fn a_killed_apply_is_reverted_exactly() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if !able(&["ip", "setsid"]) {
        return;
    }
    let ns = Namespace::new();
    let before = settings(&ns);
    for wait_ms in [0u64, 2, 4, 6, 9, 14] {
        let (_state, dir, _undo) = back_up();
        let mut child = ns
            .command(REPORTER, None)
            .args(["preflight", "--apply", "--state", &dir])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        let _ = child.kill();
        let _ = child.wait();
        let undone = ns.reporter(&["--revert", "--state", &dir]);
        let code = undone.status.code();
        assert!(code == Some(0) || code == Some(4), "{code:?}");
        let left = differences(&before, &settings(&ns));
        assert!(left.is_empty(), "killed after {wait_ms} ms: {left:?}");
    }
}

/// As in a container: /proc/sys is read-only. Nothing is called fixed, and the note says where.
#[test]
fn a_read_only_tree_is_out_of_reach_and_said_to_be() {
    if !able(&["ip", "setsid", "unshare", "mount"]) {
        return;
    }
    let ns = Namespace::new();
    ns.sh("sysctl -qw net.core.somaxconn=16");
    let state = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let line = format!(
            "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
             exec {REPORTER} preflight {arguments}"
        );
        let done = ns.command("unshare", None).args(["-m", "sh", "-c", &line]).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let (code, text) = run(&format!("--apply --state {}", state.path().display()));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("REFUSED    Read-only file system"), "{text}");
    assert!(!text.contains("written "), "{text}");
    let (code, text) = run("-c 1000 --json");
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let note = item(&report, "somaxconn")["note"].as_str().unwrap().to_owned();
    assert!(note.contains("read-only") && note.contains("set it on the host"), "{note}");
    let (code, text) = run(&format!("--revert --state {}", state.path().display()));
    assert_eq!(code, Some(0), "nothing was changed, so all is as it was: {text}");
}

#[test]
fn without_root_nothing_is_changed() {
    if !able(&["setpriv"]) {
        return;
    }
    // The binary may lie where another user cannot reach it: a copy in a public place can.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let copy = dir.path().join("reporter");
    std::fs::copy(REPORTER, &copy).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    for option in ["--apply", "--revert"] {
        let done = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(["preflight", option, "--state", "/tmp/never"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(4), "{said}");
        assert!(said.contains("needs root; nothing was changed"), "{said}");
    }
}

#[test]
fn printed_files_are_understood_by_their_readers() {
    if !able(&["ip", "setsid", "sysctl"]) {
        return;
    }
    let ns = Namespace::new();
    let printed = ns.reporter(&["--print", "sysctl", "--role", "generator"]);
    assert!(printed.status.success());
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    // Only settings of the namespace are loaded: the rest belongs to the machine.
    let own: Vec<&str> = text.lines().filter(|l| l.contains("ip_local_port_range =")).collect();
    assert_eq!(own, ["-net.ipv4.ip_local_port_range = 1024 65535"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("90-mcp-load.conf");
    std::fs::write(&file, own.join("\n") + "\n").unwrap();
    ns.sh(&format!("sysctl -p {}", file.display()));
    assert_eq!(ns.sh("cat /proc/sys/net/ipv4/ip_local_port_range").trim(), "1024\t65535");
}
