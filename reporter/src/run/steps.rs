//! What is done to the cluster while the generator holds its connections: a kill, a node's loss, an
//! update, the scaling.
//!
//! Each step waits for what it can see, has a deadline, and notes what it did and saw. A deadline
//! that passes is noted and the steps go on: that the sessions did not come back is a result.

use super::journal::Journal;
use super::live::{Live, Waited, all_alive};
use super::plan::{Blow, Steps};
use super::record::{EventRecord, EventRecordKind};
use crate::clock::{self, SECOND_NS};
use crate::cluster::{Cluster, Disturbance, Endpoint, even};
use crate::exit::Failure;
use crate::generator::Command;

/// How far from the mean a replica's connections may be and still count as even.
const EVEN_TOLERANCE: f64 = 0.1;
/// Connections left on a drained replica that do not delay its end.
const DRAINED_MAX: u64 = 2;
/// A status younger than this may not show what a kill did.
const STATUS_AGE_NS: u64 = SECOND_NS;
/// How long replicas may take to start, or to end after SIGTERM and SIGKILL.
const REPLICAS_NS_MAX: u64 = 60 * SECOND_NS;

/// Why steps ended before they were through.
#[derive(Debug)]
pub enum Stopped {
    /// The generator has ended by itself.
    Ended,
    /// The run is to end.
    Interrupted,
    /// The cluster failed.
    Failed(Failure),
}

/// Carries out a stage's steps.
///
/// # Errors
/// [`Stopped`].
pub fn carry_out(
    live: &mut Live<'_>,
    cluster: &mut dyn Cluster,
    journal: &Journal,
    heartbeat_ns: u64,
) -> Result<(), Stopped> {
    let mut stage = Stage { live, cluster, journal };
    match stage.live.stage().steps {
        Steps::Hold { hold_ns } => stage.hold(hold_ns),
        Steps::Failover { blow, steady_ns, recovery_ns_max } => {
            stage.gather(heartbeat_ns)?;
            stage.steady(steady_ns)?;
            stage.strike(blow, recovery_ns_max)?;
            stage.steady(steady_ns)?;
            stage.cluster.restore().map_err(Stopped::Failed)
        }
        Steps::Scaling { up, down, steady_ns, move_ns_max } => {
            stage.gather(heartbeat_ns)?;
            stage.steady(steady_ns)?;
            stage.scale_up(up, move_ns_max)?;
            stage.steady(steady_ns)?;
            stage.scale_down(down, move_ns_max)?;
            stage.steady(steady_ns)
        }
    }
}

/// Longest time that the generator may need to end its sessions, after the load.
pub fn cooldown_ns_max(connections: u64) -> u64 {
    60 * SECOND_NS + connections * SECOND_NS / 1_000
}

struct Stage<'a, 'b> {
    live: &'a mut Live<'b>,
    cluster: &'a mut dyn Cluster,
    journal: &'a Journal,
}

impl Stage<'_, '_> {
    /// The generator ends by itself after the hold.
    fn hold(&mut self, hold_ns: u64) -> Result<(), Stopped> {
        let stage = self.live.stage();
        let deadline_ns = clock::mono_ns()
            + self.gather_ns_max()
            + stage.warmup_ns
            + hold_ns
            + cooldown_ns_max(stage.connections);
        match self.live.wait(deadline_ns, |_| false) {
            Waited::Ended => Ok(()),
            Waited::Interrupted => Err(Stopped::Interrupted),
            Waited::Met | Waited::Deadline => Err(Stopped::Failed(Failure::invalid(format!(
                "the generator did not end stage {} in time",
                stage.name
            )))),
        }
    }

    fn gather_ns_max(&self) -> u64 {
        // A server slower than the ramp still gets its connections: a tenth of the ramp's rate.
        10 * self.live.stage().ramp_ns() + 30 * SECOND_NS
    }

    /// Waits until all sessions stand and the counted phase has begun.
    fn gather(&mut self, heartbeat_ns: u64) -> Result<(), Stopped> {
        let planned = self.live.stage().connections;
        let deadline_ns =
            clock::mono_ns() + self.gather_ns_max() + self.live.stage().warmup_ns + heartbeat_ns;
        let met = self
            .live
            .wait(deadline_ns, |status| status.phase == "hold" && all_alive(status, planned));
        let met = reached(met)?;
        self.tell_sessions(met, "all sessions alive before the first step");
        Ok(())
    }

    fn steady(&mut self, duration_ns: u64) -> Result<(), Stopped> {
        reached(self.live.steady(duration_ns)).map(|_| ())
    }

