//! The swarm backend: the stack's replicas, driven through the `docker` command line.
//!
//! Load goes the way that `route` knows: straight to the tasks' addresses in the overlay network,
//! from a generator in a container of that network, or to ports on the nodes, or through the
//! balancer. One thread looks at the orchestrator's records, often while something is going on, and tells the
//! generator when tasks come or go. Times of events are the records' own, taken onto
//! `CLOCK_MONOTONIC`.

mod api;
mod balancer;
mod disturb;
mod follow;
mod generator;
mod route;
mod sampling;
mod series;
mod usage;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use self::follow::Follow;
use self::sampling::GroupSampler;
use super::local::Entry;
use super::{Cluster, Disturbance, Disturbed, Endpoint, Killed, Phase, ReplicaStatus, Sampler};
use crate::clock::{self, SECOND_NS};
use crate::exit::Failure;
use crate::generator::Remote;
use crate::run::interrupt::Interrupt;
use crate::run::journal::Journal;
use crate::run::procfs;
use crate::run::record::{EventRecord, EventRecordKind};
use crate::swarm::cli::{DeployArgs, Route};
use crate::swarm::commands;
use crate::swarm::docker::{Call, Docker};
use crate::swarm::model::{Node, Task};
use crate::swarm::ops::{self, Engine};
use crate::swarm::remove;
use crate::swarm::stack::{NETWORK, SERVICE_FULL, STACK};

/// Ports that the stack's servers listen on.
const PORT: u16 = 8_080;
const TCP_PORT: u16 = 5_555;
const REMOVE_NS_MAX: u64 = 120 * SECOND_NS;
const DEPLOY_NS_MAX: u64 = 120 * SECOND_NS;
const LOGS_NS_MAX: u64 = 60 * SECOND_NS;

/// How replicas are deployed.
#[derive(Clone, Debug)]
pub struct SwarmSpec {
    /// What the stack consists of.
    pub deploy: DeployArgs,
    /// The load's way to the replicas.
    pub route: Route,
    /// The node that a drain or a loss is about, if the user named one.
    pub node: Option<String>,
    /// Shell command that ends a node.
    pub node_off: Option<String>,
    /// Where the load goes.
    pub entry: Entry,
    /// Delay before a replica that died is started again.
    pub restart_delay_ns: u64,
    /// How engines of other nodes are reached.
    pub node_hosts: Vec<(String, String)>,
    /// Where the replicas' logs go.
    pub log_dir: PathBuf,
}

struct Shared {
    spec: SwarmSpec,
    docker: Arc<dyn Docker>,
    engine: Engine,
    nodes: Vec<Node>,
    journal: Journal,
    interrupt: Interrupt,
    follow: Mutex<Follow>,
    /// Why the replicas cannot become what they should.
    obstacle: Mutex<Option<Failure>>,
    /// The last order to the orchestrator; a look from before it says nothing of it.
    ordered_ns: AtomicU64,
    looked_ns: AtomicU64,
    wanted: AtomicU32,
    /// A rolling update was ordered and is not known to be through.
    updating: AtomicBool,
    /// The node that was told to give up its replicas, whether or not it did, until it takes some.
    drained: Mutex<Option<Node>>,
    /// The balancer's task, if the load goes through one.
    balancer: Mutex<Option<Task>>,
    quit: AtomicBool,
    /// The running generator, and the addresses that it was told last.
    remote: Mutex<Option<(Remote, Vec<String>)>>,
    /// Descriptors of each replica when it was first healthy.
    fds_idle: Mutex<HashMap<String, u64>>,
}

