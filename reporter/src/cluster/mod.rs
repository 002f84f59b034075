//! The cluster under test: replicas that can be deployed, scaled, killed, watched and sampled.
//!
//! One trait, several backends: [`local`] runs a process a replica on loopback addresses,
//! [`external`] drives servers that somebody else started. No call waits: the caller polls
//! [`Cluster::settled`], so that it can go on reading the generator. What happens is noted in the
//! run's journal with its time, by whoever sees it first.

pub mod external;
pub mod launch;
pub mod local;
pub mod probe;
pub mod supervisor;
pub mod swarm;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exit::Failure;
use crate::generator::Remote;
use crate::run::procfs::ProcessSample;

/// Where a replica is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The replica's name in events and samples: its address.
    pub replica: String,
    /// What the generator is given.
    pub url: String,
}

/// Where a replica is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not wanted and not running.
    Absent,
    /// Its process runs, its health check has not answered yet.
    Starting,
    /// Its health check has answered.
    Healthy,
    /// It was told to end.
    Stopping,
    /// It has ended and will be started again.
    Waiting,
    /// It ended before it was ever healthy and is not started again.
    Failed(String),
}

/// One replica, as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Its address.
    pub replica: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// How often it was started.
    pub incarnation: u32,
    /// Its process, while there is one.
    pub pid: Option<u32>,
}

/// A replica that was killed: the call lies between the two times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// Its address.
    pub replica: String,
    /// Just before the call.
    pub before_ns: u64,
    /// Just after it.
    pub after_ns: u64,
    /// The incarnation that was killed.
    pub incarnation: u32,
}

/// What befalls several replicas at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The orchestrator is told to move all replicas away from one node.
    NodeDrain,
    /// One node is gone, as after a power loss.
    NodeLoss,
    /// The orchestrator replaces every replica, a few at a time.
    RollingUpdate,
}

/// A disturbance that was begun: the call lies between the two times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbed {
    /// What it concerns: a node's name, or the service.
    pub what: String,
    /// Just before the call.
    pub before_ns: u64,
    /// Just after it.
    pub after_ns: u64,
}

/// One replica at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSample {
    /// Its address.
    pub replica: String,
    /// Its process.
    pub pid: u32,
    /// How often it was started.
    pub incarnation: u32,
    /// What the kernel says of it.
    pub process: ProcessSample,
}

/// The balancer in front of the replicas at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerSample {
    /// Its address.
    pub address: String,
    /// What the kernel says of it.
    pub process: ProcessSample,
    /// Descriptors that it may open.
    pub fds_max: u64,
    /// Clients' connections, by its own figures.
    pub connections: Option<u64>,
    /// How many it accepts, by its own figures.
    pub connections_max: Option<u64>,
}

/// Samples replicas from another thread.
pub trait Sampler: Send {
    /// All replicas that run at this moment.
    fn sample(&mut self) -> Vec<ReplicaSample>;

    /// The balancer that the load goes through, if it does and the balancer is to be seen.
    fn balancer(&mut self) -> Option<BalancerSample> {
        None
    }
}

/// Samples of processes that are not on this host.
struct Unseen;

impl Sampler for Unseen {
    fn sample(&mut self) -> Vec<ReplicaSample> {
        Vec::new()
    }
}

/// A set of replicas under one control.
pub trait Cluster {
    /// The backend's name in `run.json`.
    fn backend(&self) -> &'static str;

    /// Why replicas can be neither killed nor scaled; none if they can.
    fn fixed(&self) -> Option<String>;

    /// Starts to bring the number of wanted replicas to `to`: new ones are started, surplus ones
    /// are told to end. The first call deploys.
    ///
    /// # Errors
    /// What is missing: a program, a free port, an address.
    fn scale(&mut self, to: u32) -> Result<(), Failure>;

    /// True once every wanted replica is healthy and every surplus one has ended.
    ///
    /// # Errors
    /// If a wanted replica has ended for good; with the last lines that it wrote.
    fn settled(&self) -> Result<bool, Failure>;

    /// The wanted replicas' addresses, healthy or not, in a fixed order.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// What the generator is given: the replicas' own addresses, or the one that they stand behind.
    fn targets(&self) -> Vec<String> {
        self.endpoints().into_iter().map(|endpoint| endpoint.url).collect()
    }

    /// True if the replicas stand behind one address: then the generator cannot choose among them,
    /// and learns of a lost session only by asking it.
    fn behind_one_address(&self) -> bool {
        false
    }

    /// The endpoints that would go if `to` replicas were wanted.
    fn leaving(&self, to: u32) -> Vec<Endpoint>;

    /// Every replica that is wanted or still runs.
    fn status(&self) -> Vec<ReplicaStatus>;

    /// Ends one replica as a power loss would: SIGKILL, no warning.
    ///
    /// # Errors
    /// If it does not run or cannot be killed.
    fn kill(&mut self, replica: &str) -> Result<Killed, Failure>;

    /// Begins a disturbance, and notes it in the journal.
    ///
    /// # Errors
    /// If this cluster has no such thing, or the orchestrator refuses.
    fn disturb(&mut self, what: Disturbance) -> Result<Disturbed, Failure> {
        Err(Failure::usage(format!("backend {} knows no {what:?}", self.backend())))
    }

    /// Undoes what a disturbance left behind, such as a drained node.
    ///
    /// # Errors
    /// If the orchestrator refuses.
    fn restore(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// A source of samples for another thread; one of nothing where the processes are not seen.
    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(Unseen)
    }

    /// Descriptors that a replica holds now beyond those it held when it became healthy: one a
    /// connection for servers with ordinary sockets. None where that is not to be seen.
    fn held(&self, replica: &str) -> Option<u64>;

    /// The program and the arguments that run the generator with `arguments` where it reaches the
    /// replicas; none if it is simply started on this host.
    ///
    /// # Errors
    /// What is missing for it.
    fn generator(
        &mut self,
        _arguments: &[String],
        _log_dir: &Path,
    ) -> Result<Option<(PathBuf, Vec<String>)>, Failure> {
        Ok(None)
    }

    /// The generator's own process, where it is not the one that was started.
    fn generator_pid(&self) -> Option<u32> {
        None
    }

    /// The generator to tell of replicas that come and go by themselves; none when it ends.
    fn follow(&mut self, _generator: Option<Remote>) {}

    /// What `run.json` says of the cluster beside its events: engine, nodes, the path of the load.
    fn facts(&self) -> Option<Value> {
        None
    }

    /// The server's version, as far as it can be asked.
    fn server_version(&self) -> String;

    /// Ends everything that this cluster started, within a few seconds.
    fn teardown(&mut self);
}

/// True if every replica holds within `tolerance` (0.1 is 10 %) of the mean, or within two.
pub fn even(held: &[u64], tolerance: f64) -> bool {
    if held.is_empty() {
        return true;
    }
    let mean = held.iter().sum::<u64>() as f64 / held.len() as f64;
    held.iter().all(|&own| (own as f64 - mean).abs() <= (mean * tolerance).max(2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_means_each_within_the_tolerance_of_the_mean() {
        assert!(even(&[], 0.1));
        assert!(even(&[100, 105, 95], 0.1));
        assert!(!even(&[100, 120, 80], 0.1));
        assert!(!even(&[8_333, 8_333, 0], 0.1));
        assert!(even(&[1, 2, 0], 0.1), "a few connections are never exactly even");
    }
}
