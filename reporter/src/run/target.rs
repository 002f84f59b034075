//! What `--server` and `--protocol` mean on this host: programs with arguments, or addresses.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::{Backend, Failover, ProtocolArg, RunArgs};
use crate::cluster::Cluster;
use crate::cluster::external::{self, External};
use crate::cluster::launch::{Launcher, own_binary, user_program};
use crate::cluster::local::{Entry, Local, LocalSpec, program_version};
use crate::cluster::swarm::{Swarm, SwarmSpec};
use crate::exit::Failure;
use crate::generator::Protocol;
use crate::run::interrupt::Interrupt;
use crate::run::journal::Journal;
use crate::run::record::ServerRecord;
use crate::swarm::cli::{Balancer, Route};
use crate::swarm::docker::CommandLine;

const PORT: u16 = 8_080;
const TCP_PORT: u16 = 5_555;
const METRICS_PORT: u16 = 9_100;
const FIRST_HOST: u8 = 11;
const BUNDLED: &str = "erlmcp-server";
const BUNDLED_ARGUMENTS: &str = "--bind {ip} --port {port} --tcp-port {tcp_port} \
                                 --metrics-port {metrics_port}";

/// The servers under test, resolved and not yet started.
#[derive(Clone, Debug)]
pub enum Target {
    /// A program to start once a replica.
    Program {
        /// How it is shown.
        shown: String,
        /// Where it lies.
        program: PathBuf,
        /// Its arguments, with `{ip}` and so on in them.
        arguments: Vec<String>,
        /// True for the server of this workspace.
        bundled: bool,
    },
    /// The stack on Docker Swarm.
    Swarm {
        /// How it is shown.
        shown: String,
        /// True for the server of this workspace.
        bundled: bool,
    },
    /// Servers that run already.
    Addresses(Vec<String>),
}

impl Target {
    /// Finds out what was meant.
    ///
    /// # Errors
    /// If a program is missing or a list cannot be used.
    pub fn resolve(args: &RunArgs) -> Result<Self, Failure> {
        if args.backend == Backend::Swarm {
            return Self::resolve_swarm(args);
        }
        if matches!(args.failover, Failover::Drain | Failover::NodeLoss)
            || args.swarm.rolling_update
        {
            return Err(Failure::usage(
                "--failover drain, --failover node-loss and --rolling-update are done by an \
                 orchestrator: add --backend swarm",
            ));
        }
        let Some(server) = &args.server else {
            let program = own_binary(BUNDLED, "ERLMCP_SERVER")?;
            let arguments = BUNDLED_ARGUMENTS.split(' ').map(str::to_owned).collect();
            let shown = format!("{BUNDLED} {BUNDLED_ARGUMENTS}");
            return Ok(Self::Program { shown, program, arguments, bundled: true });
        };
        if let Some(urls) = external::parse(server, &args.mcp_path) {
            return Ok(Self::Addresses(urls));
        }
        let words = shell_words::split(server)
            .map_err(|error| Failure::usage(format!("--server '{server}': {error}")))?;
        let [name, arguments @ ..] = words.as_slice() else {
            return Err(Failure::usage("--server is empty: name a program or addresses"));
        };
        if !arguments.iter().any(|word| word.contains("{ip}")) {
            return Err(Failure::usage(format!(
                "--server '{server}' has no {{ip}}: every replica needs its own address, such as \
                 --server '{name} --host {{ip}} --port {{port}}'"
            )));
        }
        Ok(Self::Program {
            shown: server.clone(),
            program: user_program(name)?,
            arguments: arguments.to_vec(),
            bundled: false,
        })
    }

    /// Why replicas can be neither killed nor scaled; none if they can.
    pub fn fixed(&self) -> Option<String> {
        match self {
            Self::Program { .. } | Self::Swarm { .. } => None,
            Self::Addresses(_) => Some(external::REASON.to_owned()),
        }
    }

    /// True if the load goes through a balancer of the stack.
    pub fn through_balancer(&self, args: &RunArgs) -> bool {
        match self {
            Self::Swarm { .. } => args.swarm.path == Route::Balancer,
            Self::Program { .. } | Self::Addresses(_) => false,
        }
    }

