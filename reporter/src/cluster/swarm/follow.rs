//! What the orchestrator's records mean for the run: replicas that start, are healthy, end. Pure:
//! records and times in, events and addresses out.
//!
//! A task is one life of a replica at one address; its successor in the same slot has another
//! address. After a kill the successor's start and health are told under the killed address, since
//! that is the replica which came back; from then on it has its own.

use std::collections::{HashMap, HashSet};

use crate::run::record::{EventRecord, EventRecordKind};
use crate::swarm::model::{Anchor, Task};

/// What is known of one task.
#[derive(Clone, Debug, Default)]
struct Seen {
    healthy_ns: Option<u64>,
    started: bool,
    leaving: bool,
    ended: bool,
}

/// The tasks of the service, as last looked at.
#[derive(Debug, Default)]
pub struct Follow {
    tasks: Vec<Task>,
    seen: HashMap<String, Seen>,
    looked_ns: u64,
    /// Tasks that this run killed, and whose successor is not there yet.
    killed: HashMap<u32, Killed>,
    killed_ids: HashSet<String>,
    /// Nodes that are gone, whatever the records say of their tasks.
    lost: HashSet<String>,
    /// Nodes that are to hold no task.
    vacated: HashSet<String>,
    /// How often each slot was started.
    lives: HashMap<u32, u32>,
    /// Under which name a successor's first events are told.
    named: HashMap<String, String>,
}

#[derive(Clone, Debug)]
struct Killed {
    id: String,
    address: String,
}

impl Follow {
    /// Takes a new look at the records and gives the events that it shows.
    pub fn look(&mut self, mut tasks: Vec<Task>, anchor: &Anchor, now_ns: u64) -> Vec<EventRecord> {
        tasks.sort_by(|a, b| {
            (a.slot, a.created_real_ns, &a.id).cmp(&(b.slot, b.created_real_ns, &b.id))
        });
        let mut events = self.forgotten(&tasks, now_ns);
        for task in &tasks {
            self.look_at(task, anchor, now_ns, &mut events);
        }
        self.tasks = tasks;
        events
    }

    /// The orchestrator forgets tasks of slots that are scaled away as soon as they have ended:
    /// they have ended between the last look and this one.
    fn forgotten(&mut self, tasks: &[Task], now_ns: u64) -> Vec<EventRecord> {
        let gone = self.tasks.iter().filter(|old| !tasks.iter().any(|task| task.id == old.id));
        let mut events = Vec::new();
        for task in gone {
            let Some(seen) = self.seen.get(&task.id).filter(|s| s.started && !s.ended) else {
                continue;
            };
            let text = format!("slot {}: ended, and its record is gone", task.slot);
            let at_ns = self.looked_ns.max(seen.healthy_ns.unwrap_or(0)).min(now_ns);
            let event = self.event(task, at_ns, EventRecordKind::ReplicaExit, text);
            events.push(EventRecord { until_ns: now_ns, ..event });
            self.seen.remove(&task.id);
        }
        self.looked_ns = now_ns;
        events
    }

    fn look_at(
        &mut self,
        task: &Task,
        anchor: &Anchor,
        now_ns: u64,
        events: &mut Vec<EventRecord>,
    ) {
        let mut seen = self.seen.get(&task.id).cloned().unwrap_or_default();
        let at_ns = anchor.mono(task.state_real_ns);
        if task.state == "running" && !seen.started {
            seen.started = true;
            let life = self.lives.entry(task.slot).or_default();
            *life += 1;
            if let Some(killed) = self.killed.get(&task.slot)
                && killed.id != task.id
            {
                self.named.insert(task.id.clone(), killed.address.clone());
                self.killed.remove(&task.slot);
            }
            let text = format!("slot {}, address {}", task.slot, task.address);
            events.push(self.event(task, at_ns, EventRecordKind::ReplicaStart, text));
        }
        if task.state == "running" && !task.wanted() && !seen.leaving {
            seen.leaving = true;
            let text = format!("slot {}: the orchestrator ends it", task.slot);
            events.push(self.event(task, now_ns, EventRecordKind::Drain, text));
        }
        if task.ended() && seen.started && !seen.ended {
            seen.ended = true;
            let why = match task.error.as_str() {
                "" => format!("exit code {}", task.exit_code),
                error => error.to_owned(),
            };
            let text = format!("slot {}: {}: {why}", task.slot, task.state);
            events.push(self.event(task, at_ns, EventRecordKind::ReplicaExit, text));
        }
        self.seen.insert(task.id.clone(), seen);
    }

    fn event(&self, task: &Task, at_ns: u64, kind: EventRecordKind, text: String) -> EventRecord {
        let (replica, address) = match self.named.get(&task.id) {
            Some(name) => (name.clone(), task.address.clone()),
            None => (task.address.clone(), String::new()),
        };
        EventRecord {
            replica,
            address,
            incarnation: self.life(task),
            text,
            ..EventRecord::at(at_ns, kind)
        }
    }

