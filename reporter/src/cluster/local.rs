//! The local backend: one server process a replica, each on its own loopback address.
//!
//! One thread supervises (`processes`): it starts processes, reaps them and moves each replica's
//! [`Machine`]. Two short-lived threads a process tell it what they
//! see, with the time at which they saw it: one blocks until the process has ended, one asks for
//! its health. A process's number stays its own until it is reaped, and it is reaped, signalled and
//! looked at under one lock, so that no signal reaches a stranger.

mod processes;

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::processes::Supervisor;
use super::launch::{Addresses, Launcher, OnParentDeath, fill_in, tail};
use super::probe::{Health, holder};
use super::supervisor::Machine;
use super::{Cluster, Endpoint, Killed, Phase, ReplicaSample, ReplicaStatus, Sampler};
use crate::clock::{self, SECOND_NS};
use crate::exit::Failure;
use crate::run::interrupt::{Interrupt, kill_group};
use crate::run::journal::Journal;
use crate::run::procfs::{self, Units};
use crate::run::record::{EventRecord, EventRecordKind};

/// Replicas that have an address: 127.0.0.11 to 127.0.0.254.
pub const REPLICAS_MAX: u32 = 244;

/// Time between SIGTERM and SIGKILL of a replica that is scaled away, as Swarm's default.
const STOP_GRACE_NS: u64 = 10 * SECOND_NS;
/// The same at the end of the run, when nobody waits for its connections.
const TEARDOWN_GRACE_NS: u64 = 3 * SECOND_NS;
const TEARDOWN_MAX_NS: u64 = 8 * SECOND_NS;

/// What the generator speaks to a replica, and so which address it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// HTTP on `{port}`, with this path.
    Http(String),
    /// JSON-RPC lines on `{tcp_port}`.
    Tcp,
}

/// How replicas are run.
#[derive(Clone, Debug)]
pub struct LocalSpec {
    /// The server.
    pub program: PathBuf,
    /// Its arguments, with `{ip}` and so on in them.
    pub arguments: Vec<String>,
    /// Ports that must be free on each replica's address.
    pub ports: Vec<u16>,
    /// Where the load goes.
    pub entry: Entry,
    /// True if the server has no HTTP, so that its health is a connection.
    pub health_by_connect: bool,
    /// True if the program answers `--version`.
    pub has_version: bool,
    /// Delay before a replica that died is started again.
    pub restart_delay_ns: u64,
    /// Where the replicas' logs go.
    pub log_dir: PathBuf,
    /// How processes are started.
    pub launcher: Launcher,
    /// Replica `i`, from 1, gets 127.0.0.(`first_host` + i - 1).
    pub first_host: u8,
    /// `{port}` of every replica.
    pub port: u16,
    /// `{tcp_port}`
    pub tcp_port: u16,
    /// `{metrics_port}`
    pub metrics_port: u16,
}

impl LocalSpec {
    fn addresses(&self, index: usize) -> Addresses {
        let host = usize::from(self.first_host) + index;
        Addresses {
            ip: Ipv4Addr::new(127, 0, 0, u8::try_from(host).unwrap_or(u8::MAX)),
            port: self.port,
            tcp_port: self.tcp_port,
            metrics_port: self.metrics_port,
        }
    }

    fn endpoint(&self, index: usize) -> Endpoint {
        let own = self.addresses(index);
        let url = match &self.entry {
            Entry::Http(path) => format!("http://{}:{}{path}", own.ip, own.port),
            Entry::Tcp => format!("tcp://{}:{}", own.ip, own.tcp_port),
        };
        Endpoint { replica: own.ip.to_string(), url }
    }

    fn health(&self, index: usize) -> Health {
        let own = self.addresses(index);
        match self.health_by_connect {
            true => Health::Connect(SocketAddr::from((own.ip, own.tcp_port))),
            false => Health::Http(SocketAddr::from((own.ip, own.port))),
        }
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.log_dir.join(format!("replica-{}.log", self.addresses(index).ip))
    }

