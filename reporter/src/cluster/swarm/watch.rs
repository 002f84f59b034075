//! The threads that look: at the orchestrator's records, and at each new task's health.

use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::{Shared, descriptors, lock};
use crate::clock::{self, SECOND_NS};
use crate::cluster::probe::healthy;
use crate::exit::Failure;
use crate::generator::Command;
use crate::swarm::cli::Route;
use crate::swarm::model::{Anchor, Task};
use crate::swarm::ops;
use crate::swarm::stack::SERVICE_FULL;

/// Between two looks while replicas come or go, and while nothing is expected to happen. A look
/// starts two clients, which costs some 0.1 s of a core.
const BUSY_NS: u64 = SECOND_NS / 4;
const CALM_NS: u64 = 2 * SECOND_NS;
const NAP_NS: u64 = SECOND_NS / 50;
const HEALTH_EVERY: Duration = Duration::from_millis(20);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to watch until the cluster quits.
pub fn start(shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let probed = Arc::new(Mutex::new(HashSet::new()));
        while !shared.quit.load(Ordering::Acquire) {
            look(&shared, &probed);
            let looked_ns = clock::mono_ns();
            // An order makes the next look due at once.
            while !shared.quit.load(Ordering::Acquire) {
                let calm = !shared.updating.load(Ordering::Acquire)
                    && shared.follow().settled(shared.wanted())
                    && shared.ordered_ns.load(Ordering::Acquire) < looked_ns;
                let every_ns = if calm { CALM_NS } else { BUSY_NS };
                if clock::mono_ns() >= looked_ns + every_ns {
                    break;
                }
                clock::sleep_ns(NAP_NS);
            }
        }
    })
}

fn look(shared: &Arc<Shared>, probed: &Arc<Mutex<HashSet<String>>>) {
    let asked_ns = clock::mono_ns();
    let tasks = match ops::tasks(shared.docker.as_ref(), SERVICE_FULL) {
        Ok(tasks) => tasks,
        Err(trouble) => {
            // A busy engine may fail to answer once; the next look is soon.
            shared.journal.mark(format!("the orchestrator does not answer: {trouble}"));
            return;
        }
    };
    if let Some(trouble) = ops::obstacle(&tasks, clock::real_ns()) {
        *lock(&shared.obstacle) = Some(Failure::from(trouble));
    }
    let tasks = tasks.into_iter().map(|task| shared.named(task)).collect();
    shared.look_at_update();
    let events = shared.follow().look(tasks, &Anchor::here(), clock::mono_ns());
    events.into_iter().for_each(|event| shared.journal.note(event));
    shared.looked_ns.store(asked_ns, Ordering::Release);
    let unproven: Vec<Task> = shared.follow().unproven().cloned().collect();
    for task in unproven {
        if lock(probed).insert(task.id.clone()) {
            prove(shared, task);
        }
    }
    tell(shared);
}

/// Asks a new task for its health until it answers, from inside its network. Where that network
/// cannot be entered (another node's task, or without the rights), the record's word must do.
fn prove(shared: &Arc<Shared>, task: Task) {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let health = shared.health(&task).filter(|_| shared.local(&task) && enter(&task));
        let still = |shared: &Shared| {
            shared.follow().tasks().iter().any(|own| own.id == task.id && own.runs())
        };
        while let Some(health) = health
            && !healthy(health, HEALTH_TIMEOUT)
        {
            if shared.quit.load(Ordering::Acquire) || !still(&shared) {
                return;
            }
            std::thread::sleep(HEALTH_EVERY);
        }
        let at_ns = clock::mono_ns();
        if let Some(idle) = shared.local(&task).then(|| descriptors(task.pid)).flatten() {
            lock(&shared.fds_idle).insert(task.id.clone(), idle);
        }
        let event = shared.follow().healthy(&task.id, at_ns);
        if let Some(event) = event {
            shared.journal.note(event);
        }
        tell(&shared);
    });
}

/// Moves this thread into the network of the task's container.
fn enter(task: &Task) -> bool {
    let Ok(file) = File::open(format!("/proc/{}/ns/net", task.pid)) else { return false };
    setns(file, CloneFlags::CLONE_NEWNET).is_ok()
}

/// Does something in the network of a task's container, from a thread of its own; none if that
/// network cannot be entered.
pub fn inside<T: Send + 'static>(
    task: &Task,
    what: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let task = task.clone();
    std::thread::spawn(move || enter(&task).then(what)).join().ok().flatten()
}

/// Tells the generator of the replicas that serve, if they are others than it was told last.
pub fn tell(shared: &Shared) {
    if shared.spec.route == Route::Balancer {
        return;
    }
    let urls: Vec<String> = shared.follow().serving().map(|task| shared.url(task)).collect();
    let mut remote = lock(&shared.remote);
    if let Some((remote, told)) = remote.as_mut()
        && !urls.is_empty()
        && *told != urls
    {
        told.clone_from(&urls);
        remote.send(&Command::Targets { urls, rebalance: false });
    }
}
