//! Operations on the swarm and the stack, each one call or a few: for the commands and for the
//! run's backend. What waits takes a deadline.

use serde_json::{Value, json};

use super::docker::{Call, Docker};
use super::model::{self, Node, Task};
use super::stack::{OWNER, OWNER_VALUE, SERVICE_FULL, STACK};
use super::trouble::Trouble;
use crate::clock::{self, SECOND_NS};

/// The label that `init` gives its node, so that `leave` knows the swarm as its own.
pub const CREATED: &str = "io.erlmcp.swarm";

const POLL_NS: u64 = SECOND_NS / 4;
/// A task that no node takes may wait for a node that is just coming back; this long.
const PENDING_NS_MAX: u64 = 15 * SECOND_NS;

/// The engine that the client speaks to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// The client's.
    pub client: String,
    /// The API that both speak.
    pub api: String,
    /// `active`, `inactive`, `pending`, `locked`.
    pub swarm: String,
    /// Its node's id, in a swarm.
    pub node: String,
    /// True on a manager.
    pub manager: bool,
    /// Its host's name.
    pub name: String,
    /// Its host's kernel.
    pub kernel: String,
    /// `1` or `2`.
    pub cgroup: String,
}

impl Engine {
    /// The first part of its version.
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// For run.json.
    pub fn record(&self) -> Value {
        json!({"engine": self.version, "client": self.client, "api": self.api,
               "kernel": self.kernel, "cgroup": self.cgroup, "node": self.name})
    }
}

/// Asks the engine who it is.
///
/// # Errors
/// If it does not answer.
pub fn engine(docker: &dyn Docker) -> Result<Engine, Trouble> {
    // Old clients end `info` well when the daemon does not answer; `version` tells.
    let version: Value = object(&docker.ask(&["version", "--format", "{{json .}}"])?)?;
    let info: Value = object(&docker.ask(&["info", "--format", "{{json .}}"])?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if version["Server"]["Version"].as_str().is_none() {
        return Err(Trouble::NoDaemon);
    }
    Ok(Engine {
        version: text(&version["Server"]["Version"]),
        client: text(&version["Client"]["Version"]),
        api: text(&version["Client"]["ApiVersion"]),
        swarm: text(&info["Swarm"]["LocalNodeState"]),
        node: text(&info["Swarm"]["NodeID"]),
        manager: info["Swarm"]["ControlAvailable"].as_bool().unwrap_or(false),
        name: text(&info["Name"]),
        kernel: text(&info["KernelVersion"]),
        cgroup: text(&info["CgroupVersion"]),
    })
}

/// The engine, if it is a manager.
///
/// # Errors
/// [`Trouble::NoSwarm`], [`Trouble::NotManager`], or that it does not answer.
pub fn manager(docker: &dyn Docker) -> Result<Engine, Trouble> {
    let engine = engine(docker)?;
    match (engine.swarm.as_str(), engine.manager) {
        ("active", true) => Ok(engine),
        ("active", false) => Err(Trouble::NotManager),
        _ => Err(Trouble::NoSwarm),
    }
}

fn object(json: &str) -> Result<Value, Trouble> {
    serde_json::from_str(json).map_err(|error| {
        Trouble::Other(format!("its answer is no JSON ({error}): {}", json.trim()))
    })
}

/// All nodes.
///
/// # Errors
/// If the engine is no manager.
pub fn nodes(docker: &dyn Docker) -> Result<Vec<Node>, Trouble> {
    let ids = docker.ask(&["node", "ls", "-q"])?;
    inspect(docker, &["node", "inspect"], &ids).and_then(|json| model::nodes(&json))
}

/// All tasks of a service that the engine still knows, the ended ones too.
///
/// # Errors
/// If there is no such service.
pub fn tasks(docker: &dyn Docker, service: &str) -> Result<Vec<Task>, Trouble> {
    let ids = docker.ask(&["service", "ps", "-q", "--no-trunc", service])?;
    inspect(docker, &["inspect", "--type", "task"], &ids).and_then(|json| model::tasks(&json))
}

/// Inspects many at once. One that is gone meanwhile makes the client fail, and yet it prints all
/// the others.
fn inspect(docker: &dyn Docker, command: &[&str], ids: &str) -> Result<String, Trouble> {
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok("[]".to_owned());
    }
    let answer = docker.answer(&Call::new(command.iter().chain(&ids).copied()));
    match answer.code {
        0 => Ok(answer.stdout),
        _ if answer.stdout.trim_start().starts_with('[') => Ok(answer.stdout),
        _ => Err(Trouble::read(&answer)),
    }
}