    /// The backend's name in `run.json`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Program { .. } => "local",
            Self::Swarm { .. } => "swarm",
            Self::Addresses(_) => "external",
        }
    }

    /// Replicas at the start.
    pub fn replicas(&self, wanted: u32) -> u32 {
        match self {
            Self::Program { .. } | Self::Swarm { .. } => wanted,
            Self::Addresses(urls) => u32::try_from(urls.len()).unwrap_or(u32::MAX),
        }
    }

    /// What `run.json` says of it.
    pub fn record(&self) -> ServerRecord {
        match self {
            Self::Program { shown, program, bundled, .. } => ServerRecord {
                program: shown.clone(),
                version: if *bundled { program_version(program) } else { String::new() },
            },
            Self::Swarm { shown, .. } => {
                ServerRecord { program: shown.clone(), version: String::new() }
            }
            Self::Addresses(urls) => {
                ServerRecord { program: urls.join(","), version: String::new() }
            }
        }
    }

    /// A cluster of it, without replicas yet.
    pub fn cluster(
        &self,
        args: &RunArgs,
        launcher: &Launcher,
        log_dir: PathBuf,
        journal: &Journal,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Cluster>, Failure> {
        let entry = match args.protocol {
            ProtocolArg::Mcp => Entry::Http(args.mcp_path.clone()),
            ProtocolArg::Http => Entry::Http("/health".to_owned()),
            ProtocolArg::Tcp => Entry::Tcp,
        };
        Ok(match self {
            Self::Addresses(urls) => Box::new(External::new(urls)),
            Self::Swarm { .. } => {
                let spec = SwarmSpec {
                    deploy: args.swarm.deploy(args.replicas),
                    route: args.swarm.path,
                    node: args.swarm.node.clone(),
                    node_off: args.swarm.node_off.clone(),
                    entry,
                    restart_delay_ns: args.restart_delay,
                    node_hosts: args.swarm.node_hosts.clone(),
                    log_dir,
                };
                let docker = Arc::new(CommandLine::default());
                Box::new(Swarm::new(spec, docker, journal.clone(), interrupt.clone())?)
            }
            Self::Program { program, arguments, bundled, .. } => {
                let uses = |name: &str| arguments.iter().any(|word| word.contains(name));
                let by_name =
                    [("{port}", PORT), ("{tcp_port}", TCP_PORT), ("{metrics_port}", METRICS_PORT)];
                let ports = by_name.iter().filter(|(name, _)| uses(name)).map(|&(_, port)| port);
                let spec = LocalSpec {
                    program: program.clone(),
                    arguments: arguments.clone(),
                    ports: ports.collect(),
                    health_by_connect: entry == Entry::Tcp && !uses("{port}"),
                    entry,
                    has_version: *bundled,
                    restart_delay_ns: args.restart_delay,
                    log_dir,
                    launcher: launcher.clone(),
                    first_host: FIRST_HOST,
                    port: PORT,
                    tcp_port: TCP_PORT,
                    metrics_port: METRICS_PORT,
                };
                Box::new(Local::new(spec, journal.clone(), interrupt.clone()))
            }
        })
    }

    fn resolve_swarm(args: &RunArgs) -> Result<Self, Failure> {
        if args.server.is_some() {
            return Err(Failure::usage(
                "--backend swarm runs an image: name yours with --image, not with --server",
            ));
        }
        let (path, balancer) = (args.swarm.path, args.swarm.balancer());
        if path == Route::Balancer && balancer == Balancer::None {
            return Err(Failure::usage(
                "--path balancer needs one: leave --balancer out, or name haproxy or traefik",
            ));
        }
        if path == Route::HostPorts && args.protocol == ProtocolArg::Tcp {
            return Err(Failure::usage("--path host-ports is for HTTP: only port 8080 has one"));
        }
        if path == Route::Balancer && args.protocol == ProtocolArg::Tcp {
            return Err(Failure::usage("--path balancer is for HTTP; use --path tasks with TCP"));
        }
        if args.failover == Failover::NodeLoss && args.swarm.node_off.is_none() {
            return Err(Failure::usage(
                "--failover node-loss needs --node-off 'COMMAND', which ends $NODE as a power loss \
                 would",
            ));
        }
        let shown = args.swarm.image.clone();
        let bundled = shown.is_none();
        Ok(Self::Swarm { shown: shown.unwrap_or_else(|| format!("image of {BUNDLED}")), bundled })
    }
}

impl From<ProtocolArg> for Protocol {
    fn from(typed: ProtocolArg) -> Self {
        match typed {
            ProtocolArg::Mcp => Self::Mcp,
            ProtocolArg::Tcp => Self::Tcp,
            ProtocolArg::Http => Self::Http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::exit::Exit;
    use clap::Parser;

    fn args(server: &str) -> RunArgs {
        let cli = Cli::try_parse_from(["reporter", "run", "--server", server]);
        match cli.expect("parses").command {
            Command::Run(args) => *args,
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn a_program_keeps_its_quoted_arguments() {
        let target = Target::resolve(&args("sh -c 'serve {ip}:{port}' x")).expect("resolves");
        let Target::Program { arguments, bundled, .. } = target else { panic!("a program") };
        assert_eq!(arguments, ["-c", "serve {ip}:{port}", "x"]);
        assert!(!bundled);
    }

    #[test]
    fn addresses_are_as_many_replicas_and_cannot_be_driven() {
        let target = Target::resolve(&args("10.0.0.1:80,10.0.0.2:80")).expect("resolves");
        assert_eq!(target.replicas(12), 2);
        assert!(target.fixed().is_some());
    }

    #[test]
    fn what_only_an_orchestrator_can_do_is_refused_elsewhere_and_paths_must_fit() {
        let refused = |line: &[&str]| {
            let words = ["reporter", "run"].iter().chain(line);
            let Command::Run(args) = Cli::try_parse_from(words).expect("parses").command else {
                panic!("a run")
            };
            let failure = Target::resolve(&args).expect_err("is refused");
            assert_eq!(failure.exit, Exit::Usage, "{line:?}");
            failure.message
        };
        assert!(refused(&["--failover", "drain"]).contains("--backend swarm"));
        assert!(refused(&["--rolling-update"]).contains("--backend swarm"));
        let swarm = |more: &[&'static str]| refused(&[&["--backend", "swarm"], more].concat());
        assert!(swarm(&["--path", "balancer", "--balancer", "none"]).contains("haproxy"));
        assert!(swarm(&["--path", "host-ports", "--protocol", "tcp"]).contains("HTTP"));
        assert!(swarm(&["--failover", "node-loss"]).contains("--node-off"));
    }

    #[test]
    fn what_cannot_be_a_server_is_refused_with_the_way_to_write_it() {
        for (server, part) in [
            ("sh -c serve", "{ip}"),
            ("no-such-program {ip}", "no-such-program"),
            ("sh 'unbalanced {ip}", "--server"),
            ("", "--server"),
        ] {
            let failure = Target::resolve(&args(server)).expect_err(server);
            assert_eq!(failure.exit, Exit::Usage, "{server}");
            assert!(failure.message.contains(part), "{failure}");
        }
    }
}