    /// Lets it happen and waits until replicas and sessions are all there again.
    fn strike(&mut self, blow: Blow, recovery_ns_max: u64) -> Result<(), Stopped> {
        let after_ns = match blow {
            Blow::Kill => self.kill_one()?,
            Blow::Many(what) => {
                self.live.say(&format!("{} begins", blow.name()));
                self.mark(blow.name(), "");
                let disturbed = self.cluster.disturb(what).map_err(Stopped::Failed)?;
                self.live.say(&format!("{}: {}", blow.name(), disturbed.what));
                disturbed.after_ns
            }
        };
        // A lost node closes no connection: its sessions are missed when they are asked.
        let silent = blow == Blow::Many(Disturbance::NodeLoss);
        let turn_ns = if silent { self.turn_ns() } else { self.unseen_ns() };
        let planned = self.live.stage().connections;
        let cluster = &*self.cluster;
        let (mut failure, mut back_ns) = (None, None);
        let met = self.live.wait(after_ns + recovery_ns_max, |status| {
            match cluster.settled() {
                Ok(true) => back_ns = back_ns.or(Some(clock::mono_ns())),
                Ok(false) => back_ns = None,
                Err(why) => failure = Some(why),
            }
            let asked_ns = after_ns.max(back_ns.unwrap_or(u64::MAX).saturating_add(turn_ns));
            let fresh = status.t_ns > asked_ns.saturating_add(STATUS_AGE_NS);
            failure.is_some() || (fresh && all_alive(status, planned))
        });
        let met = reached(met)?;
        if let Some(failure) = failure {
            return Err(Stopped::Failed(failure));
        }
        if let (Blow::Many(_), Some(back_ns)) = (blow, back_ns) {
            self.journal.note(EventRecord::at(back_ns, EventRecordKind::Recovered));
        }
        let what = match blow {
            Blow::Kill => "replica healthy and all sessions alive after the kill".to_owned(),
            Blow::Many(_) => format!("replicas healthy and sessions alive after {}", blow.name()),
        };
        self.tell_sessions(met, &what);
        Ok(())
    }

    /// Kills a replica and gives the time just after it.
    fn kill_one(&mut self) -> Result<u64, Stopped> {
        let endpoints = self.cluster.endpoints();
        let Some(victim) = endpoints.get(1).or(endpoints.first()) else {
            return Err(Stopped::Failed(Failure::invalid("there is no replica to kill")));
        };
        self.live.say(&format!("SIGKILL to replica {}", victim.replica));
        self.mark("kill", &victim.replica);
        Ok(self.cluster.kill(&victim.replica).map_err(Stopped::Failed)?.after_ns)
    }

    /// Time in which every session is asked once.
    fn turn_ns(&self) -> u64 {
        let stage = self.live.stage();
        (stage.connections as f64 / stage.rate_per_s * 1.1 * SECOND_NS as f64) as u64
    }

    /// How long a lost session may go unseen: behind one address, until it is asked.
    fn unseen_ns(&self) -> u64 {
        if self.cluster.behind_one_address() { self.turn_ns() } else { 0 }
    }

    fn scale_up(&mut self, to: u32, move_ns_max: u64) -> Result<(), Stopped> {
        let from = self.cluster.endpoints().len() as u32;
        self.live.say(&format!("scaling {from} -> {to}"));
        self.note(EventRecordKind::ScaleCommand, from, to, "");
        self.mark("scale_up", &format!("{from} -> {to}"));
        self.cluster.scale(to).map_err(Stopped::Failed)?;
        let settled = self.replicas_settle()?;
        self.tell_replicas(settled, from, to);
        if self.cluster.behind_one_address() {
            // Only the balancer could move a session, and a session cannot be moved.
            let met = self.all_asked_and_alive(move_ns_max)?;
            self.tell_sessions(met, "all sessions alive where they were, behind one address");
            return Ok(());
        }
        let urls = self.cluster.targets();
        self.live.send(&Command::Targets { urls, rebalance: true });
        self.mark("rebalance", &format!("over {to} replicas"));
        let met = self.sessions_even(move_ns_max)?;
        self.tell_sessions(met, "all sessions alive and spread evenly over the replicas");
        Ok(())
    }

    fn scale_down(&mut self, to: u32, move_ns_max: u64) -> Result<(), Stopped> {
        let all = self.cluster.endpoints();
        let from = all.len() as u32;
        let leaving = self.cluster.leaving(to);
        // An orchestrator that chooses by itself names nobody before it has chosen.
        let known = !leaving.is_empty();
        let (how, said) = match known {
            true => ("drain, then SIGTERM", format!(": draining {}", leaving.len())),
            false => ("the orchestrator chooses, then SIGTERM", String::new()),
        };
        self.live.say(&format!("scaling {from} -> {to}{said}"));
        self.note(EventRecordKind::ScaleCommand, from, to, how);
        self.mark("scale_down", &format!("{from} -> {to}"));
        for endpoint in &leaving {
            self.journal.note(EventRecord {
                replica: endpoint.replica.clone(),
                ..EventRecord::at(clock::mono_ns(), EventRecordKind::Drain)
            });
        }
        if known {
            let staying: Vec<Endpoint> =
                all.into_iter().filter(|endpoint| !leaving.contains(endpoint)).collect();
            let urls = urls(&staying);
            self.live.send(&Command::Targets { urls, rebalance: false });
            let drained = self.drained(&leaving, move_ns_max)?;
            self.tell_drained(drained);
        }
        self.cluster.scale(to).map_err(Stopped::Failed)?;
        let settled = self.replicas_settle()?;
        self.tell_replicas(settled, from, to);
        let met = self.all_asked_and_alive(move_ns_max)?;
        self.tell_sessions(met, "all sessions alive on the replicas that are left");
        Ok(())
    }