impl Shared {
    fn new(
        spec: SwarmSpec,
        docker: Arc<dyn Docker>,
        engine: Engine,
        nodes: Vec<Node>,
        journal: Journal,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            spec,
            docker,
            engine,
            nodes,
            journal,
            interrupt,
            follow: Mutex::default(),
            obstacle: Mutex::default(),
            ordered_ns: AtomicU64::new(0),
            looked_ns: AtomicU64::new(0),
            wanted: AtomicU32::new(0),
            updating: AtomicBool::new(false),
            drained: Mutex::default(),
            balancer: Mutex::default(),
            quit: AtomicBool::new(false),
            remote: Mutex::default(),
            fds_idle: Mutex::default(),
        }
    }

    fn follow(&self) -> MutexGuard<'_, Follow> {
        lock(&self.follow)
    }

    /// True if the task's processes are seen from here under the numbers that the engine gives
    /// them: it may be another host's, or have its own table of processes.
    fn local(&self, task: &Task) -> bool {
        let groups = || procfs::text(format!("/proc/{}/cgroup", task.pid)).unwrap_or_default();
        task.node == self.engine.node
            && task.pid > 0
            && !task.container.is_empty()
            && groups().contains(&task.container)
    }

    fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stack's replicas.
pub struct Swarm {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
    deployed: bool,
    /// Replicas of a stack that was there before this run, which keeps it.
    found: Option<u32>,
    image: String,
    generators: u32,
    since_real_ns: u64,
}

impl Swarm {
    /// The stack's replicas, not deployed yet.
    ///
    /// # Errors
    /// If the engine is no manager of a swarm.
    pub fn new(
        spec: SwarmSpec,
        docker: Arc<dyn Docker>,
        journal: Journal,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let engine = ops::manager(docker.as_ref())?;
        let nodes = ops::nodes(docker.as_ref())?;
        route::check(spec.route, &nodes)?;
        Ok(Self {
            shared: Arc::new(Shared::new(spec, docker, engine, nodes, journal, interrupt)),
            watcher: None,
            deployed: false,
            found: None,
            image: String::new(),
            generators: 0,
            since_real_ns: clock::real_ns(),
        })
    }

    fn deploy(&mut self, replicas: u32) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let docker = shared.docker.as_ref();
        remove::beside(docker)?;
        let before = ops::services(docker)?.into_iter().find(|s| s.name == SERVICE_FULL);
        self.found = before.map(|service| service.replicas);
        let args = DeployArgs { replicas, ..shared.spec.deploy.clone() };
        let delay = format!("{}ms", shared.spec.restart_delay_ns / 1_000_000);
        self.deployed = true;
        let (what, command) = self.remains();
        shared.interrupt.leaves_behind(&what, &command);
        let deadline_ns = clock::mono_ns() + DEPLOY_NS_MAX;
        let hosts = &shared.spec.node_hosts;
        let deployed = commands::deploy(docker, &args, Some(delay), hosts, deadline_ns, |_| {})?;
        self.image = deployed.image;
        if shared.spec.route == Route::Balancer {
            *lock(&shared.balancer) = Some(balancer::await_ready(&shared)?);
        }
        self.watcher = Some(watch::start(&self.shared));
        Ok(())
    }

    fn order(&self) {
        self.shared.ordered_ns.store(clock::mono_ns(), Ordering::Release);
    }

    /// The generator's own image; the server's may be somebody else's.
    fn generator_image(&self) -> Result<String, Failure> {
        match self.shared.spec.deploy.image {
            None => Ok(self.image.clone()),
            Some(_) => crate::swarm::image::build(self.shared.docker.as_ref()),
        }
    }

    fn save_series(&self) {
        if !self.shared.spec.deploy.monitoring {
            return;
        }
        let dir = self.shared.spec.log_dir.join("../metrics/prometheus");
        if let Err(error) = series::save(&dir, self.since_real_ns, clock::real_ns()) {
            self.shared.journal.mark(format!("Prometheus' series are not all saved: {error}"));
        }
    }

    /// What the replicas wrote in this run, with the engine's times.
    fn save_logs(&self) {
        let since = (self.since_real_ns / SECOND_NS).to_string();
        let args = ["service", "logs", "--timestamps", "--no-trunc", "--since", &since];
        let args = args.into_iter().chain([SERVICE_FULL]);
        let call = Call { ns_max: LOGS_NS_MAX, ..Call::new(args) };
        let answer = self.shared.docker.answer(&call);
        let file = self.shared.spec.log_dir.join("service.log");
        if let Err(error) = std::fs::write(&file, answer.stdout + &answer.stderr) {
            self.shared.journal.mark(format!("cannot write {}: {error}", file.display()));
        }
    }
}

