//! What was typed after `reporter swarm`, and nothing about what it means.

use clap::{Args, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  reporter swarm init
  reporter swarm deploy                          12 replicas of the bundled server, nothing else
  reporter swarm deploy --balancer haproxy --monitoring
  reporter swarm deploy --image my/server:1.2 -c stack.override.yml
  reporter swarm deploy --placement node.labels.role==server
  reporter swarm scale 16
  reporter swarm kill-replica 3
  reporter swarm loadgen --nodes role=generator -c 15000 -r 3000 -d 30s
  reporter swarm rm && reporter swarm leave

Environment of the stack (see swarm-stack/stack.yml): ERLMCP_CPUS, ERLMCP_MEMORY, ERLMCP_NOFILE, \
ERLMCP_RESTART_DELAY, ERLMCP_DRAIN_S and others. DOCKER_HOST and docker contexts work as usual.

Exit status: 0 done, or nothing to do; 2 bad usage; 3 not done in time; 4 this host lacks \
something. That of loadgen is in its help.";

const LOADGEN_EXAMPLES: &str = "\
Examples:
  reporter swarm loadgen --nodes role=generator -c 15000 -r 3000 -d 30s
  reporter swarm loadgen -c 15000 -r 3000 --threshold 'p99<200ms' -- --arrivals poisson

TIME is a number with ms, s, m or h (500ms, 10s, 2m); without a unit, seconds.

Exit status: 0 valid and every threshold held; 1 a threshold failed; 2 bad usage; 3 the run is not \
valid, or nothing was done in time; 4 this host lacks something; 130 interrupted.";

/// Deploys and drives the stack on Docker Swarm. Each command can be repeated: what is done already
/// is left as it is.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct SwarmArgs {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// What all commands have in common
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Print one JSON object about the outcome on standard output; progress goes to standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// Print the outcome only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Give up after this many seconds
    #[arg(long, global = true, default_value_t = 120, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub deadline: u64,

    /// How another node's engine is reached, such as worker1=ssh://root@worker1; may be repeated.
    /// Needed to kill a replica there, or to give it an image without a registry
    #[arg(long = "node-host", global = true, value_name = "NODE=HOST", value_parser = node_host)]
    pub node_hosts: Vec<(String, String)>,
}

/// See the module.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Make this engine the manager of a new swarm
    Init {
        /// Address that other nodes reach this one at
        #[arg(long, value_name = "ADDRESS")]
        advertise_addr: Option<String>,
    },
    /// Deploy the stack, or bring it to what is asked for
    Deploy(DeployArgs),
    /// Nodes, services and replicas
    Status,
    /// Change the number of replicas
    Scale {
        /// Replicas wanted
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
        replicas: u32,
    },
    /// End one replica as a power loss would: SIGKILL; the swarm starts another one
    KillReplica {
        /// Number of the replica, 1 to N; without it, the first that runs on a node that can be
        /// reached
        slot: Option<u32>,
    },
    /// Move all tasks away from a node
    Drain {
        /// Host name or id
        node: String,
    },
    /// Let a drained node take tasks again
    Undrain {
        /// Host name or id
        node: String,
    },
    /// Load the stack from generators on the swarm's own nodes, and report
    Loadgen(Box<LoadgenArgs>),
    /// Last log lines of the replicas
    Logs {
        /// Lines of each task
        #[arg(long, default_value_t = 50)]
        tail: u32,
        /// Service of the stack
        #[arg(default_value = super::stack::SERVICE)]
        service: String,
    },
    /// Remove the stack, and wait until it is gone
    Rm {
        /// Remove the volume with Prometheus' data too
        #[arg(long)]
        volumes: bool,
    },
    /// Leave the swarm, if `reporter swarm init` made it
    Leave,
}

/// Options of `loadgen`.
#[derive(Args, Debug, Clone)]
#[command(after_help = LOADGEN_EXAMPLES)]
pub struct LoadgenArgs {
    /// Label of the nodes that a generator runs on, as `docker node update --label-add` gives it;
    /// with several, a node needs all of them [default: every node]
    #[arg(long, value_name = "LABEL=VALUE", value_parser = label, value_delimiter = ',')]
    pub nodes: Vec<(String, String)>,

    /// Generators on each of these nodes: where io_uring is not allowed, each connection takes a
    /// descriptor, and one generator holds no more than its container may have
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub per_node: u32,

    /// Connections to hold, shared out over all generators
    #[arg(short, long, default_value_t = 10_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub connections: u64,