/// A service of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its full name.
    pub name: String,
    /// Replicas asked for; 0 for global services.
    pub replicas: u32,
    /// True if this tool made it.
    pub ours: bool,
    /// Its image.
    pub image: String,
}

/// The services of the stack.
///
/// # Errors
/// If the engine is no manager.
pub fn services(docker: &dyn Docker) -> Result<Vec<Service>, Trouble> {
    let filter = format!("label={}={STACK}", super::stack::NAMESPACE);
    let ids = docker.ask(&["service", "ls", "-q", "--filter", &filter])?;
    let json = inspect(docker, &["service", "inspect"], &ids)?;
    let read = |value: &Value| {
        let spec = &value["Spec"];
        Service {
            name: spec["Name"].as_str().unwrap_or_default().to_owned(),
            replicas: spec["Mode"]["Replicated"]["Replicas"]
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0),
            ours: spec["Labels"][OWNER].as_str() == Some(OWNER_VALUE),
            image: spec["TaskTemplate"]["ContainerSpec"]["Image"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        }
    };
    Ok(model::list(&json)?.iter().map(read).collect())
}

/// Asks for so many replicas, and does not wait.
///
/// # Errors
/// If there is no stack.
pub fn scale(docker: &dyn Docker, replicas: u32) -> Result<(), Trouble> {
    let wanted = format!("{SERVICE_FULL}={replicas}");
    docker.ask(&["service", "scale", "-d", &wanted]).map(|_| ())
}

/// Sets a node's availability: `active`, `pause` or `drain`.
///
/// # Errors
/// If there is no such node.
pub fn availability(docker: &dyn Docker, node: &str, wanted: &str) -> Result<(), Trouble> {
    docker.ask(&["node", "update", "--availability", wanted, node]).map(|_| ())
}

/// What stands in the way of a service's tasks, if something does: a task that was rejected, or
/// one that has found no node for a while.
pub fn obstacle(tasks: &[Task], now_real_ns: u64) -> Option<Trouble> {
    // A task that waits for its start, as after a restart's delay, has yet to show how it fares.
    let decided = |task: &&Task| match task.state.as_str() {
        "new" | "assigned" | "accepted" | "preparing" | "ready" | "starting" => false,
        "pending" => !task.error.is_empty(),
        _ => true,
    };
    let newest = |task: &&Task| {
        !tasks.iter().filter(decided).any(|t| {
            t.slot == task.slot && t.node == task.node && t.created_real_ns > task.created_real_ns
        })
    };
    tasks.iter().filter(decided).filter(newest).find_map(|task| {
        let late = now_real_ns.saturating_sub(task.state_real_ns) > PENDING_NS_MAX;
        match task.state.as_str() {
            "rejected" => Some(
                Trouble::recognise(&task.error)
                    .unwrap_or_else(|| Trouble::Other(format!("task rejected: {}", task.error))),
            ),
            // One that says nothing yet is not among the decided ones.
            "pending" if late => Some(
                Trouble::recognise(&task.error)
                    .unwrap_or_else(|| Trouble::Other(format!("task pending: {}", task.error))),
            ),
            "failed" => Trouble::recognise(&task.error)
                .filter(|t| matches!(t, Trouble::PortTaken(_) | Trouble::LimitTooHigh(_))),
            _ => None,
        }
    })
}