impl Cluster for Swarm {
    fn backend(&self) -> &'static str {
        "swarm"
    }

    fn fixed(&self) -> Option<String> {
        None
    }

    fn scale(&mut self, to: u32) -> Result<(), Failure> {
        self.shared.wanted.store(to, Ordering::Release);
        self.order();
        if !self.deployed {
            return self.deploy(to);
        }
        ops::scale(self.shared.docker.as_ref(), to)?;
        self.order();
        Ok(())
    }

    fn settled(&self) -> Result<bool, Failure> {
        if let Some(failure) = lock(&self.shared.obstacle).take() {
            return Err(failure);
        }
        let looked_ns = self.shared.looked_ns.load(Ordering::Acquire);
        let fresh = looked_ns > self.shared.ordered_ns.load(Ordering::Acquire);
        let updating = self.shared.updating.load(Ordering::Acquire);
        Ok(fresh && !updating && self.shared.follow().settled(self.shared.wanted()))
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let follow = self.shared.follow();
        let endpoint =
            |task: &Task| Endpoint { replica: task.address.clone(), url: self.shared.url(task) };
        follow.serving().map(endpoint).collect()
    }

    fn targets(&self) -> Vec<String> {
        match self.shared.behind() {
            Some(url) => vec![url],
            None => self.endpoints().into_iter().map(|endpoint| endpoint.url).collect(),
        }
    }

    fn behind_one_address(&self) -> bool {
        self.shared.spec.route == Route::Balancer
    }

    /// The orchestrator chooses, and says it only when it has chosen: the watching thread then
    /// takes those replicas from the generator, in the two seconds before they get SIGTERM.
    fn leaving(&self, _to: u32) -> Vec<Endpoint> {
        Vec::new()
    }

    fn status(&self) -> Vec<ReplicaStatus> {
        let follow = self.shared.follow();
        let serving: Vec<&str> = follow.serving().map(|task| task.id.as_str()).collect();
        let status = |task: &Task| ReplicaStatus {
            replica: task.address.clone(),
            phase: match (serving.contains(&task.id.as_str()), task.wanted()) {
                (true, _) => Phase::Healthy,
                (false, true) => Phase::Starting,
                (false, false) => Phase::Stopping,
            },
            incarnation: follow.life(task),
            pid: Some(task.pid).filter(|&pid| pid > 0),
        };
        follow.tasks().iter().filter(|task| !task.ended()).map(status).collect()
    }

    fn kill(&mut self, replica: &str) -> Result<Killed, Failure> {
        let found = self.shared.follow().serving().find(|task| task.address == replica).cloned();
        let Some(task) = found else {
            return Err(Failure::invalid(format!("replica {replica} does not run")));
        };
        let (engine, nodes) = (&self.shared.engine, &self.shared.nodes);
        let host = ops::host_of_node(engine, nodes, &task.node, &self.shared.spec.node_hosts)?;
        let incarnation = {
            let mut follow = self.shared.follow();
            follow.kill(&task);
            follow.life(&task)
        };
        let before_ns = clock::mono_ns();
        ops::kill(self.shared.docker.as_ref(), &task.container, host)?;
        let after_ns = clock::mono_ns();
        self.order();
        self.shared.journal.note(EventRecord {
            until_ns: after_ns,
            replica: replica.to_owned(),
            incarnation,
            text: format!("SIGKILL to the container of slot {}", task.slot),
            ..EventRecord::at(before_ns, EventRecordKind::Kill)
        });
        Ok(Killed { replica: replica.to_owned(), before_ns, after_ns, incarnation })
    }

    fn disturb(&mut self, what: Disturbance) -> Result<Disturbed, Failure> {
        self.shared.disturb(what)
    }

    fn restore(&mut self) -> Result<(), Failure> {
        self.shared.restore()
    }

    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(GroupSampler::start(Arc::clone(&self.shared)))
    }

    fn held(&self, replica: &str) -> Option<u64> {
        let follow = self.shared.follow();
        let task = follow.serving().find(|task| task.address == replica)?;
        if !self.shared.local(task) {
            return None;
        }
        let now = descriptors(task.pid)?;
        Some(now.saturating_sub(*lock(&self.shared.fds_idle).get(&task.id)?))
    }

    fn server_version(&self) -> String {
        self.shared.spec.deploy.image.clone().unwrap_or_default()
    }

    fn generator(
        &mut self,
        program_arguments: &[String],
        log_dir: &Path,
    ) -> Result<Option<(PathBuf, Vec<String>)>, Failure> {
        if self.shared.spec.route == Route::HostPorts {
            return Ok(None);
        }
        let image = self.generator_image()?;
        self.generators += 1;
        let name = self.generator_name();
        generator::wrap(&self.shared.engine, &image, &name, program_arguments, log_dir).map(Some)
    }

    fn generator_pid(&self) -> Option<u32> {
        if self.shared.spec.route == Route::HostPorts {
            return None;
        }
        generator::pid(self.shared.docker.as_ref(), &self.generator_name())
    }

    fn follow(&mut self, remote: Option<Remote>) {
        let told = self.endpoints().into_iter().map(|endpoint| endpoint.url).collect();
        *lock(&self.shared.remote) = remote.map(|remote| (remote, told));
    }

    fn facts(&self) -> Option<Value> {
        let spec = &self.shared.spec;
        let nodes: Vec<Value> = self
            .shared
            .nodes
            .iter()
            .map(|node| {
                json!({"name": node.name, "role": node.role, "engine": node.engine,
                       "state": node.state, "availability": node.availability})
            })
            .collect();
        Some(json!({
            "docker": self.shared.engine.record(),
            "nodes": nodes,
            "image": self.image,
            "balancer": spec.deploy.balancer.name(),
            "network": NETWORK,
            "path": self.shared.route_facts(self.replica_nofile()),
        }))
    }

    fn teardown(&mut self) {
        if !self.deployed {
            return;
        }
        self.deployed = false;
        if let Err(failure) = self.shared.restore() {
            self.shared.journal.mark(&failure.message);
            eprintln!("{}", failure.message);
        }
        self.save_logs();
        self.save_series();
        self.shared.quit.store(true, Ordering::Release);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        let docker = self.shared.docker.as_ref();
        let ended = match self.found {
            Some(replicas) => remove::beside(docker).and_then(|()| ops::scale(docker, replicas)),
            None => remove::stack(docker, clock::mono_ns() + REMOVE_NS_MAX, |_| {})
                .and_then(|_| remove::volumes(docker))
                .map(|_| ()),
        };
        let (what, command) = self.remains();
        match ended {
            Ok(()) => self.shared.interrupt.mended(&command),
            Err(trouble) => {
                self.shared.journal.mark(format!("{what} is left: {trouble}"));
                eprintln!("{what} is left: {trouble}; see `{command}`");
            }
        }
    }
}

impl Swarm {
    /// What this run leaves of the stack if it is not torn down, and the command that mends it.
    fn remains(&self) -> (String, String) {
        match self.found {
            None => (format!("the stack {STACK}"), "reporter swarm rm".to_owned()),
            Some(before) => (
                format!("another number of replicas in the stack {STACK}, which had {before}"),
                format!("reporter swarm scale {before}"),
            ),
        }
    }

    fn generator_name(&self) -> String {
        format!("erlmcp-generator-{}-{}", std::process::id(), self.generators)
    }

    /// The limit of descriptors inside of a replica, where it can be read.
    fn replica_nofile(&self) -> Option<u64> {
        let follow = self.shared.follow();
        let task = follow.serving().find(|task| self.shared.local(task))?;
        procfs::nofile_of(last_child(task.pid))
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.teardown();
    }
}

/// Descriptors of a container: its first process is the engine's init, the server its child.
fn descriptors(pid: u32) -> Option<u64> {
    procfs::open_descriptors(last_child(pid))
}

/// The only child of a container's first process, or that process.
fn last_child(pid: u32) -> u32 {
    let children = procfs::text(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().next().and_then(|child| child.parse().ok()).unwrap_or(pid)
}