    fn command(&self, index: usize) -> std::io::Result<Command> {
        let own = self.addresses(index);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(index))?;
        let mut command = self.launcher.command(&self.program, OnParentDeath::Kill);
        command.args(self.arguments.iter().map(|word| fill_in(word, &own)));
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

struct Slot {
    machine: Machine,
    child: Option<Child>,
    /// Cleared when the process has ended, so that its health is asked for no longer.
    running: Arc<AtomicBool>,
    /// Descriptors when it was first healthy, before any load.
    fds_idle: Option<u64>,
}

enum Message {
    Start(usize),
    Stop(usize, u64),
    Healthy { index: usize, incarnation: u32, at_ns: u64 },
    Exited { index: usize, incarnation: u32, at_ns: u64, status: String },
    Quit,
}

struct Shared {
    spec: LocalSpec,
    slots: Mutex<Vec<Slot>>,
    journal: Journal,
    interrupt: Interrupt,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, index: usize, incarnation: u32, at_ns: u64, kind: EventRecordKind, text: &str) {
        self.journal.note(EventRecord {
            replica: self.spec.addresses(index).ip.to_string(),
            incarnation,
            text: text.to_owned(),
            ..EventRecord::at(at_ns, kind)
        });
    }
}

/// A cluster of local processes.
pub struct Local {
    shared: Arc<Shared>,
    sender: Sender<Message>,
    supervisor: Option<JoinHandle<()>>,
    wanted: usize,
}

impl Local {
    /// A cluster without replicas; [`Cluster::scale`] deploys them.
    pub fn new(spec: LocalSpec, journal: Journal, interrupt: Interrupt) -> Self {
        let slots = Mutex::new(Vec::new());
        let shared = Arc::new(Shared { spec, slots, journal, interrupt });
        let (sender, receiver) = channel();
        let supervisor = Supervisor { shared: Arc::clone(&shared), sender: sender.clone() };
        // Processes end with the thread that started them, so this one starts all of them.
        let thread = std::thread::spawn(move || supervisor.run(&receiver));
        Self { shared, sender, supervisor: Some(thread), wanted: 0 }
    }

    fn tell(&self, message: Message) -> Result<(), Failure> {
        self.sender
            .send(message)
            .map_err(|_| Failure::invalid("the replicas' supervisor has ended"))
    }

    fn check_ports(&self, index: usize) -> Result<(), Failure> {
        let own = self.shared.spec.addresses(index);
        for &port in &self.shared.spec.ports {
            if let Some(holder) = holder(own.ip, port) {
                return Err(Failure::host(format!(
                    "port {port} of {} is taken by {holder}; end it (it may be left over from an \
                     earlier run) or stop that service",
                    own.ip
                )));
            }
        }
        Ok(())
    }
}

