//! What can be proved by trying, bounded and cleaned up: source addresses are bound, a small share
//! of the connections is opened to this very process, and the generator probes io_uring.
//! It knows no verdicts.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::counters::Counters;
use super::facts::{Probe, SocketTrial, SourceTrial, Trials};
use super::plan::Plan;
use crate::clock;

/// Source addresses bound at most; a larger set is tried at its beginning.
pub const SOURCES_TRIED_MAX: usize = 256;
/// Connections opened at most.
pub const CONNECTIONS_TRIED_MAX: u64 = 2_000;
/// Descriptors that are left to the process during the trial.
const DESCRIPTOR_MARGIN: u64 = 128;
/// A lost SYN is sent again after 1 s; a connect over loopback that takes longer than this is not
/// going to happen.
const CONNECT_WAIT: Duration = Duration::from_millis(2_500);
/// The trial takes no more than this part of the room in the connection tracking table.
const CONNTRACK_SHARE: u64 = 10;
/// Connections between two looks at the accept queue: below any sane backlog.
const CHUNK: usize = 32;
/// The probe answers within this, or counts as silent.
const PROBE_WAIT_NS: u64 = 10 * clock::SECOND_NS;
/// A socket costs between these in any kernel; a measurement outside is another process's noise.
const SANE_SOCKET_BYTES: std::ops::RangeInclusive<i64> = 1_500..=16_000;
/// Fewer sockets than this drown in the noise of a live host.
const MEASURABLE_SOCKETS: u64 = 1_000;

/// Tries everything that the plan calls for.
///
/// `conntrack_free` is the room in the tracking table, where there is one: closed connections stay
/// in it for a while, and a run may follow at once.
pub fn run(plan: &Plan, descriptors_free: u64, conntrack_free: Option<u64>) -> Trials {
    let share = conntrack_free.map_or(u64::MAX, |room| (room / CONNTRACK_SHARE).max(1));
    Trials {
        sources: if plan.role.generates() { bind_sources(plan) } else { Vec::new() },
        sockets: Some(open_share(plan.connections.min(share), descriptors_free)),
        probe: plan.role.generates().then(|| probe(plan)),
    }
}

fn bind_sources(plan: &Plan) -> Vec<SourceTrial> {
    let addresses = plan.effective_sources().first(SOURCES_TRIED_MAX);
    let attempt = |address: IpAddr| SourceTrial {
        address,
        error: bind(address).err().map(|e| e.to_string()),
    };
    addresses.into_iter().map(attempt).collect()
}

fn bind(address: IpAddr) -> std::io::Result<()> {
    let to = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&to.into())
}

/// Opens a share of the plan's connections to a listener of this process, measures, closes.
fn open_share(connections: u64, descriptors_free: u64) -> Result<SocketTrial, String> {
    let room = descriptors_free.saturating_sub(DESCRIPTOR_MARGIN) / 2;
    let asked = connections.min(CONNECTIONS_TRIED_MAX).min(room);
    if asked == 0 {
        return Err(format!("no descriptor is free to try with ({descriptors_free} left)"));
    }
    let listener = listen().map_err(|e| format!("cannot listen on loopback: {e}"))?;
    let to = listener.local_addr().map_err(|e| e.to_string())?;
    let mut pairs = Pairs::default();
    let before = Counters::read(0).map_err(|e| format!("/proc/net: {e}"))?;
    let start_ns = clock::mono_ns();
    let stopped_by = pairs.open(&listener, to, asked);
    let took_ns = (clock::mono_ns() - start_ns).max(1);
    let after = Counters::read(0).map_err(|e| format!("/proc/net: {e}"))?;
    let opened = pairs.clients.len() as u64;
    drop(pairs);
    Ok(SocketTrial {
        asked,
        opened,
        stopped_by,
        kernel_bytes_per_socket: socket_bytes(&before, &after, opened * 2),
        connects_per_s: opened.saturating_mul(clock::SECOND_NS) / took_ns,
        conntrack_rise: conntrack_there()
            .then(|| after.conntrack_count as i64 - before.conntrack_count as i64),
    })
}

fn listen() -> std::io::Result<TcpListener> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(v4).or_else(|_| TcpListener::bind(v6))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn conntrack_there() -> bool {
    Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists()
}

/// Slab growth a socket: sockets are slab objects, whatever their kernel calls them.
fn socket_bytes(before: &Counters, after: &Counters, sockets: u64) -> Option<u64> {
    if sockets < MEASURABLE_SOCKETS {
        return None;
    }
    let grown = after.slab_bytes as i64 - before.slab_bytes as i64;
    let each = grown / sockets as i64;
    SANE_SOCKET_BYTES.contains(&each).then_some(each as u64)
}

/// Both ends of the trial's connections. They are reset, not closed: no TIME_WAIT stays behind.
#[derive(Default)]
struct Pairs {
    clients: Vec<TcpStream>,
    servers: Vec<TcpStream>,
}

impl Pairs {
    /// Opens `count` connections; says why if it ends early.
    fn open(&mut self, listener: &TcpListener, to: SocketAddr, count: u64) -> Option<String> {
        for n in 0..count as usize {
            match TcpStream::connect_timeout(&to, CONNECT_WAIT) {
                Ok(stream) => self.clients.push(stream),
                Err(e) => return Some(describe(n, &e)),
            }
            if n % CHUNK == CHUNK - 1
                && let Err(e) = self.accept_waiting(listener)
            {
                return Some(format!("accept after {}: {e}", self.servers.len()));
            }
        }
        self.accept_waiting(listener).err().map(|e| format!("accept: {e}"))
    }

