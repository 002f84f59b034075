//! What Docker says when something is wrong, as sentences that name the next step.
//!
//! Recognised by the words that clients and engines from 20.10 on use; what is not recognised is
//! shown as it came.

use super::docker::Answer;
use crate::exit::Failure;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The client is not installed.
    #[error(
        "there is no `docker` program here; install Docker Engine (docs.docker.com/engine/install)"
    )]
    NoDocker,
    /// The daemon does not answer.
    #[error(
        "the Docker daemon does not answer; start it with `systemctl start docker`, or set \
         DOCKER_HOST"
    )]
    NoDaemon,
    /// The socket may not be opened.
    #[error(
        "no permission to talk to the Docker daemon; add yourself to the group with `sudo \
         usermod -aG docker $USER` and log in again"
    )]
    NoPermission,
    /// The engine is not in swarm mode.
    #[error("this engine is not in swarm mode; run `reporter swarm init`")]
    NoSwarm,
    /// The engine is a worker.
    #[error("this node is a worker of a swarm; run the command on one of its managers")]
    NotManager,
    /// The swarm has lost its quorum.
    #[error(
        "the swarm has no leader: more than half of its managers are away; bring them back, or \
         see `docker swarm init --force-new-cluster`"
    )]
    NoLeader,
    /// `init` on a node of a swarm.
    #[error("this node is in a swarm already")]
    AlreadyInSwarm,
    /// Several addresses to advertise.
    #[error(
        "this host has several addresses; say which one with `reporter swarm init \
         --advertise-addr ADDRESS`"
    )]
    WhichAddress,
    /// No image of that name.
    #[error(
        "the image {0} is neither on this node nor to be pulled; build it, load it with `docker \
         load`, or name another with --image"
    )]
    NoImage(String),
    /// No node takes a task.
    #[error(
        "no node takes the task ({0}); lower the replicas, the reservations \
         (ERLMCP_MEMORY_RESERVED) or the placement constraints, or bring a node back (`reporter \
         swarm undrain NODE`)"
    )]
    NoNode(String),
    /// A port is taken.
    #[error(
        "a port is taken ({0}); stop what holds it, or deploy without what publishes it: \
         --balancer, --monitoring, --grafana"
    )]
    PortTaken(String),
    /// A limit is above the host's own.
    #[error(
        "a limit is above the engine's own ({0}); lower ERLMCP_NOFILE, or raise LimitNOFILE of \
         the docker service"
    )]
    LimitTooHigh(String),
    /// A configuration of the same name with other content.
    #[error("the swarm still holds an older configuration ({0}); run `reporter swarm rm` first")]
    StaleConfig(String),
    /// A network is still in use or not yet gone.
    #[error(
        "a network of the stack is still going away ({0}); wait a few seconds and deploy again"
    )]
    NetworkBusy(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// Not ours.
    #[error("{0} was not made by this tool, and is left as it is")]
    NotOurs(String),
    /// Not in time.
    #[error("{0}")]
    Late(String),
    /// Anything else.
    #[error("docker: {0}")]
    Other(String),
}

impl Trouble {
    /// Reads the end of a call that failed.
    pub fn read(answer: &Answer) -> Self {
        let text = answer.stderr.trim();
        if answer.code == 127 {
            return Self::NoDocker;
        }
        Self::recognise(text).unwrap_or_else(|| {
            let shown = if text.is_empty() { answer.stdout.trim() } else { text };
            Self::Other(format!("{} (exit code {})", last_line(shown), answer.code))
        })
    }

