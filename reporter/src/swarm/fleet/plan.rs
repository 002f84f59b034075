//! Which generator runs where with which share, and the calls that start it. Pure functions.

use crate::exit::Failure;
use crate::swarm::cli::LoadgenArgs;
use crate::swarm::docker::Call;
use crate::swarm::model::Node;
use crate::swarm::stack::{NETWORK, OWNER, OWNER_VALUE, ROLE};

/// Where a generator listens for its driver, and for Prometheus.
pub const CONTROL_PORT: u16 = 9_465;
/// See [`CONTROL_PORT`]; `prometheus.yml` names it too.
pub const METRICS_PORT: u16 = 9_464;
/// The name in the overlay network that all generators have.
pub const ALIAS: &str = "loadgen";
/// Ports that a task's own address offers for each target: all above the privileged ones.
const PORTS: &str = "1024 65535";
/// Generators in one run.
const SEATS_MAX: usize = 256;

/// One generator: a service with one task on one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    /// The service's name.
    pub name: String,
    /// The host name inside of its container, and of its log.
    pub host: String,
    /// The node that it runs on.
    pub node: String,
    /// Its share of the connections.
    pub connections: u64,
    /// Its share of the requests a second.
    pub rate_per_s: f64,
    /// Its share of the new connections a second.
    pub ramp_per_s: f64,
    /// By how much its schedule is behind the first one's, so that theirs interleave.
    pub phase_ns: u64,
    /// Decides what is left to its chance.
    pub seed: u64,
}