    fn accept_waiting(&mut self, listener: &TcpListener) -> std::io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.servers.push(stream),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        for stream in self.clients.iter().chain(&self.servers) {
            // A stream that refuses the option is closed the ordinary way.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

fn describe(n: usize, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => format!(
            "connect {} got no answer in {} ms: its SYN was dropped (conntrack full?)",
            n + 1,
            CONNECT_WAIT.as_millis()
        ),
        _ => format!("connect {}: {error}", n + 1),
    }
}

/// The generator's executable: beside this one, else by PATH.
pub fn loadgen_path() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join("loadgen")));
    beside.filter(|p| p.is_file()).unwrap_or_else(|| PathBuf::from("loadgen"))
}

/// Asks the generator what io_uring does here.
fn probe(plan: &Plan) -> Result<Probe, String> {
    probe_with(&loadgen_path(), plan.connections)
}

fn probe_with(program: &Path, connections: u64) -> Result<Probe, String> {
    let name = program.display();
    let mut child = Command::new(program)
        .arg("--probe")
        .args(["--connections", &connections.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{name} --probe did not start: {e}"))?;
    let deadline_ns = clock::mono_ns() + PROBE_WAIT_NS;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if clock::mono_ns() < deadline_ns => clock::sleep_ns(10_000_000),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} --probe gave no answer in 10 s"));
            }
            Err(e) => return Err(format!("{name} --probe: {e}")),
        }
    };
    // The answer is one line, far below what a pipe holds: reading after the end cannot block it.
    let mut text = String::new();
    let mut complaint = String::new();
    if let Some(mut out) = child.stdout.take() {
        let _ = out.read_to_string(&mut text);
    }
    if let Some(mut err) = child.stderr.take() {
        let _ = err.read_to_string(&mut complaint);
    }
    parse_probe(&text).map_err(|e| {
        let said = complaint.lines().next().unwrap_or("").trim();
        format!(
            "{name} --probe ended with {status}; {e}{}{said}",
            if said.is_empty() { "" } else { ": " }
        )
    })
}

fn parse_probe(text: &str) -> Result<Probe, String> {
    let line = text.lines().rfind(|l| l.trim_start().starts_with('{'));
    let line = line.ok_or("its output is not JSON")?;
    serde_json::from_str(line).map_err(|e| format!("its output cannot be read ({e})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn loopback_addresses_bind_and_foreign_ones_do_not() {
        let plan = Plan { sources: "127.9.8.7,192.0.2.77".parse().unwrap(), ..Plan::default() };
        let tried = bind_sources(&plan);
        assert_eq!(tried[0].error, None);
        assert!(tried[1].error.is_some());
    }

    #[test]
    fn a_share_opens_to_this_process() {
        let trial = open_share(100, 1_000).unwrap();
        assert_eq!(trial.stopped_by, None);
        assert_eq!((trial.asked, trial.opened), (100, 100));
    }

    #[test]
    fn the_share_is_bounded_by_the_descriptors_that_are_free() {
        assert_eq!(open_share(100, DESCRIPTOR_MARGIN + 20).unwrap().asked, 10);
        assert!(open_share(100, DESCRIPTOR_MARGIN).is_err());
        assert_eq!(open_share(u64::MAX, DESCRIPTOR_MARGIN + 6).unwrap().asked, 3);
    }

    #[test]
    fn memory_is_stated_only_where_it_can_be_told_from_noise() {
        let at = |slab_bytes| Counters { slab_bytes, ..Counters::default() };
        assert_eq!(socket_bytes(&at(0), &at(4_200_000), 1_000), Some(4_200));
        assert_eq!(socket_bytes(&at(0), &at(4_200_000), 999), None);
        assert_eq!(socket_bytes(&at(5_000_000), &at(0), 1_000), None);
        assert_eq!(socket_bytes(&at(0), &at(90_000_000), 1_000), None);
    }

    fn script(dir: &Path, body: &str) -> PathBuf {
        let path = dir.join("loadgen");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_probe_is_believed_whatever_its_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let body = r#"echo '{"probe":1,"io_uring":false,"engine":"none","error":"EPERM"}'; exit 4"#;
        let probe = probe_with(&script(dir.path(), body), 5).unwrap();
        assert_eq!((probe.io_uring, probe.error.as_deref()), (false, Some("EPERM")));
        assert_eq!(probe.ring_table_max, 0);
    }

    #[test]
    fn a_probe_that_fails_says_how() {
        let dir = tempfile::tempdir().unwrap();
        let error = probe_with(&script(dir.path(), "echo unknown option >&2; exit 2"), 5);
        let error = error.unwrap_err();
        assert!(error.contains("unknown option") && error.contains("exit status: 2"), "{error}");
        assert!(probe_with(&dir.path().join("absent"), 5).unwrap_err().contains("did not start"));
        let error = probe_with(&script(dir.path(), "echo '{\"probe\":1}'"), 5).unwrap_err();
        assert!(error.contains("io_uring"), "{error}");
    }
}
