//! The way of the load to the replicas: what the generator is given, and how much the way can hold.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{PORT, Shared, TCP_PORT, balancer};
use crate::cluster::local::Entry;
use crate::cluster::probe::Health;
use crate::exit::Failure;
use crate::swarm::cli::{Balancer, Route};
use crate::swarm::model::{Node, Task};

impl Shared {
    /// Names a task by what the load reaches it at: its address in the overlay network, or its
    /// node's with the port that it has there. It has no name until it has that.
    pub(super) fn named(&self, mut task: Task) -> Task {
        if self.spec.route == Route::HostPorts {
            let node = self.nodes.iter().find(|node| node.id == task.node);
            let at = node.zip(task.published(PORT));
            task.address =
                at.map_or_else(String::new, |(node, port)| format!("{}:{port}", node.address));
        }
        task
    }

    pub(super) fn url(&self, task: &Task) -> String {
        match (&self.spec.entry, self.spec.route) {
            (Entry::Http(path), Route::HostPorts) => format!("http://{}{path}", task.address),
            (Entry::Http(path), _) => format!("http://{}:{PORT}{path}", task.address),
            (Entry::Tcp, _) => format!("tcp://{}:{TCP_PORT}", task.address),
        }
    }

    /// Where a task's health is asked, from inside its network.
    pub(super) fn health(&self, task: &Task) -> Option<Health> {
        let ip: IpAddr = match self.spec.route {
            Route::HostPorts => Ipv4Addr::LOCALHOST.into(),
            Route::Tasks | Route::Balancer => task.address.parse().ok()?,
        };
        Some(match self.spec.entry {
            Entry::Http(_) => Health::Http(SocketAddr::from((ip, PORT))),
            Entry::Tcp => Health::Connect(SocketAddr::from((ip, TCP_PORT))),
        })
    }

    /// The balancer's address for the load; none if the load does not go through one.
    pub(super) fn behind(&self) -> Option<String> {
        let Entry::Http(path) = &self.spec.entry else { return None };
        let task = self.balancer()?;
        let port = match self.spec.deploy.balancer {
            // One connection is one session is one replica: requests of a session that comes without
            // a cookie would each go to another one.
            Balancer::Traefik => balancer::TRAEFIK_CONNECTIONS_PORT,
            Balancer::Haproxy | Balancer::None => balancer::HTTP_PORT,
        };
        Some(format!("http://{}:{port}{path}", task.address))
    }

    /// What `run.json` says of the way.
    pub(super) fn route_facts(&self, replica_nofile: Option<u64>) -> Value {
        let replicas = u64::from(self.wanted());
        let by_replicas = replica_nofile.map(|nofile| nofile * replicas);
        let limits = self.balancer().and_then(|task| balancer::limits(self, &task));
        let by_balancer = limits.map(|limits| limits.connections());
        let connections_max = by_replicas.into_iter().chain(by_balancer).min();
        json!({
            "kind": self.spec.route.name(),
            "text": text(self.spec.route, self.spec.deploy.balancer),
            "connections_max": connections_max,
            "connections_max_by_replica_descriptors": by_replicas,
            "connections_max_by_balancer": by_balancer,
            "descriptors_a_replica": replica_nofile,
            "descriptors_of_the_balancer": limits.map(|limits| limits.fds_max),
        })
    }
}

fn text(route: Route, balancer: Balancer) -> &'static str {
    match (route, balancer) {
        (Route::Tasks, _) => {
            "from a generator in a container of the overlay network straight to the tasks' own \
             addresses; no virtual IP, published port or balancer between"
        }
        (Route::HostPorts, _) => {
            "from a generator on this host to the port that each task has on its node's own \
             address: through the engine's address translation, and not through 127.0.0.1, where \
             its proxy would stand between"
        }
        (Route::Balancer, Balancer::Traefik) => {
            "from a generator in a container of the overlay network through Traefik's port for \
             connections (TCP): each stays on the replica that it was given to, and so does its \
             session; by HTTP Traefik keeps a session only for a client that keeps cookies"
        }
        (Route::Balancer, Balancer::Haproxy | Balancer::None) => {
            "from a generator in a container of the overlay network through HAProxy (HTTP), which \
             learns each session's replica from the Mcp-Session-Id of the answer to initialize"
        }
    }
}

/// Checks that the load can take this way.
///
/// # Errors
/// If a node has no address of its own.
pub(super) fn check(route: Route, nodes: &[Node]) -> Result<(), Failure> {
    let loops = |node: &&Node| {
        node.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
    };
    match nodes.iter().find(loops) {
        Some(node) if route == Route::HostPorts => Err(Failure::host(format!(
            "node {} gives {} as its address, and --path host-ports needs one of its own; make the \
             swarm again with `reporter swarm init --advertise-addr ADDRESS`",
            node.name, node.address
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str) -> Node {
        let json = format!(r#"[{{"ID":"n","Status":{{"Addr":"{address}"}}}}]"#);
        crate::swarm::model::nodes(&json).expect("parses").remove(0)
    }

    #[test]
    fn host_ports_need_an_address_of_the_nodes_own() {
        assert!(check(Route::HostPorts, &[node("10.0.0.1")]).is_ok());
        for loops in ["127.0.0.1", "0.0.0.0"] {
            let failure = check(Route::HostPorts, &[node(loops)]).expect_err("is refused");
            assert!(failure.message.contains("--advertise-addr"), "{failure}");
            assert!(check(Route::Tasks, &[node(loops)]).is_ok());
        }
    }

    #[test]
    fn each_way_is_told_in_its_own_words() {
        assert!(text(Route::Balancer, Balancer::Haproxy).contains("Mcp-Session-Id"));
        assert!(text(Route::Balancer, Balancer::Traefik).contains("cookies"));
        assert!(text(Route::HostPorts, Balancer::None).contains("127.0.0.1"));
    }
}
