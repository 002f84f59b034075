//! What the engine's records say, as plain data: tasks, nodes, services. Pure functions on JSON.

use serde_json::Value;

use super::trouble::Trouble;
use crate::clock::{self, SECOND_NS};

/// One task: one container that the swarm wants, runs or ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The place that it fills, from 1; 0 for tasks of global services.
    pub slot: u32,
    /// The node that it was given.
    pub node: String,
    /// Where it is: `running`, `failed`, `shutdown`...
    pub state: String,
    /// Where it should be.
    pub desired: String,
    /// When it came into `state`, unix epoch.
    pub state_real_ns: u64,
    /// When the record was made.
    pub created_real_ns: u64,
    /// Why it ended, if it has.
    pub error: String,
    /// Its container's id; empty until there is one.
    pub container: String,
    /// Its container's first process; 0 until there is one.
    pub pid: u32,
    /// The exit code of its container, once it has ended.
    pub exit_code: i64,
    /// Its address in the overlay network; empty until it has one.
    pub address: String,
    /// Ports that it has on its node: the container's, the node's.
    pub ports: Vec<(u16, u16)>,
}

impl Task {
    /// True if it is to run and runs.
    pub fn runs(&self) -> bool {
        self.state == "running" && self.desired == "running"
    }

    /// The port of its node that leads to this one of its own.
    pub fn published(&self, port: u16) -> Option<u16> {
        self.ports.iter().find(|(own, _)| *own == port).map(|(_, published)| *published)
    }

    /// True once its container has ended or will never start.
    pub fn ended(&self) -> bool {
        matches!(
            self.state.as_str(),
            "complete" | "shutdown" | "failed" | "rejected" | "orphaned" | "remove"
        )
    }