    /// Reads a task's error; none if it is not one of the known ones.
    pub fn recognise(text: &str) -> Option<Self> {
        let has = |part: &str| text.contains(part);
        let line = || line_of(text);
        Some(match () {
            () if has("permission denied while trying to connect") => Self::NoPermission,
            () if has("Cannot connect to the Docker daemon")
                || has("error during connect")
                || has("failed to connect to the docker API") =>
            {
                Self::NoDaemon
            }
            () if has("is already part of a swarm") => Self::AlreadyInSwarm,
            () if has("could not choose an IP address to advertise") => Self::WhichAddress,
            () if has("The swarm does not have a leader") => Self::NoLeader,
            () if has("Worker nodes can't be used") || has("is a worker") => Self::NotManager,
            () if has("This node is not a swarm manager") || has("not part of a swarm") => {
                Self::NoSwarm
            }
            () if has("No such image") || has("pull access denied") || has("manifest unknown") => {
                Self::NoImage(image_of(text))
            }
            // The scheduler says it of a node that is not suitable for this reason.
            () if has("host-mode port already in use") => {
                Self::PortTaken(between_parentheses(text))
            }
            () if has("address already in use") || has("port is already allocated") => {
                Self::PortTaken(line())
            }
            () if has("no suitable node") => Self::NoNode(between_parentheses(text)),
            () if has("error setting rlimit") => Self::LimitTooHigh(line()),
            () if has("only updates to Labels are allowed") => Self::StaleConfig(line()),
            () if has("has active endpoints")
                || (has("network") && has("already exists"))
                || (has("network") && has("is in use")) =>
            {
                Self::NetworkBusy(line())
            }
            () if has("no such") || has("No such") || has("not found") => Self::NotFound(line()),
            () => return None,
        })
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotOurs(_) | Trouble::NotFound(_) | Trouble::AlreadyInSwarm => {
                Failure::usage(trouble.to_string())
            }
            Trouble::Late(_) | Trouble::Other(_) => Failure::invalid(trouble.to_string()),
            _ => Failure::host(trouble.to_string()),
        }
    }
}

/// Lines that clients add around the one that matters.
const NOISE: [&str; 4] = ["DEPRECATED", "See 'docker", "Run 'docker", "Since --detach"];

fn line_of(text: &str) -> String {
    last_line(text).trim_start_matches("Error response from daemon: ").to_owned()
}

fn last_line(text: &str) -> &str {
    let told = |line: &&str| !line.trim().is_empty() && !NOISE.iter().any(|n| line.starts_with(n));
    text.lines().rfind(told).unwrap_or("no word of it").trim()
}

fn image_of(text: &str) -> String {
    let after = text.split_once("No such image:").map_or(text, |(_, rest)| rest);
    after.split_whitespace().next().unwrap_or("wanted").trim_matches('"').to_owned()
}

fn between_parentheses(text: &str) -> String {
    text.split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or_else(|| line_of(text), |(inside, _)| inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_is_recognised() {
        let read = |stderr: &str| {
            Trouble::read(&Answer { code: 1, stderr: stderr.to_owned(), ..Answer::default() })
        };
        assert_eq!(
            read("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it?"),
            Trouble::NoDaemon
        );
        assert_eq!(
            read(
                "Error response from daemon: This node is not a swarm manager. Use \"docker swarm \
                  init\" or \"docker swarm join\" to connect this node to swarm and try again."
            ),
            Trouble::NoSwarm
        );
        assert_eq!(
            read(
                "Error response from daemon: This node is not a swarm manager. Worker nodes can't \
                  be used to view or modify cluster state. Please run this command on a manager."
            ),
            Trouble::NotManager
        );
        assert_eq!(
            read(
                "Error response from daemon: could not choose an IP address to advertise since \
                  this system has multiple addresses on interface eth0 (10.0.0.2 and 10.0.0.3)"
            ),
            Trouble::WhichAddress
        );
        assert_eq!(
            Trouble::recognise("No such image: sha256:12"),
            Some(Trouble::NoImage("sha256:12".to_owned()))
        );
        let node = Trouble::recognise("no suitable node (insufficient resources on 3 nodes)");
        assert_eq!(node, Some(Trouble::NoNode("insufficient resources on 3 nodes".to_owned())));
        let port = Trouble::recognise("no suitable node (host-mode port already in use on 1 node)");
        let expected = "host-mode port already in use on 1 node".to_owned();
        assert_eq!(port, Some(Trouble::PortTaken(expected)));
        let port = Trouble::recognise(
            "starting container failed: driver failed programming external connectivity on \
             endpoint web.1: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address \
             already in use",
        );
        assert!(matches!(port, Some(Trouble::PortTaken(_))), "{port:?}");
        assert_eq!(Trouble::recognise("task: non-zero exit (1)"), None);
    }

    #[test]
    fn the_unknown_is_shown_without_the_clients_noise() {
        let stderr = "Error response from daemon: boom\n\nRun 'docker service --help' for more\n";
        let trouble =
            Trouble::read(&Answer { code: 1, stderr: stderr.to_owned(), ..Answer::default() });
        assert_eq!(trouble.to_string(), "docker: Error response from daemon: boom (exit code 1)");
    }

    #[test]
    fn each_sentence_for_a_person_names_a_next_step() {
        for trouble in [Trouble::NoDocker, Trouble::NoDaemon, Trouble::NoSwarm, Trouble::NoLeader] {
            let text = trouble.to_string();
            assert!(text.contains(';') || text.contains("run"), "{text}");
        }
    }
}