    /// Requests a second over all of them [default: one a connection per heartbeat]
    #[arg(short, long, value_parser = crate::cli::positive, value_name = "REQ/S")]
    pub rate: Option<f64>,

    /// New connections a second over all generators
    #[arg(long, default_value_t = 5_000.0, value_parser = crate::cli::positive)]
    #[arg(value_name = "CONNS/S")]
    pub ramp: f64,

    /// How long to hold the load once every connection stands
    #[arg(short, long, default_value = "30s", value_parser = crate::cli::duration_ns)]
    #[arg(value_name = "TIME")]
    pub duration: u64,

    /// Time under load before the counted part begins
    #[arg(long, default_value = "2s", value_parser = crate::cli::duration_ns, value_name = "TIME")]
    pub warmup: u64,

    /// A session counts as alive while it was answered within this time
    #[arg(long, default_value = "30s", value_parser = crate::cli::duration_ns)]
    #[arg(value_name = "TIME")]
    pub heartbeat: u64,

    /// What is loaded: each address that the name has in the overlay network, followed as it changes
    #[arg(long, default_value = "http://tasks.erlmcp-server:8080/mcp", value_name = "URL")]
    pub target: String,

    /// MCP revision: the newest with sessions, the newest at all, or one
    #[arg(long, default_value = "sessions", value_name = "sessions|auto|DATE")]
    pub mcp_revision: String,

    /// Image with the generator as /loadgen [default: built from the loadgen beside this program]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,

    /// Descriptors of each generator [default: what its engine gives]
    #[arg(long, value_name = "N")]
    pub nofile: Option<u64>,

    /// Decides what is left to chance [default: drawn]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Folder in which the results folder is made
    #[arg(long, default_value = "test-results", value_name = "DIR")]
    pub out: std::path::PathBuf,

    /// Conditions beside the defaults, or in the place of some.
    #[arg(long = "threshold", value_name = "EXPR", help = crate::verdict::threshold::help())]
    pub thresholds: Vec<String>,

    /// Further options of every generator, after `--`; see `loadgen --help`
    #[arg(last = true, value_name = "OPTION")]
    pub generator: Vec<String>,
}

impl LoadgenArgs {
    /// Requests a second over all generators.
    pub fn rate(&self) -> f64 {
        let heartbeat_s = self.heartbeat as f64 / 1e9;
        self.rate.unwrap_or((self.connections as f64 / heartbeat_s).max(10.0))
    }

    /// How long requests are due.
    pub fn load_ns(&self) -> u64 {
        self.warmup + self.duration
    }
}

/// Options of `deploy`.
#[derive(Args, Debug, Clone)]
pub struct DeployArgs {
    /// Replicas of the server
    #[arg(long, default_value_t = 12, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub replicas: u32,

    /// Image of the server under test [default: built from the erlmcp-server beside this program]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,

    /// What stands on port 80 in front of the replicas
    #[arg(long, value_enum, default_value_t = Balancer::None)]
    pub balancer: Balancer,

    /// Prometheus on port 9091 and a node exporter on each node
    #[arg(long)]
    pub monitoring: bool,

    /// Grafana on port 3000; implies --monitoring
    #[arg(long)]
    pub grafana: bool,

    /// Give each replica's port 8080 a free port on its node, chosen by the engine
    #[arg(long)]
    pub host_ports: bool,

    /// Where replicas may run, such as node.labels.role==server; may be repeated, and all must hold
    #[arg(long, value_name = "CONSTRAINT", value_parser = constraint)]
    pub placement: Vec<String>,

    /// A compose file laid over the stack's own; may be repeated
    #[arg(short = 'c', long = "compose-file", value_name = "FILE")]
    pub overrides: Vec<std::path::PathBuf>,
}

impl Default for DeployArgs {
    fn default() -> Self {
        Self {
            replicas: 12,
            image: None,
            balancer: Balancer::None,
            monitoring: false,
            grafana: false,
            host_ports: false,
            placement: Vec::new(),
            overrides: Vec::new(),
        }
    }
}

/// What `reporter run --backend swarm` deploys.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "With --backend swarm")]
pub struct RunOptions {
    /// Image of the server under test [default: built from the erlmcp-server beside this program]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,

    /// What stands on port 80 [default: haproxy with --path balancer, else none]
    #[arg(long, value_enum)]
    pub balancer: Option<Balancer>,

    /// The way of the load to the replicas
    #[arg(long, value_enum, default_value_t = Route::Tasks)]
    pub path: Route,

    /// The node that --failover drain or node-loss is about
    /// [default: the one, other than this engine's, that holds most replicas]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,

