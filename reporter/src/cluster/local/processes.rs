//! The replicas' processes: started, watched, signalled and reaped by one thread.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{Message, Shared, Slot};
use crate::clock;
use crate::cluster::Phase;
use crate::cluster::probe::healthy;
use crate::cluster::supervisor::{Action, Input};
use crate::run::interrupt::kill_group;
use crate::run::procfs;
use crate::run::record::EventRecordKind;

const HEALTH_EVERY: Duration = Duration::from_millis(20);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// Holds the processes; its thread is their parent.
pub(super) struct Supervisor {
    pub(super) shared: Arc<Shared>,
    pub(super) sender: Sender<Message>,
}

impl Supervisor {
    pub(super) fn run(self, receiver: &Receiver<Message>) {
        loop {
            let due_ns = self.shared.slots().iter().filter_map(|s| s.machine.due_ns()).min();
            let message = match due_ns {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due_ns) => receiver.recv_timeout(clock::until(due_ns)),
            };
            match message {
                Ok(Message::Quit) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {
                    let count = self.shared.slots().len();
                    for index in 0..count {
                        self.step(index, Input::Tick, clock::mono_ns());
                    }
                }
            }
        }
        // Whatever is left, for instance after a panic elsewhere, ends here.
        for slot in self.shared.slots().iter_mut() {
            if let Some(mut child) = slot.child.take() {
                kill_group(child.id());
                self.shared.interrupt.forget(child.id());
                let _ = child.wait();
            }
        }
    }

    fn handle(&self, message: Message) {
        match message {
            Message::Start(index) => self.step(index, Input::Start, clock::mono_ns()),
            Message::Stop(index, grace_ns) => {
                self.step(index, Input::Stop { grace_ns }, clock::mono_ns());
            }
            Message::Healthy { index, incarnation, at_ns } => {
                let healthy = self.is_current(index, incarnation);
                self.step(index, Input::Healthy { incarnation }, at_ns);
                if healthy {
                    let kind = EventRecordKind::ReplicaHealthy;
                    self.shared.note(index, incarnation, at_ns, kind, "");
                    let mut slots = self.shared.slots();
                    let fds = slots[index].machine.pid().and_then(procfs::open_descriptors);
                    slots[index].fds_idle = slots[index].fds_idle.or(fds);
                }
            }
            Message::Exited { index, incarnation, at_ns, status } => {
                self.reap(index);
                let kind = EventRecordKind::ReplicaExit;
                self.shared.note(index, incarnation, at_ns, kind, &status);
                self.step(index, Input::Exited { incarnation, status }, at_ns);
            }
            Message::Quit => {}
        }
    }

    fn is_current(&self, index: usize, incarnation: u32) -> bool {
        let slots = self.shared.slots();
        let machine = &slots[index].machine;
        machine.incarnation() == incarnation && machine.phase() == Phase::Starting
    }

    fn reap(&self, index: usize) {
        let mut slots = self.shared.slots();
        slots[index].running.store(false, Ordering::Release);
        if let Some(mut child) = slots[index].child.take() {
            self.shared.interrupt.forget(child.id());
            // It has ended already, so this returns at once and frees its number.
            let _ = child.wait();
        }
    }

    fn step(&self, index: usize, input: Input, now_ns: u64) {
        let mut slots = self.shared.slots();
        let slot = &mut slots[index];
        match slot.machine.step(input, now_ns) {
            Action::None => {}
            Action::Terminate(pid) => {
                self.shared.note(
                    index,
                    slot.machine.incarnation(),
                    clock::mono_ns(),
                    EventRecordKind::Stop,
                    &format!("SIGTERM to pid {pid}"),
                );
                if let Ok(pid) = i32::try_from(pid) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
            }
            Action::Kill(pid) => kill_group(pid),
            Action::Spawn => {
                let at_ns = clock::mono_ns();
                let input = match self.spawn(index, slot) {
                    Ok(pid) => Input::Spawned { pid },
                    Err(error) => Input::SpawnFailed { reason: error.to_string() },
                };
                let text = format!("pid {}", slot.child.as_ref().map_or(0, Child::id));
                let incarnation = slot.machine.incarnation();
                let kind = EventRecordKind::ReplicaStart;
                self.shared.note(index, incarnation, at_ns, kind, &text);
                slot.machine.step(input, clock::mono_ns());
            }
        }
    }

    fn spawn(&self, index: usize, slot: &mut Slot) -> std::io::Result<u32> {
        let child = self.shared.spec.command(index)?.spawn()?;
        let pid = child.id();
        self.shared.interrupt.remember(pid);
        let incarnation = slot.machine.incarnation();
        slot.child = Some(child);
        slot.running = Arc::new(AtomicBool::new(true));
        self.watch_exit(index, incarnation, pid);
        self.watch_health(index, incarnation, Arc::clone(&slot.running));
        Ok(pid)
    }

    fn watch_exit(&self, index: usize, incarnation: u32, pid: u32) {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let status = wait_unreaped(pid);
            let at_ns = clock::mono_ns();
            let _ = sender.send(Message::Exited { index, incarnation, at_ns, status });
        });
    }

    fn watch_health(&self, index: usize, incarnation: u32, running: Arc<AtomicBool>) {
        let sender = self.sender.clone();
        let health = self.shared.spec.health(index);
        std::thread::spawn(move || {
            while running.load(Ordering::Acquire) {
                if healthy(health, HEALTH_TIMEOUT) {
                    let at_ns = clock::mono_ns();
                    let _ = sender.send(Message::Healthy { index, incarnation, at_ns });
                    return;
                }
                std::thread::sleep(HEALTH_EVERY);
            }
        });
    }
}

/// Blocks until a child has ended and leaves it to be reaped under the lock.
fn wait_unreaped(pid: u32) -> String {
    let Ok(raw) = i32::try_from(pid) else { return "not a process".to_owned() };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(Pid::from_raw(raw)), flags) {
            Ok(WaitStatus::Exited(_, code)) => return format!("exit code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => return format!("ended by {signal}"),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return format!("cannot be waited for: {error}"),
        }
    }
}