impl Cluster for Local {
    fn backend(&self) -> &'static str {
        "local"
    }

    fn fixed(&self) -> Option<String> {
        None
    }

    fn scale(&mut self, to: u32) -> Result<(), Failure> {
        let to = to as usize;
        if to > REPLICAS_MAX as usize {
            return Err(Failure::usage(format!(
                "{to} replicas: there are loopback addresses for {REPLICAS_MAX} (127.0.0.11 on)"
            )));
        }
        let from = self.wanted;
        for index in from..to {
            let idle = self.shared.slots().get(index).is_none_or(|s| s.machine.pid().is_none());
            if idle {
                self.check_ports(index)?;
            }
        }
        {
            let mut slots = self.shared.slots();
            while slots.len() < to {
                slots.push(Slot {
                    machine: Machine::new(self.shared.spec.restart_delay_ns),
                    child: None,
                    running: Arc::default(),
                    fds_idle: None,
                });
            }
        }
        self.wanted = to;
        for index in from..to {
            self.tell(Message::Start(index))?;
        }
        for index in (to..from).rev() {
            self.tell(Message::Stop(index, STOP_GRACE_NS))?;
        }
        Ok(())
    }

    fn settled(&self) -> Result<bool, Failure> {
        let slots = self.shared.slots();
        let mut settled = true;
        for (index, slot) in slots.iter().enumerate() {
            let phase = slot.machine.phase();
            if let (Phase::Failed(status), true) = (&phase, index < self.wanted) {
                let log = self.shared.spec.log_path(index);
                return Err(Failure::host(format!(
                    "replica {} did not start: {status}; the end of {}:\n{}",
                    self.shared.spec.addresses(index).ip,
                    log.display(),
                    tail(&log)
                )));
            }
            let wanted = if index < self.wanted { Phase::Healthy } else { Phase::Absent };
            settled &= phase == wanted;
        }
        Ok(settled)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.wanted).map(|index| self.shared.spec.endpoint(index)).collect()
    }

    fn leaving(&self, to: u32) -> Vec<Endpoint> {
        (to as usize..self.wanted).map(|index| self.shared.spec.endpoint(index)).collect()
    }

    fn status(&self) -> Vec<ReplicaStatus> {
        let slots = self.shared.slots();
        let status = |(index, slot): (usize, &Slot)| ReplicaStatus {
            replica: self.shared.spec.addresses(index).ip.to_string(),
            phase: slot.machine.phase(),
            incarnation: slot.machine.incarnation(),
            pid: slot.machine.pid(),
        };
        slots.iter().enumerate().map(status).filter(|s| s.phase != Phase::Absent).collect()
    }

    fn kill(&mut self, replica: &str) -> Result<Killed, Failure> {
        let slots = self.shared.slots();
        let found = slots.iter().enumerate().find_map(|(index, slot)| {
            let own = self.shared.spec.addresses(index).ip.to_string();
            (own == replica).then_some((index, slot.machine.pid()?, slot.machine.incarnation()))
        });
        let Some((index, pid, incarnation)) = found else {
            return Err(Failure::invalid(format!("replica {replica} does not run")));
        };
        let before_ns = clock::mono_ns();
        kill_group(pid);
        let after_ns = clock::mono_ns();
        drop(slots);
        self.shared.journal.note(EventRecord {
            until_ns: after_ns,
            replica: self.shared.spec.addresses(index).ip.to_string(),
            incarnation,
            text: format!("SIGKILL to pid {pid}"),
            ..EventRecord::at(before_ns, EventRecordKind::Kill)
        });
        Ok(Killed { replica: replica.to_owned(), before_ns, after_ns, incarnation })
    }

    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(LocalSampler { shared: Arc::clone(&self.shared), units: Units::of_this_host() })
    }

    fn held(&self, replica: &str) -> Option<u64> {
        let slots = self.shared.slots();
        let own = |index: usize| self.shared.spec.addresses(index).ip.to_string();
        let (_, slot) = slots.iter().enumerate().find(|(index, _)| own(*index) == replica)?;
        let now = procfs::open_descriptors(slot.machine.pid()?)?;
        Some(now.saturating_sub(slot.fds_idle?))
    }

    fn server_version(&self) -> String {
        if !self.shared.spec.has_version {
            return String::new();
        }
        program_version(&self.shared.spec.program)
    }

    fn teardown(&mut self) {
        let Some(supervisor) = self.supervisor.take() else { return };
        for index in (0..self.shared.slots().len()).rev() {
            let _ = self.tell(Message::Stop(index, TEARDOWN_GRACE_NS));
        }
        let deadline_ns = clock::mono_ns() + TEARDOWN_MAX_NS;
        let gone = || self.shared.slots().iter().all(|slot| slot.machine.pid().is_none());
        // Stops are carried out one by one; until then a process is still there.
        while !gone() && clock::mono_ns() < deadline_ns {
            clock::sleep_ns(SECOND_NS / 100);
        }
        self.wanted = 0;
        let _ = self.tell(Message::Quit);
        let _ = supervisor.join();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.teardown();
    }
}

/// The first line that a program prints for `--version`; empty if it does not.
pub fn program_version(program: &Path) -> String {
    let Ok(output) = Command::new(program).arg("--version").output() else { return String::new() };
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned()
}

struct LocalSampler {
    shared: Arc<Shared>,
    units: Units,
}

impl Sampler for LocalSampler {
    fn sample(&mut self) -> Vec<ReplicaSample> {
        let running: Vec<(usize, u32, u32)> = {
            let slots = self.shared.slots();
            let running = |(index, slot): (usize, &Slot)| {
                Some((index, slot.machine.pid()?, slot.machine.incarnation()))
            };
            slots.iter().enumerate().filter_map(running).collect()
        };
        let sample = |(index, pid, incarnation)| {
            let process = procfs::tree(pid, self.units)?;
            let replica = self.shared.spec.addresses(index).ip.to_string();
            Some(ReplicaSample { replica, pid, incarnation, process })
        };
        running.into_iter().filter_map(sample).collect()
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