/// The nodes that carry all the labels, and can take tasks.
///
/// # Errors
/// If there is none, with the command that gives a node its label.
pub fn choose<'n>(
    nodes: &'n [Node],
    labels: &[(String, String)],
) -> Result<Vec<&'n Node>, Failure> {
    let has =
        |node: &&Node| labels.iter().all(|(name, value)| node.label(name) == Some(value.as_str()));
    let mut found: Vec<&Node> = nodes.iter().filter(has).collect();
    if found.is_empty() {
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(Failure::usage(format!(
            "no node has the label {}; there are {}: give one of them the label with `docker node \
             update --label-add {} NODE`",
            labels.join(" and "),
            names.join(", "),
            labels.first().map_or("role=generator", String::as_str),
        )));
    }
    found.retain(|node| node.state == "ready" && node.availability == "active");
    if found.is_empty() {
        return Err(Failure::usage(
            "no node with this label is ready and active; see `reporter swarm status`, and \
             `reporter swarm undrain NODE`",
        ));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Shares the load out: every node gets the same number of generators, every generator the same
/// share but for one connection.
///
/// # Errors
/// More generators than connections, or than are ever driven from one place.
pub fn seats(nodes: &[&Node], args: &LoadgenArgs, seed: u64) -> Result<Vec<Seat>, Failure> {
    let per_node = args.per_node as usize;
    let count = nodes.len() * per_node;
    if count > SEATS_MAX || count as u64 > args.connections {
        return Err(Failure::usage(format!(
            "{count} generators for {} connections: at most {SEATS_MAX}, and a connection for each; \
             see --per-node",
            args.connections
        )));
    }
    let share = |index: usize| {
        let (index, count) = (index as u64, count as u64);
        args.connections * (index + 1) / count - args.connections * index / count
    };
    let seat = |index: usize| {
        let node = nodes[index / per_node];
        let host = match per_node {
            1 => node.name.clone(),
            _ => format!("{}-{}", node.name, index % per_node + 1),
        };
        Seat {
            name: format!("erlmcp-generator-{}", index + 1),
            host,
            node: node.id.clone(),
            connections: share(index),
            rate_per_s: args.rate() / count as f64,
            ramp_per_s: args.ramp / count as f64,
            phase_ns: (index as f64 * 1e9 / args.rate()) as u64,
            seed: seed.wrapping_add(index as u64),
        }
    };
    Ok((0..count).map(seat).collect())
}

/// Creates a generator's service. A replicated one that is not started again suits every engine;
/// jobs need newer ones.
pub fn service(seat: &Seat, args: &LoadgenArgs, image: &str) -> Call {
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("--name", seat.name.clone());
    add("--replicas", "1".to_owned());
    add("--restart-condition", "none".to_owned());
    add("--endpoint-mode", "dnsrr".to_owned());
    add("--constraint", format!("node.id=={}", seat.node));
    add("--network", format!("name={NETWORK},alias={ALIAS}"));
    for label in [format!("{OWNER}={OWNER_VALUE}"), format!("{ROLE}=generator")] {
        add("--label", label.clone());
        add("--container-label", label);
    }
    add("--hostname", seat.host.clone());
    // It writes its log into its own file system, which an image from scratch gives to root.
    add("--user", "0:0".to_owned());
    add("--sysctl", format!("net.ipv4.ip_local_port_range={PORTS}"));
    if let Some(nofile) = args.nofile {
        add("--ulimit", format!("nofile={nofile}:{nofile}"));
    }
    add("--stop-grace-period", "2s".to_owned());
    add("--entrypoint", "/loadgen".to_owned());
    let head = ["service", "create", "--detach", "--quiet", "--no-resolve-image"];
    let tail = [image.to_owned()].into_iter().chain(arguments(seat, args));
    Call::new(head.map(str::to_owned).into_iter().chain(words).chain(tail))
}

fn arguments(seat: &Seat, args: &LoadgenArgs) -> Vec<String> {
    let mut words = vec!["--all-addresses".to_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("--control-listen", format!("0.0.0.0:{CONTROL_PORT}"));
    add("--metrics", format!("0.0.0.0:{METRICS_PORT}"));
    add("--connections", seat.connections.to_string());
    add("--rate", seat.rate_per_s.to_string());
    add("--ramp", seat.ramp_per_s.to_string());
    let ms = |ns: u64| format!("{}ms", ns / 1_000_000);
    add("--duration", ms(args.duration));
    add("--warmup", ms(args.warmup));
    add("--heartbeat", ms(args.heartbeat));
    add("--seed", seat.seed.to_string());
    add("--mcp-revision", args.mcp_revision.clone());
    add("--log", "/logs".to_owned());
    words.extend(args.generator.iter().cloned());
    words.push(args.target.clone());
    words
}

/// The arguments of `docker` that join a pipe to a generator: a container on this node, in the same
/// network, since this host itself is outside of it.
pub fn relay(seat: &Seat, image: &str, address: &str) -> Vec<String> {
    let (owner, role) = (format!("{OWNER}={OWNER_VALUE}"), format!("{ROLE}=relay"));
    let (name, to) = (format!("{}-relay", seat.name), format!("{address}:{CONTROL_PORT}"));
    ["run", "--rm", "--interactive", "--name", &name, "--network", NETWORK]
        .into_iter()
        .chain(["--label", &owner, "--label", &role])
        .chain(["--entrypoint", "/loadgen", image, "--relay", &to])
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct LoadgenCli {
        #[command(flatten)]
        args: LoadgenArgs,
    }

    fn args(line: &[&str]) -> LoadgenArgs {
        LoadgenCli::parse_from(["loadgen"].iter().chain(line)).args
    }

    fn node(name: &str, role: &str, availability: &str) -> Node {
        Node {
            id: format!("id-{name}"),
            name: name.to_owned(),
            availability: availability.to_owned(),
            state: "ready".to_owned(),
            role: "worker".to_owned(),
            engine: String::new(),
            address: String::new(),
            labels: vec![("role".to_owned(), role.to_owned())],
        }
    }

    #[test]
    fn nodes_are_chosen_by_label_and_the_error_says_how_to_give_one() {
        let nodes =
            [node("b", "gen", "active"), node("a", "gen", "active"), node("c", "gen", "drain")];
        let label = |value: &str| vec![("role".to_owned(), value.to_owned())];
        let found = choose(&nodes, &label("gen")).expect("two");
        assert_eq!(found.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(choose(&nodes, &[]).expect("all").len(), 2);
        let error = choose(&nodes, &label("web")).expect_err("none");
        assert!(error.message.contains("--label-add role=web"), "{error}");
        let error = choose(&nodes[2..], &label("gen")).expect_err("drained");
        assert!(error.message.contains("undrain"), "{error}");
    }

    #[test]
    fn shares_add_up_and_schedules_interleave() {
        let (a, b) = (node("a", "g", "active"), node("b", "g", "active"));
        let args = args(&["-c", "10001", "-r", "1000", "--per-node", "2"]);
        let seats = seats(&[&a, &b], &args, 7).expect("fits");
        assert_eq!(seats.iter().map(|seat| seat.connections).sum::<u64>(), 10_001);
        assert_eq!(
            seats.iter().map(|seat| seat.phase_ns).collect::<Vec<_>>(),
            [0, 1_000_000, 2_000_000, 3_000_000]
        );
        assert_eq!((seats[3].rate_per_s, seats[3].seed), (250.0, 10));
        assert_eq!((seats[2].host.as_str(), seats[2].node.as_str()), ("b-1", "id-b"));
        let few = super::tests::args(&["-c", "3", "--per-node", "2"]);
        assert!(super::seats(&[&a, &b], &few, 7).is_err(), "four generators, three connections");
    }

    #[test]
    fn a_generator_is_a_task_on_its_node_in_the_stacks_network_and_is_not_started_again() {
        let a = node("a", "g", "active");
        let args = args(&["-c", "10", "--nofile", "9000", "--", "--engine", "epoll"]);
        let seats = seats(&[&a], &args, 7).expect("fits");
        let line = service(&seats[0], &args, "sha256:1").args.join(" ");
        for part in [
            "service create --detach --quiet --no-resolve-image",
            "--restart-condition none",
            "--constraint node.id==id-a",
            "--network name=erlmcp-swarm_mesh,alias=loadgen",
            "--label io.erlmcp.owner=reporter",
            "--container-label io.erlmcp.role=generator",
            "--ulimit nofile=9000:9000",
            "--entrypoint /loadgen sha256:1 --all-addresses --control-listen 0.0.0.0:9465",
            "--engine epoll http://tasks.erlmcp-server:8080/mcp",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(relay(&seats[0], "sha256:1", "10.0.1.9").join(" ").ends_with("10.0.1.9:9465"));
    }
}