    /// Shell command that ends the node as a power loss would, for --failover node-loss; $NODE is
    /// its name, such as 'ssh root@$NODE "echo b > /proc/sysrq-trigger"'
    #[arg(long, value_name = "COMMAND")]
    pub node_off: Option<String>,

    /// Replace every replica under load, in a stage of its own after the failover
    #[arg(long)]
    pub rolling_update: bool,

    /// Prometheus on port 9091 and a node exporter on each node; its series are kept in metrics/
    #[arg(long)]
    pub monitoring: bool,

    /// Where replicas may run, such as node.labels.role==server; may be repeated, and all must hold
    #[arg(long, value_name = "CONSTRAINT", value_parser = constraint)]
    pub placement: Vec<String>,

    /// A compose file laid over the stack's own; may be repeated
    #[arg(long = "compose-file", value_name = "FILE")]
    pub overrides: Vec<std::path::PathBuf>,

    /// How another node's engine is reached, such as worker1=ssh://root@worker1; may be repeated
    #[arg(long = "node-host", value_name = "NODE=HOST", value_parser = node_host)]
    pub node_hosts: Vec<(String, String)>,
}

impl RunOptions {
    /// The same as options of `deploy`.
    pub fn deploy(&self, replicas: u32) -> DeployArgs {
        DeployArgs {
            replicas,
            image: self.image.clone(),
            balancer: self.balancer(),
            monitoring: self.monitoring,
            grafana: false,
            host_ports: self.path == Route::HostPorts,
            placement: self.placement.clone(),
            overrides: self.overrides.clone(),
        }
    }

    /// The balancer that is deployed.
    pub fn balancer(&self) -> Balancer {
        self.balancer.unwrap_or(match self.path {
            Route::Balancer => Balancer::Haproxy,
            Route::Tasks | Route::HostPorts => Balancer::None,
        })
    }
}

/// See [`RunOptions::path`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From a container in the overlay network straight to each task's own address
    Tasks,
    /// From this host to a port that each task has on its node's own address; never 127.0.0.1
    HostPorts,
    /// From a container in the overlay network through the balancer
    Balancer,
}

impl Route {
    /// The name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::HostPorts => "host-ports",
            Self::Balancer => "balancer",
        }
    }
}

/// See [`DeployArgs::balancer`].
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// HTTP with retries and health checks; reads the tasks from the engine
    Traefik,
    /// The same for more connections; follows the tasks by DNS
    Haproxy,
    /// Nothing: clients in the overlay network reach the replicas themselves
    None,
}

impl Balancer {
    /// The name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traefik => "traefik",
            Self::Haproxy => "haproxy",
            Self::None => "none",
        }
    }
}

/// As the engine reads it: an attribute, `==` or `!=`, a value. No character that YAML would read.
fn constraint(text: &str) -> Result<String, String> {
    let wrong = || Err("write ATTRIBUTE==VALUE or !=, such as node.labels.role==server".to_owned());
    let spaceless: String = text.split_whitespace().collect();
    let Some((name, value)) = spaceless.split_once("==").or(spaceless.split_once("!=")) else {
        return wrong();
    };
    let valid = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
    };
    match (name.starts_with("node.") || name.starts_with("engine.")) && valid(name) && valid(value)
    {
        true => Ok(spaceless),
        false => wrong(),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write LABEL=VALUE, such as role=generator".to_owned()),
    }
}

fn node_host(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((node, host)) if !node.is_empty() && host.contains("://") => {
            Ok((node.to_owned(), host.to_owned()))
        }
        _ => Err("write NODE=HOST, such as worker1=ssh://root@worker1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct SwarmCli {
        #[command(flatten)]
        swarm: SwarmArgs,
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for line in [&["swarm", "--json", "scale", "16"][..], &["swarm", "scale", "16", "--json"]] {
            let cli = SwarmCli::try_parse_from(line).expect("parses");
            assert!(cli.swarm.common.json);
            assert!(matches!(cli.swarm.command, Command::Scale { replicas: 16 }));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["swarm", "scale", "-1"][..],
            &["swarm", "deploy", "--replicas", "0"],
            &["swarm", "deploy", "--balancer", "nginx"],
            &["swarm", "status", "--node-host", "worker1"],
            &["swarm", "status", "--deadline", "0"],
            &["swarm", "loadgen", "--nodes", "generator"],
            &["swarm", "deploy", "--placement", "role=server"],
            &["swarm", "deploy", "--placement", "node.labels.a==\"b\""],
            &["swarm", "loadgen", "--duration", "0s"],
        ] {
            assert!(SwarmCli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