    /// A task's health check has answered.
    pub fn healthy(&mut self, id: &str, at_ns: u64) -> Option<EventRecord> {
        let task = self.tasks.iter().find(|task| task.id == id)?.clone();
        let seen = self.seen.get_mut(id)?;
        if seen.healthy_ns.is_some() || seen.ended {
            return None;
        }
        seen.healthy_ns = Some(at_ns);
        let text = format!("slot {}, address {}", task.slot, task.address);
        let event = self.event(&task, at_ns, EventRecordKind::ReplicaHealthy, text);
        self.named.remove(id);
        Some(event)
    }

    /// This run kills a task.
    pub fn kill(&mut self, task: &Task) {
        let killed = Killed { id: task.id.clone(), address: task.address.clone() };
        self.killed.insert(task.slot, killed);
        self.killed_ids.insert(task.id.clone());
    }

    /// A node is gone: what ran there has ended, and the orchestrator will find out.
    pub fn lose(&mut self, node: &str, at_ns: u64, until_ns: u64) -> Vec<EventRecord> {
        self.lost.insert(node.to_owned());
        let there = |task: &&Task| task.node == node && task.state == "running";
        let there: Vec<Task> = self.tasks.iter().filter(there).cloned().collect();
        let mut events = Vec::new();
        for task in &there {
            let text = format!("slot {}: its node is gone", task.slot);
            let event = self.event(task, at_ns, EventRecordKind::ReplicaExit, text);
            events.push(EventRecord { until_ns, ..event });
            if let Some(seen) = self.seen.get_mut(&task.id) {
                seen.ended = true;
            }
        }
        events
    }

    /// A node is to hold no task, or may again.
    pub fn vacate(&mut self, node: &str, empty: bool) {
        match empty {
            true => self.vacated.insert(node.to_owned()),
            false => self.vacated.remove(node),
        };
    }

    /// How often the task's slot was started.
    pub fn life(&self, task: &Task) -> u32 {
        self.lives.get(&task.slot).copied().unwrap_or(0)
    }

