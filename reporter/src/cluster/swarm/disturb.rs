//! What befalls several replicas at once: a node that is drained or lost, a rolling update.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::{Shared, lock};
use crate::clock::{self, SECOND_NS};
use crate::cluster::{Disturbance, Disturbed};
use crate::exit::Failure;
use crate::run::record::{EventRecord, EventRecordKind};
use crate::swarm::model::{Node, Task};
use crate::swarm::ops;
use crate::swarm::stack::SERVICE_FULL;

const NODE_OFF_NS_MAX: u64 = 60 * SECOND_NS;

impl Shared {
    pub(super) fn disturb(&self, what: Disturbance) -> Result<Disturbed, Failure> {
        match what {
            Disturbance::NodeDrain => self.drain(),
            Disturbance::NodeLoss => self.lose_node(),
            Disturbance::RollingUpdate => self.update(),
        }
    }

    fn drain(&self) -> Result<Disturbed, Failure> {
        let node = self.chosen_node()?;
        self.follow().vacate(&node.id, true);
        // Before the call: one that fails here may have been carried out there.
        self.interrupt.leaves_behind(&format!("node {}, drained", node.name), &undrain(&node));
        *lock(&self.drained) = Some(node.clone());
        let before_ns = clock::mono_ns();
        ops::availability(self.docker.as_ref(), &node.id, "drain")?;
        let after_ns = clock::mono_ns();
        let text = "the node gives up its replicas";
        self.begun(EventRecordKind::NodeDrain, &node.name, text, before_ns, after_ns);
        Ok(Disturbed { what: node.name, before_ns, after_ns })
    }

    /// Takes the drained node back, if there is one; where that fails it can be tried again.
    ///
    /// # Errors
    /// With the command that mends it.
    pub(super) fn restore(&self) -> Result<(), Failure> {
        let Some(node) = lock(&self.drained).clone() else { return Ok(()) };
        self.follow().vacate(&node.id, false);
        ops::availability(self.docker.as_ref(), &node.id, "active").map_err(|trouble| {
            let message =
                format!("node {} may still be drained: {trouble}; `{}`", node.name, undrain(&node));
            Failure { message, ..Failure::from(trouble) }
        })?;
        *lock(&self.drained) = None;
        self.interrupt.mended(&undrain(&node));
        self.journal.mark(format!("node {} takes replicas again", node.name));
        Ok(())
    }

    fn lose_node(&self) -> Result<Disturbed, Failure> {
        let node = self.chosen_node()?;
        if node.id == self.engine.node {
            return Err(Failure::usage(format!(
                "node {} is this engine's own, which the run needs; name another with --node",
                node.name
            )));
        }
        let command = self.spec.node_off.as_deref().unwrap_or_default();
        let before_ns = clock::mono_ns();
        run(command, &node.name)?;
        let after_ns = clock::mono_ns();
        let text = "the node is gone, as after a power loss";
        self.begun(EventRecordKind::NodeLoss, &node.name, text, before_ns, after_ns);
        let ended = self.follow().lose(&node.id, before_ns, after_ns);
        ended.into_iter().for_each(|event| self.journal.note(event));
        Ok(Disturbed { what: node.name, before_ns, after_ns })
    }

    fn update(&self) -> Result<Disturbed, Failure> {
        let before_ns = clock::mono_ns();
        self.updating.store(true, Ordering::Release);
        self.docker.ask(&["service", "update", "--detach", "--force", SERVICE_FULL])?;
        let after_ns = clock::mono_ns();
        let text = "every replica is replaced, as the stack's update_config says";
        self.begun(EventRecordKind::UpdateCommand, SERVICE_FULL, text, before_ns, after_ns);
        Ok(Disturbed { what: SERVICE_FULL.to_owned(), before_ns, after_ns })
    }

    /// Looks whether the update is through; what stopped it is an obstacle.
    pub(super) fn look_at_update(&self) {
        if !self.updating.load(Ordering::Acquire) {
            return;
        }
        let asked = ["service", "inspect", "--format", "{{json .UpdateStatus}}", SERVICE_FULL];
        let Ok(answer) = self.docker.ask(&asked) else { return };
        match update_state(&answer) {
            Update::Runs => {}
            Update::Completed => self.updating.store(false, Ordering::Release),
            Update::Stopped(why) => {
                self.updating.store(false, Ordering::Release);
                let failure = Failure::invalid(format!("the rolling update was stopped: {why}"));
                *lock(&self.obstacle) = Some(failure);
            }
        }
    }