    /// True if the orchestrator still wants it.
    pub fn wanted(&self) -> bool {
        matches!(self.desired.as_str(), "running" | "ready")
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// Its host name.
    pub name: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// `ready`, `down`...
    pub state: String,
    /// `manager` or `worker`.
    pub role: String,
    /// Its engine's version.
    pub engine: String,
    /// Its address.
    pub address: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

impl Node {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Reads `docker inspect --type task`.
///
/// # Errors
/// If it is no JSON list.
pub fn tasks(json: &str) -> Result<Vec<Task>, Trouble> {
    Ok(list(json)?.iter().map(task).collect())
}

fn task(value: &Value) -> Task {
    let status = &value["Status"];
    let container = &status["ContainerStatus"];
    let address = value["NetworksAttachments"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|attached| attached["Network"]["Spec"]["Ingress"].as_bool() != Some(true))
        .find_map(|attached| attached["Addresses"][0].as_str())
        .and_then(|address| address.split('/').next())
        .unwrap_or_default();
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok().filter(|&port| port > 0);
    let ports = status["PortStatus"]["Ports"].as_array().into_iter().flatten();
    Task {
        id: text(&value["ID"]),
        slot: value["Slot"].as_u64().and_then(|slot| u32::try_from(slot).ok()).unwrap_or(0),
        node: text(&value["NodeID"]),
        state: text(&status["State"]),
        desired: text(&value["DesiredState"]),
        state_real_ns: real_ns(&text(&status["Timestamp"])),
        created_real_ns: real_ns(&text(&value["CreatedAt"])),
        error: text(&status["Err"]),
        container: text(&container["ContainerID"]),
        pid: container["PID"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        exit_code: container["ExitCode"].as_i64().unwrap_or(0),
        address: address.to_owned(),
        ports: ports
            .filter_map(|own| Some((port(&own["TargetPort"])?, port(&own["PublishedPort"])?)))
            .collect(),
    }
}

/// Reads `docker node inspect`.
///
/// # Errors
/// If it is no JSON list.
pub fn nodes(json: &str) -> Result<Vec<Node>, Trouble> {
    Ok(list(json)?.iter().map(node).collect())
}

fn node(value: &Value) -> Node {
    let labels = value["Spec"]["Labels"].as_object().into_iter().flatten();
    Node {
        id: text(&value["ID"]),
        name: text(&value["Description"]["Hostname"]),
        availability: text(&value["Spec"]["Availability"]),
        state: text(&value["Status"]["State"]),
        role: text(&value["Spec"]["Role"]),
        engine: text(&value["Description"]["Engine"]["EngineVersion"]),
        // A manager's own address is what it advertises; its status may say 0.0.0.0.
        address: value["ManagerStatus"]["Addr"]
            .as_str()
            .and_then(|advertised| advertised.rsplit_once(':'))
            .map_or_else(|| text(&value["Status"]["Addr"]), |(address, _)| address.to_owned()),
        labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
    }
}

/// A JSON list, as `inspect` prints it.
///
/// # Errors
/// If it is none.
pub fn list(json: &str) -> Result<Vec<Value>, Trouble> {
    serde_json::from_str(json).map_err(|error| {
        Trouble::Other(format!("its answer is no JSON list ({error}): {}", json.trim()))
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An RFC 3339 time in nanoseconds since the unix epoch; 0 if it is none.
pub fn real_ns(text: &str) -> u64 {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    parsed.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or(0)
}

/// One instant on both clocks: takes the records' times onto the requests' axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// `CLOCK_MONOTONIC`
    pub mono_ns: u64,
    /// `CLOCK_REALTIME`
    pub real_ns: u64,
}

impl Anchor {
    /// This moment: the narrowest of a few readings, since a thread may be moved between two.
    pub fn here() -> Self {
        let read = || {
            let before_ns = clock::mono_ns();
            let real_ns = clock::real_ns();
            let after_ns = clock::mono_ns();
            let mono_ns = before_ns + (after_ns - before_ns) / 2;
            (after_ns - before_ns, Self { mono_ns, real_ns })
        };
        let mut best = read();
        for _ in 0..8 {
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// A time of the records on `CLOCK_MONOTONIC`; 0 for one that is before this host's boot.
    pub fn mono(&self, real_ns: u64) -> u64 {
        match real_ns >= self.real_ns {
            true => self.mono_ns.saturating_add(real_ns - self.real_ns),
            false => self.mono_ns.saturating_sub(self.real_ns - real_ns),
        }
    }
}

/// `1.5s` for a person.
pub fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / SECOND_NS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"[{"ID":"t1","Slot":3,"NodeID":"n1","CreatedAt":"2026-11-24T06:00:00Z",
        "Status":{"Timestamp":"2026-11-24T06:00:01.5Z","State":"running","Message":"started",
          "ContainerStatus":{"ContainerID":"c1","PID":77,"ExitCode":0},"PortStatus":{
            "Ports":[{"Protocol":"tcp","TargetPort":8080,"PublishedPort":32768,"PublishMode":"host"}]}},
        "DesiredState":"running","NetworksAttachments":[
          {"Network":{"ID":"i","Spec":{"Name":"in","Ingress":true}},"Addresses":["10.0.0.9/24"]},
          {"Network":{"ID":"x","Spec":{"Name":"m"}},"Addresses":["10.0.1.4/24"]}]}]"#;

    #[test]
    fn a_task_has_its_slot_its_own_address_and_the_time_of_its_state() {
        let read = tasks(TASK).expect("parses");
        let task = &read[0];
        assert!(task.runs() && task.wanted() && !task.ended());
        assert_eq!((task.slot, task.pid, task.address.as_str()), (3, 77, "10.0.1.4"));
        assert_eq!(task.state_real_ns - task.created_real_ns, 1_500_000_000);
        assert_eq!((task.published(8_080), task.published(9_100)), (Some(32_768), None));
    }

    #[test]
    fn a_task_that_has_nothing_yet_is_read_all_the_same() {
        let read = tasks(r#"[{"ID":"t","Status":{"State":"pending","Err":"no suitable node"}}]"#);
        let task = &read.expect("parses")[0];
        assert_eq!((task.slot, task.address.as_str(), task.pid), (0, "", 0));
        assert!(!task.runs() && !task.ended());
    }

    #[test]
    fn a_managers_address_is_the_one_that_it_advertises() {
        let read = nodes(
            r#"[{"ID":"m","Status":{"Addr":"0.0.0.0"},"ManagerStatus":{"Addr":"10.1.0.1:2377"}},
                {"ID":"w","Status":{"Addr":"10.1.0.2"}}]"#,
        );
        let addresses: Vec<String> =
            read.expect("parses").into_iter().map(|node| node.address).collect();
        assert_eq!(addresses, ["10.1.0.1", "10.1.0.2"]);
    }

    #[test]
    fn what_is_no_list_is_said_with_its_text() {
        let trouble = tasks("json").expect_err("the word that an old client prints");
        assert!(trouble.to_string().contains("json"), "{trouble}");
    }

    #[test]
    fn a_record_keeps_its_distance_from_the_anchor_on_the_other_clock() {
        let anchor = Anchor { mono_ns: 1_000, real_ns: 500_000 };
        assert_eq!(anchor.mono(500_300), 1_300);
        assert_eq!(anchor.mono(499_300), 300);
        assert_eq!(anchor.mono(0), 0);
    }
}