    /// All records.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Tasks that are to run, run, and have shown that they serve, in the order of their slots.
    pub fn serving(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| {
            task.runs()
                && !task.address.is_empty()
                && !self.killed_ids.contains(&task.id)
                && self.seen.get(&task.id).is_some_and(|seen| seen.healthy_ns.is_some())
        })
    }

    /// Tasks that run and whose health is not known yet.
    pub fn unproven(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| {
            task.runs() && self.seen.get(&task.id).is_none_or(|seen| seen.healthy_ns.is_none())
        })
    }

    /// True if `wanted` tasks serve and no other one still runs.
    pub fn settled(&self, wanted: u32) -> bool {
        let here = |task: &&Task| !self.lost.contains(&task.node);
        let running: Vec<&Task> =
            self.tasks.iter().filter(here).filter(|task| task.state == "running").collect();
        let dying = running.iter().any(|t| self.killed_ids.contains(&t.id) && t.runs());
        let misplaced = running.iter().any(|task| self.vacated.contains(&task.node));
        let serving = self.serving().filter(here).count();
        !dying && !misplaced && running.len() == wanted as usize && serving == wanted as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHOR: Anchor = Anchor { mono_ns: 0, real_ns: 0 };

    fn task(id: &str, slot: u32, address: &str, state: &str, desired: &str, at_ns: u64) -> Task {
        Task {
            id: id.to_owned(),
            slot,
            node: "n".to_owned(),
            state: state.to_owned(),
            desired: desired.to_owned(),
            state_real_ns: at_ns,
            created_real_ns: at_ns,
            error: String::new(),
            container: format!("c-{id}"),
            pid: 1,
            exit_code: 137,
            address: address.to_owned(),
            ports: Vec::new(),
        }
    }

    fn kinds(events: &[EventRecord]) -> Vec<(EventRecordKind, &str, u64)> {
        events.iter().map(|e| (e.kind, e.replica.as_str(), e.at_ns)).collect()
    }

    #[test]
    fn a_killed_replica_comes_back_under_its_name_and_then_has_its_own() {
        use EventRecordKind::{ReplicaExit, ReplicaHealthy, ReplicaStart};
        let mut follow = Follow::default();
        let first = task("a", 1, "10.0.0.2", "running", "running", 10);
        assert_eq!(
            kinds(&follow.look(vec![first.clone()], &ANCHOR, 11)),
            [(ReplicaStart, "10.0.0.2", 10)]
        );
        assert!(!follow.settled(1), "it has not shown that it serves");
        follow.healthy("a", 12).expect("is new");
        assert!(follow.settled(1));
        follow.kill(&first);
        assert!(!follow.settled(1), "its record says running, and we know better");
        assert_eq!(follow.serving().count(), 0);
        let ended = task("a", 1, "10.0.0.2", "failed", "shutdown", 20);
        let second = task("b", 1, "10.0.0.9", "running", "running", 30);
        let events = follow.look(vec![ended, second], &ANCHOR, 31);
        assert_eq!(kinds(&events), [(ReplicaExit, "10.0.0.2", 20), (ReplicaStart, "10.0.0.2", 30)]);
        assert_eq!(events[1].incarnation, 2);
        assert_eq!((events[0].own_address(), events[1].own_address()), ("10.0.0.2", "10.0.0.9"));
        let healthy = follow.healthy("b", 33).expect("is new");
        assert_eq!(kinds(&[healthy]), [(ReplicaHealthy, "10.0.0.2", 33)]);
        assert!(follow.settled(1));
        let gone = task("b", 1, "10.0.0.9", "shutdown", "shutdown", 40);
        let events = follow.look(vec![gone], &ANCHOR, 41);
        assert_eq!(kinds(&events), [(ReplicaExit, "10.0.0.9", 40)]);
    }

    #[test]
    fn one_that_is_to_end_is_no_target_while_it_still_runs() {
        let mut follow = Follow::default();
        let mut tasks = vec![
            task("a", 1, "10.0.0.2", "running", "running", 10),
            task("b", 2, "10.0.0.3", "running", "running", 10),
        ];
        follow.look(tasks.clone(), &ANCHOR, 11);
        for id in ["a", "b"] {
            follow.healthy(id, 12);
        }
        tasks[1].desired = "shutdown".to_owned();
        let events = follow.look(tasks, &ANCHOR, 20);
        assert_eq!(kinds(&events), [(EventRecordKind::Drain, "10.0.0.3", 20)]);
        let left: Vec<&str> = follow.serving().map(|task| task.address.as_str()).collect();
        assert_eq!(left, ["10.0.0.2"]);
        assert!(!follow.settled(1), "the other one still runs");
    }

    #[test]
    fn one_whose_record_is_gone_has_ended_since_the_last_look() {
        let mut follow = Follow::default();
        let task = task("a", 9, "10.0.0.2", "running", "running", 10);
        follow.look(vec![task], &ANCHOR, 11);
        let events = follow.look(Vec::new(), &ANCHOR, 20);
        assert_eq!(kinds(&events), [(EventRecordKind::ReplicaExit, "10.0.0.2", 11)]);
        assert_eq!(events[0].until_ns, 20);
        assert!(follow.look(Vec::new(), &ANCHOR, 30).is_empty());
    }

    #[test]
    fn a_look_that_shows_nothing_new_gives_nothing() {
        let mut follow = Follow::default();
        let tasks = vec![task("a", 1, "10.0.0.2", "running", "running", 10)];
        assert_eq!(follow.look(tasks.clone(), &ANCHOR, 11).len(), 1);
        assert!(follow.look(tasks, &ANCHOR, 12).is_empty());
        assert!(follow.healthy("a", 13).is_some());
        assert!(follow.healthy("a", 14).is_none());
    }

    #[test]
    fn a_lost_nodes_tasks_do_not_run_though_their_records_say_so_for_a_while() {
        let mut follow = Follow::default();
        let mut tasks = vec![
            task("a", 1, "10.0.0.2", "running", "running", 10),
            Task { node: "m".to_owned(), ..task("b", 2, "10.0.0.3", "running", "running", 10) },
        ];
        follow.look(tasks.clone(), &ANCHOR, 11);
        for id in ["a", "b"] {
            follow.healthy(id, 12);
        }
        assert!(follow.settled(2));
        let events = follow.lose("m", 20, 25);
        assert_eq!(kinds(&events), [(EventRecordKind::ReplicaExit, "10.0.0.3", 20)]);
        assert_eq!(events[0].until_ns, 25);
        assert!(!follow.settled(2));
        assert_eq!(follow.serving().count(), 2, "clients do not know it before the orchestrator");
        tasks[1].desired = "shutdown".to_owned();
        tasks.push(task("c", 2, "10.0.0.4", "running", "running", 30));
        follow.look(tasks, &ANCHOR, 31);
        follow.healthy("c", 32);
        assert!(follow.settled(2));
        let serving: Vec<&str> = follow.serving().map(|task| task.address.as_str()).collect();
        assert_eq!(serving, ["10.0.0.2", "10.0.0.4"]);
    }

    #[test]
    fn a_drained_node_is_waited_for_although_nothing_has_moved_yet() {
        let mut follow = Follow::default();
        follow.look(vec![task("a", 1, "10.0.0.2", "running", "running", 10)], &ANCHOR, 11);
        follow.healthy("a", 12);
        follow.vacate("n", true);
        assert!(!follow.settled(1));
        follow.vacate("n", false);
        assert!(follow.settled(1));
    }
}