    fn begun(&self, kind: EventRecordKind, what: &str, text: &str, at_ns: u64, until_ns: u64) {
        self.ordered_ns.store(clock::mono_ns(), Ordering::Release);
        self.journal.note(EventRecord {
            until_ns,
            replica: what.to_owned(),
            text: text.to_owned(),
            ..EventRecord::at(at_ns, kind)
        });
    }

    fn chosen_node(&self) -> Result<Node, Failure> {
        let nodes = ops::nodes(self.docker.as_ref())?;
        let serving: Vec<Task> = self.follow().serving().cloned().collect();
        choose(&nodes, &self.engine.node, &serving, self.spec.node.as_deref()).cloned()
    }
}

/// The command that makes a node take replicas again.
fn undrain(node: &Node) -> String {
    format!("reporter swarm undrain {}", node.name)
}

/// The node that something befalls: the named one, or the one that holds most replicas and is not
/// this engine's own.
fn choose<'a>(
    nodes: &'a [Node],
    own: &str,
    serving: &[Task],
    named: Option<&str>,
) -> Result<&'a Node, Failure> {
    let up = |node: &&Node| node.state == "ready" && node.availability == "active";
    if nodes.iter().filter(up).count() < 2 {
        return Err(Failure::usage(
            "this swarm has one node that takes replicas: there is nowhere for them to go; join \
             another node, or use --failover kill",
        ));
    }
    let held = |node: &Node| serving.iter().filter(|task| task.node == node.id).count();
    let found = match named {
        Some(name) => nodes.iter().filter(up).find(|node| node.name == name || node.id == name),
        None => {
            let others = nodes.iter().filter(up).filter(|node| node.id != own);
            others.filter(|node| held(node) > 0).max_by_key(|node| held(node))
        }
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        Failure::usage(format!(
            "no node {} that is up and holds replicas; there are {} (--node)",
            named.unwrap_or("beside this engine's"),
            names.join(", ")
        ))
    })
}

/// How far an update is.
#[derive(Debug, PartialEq, Eq)]
enum Update {
    Runs,
    Completed,
    Stopped(String),
}

/// Reads the service's `UpdateStatus`, which is `null` until the update has begun.
fn update_state(json: &str) -> Update {
    let status: Value = serde_json::from_str(json).unwrap_or_default();
    match status["State"].as_str() {
        None | Some("updating") => Update::Runs,
        Some("completed") => Update::Completed,
        Some(other) => {
            let message = status["Message"].as_str().unwrap_or_default();
            Update::Stopped(format!("{other} {message}").trim().to_owned())
        }
    }
}