/// Waits until so many tasks run and no other one still does.
///
/// # Errors
/// [`Trouble::Late`] with what is missing, or what stands in the way.
pub fn wait_for(
    docker: &dyn Docker,
    service: &str,
    replicas: u32,
    deadline_ns: u64,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Task>, Trouble> {
    let mut told = String::new();
    loop {
        let tasks = tasks(docker, service)?;
        let running = tasks.iter().filter(|task| task.runs()).count();
        let ending = tasks.iter().filter(|t| !t.wanted() && t.state == "running").count();
        if running == replicas as usize && ending == 0 {
            return Ok(tasks);
        }
        if let Some(trouble) = obstacle(&tasks, clock::real_ns()) {
            return Err(trouble);
        }
        let line = match ending {
            0 => format!("{service}: {running} of {replicas} run"),
            _ => format!("{service}: {running} of {replicas} run, {ending} are ending"),
        };
        if clock::mono_ns() >= deadline_ns {
            let why = tasks.iter().find(|task| task.wanted() && !task.error.is_empty());
            let why = why.map_or_else(String::new, |task| format!("; {}", task.error));
            return Err(Trouble::Late(format!(
                "not in time: {line}{why}; see `reporter swarm status` and `reporter swarm logs`"
            )));
        }
        if line != told {
            progress(&line);
            told = line;
        }
        clock::sleep_ns(POLL_NS);
    }
}

/// Another node's engine by the name that the user gave it; none for this one.
///
/// # Errors
/// If it is another node and no way to it was given.
pub fn host_of_node(
    engine: &Engine,
    nodes: &[Node],
    node: &str,
    hosts: &[(String, String)],
) -> Result<Option<String>, Trouble> {
    if engine.node == node {
        return Ok(None);
    }
    let name = nodes.iter().find(|n| n.id == node).map_or(node, |n| n.name.as_str());
    hosts
        .iter()
        .find(|(own, _)| own == name || own == node)
        .map(|(_, host)| Some(host.clone()))
        .ok_or_else(|| {
            Trouble::NotFound(format!(
                "node {name} is needed for it, and `docker` here cannot reach it; say how with \
                 --node-host {name}=ssh://USER@{name}"
            ))
        })
}

/// SIGKILL to a container.
///
/// # Errors
/// If it does not run.
pub fn kill(docker: &dyn Docker, container: &str, host: Option<String>) -> Result<(), Trouble> {
    let call = Call { host, ..Call::new(["kill", "--signal", "KILL", container]) };
    docker.run(&call).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: u32, state: &str, error: &str) -> Task {
        Task {
            id: format!("t{slot}{state}"),
            slot,
            node: "n".to_owned(),
            state: state.to_owned(),
            desired: "running".to_owned(),
            state_real_ns: 1_000,
            created_real_ns: 1_000,
            error: error.to_owned(),
            container: String::new(),
            pid: 0,
            exit_code: 0,
            address: String::new(),
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_rejected_task_is_an_obstacle_unless_its_slot_has_a_newer_one() {
        let mut tasks = vec![task(1, "rejected", "No such image: x"), task(2, "running", "")];
        assert_eq!(obstacle(&tasks, 2_000), Some(Trouble::NoImage("x".to_owned())));
        // It waits for the restart's delay, and says nothing yet.
        tasks.push(Task { created_real_ns: 1_400, ..task(1, "ready", "") });
        assert_eq!(obstacle(&tasks, 2_000), Some(Trouble::NoImage("x".to_owned())));
        tasks.push(Task { created_real_ns: 1_500, ..task(1, "running", "") });
        assert_eq!(obstacle(&tasks, 2_000), None);
    }

    #[test]
    fn one_without_a_node_is_an_obstacle_only_after_a_while() {
        let tasks = [task(1, "pending", "no suitable node (insufficient memory)")];
        assert_eq!(obstacle(&tasks, 2_000), None);
        let late = obstacle(&tasks, 2_000 + PENDING_NS_MAX);
        assert_eq!(late, Some(Trouble::NoNode("insufficient memory".to_owned())));
    }

    #[test]
    fn another_node_needs_a_way_to_it() {
        let engine = Engine { node: "a".to_owned(), ..Engine::default() };
        assert_eq!(host_of_node(&engine, &[], "a", &[]), Ok(None));
        let hosts = [("b".to_owned(), "ssh://b".to_owned())];
        assert_eq!(host_of_node(&engine, &[], "b", &hosts), Ok(Some("ssh://b".to_owned())));
        let error = host_of_node(&engine, &[], "c", &hosts).expect_err("no way");
        assert!(error.to_string().contains("--node-host c="), "{error}");
    }
}
