//! The balancer that the load goes through: when it is ready, what it holds, what it can hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::usage::Group;
use super::{Shared, last_child, lock, series, watch};
use crate::clock::{self, SECOND_NS};
use crate::cluster::BalancerSample;
use crate::cluster::probe::{Health, healthy};
use crate::exit::Failure;
use crate::run::procfs::{self, ProcessSample, Units};
use crate::swarm::model::Task;
use crate::swarm::ops;

/// Where it takes HTTP.
pub const HTTP_PORT: u16 = 8_000;
/// Where Traefik takes connections, whatever is spoken on them.
pub const TRAEFIK_CONNECTIONS_PORT: u16 = 8_001;
/// Where it gives its figures, in the way of Prometheus.
const METRICS_PORT: u16 = 8_404;
const SERVICE_FULL: &str = "erlmcp-swarm_lb";
const READY_NS_MAX: u64 = 30 * SECOND_NS;
/// Time for it to find the replicas, where it cannot be asked.
const UNSEEN_NS: u64 = 5 * SECOND_NS;
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// What it can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors that it may open.
    pub fds_max: u64,
    /// Connections that it accepts, by its own figures.
    pub connections_max: Option<u64>,
}

impl Limits {
    /// Clients' connections: each takes two descriptors, one to the client and one to the replica.
    pub fn connections(&self) -> u64 {
        let by_descriptors = self.fds_max / 2;
        self.connections_max.map_or(by_descriptors, |own| own.min(by_descriptors))
    }
}

/// Finds the balancer's task and waits until it gives the replicas' answers.
///
/// # Errors
/// If there is none, or it never does.
pub fn await_ready(shared: &Arc<Shared>) -> Result<Task, Failure> {
    let tasks = ops::tasks(shared.docker.as_ref(), SERVICE_FULL)?;
    let task = tasks.into_iter().find(Task::runs);
    let task = task.ok_or_else(|| Failure::host("the balancer does not run"))?;
    if !shared.local(&task) {
        clock::sleep_ns(UNSEEN_NS);
        return Ok(task);
    }
    let deadline_ns = clock::mono_ns() + READY_NS_MAX;
    let health = Health::Http(SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)));
    loop {
        if watch::inside(&task, move || healthy(health, HEALTH_TIMEOUT)) == Some(true) {
            return Ok(task);
        }
        if clock::mono_ns() >= deadline_ns {
            return Err(Failure::host(
                "the balancer does not give a replica's answer to /health; see `reporter swarm \
                 logs lb`",
            ));
        }
        clock::sleep_ns(SECOND_NS / 10);
    }
}

impl Shared {
    pub(super) fn balancer(&self) -> Option<Task> {
        lock(&self.balancer).clone()
    }
}

/// What it can hold; none if it is not to be seen from here.
pub fn limits(shared: &Shared, task: &Task) -> Option<Limits> {
    if !shared.local(task) {
        return None;
    }
    let fds_max = procfs::nofile_of(last_child(task.pid))?;
    Some(Limits { fds_max, connections_max: figures(task).1 })
}

/// The balancer at this moment.
pub fn sample(shared: &Shared, units: Units) -> Option<BalancerSample> {
    let task = shared.balancer()?;
    if !shared.local(&task) {
        return None;
    }
    let usage = Group::of_container(task.pid, &task.container)?.usage()?;
    // HAProxy's connections belong to the child of its first process.
    let server = last_child(task.pid);
    let own = procfs::process(server, units)?;
    let (connections, connections_max) = figures(&task);
    Some(BalancerSample {
        address: task.address,
        process: ProcessSample {
            rss_bytes: usage.memory_bytes,
            cpu_ns: usage.cpu_ns,
            fds: own.fds,
            threads: own.threads,
        },
        fds_max: procfs::nofile_of(server)?,
        connections,
        connections_max,
    })
}

/// Clients' connections and how many are accepted, as the balancer says.
fn figures(task: &Task) -> (Option<u64>, Option<u64>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
    // HAProxy leaves its thousands of figures on servers out; Traefik does not mind.
    let asked = watch::inside(task, move || series::get(address, "/metrics?scope=global"));
    let text = asked.and_then(Result::ok).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let sum = |name: &str| {
        let own = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.map(|value| value as u64).reduce(|a, b| a + b)
    };
    let held =
        sum("haproxy_process_current_connections").or_else(|| sum("traefik_open_connections"));
    (held, sum("haproxy_process_max_connections"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_two_descriptors_whatever_the_balancer_would_accept() {
        let limits = |own| Limits { fds_max: 20_000, connections_max: own }.connections();
        assert_eq!(limits(Some(9_900)), 9_900);
        assert_eq!(limits(Some(50_000)), 10_000);
        assert_eq!(limits(None), 10_000);
    }
}