    /// Waits until all sessions are alive, by a status that cannot be from before their loss.
    fn all_asked_and_alive(&mut self, move_ns_max: u64) -> Result<bool, Stopped> {
        let planned = self.live.stage().connections;
        let since_ns = clock::mono_ns() + self.unseen_ns();
        reached(self.live.wait(since_ns + move_ns_max, |status| {
            status.t_ns > since_ns && all_alive(status, planned)
        }))
    }

    fn replicas_settle(&mut self) -> Result<bool, Stopped> {
        let cluster = &*self.cluster;
        let mut failure = None;
        let deadline_ns = clock::mono_ns() + REPLICAS_NS_MAX;
        let met = self.live.wait(deadline_ns, |_| {
            cluster.settled().unwrap_or_else(|why| {
                failure = Some(why);
                true
            })
        });
        let met = reached(met)?;
        failure.map_or(Ok(met), |failure| Err(Stopped::Failed(failure)))
    }

    fn sessions_even(&mut self, move_ns_max: u64) -> Result<bool, Stopped> {
        let cluster = &*self.cluster;
        let planned = self.live.stage().connections;
        let since_ns = clock::mono_ns();
        let met = self.live.wait(since_ns + move_ns_max, |status| {
            let held = cluster.endpoints().into_iter().map(|e| cluster.held(&e.replica));
            // Where connections cannot be counted a replica at a time, the sessions must do.
            let spread = held.collect::<Option<Vec<u64>>>();
            let spread = spread.is_none_or(|held| even(&held, EVEN_TOLERANCE));
            spread && status.t_ns > since_ns + STATUS_AGE_NS && all_alive(status, planned)
        });
        reached(met)
    }

    fn drained(&mut self, leaving: &[Endpoint], move_ns_max: u64) -> Result<bool, Stopped> {
        let cluster = &*self.cluster;
        let planned = self.live.stage().connections;
        let since_ns = clock::mono_ns();
        let met = self.live.wait(since_ns + move_ns_max, |status| {
            let empty = leaving
                .iter()
                .all(|endpoint| cluster.held(&endpoint.replica).unwrap_or(0) <= DRAINED_MAX);
            empty && status.t_ns > since_ns + STATUS_AGE_NS && all_alive(status, planned)
        });
        reached(met)
    }

    /// The same line into the generator's log, where it stands beside the requests.
    fn mark(&mut self, name: &str, text: &str) {
        self.live.send(&Command::Mark { name: name.to_owned(), text: text.to_owned() });
    }

    fn note(&self, kind: EventRecordKind, from: u32, to: u32, text: &str) {
        let event = EventRecord::at(clock::mono_ns(), kind);
        self.journal.note(EventRecord { from, to, text: text.to_owned(), ..event });
    }

    fn tell_replicas(&self, settled: bool, from: u32, to: u32) {
        if settled {
            self.note(EventRecordKind::ScaleConverged, from, to, "");
            self.live.say(&format!("{to} replicas"));
        } else {
            let text = format!("not {to} replicas after {} s", REPLICAS_NS_MAX / SECOND_NS);
            self.live.say(&text);
            self.journal.mark(text);
        }
    }

    fn tell_sessions(&self, met: bool, what: &str) {
        if !met {
            return self.tell_late(what);
        }
        self.note(EventRecordKind::SessionsConverged, 0, 0, what);
        self.live.say(what);
    }

    /// A step on the way: the sessions have converged when all of them are alive after the last one.
    fn tell_drained(&self, met: bool) {
        let what = "the leaving replicas hold no sessions";
        if !met {
            return self.tell_late(what);
        }
        self.journal.mark(what);
        self.live.say(what);
    }

    fn tell_late(&self, what: &str) {
        let status = self.live.status();
        let text = format!(
            "not in time: {what}; of {} sessions {} are established and {} alive, {} connections \
             are open",
            self.live.stage().connections,
            status.session_established,
            status.session_alive,
            status.tcp_open
        );
        self.live.say(&text);
        self.journal.mark(text);
    }
}

fn urls(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.url.clone()).collect()
}

/// Whether the condition held; an end of the generator or of the run ends the steps.
fn reached(waited: Waited) -> Result<bool, Stopped> {
    match waited {
        Waited::Met => Ok(true),
        Waited::Deadline => Ok(false),
        Waited::Ended => Err(Stopped::Ended),
        Waited::Interrupted => Err(Stopped::Interrupted),
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