/// Runs the user's command with the node's name.
fn run(command: &str, node: &str) -> Result<(), Failure> {
    let failed = |what: String| Failure::host(format!("--node-off '{command}': {what}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("NODE", node)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let deadline_ns = clock::mono_ns() + NODE_OFF_NS_MAX;
    loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(status.to_string())),
            None if clock::mono_ns() >= deadline_ns => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it did not end in a minute".to_owned()));
            }
            None => clock::sleep_ns(SECOND_NS / 100),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::local::Entry;
    use crate::cluster::swarm::SwarmSpec;
    use crate::run::interrupt::Interrupt;
    use crate::run::journal::Journal;
    use crate::swarm::cli::{DeployArgs, Route};
    use crate::swarm::fake::{Record, Recorded, RecordedAnswer};
    use crate::swarm::ops::Engine;

    const DRAIN: &str = "node update --availability drain b";
    const ACTIVE: &str = "node update --availability active b";

    /// A swarm of two nodes, whose engine ends these two commands as said, again and again.
    fn shared(drain: &[i32], active: &[i32]) -> (Shared, Arc<Recorded>) {
        let docker = Arc::new(Recorded::default());
        docker.says(&["node", "ls", "-q"], "a b");
        docker.says(&["node", "inspect", "*"], &node_list("active"));
        for (command, codes) in [(DRAIN, drain), (ACTIVE, active)] {
            let answer = |&code: &i32| RecordedAnswer { code, ..RecordedAnswer::default() };
            docker.add(Record {
                args: command.split(' ').map(str::to_owned).collect(),
                answers: codes.iter().map(answer).collect(),
            });
        }
        let spec = SwarmSpec {
            deploy: DeployArgs::default(),
            route: Route::Tasks,
            node: Some("host-b".to_owned()),
            node_off: None,
            entry: Entry::Tcp,
            restart_delay_ns: 0,
            node_hosts: Vec::new(),
            log_dir: std::path::PathBuf::new(),
        };
        let engine = Engine { node: "a".to_owned(), ..Engine::default() };
        let own = Arc::clone(&docker);
        let (journal, interrupt) = (Journal::default(), Interrupt::default());
        (Shared::new(spec, own, engine, nodes("active"), journal, interrupt), docker)
    }

    fn updates(docker: &Recorded) -> Vec<String> {
        docker.calls().into_iter().filter(|call| call.starts_with("node update")).collect()
    }

    #[test]
    fn a_node_that_could_not_be_taken_back_is_tried_again_and_its_command_told() {
        let (shared, docker) = shared(&[0], &[1, 0]);
        shared.disturb(Disturbance::NodeDrain).expect("is drained");
        let failure = shared.restore().expect_err("fails once");
        assert!(failure.message.contains("`reporter swarm undrain host-b`"), "{failure}");
        shared.restore().expect("the second time");
        shared.restore().expect("nothing is drained");
        assert_eq!(updates(&docker), [DRAIN, ACTIVE, ACTIVE]);
    }

    #[test]
    fn a_drain_without_an_answer_may_have_happened_and_is_undone() {
        let (shared, docker) = shared(&[-1], &[0]);
        assert!(shared.disturb(Disturbance::NodeDrain).is_err());
        shared.restore().expect("is taken back");
        assert_eq!(updates(&docker), [DRAIN, ACTIVE]);
    }

    fn node_list(availability: &str) -> String {
        let node = |id: &str, availability: &str| {
            format!(
                r#"{{"ID":"{id}","Description":{{"Hostname":"host-{id}"}},
                    "Status":{{"State":"ready"}},"Spec":{{"Availability":"{availability}"}}}}"#
            )
        };
        let list = [node("a", "active"), node("b", availability), node("c", "drain")].join(",");
        format!("[{list}]")
    }

    fn nodes(availability: &str) -> Vec<Node> {
        crate::swarm::model::nodes(&node_list(availability)).expect("parses")
    }

    fn serving(on: &[&str]) -> Vec<Task> {
        let task = |node: &&str| format!(r#"{{"ID":"t","NodeID":"{node}"}}"#);
        let list: Vec<String> = on.iter().map(task).collect();
        crate::swarm::model::tasks(&format!("[{}]", list.join(","))).expect("parses")
    }

    #[test]
    fn the_node_is_the_named_one_or_another_than_this_engines_that_holds_replicas() {
        let nodes = nodes("active");
        let tasks = serving(&["a", "a", "b"]);
        let chosen =
            |tasks: &[Task], named| choose(&nodes, "a", tasks, named).map(|n| n.id.clone());
        assert_eq!(chosen(&tasks, None).expect("b holds one"), "b");
        assert_eq!(chosen(&tasks, Some("host-a")).expect("is up"), "a");
        assert!(chosen(&serving(&["a"]), None).is_err(), "b holds none");
        let absent = chosen(&tasks, Some("host-c")).expect_err("is drained already");
        assert!(absent.message.contains("host-b"), "{absent}");
    }

    #[test]
    fn one_node_has_nowhere_to_send_its_replicas() {
        let failure = choose(&nodes("drain"), "a", &serving(&["a"]), None).expect_err("no place");
        assert!(failure.message.contains("join another node"), "{failure}");
    }

    #[test]
    fn an_update_runs_until_the_orchestrator_says_completed_or_stops_it() {
        assert_eq!(update_state("null\n"), Update::Runs);
        assert_eq!(update_state(r#"{"State":"updating"}"#), Update::Runs);
        assert_eq!(update_state(r#"{"State":"completed"}"#), Update::Completed);
        let stopped = update_state(r#"{"State":"rollback_started","Message":"task failed"}"#);
        assert_eq!(stopped, Update::Stopped("rollback_started task failed".to_owned()));
    }

    #[test]
    fn the_command_gets_the_nodes_name_and_its_failure_is_told() {
        assert!(run("test \"$NODE\" = n1", "n1").is_ok());
        let failure = run("exit 3", "n1").expect_err("fails");
        assert!(failure.message.contains("--node-off 'exit 3'"), "{failure}");
    }
}
