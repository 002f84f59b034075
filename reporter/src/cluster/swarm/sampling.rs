//! Samples of the replicas: from their control groups where these can be read, else from the engine
//! of their node, which a thread asks once a second so that nobody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::api::{Reading, Source};
use super::usage::{Group, Usage};
use super::{Shared, balancer, lock};
use crate::clock::{self, SECOND_NS};
use crate::cluster::{BalancerSample, ReplicaSample, Sampler};
use crate::run::procfs::{self, ProcessSample, Units};
use crate::swarm::model::Task;
use crate::swarm::ops;

const EVERY_NS: u64 = SECOND_NS;
const NAP_NS: u64 = SECOND_NS / 20;

/// The engine of a node, as `DOCKER_HOST` names it; none is the client's own.
type Host = Option<String>;

/// See the module.
pub struct GroupSampler {
    shared: Arc<Shared>,
    units: Units,
    asked: Arc<Asked>,
    /// Nodes of which was said where their figures come from.
    said: BTreeSet<String>,
}

/// What the asking thread is to ask for, and what it heard.
#[derive(Default)]
struct Asked {
    wanted: Mutex<BTreeMap<Host, Vec<String>>>,
    /// Taken out by whoever samples, so that no figure counts twice.
    heard: Mutex<BTreeMap<String, Usage>>,
    quit: AtomicBool,
}

impl GroupSampler {
    /// Starts the thread.
    pub fn start(shared: Arc<Shared>) -> Self {
        let asked = Arc::new(Asked::default());
        let (own, docker) = (Arc::clone(&asked), Arc::clone(&shared.docker));
        std::thread::spawn(move || {
            let mut rounded = BTreeMap::new();
            while !own.quit.load(Ordering::Acquire) {
                let due_ns = clock::mono_ns() + EVERY_NS;
                let wanted = lock(&own.wanted).clone();
                for (host, containers) in wanted {
                    let readings =
                        Source::here(host.as_deref()).usage(docker.as_ref(), &containers);
                    let now_ns = clock::mono_ns();
                    for (container, reading) in readings {
                        let usage = add_up(&mut rounded, &container, reading, now_ns);
                        lock(&own.heard).insert(container, usage);
                    }
                }
                while clock::mono_ns() < due_ns && !own.quit.load(Ordering::Acquire) {
                    clock::sleep_ns(NAP_NS);
                }
            }
        });
        Self { shared, units: Units::of_this_host(), asked, said: BTreeSet::new() }
    }

    /// From the control group, with descriptors and threads where processes can be seen.
    fn here(&self, task: &Task) -> Option<ProcessSample> {
        if !self.shared.local(task) {
            return None;
        }
        let usage = Group::of_container(task.pid, &task.container)?.usage()?;
        let tree = procfs::tree(task.pid, self.units);
        Some(ProcessSample {
            rss_bytes: usage.memory_bytes,
            cpu_ns: usage.cpu_ns,
            fds: tree.as_ref().map_or(0, |tree| tree.fds),
            threads: tree.as_ref().map_or(0, |tree| tree.threads),
        })
    }

    fn engines_word(&mut self, task: &Task, host: &Host) -> Option<ProcessSample> {
        let usage = lock(&self.asked.heard).remove(&task.container)?;
        if self.said.insert(task.node.clone()) {
            let node = self.shared.nodes.iter().find(|node| node.id == task.node);
            let name = node.map_or(task.node.as_str(), |node| node.name.as_str());
            let from = Source::here(host.as_deref()).name();
            self.shared.journal.mark(format!("memory and CPU on node {name} come from {from}"));
        }
        Some(ProcessSample {
            rss_bytes: usage.memory_bytes,
            cpu_ns: usage.cpu_ns,
            fds: 0,
            threads: 0,
        })
    }
}

impl Sampler for GroupSampler {
    fn sample(&mut self) -> Vec<ReplicaSample> {
        let running: Vec<(Task, u32)> = {
            let follow = self.shared.follow();
            let running = follow.tasks().iter().filter(|task| task.state == "running");
            running.map(|task| (task.clone(), follow.life(task))).collect()
        };
        let (mut samples, mut wanted) = (Vec::new(), BTreeMap::<Host, Vec<String>>::new());
        for (task, incarnation) in running {
            let process = self.here(&task).or_else(|| {
                let (engine, nodes) = (&self.shared.engine, &self.shared.nodes);
                let hosts = &self.shared.spec.node_hosts;
                // A node that nobody said how to reach has no figures.
                let host = ops::host_of_node(engine, nodes, &task.node, hosts).ok()?;
                wanted.entry(host.clone()).or_default().push(task.container.clone());
                self.engines_word(&task, &host)
            });
            if let Some(process) = process {
                let (replica, pid) = (task.address, task.pid);
                samples.push(ReplicaSample { replica, pid, incarnation, process });
            }
        }
        *lock(&self.asked.wanted) = wanted;
        samples
    }

    fn balancer(&mut self) -> Option<BalancerSample> {
        balancer::sample(&self.shared, self.units)
    }
}

impl Drop for GroupSampler {
    fn drop(&mut self) {
        self.asked.quit.store(true, Ordering::Release);
    }
}

/// CPU time of a reading: its own, or the sum of the shares of a core seen so far.
fn add_up(
    sums: &mut BTreeMap<String, (u64, f64)>,
    container: &str,
    reading: Reading,
    now_ns: u64,
) -> Usage {
    match reading {
        Reading::Exact(usage) => usage,
        Reading::Rounded { memory_bytes, cores } => {
            let (since_ns, sum_ns) = sums.entry(container.to_owned()).or_insert((now_ns, 0.0));
            *sum_ns += cores * now_ns.saturating_sub(*since_ns) as f64;
            *since_ns = now_ns;
            Usage { memory_bytes, cpu_ns: *sum_ns as u64 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_core_become_cpu_time_from_the_first_reading_on() {
        let mut sums = BTreeMap::new();
        let mut read = |cores, now_ns| {
            add_up(&mut sums, "c", Reading::Rounded { memory_bytes: 1, cores }, now_ns).cpu_ns
        };
        assert_eq!([read(0.9, 1_000), read(0.5, 3_000), read(2.0, 4_000)], [0, 1_000, 3_000]);
        let exact = Usage { memory_bytes: 5, cpu_ns: 6 };
        assert_eq!(add_up(&mut sums, "c", Reading::Exact(exact), 9_000), exact);
    }
}
