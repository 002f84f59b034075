//! Steps against a cluster in memory and a generator that is a few lines of shell.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::*;
use crate::cluster::launch::Launcher;
use crate::cluster::{Disturbed, Killed, ReplicaStatus};
use crate::generator::{Generator, Protocol, Setup};
use crate::run::console::Console;
use crate::run::interrupt::Interrupt;
use crate::run::plan::Stage as PlannedStage;
use crate::run::record::StageKind;

/// Says that all sessions are alive, again and again, keeps what it is told, and ends when told.
const ALIVE: &str = r#"#!/bin/sh
now() { read -r up _ < /proc/uptime; echo "${up%.*}${up#*.}0000000"; }
status() { echo "{\"type\":\"status\",\"t_ns\":$(now),\"phase\":\"hold\",\"tcp_open\":10,\
\"session_established\":10,\"session_alive\":10,\"sent\":5,\"ok\":5}"; }
( while sleep 0.05; do status; done ) &
ticker=$!
trap 'kill $ticker; exit 130' INT TERM
while read -r line; do
  echo "$line" >> "$TOLD"
  case "$line" in *'"end"'*) kill $ticker; echo '{"type":"done"}'; exit 0;; esac
done
kill $ticker
exit 1
"#;

/// Never gets a session up.
const DEAF: &str = "#!/bin/sh\nread -r line\n";

#[derive(Default)]
struct Memory {
    wanted: u32,
    kills: u32,
    disturbed: Vec<Disturbance>,
    restored: u32,
    one_address: bool,
    /// Asked so often until it settles.
    unsettled: Cell<u32>,
    fails: bool,
}

impl Memory {
    fn endpoint(number: u32) -> Endpoint {
        Endpoint { replica: format!("r{number}"), url: format!("http://r{number}") }
    }
}

impl Cluster for Memory {
    fn backend(&self) -> &'static str {
        "memory"
    }

    fn fixed(&self) -> Option<String> {
        None
    }

    fn scale(&mut self, to: u32) -> Result<(), Failure> {
        self.wanted = to;
        self.unsettled.set(3);
        Ok(())
    }

    fn settled(&self) -> Result<bool, Failure> {
        if self.fails {
            return Err(Failure::host("replica r9 did not start"));
        }
        self.unsettled.set(self.unsettled.get().saturating_sub(1));
        Ok(self.unsettled.get() == 0)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.wanted).map(Self::endpoint).collect()
    }

    fn leaving(&self, to: u32) -> Vec<Endpoint> {
        (to..self.wanted).map(Self::endpoint).collect()
    }

    fn status(&self) -> Vec<ReplicaStatus> {
        Vec::new()
    }

    fn kill(&mut self, replica: &str) -> Result<Killed, Failure> {
        self.kills += 1;
        self.unsettled.set(3);
        let now_ns = clock::mono_ns();
        let replica = replica.to_owned();
        Ok(Killed { replica, before_ns: now_ns, after_ns: now_ns, incarnation: 1 })
    }

    fn behind_one_address(&self) -> bool {
        self.one_address
    }

    fn disturb(&mut self, what: Disturbance) -> Result<Disturbed, Failure> {
        self.disturbed.push(what);
        self.unsettled.set(3);
        let now_ns = clock::mono_ns();
        Ok(Disturbed { what: "node2".to_owned(), before_ns: now_ns, after_ns: now_ns })
    }

    fn restore(&mut self) -> Result<(), Failure> {
        self.restored += 1;
        Ok(())
    }

    fn held(&self, _replica: &str) -> Option<u64> {
        None
    }

    fn server_version(&self) -> String {
        String::new()
    }

    fn teardown(&mut self) {}
}

/// A generator that is `script`, and where it writes what it is told.
fn generator(dir: &Path, script: &str, interrupt: &Interrupt) -> (Generator, PathBuf) {
    let (program, told) = (dir.join("loadgen"), dir.join("told"));
    std::fs::write(&program, script.replace("$TOLD", &told.display().to_string())).expect("writes");
    let setup = Setup {
        program: PathBuf::from("/bin/sh"),
        launcher: Launcher::default(),
        protocol: Protocol::Mcp,
        mcp_revision: "auto".to_owned(),
        heartbeat_ns: SECOND_NS,
        options: Vec::new(),
    };
    let arguments = [program.display().to_string()];
    (Generator::start(&setup, &arguments, dir, interrupt).expect("starts"), told)
}

fn stage(kind: StageKind, steps: Steps) -> PlannedStage {
    PlannedStage {
        name: kind.name().to_owned(),
        kind,
        connections: 10,
        rate_per_s: 1.0,
        ramp_per_s: 1_000.0,
        warmup_ns: 0,
        steps,
        skipped: None,
    }
}

fn failover() -> PlannedStage {
    struck(Blow::Kill)
}

fn struck(blow: Blow) -> PlannedStage {
    let steps = Steps::Failover { blow, steady_ns: 1_000, recovery_ns_max: 60 * SECOND_NS };
    stage(StageKind::Failover, steps)
}

fn scaling() -> PlannedStage {
    let steps = Steps::Scaling { up: 4, down: 2, steady_ns: 1_000, move_ns_max: 60 * SECOND_NS };
    stage(StageKind::Scaling, steps)
}

struct Outcome {
    stopped: Option<Stopped>,
    kinds: Vec<EventRecordKind>,
    told: String,
    exit_code: Option<i32>,
}

fn walk(
    script: &str,
    planned: &PlannedStage,
    cluster: &mut Memory,
    interrupt: &Interrupt,
) -> Outcome {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::default();
    let (generator, told) = generator(dir.path(), script, interrupt);
    let console = Console::new(true, false);
    let mut live = Live::new(generator, planned, console, interrupt, SECOND_NS);
    let stopped = carry_out(&mut live, cluster, &journal, SECOND_NS).err();
    live.send(&Command::End);
    live.let_end(clock::mono_ns() + 30 * SECOND_NS, false);
    let (generator, _) = live.into_parts();
    let finished = generator.finish(clock::mono_ns() + 30 * SECOND_NS);
    Outcome {
        stopped,
        kinds: journal.events().iter().map(|event| event.kind).collect(),
        told: std::fs::read_to_string(told).unwrap_or_default(),
        exit_code: finished.exit_code,
    }
}

#[test]
fn failover_waits_kills_once_and_waits_for_all_to_be_back() {
    let mut cluster = Memory { wanted: 3, ..Memory::default() };
    let outcome = walk(ALIVE, &failover(), &mut cluster, &Interrupt::default());
    assert!(outcome.stopped.is_none(), "{:?}", outcome.stopped);
    assert_eq!(cluster.kills, 1);
    use EventRecordKind::SessionsConverged;
    assert_eq!(outcome.kinds, [SessionsConverged, SessionsConverged]);
    assert!(outcome.told.contains(r#""cmd":"mark","name":"kill","text":"r1""#), "{}", outcome.told);
    assert_eq!(outcome.exit_code, Some(0));
}

#[test]
fn a_node_that_goes_is_waited_for_and_taken_back() {
    let mut cluster = Memory { wanted: 3, ..Memory::default() };
    let planned =
        PlannedStage { rate_per_s: 1_000.0, ..struck(Blow::Many(Disturbance::NodeDrain)) };
    let outcome = walk(ALIVE, &planned, &mut cluster, &Interrupt::default());
    assert!(outcome.stopped.is_none(), "{:?}", outcome.stopped);
    assert_eq!((cluster.kills, cluster.restored), (0, 1));
    assert_eq!(cluster.disturbed, [Disturbance::NodeDrain]);
    use EventRecordKind::{Recovered, SessionsConverged};
    assert_eq!(outcome.kinds, [SessionsConverged, Recovered, SessionsConverged]);
    assert!(outcome.told.contains(r#""name":"node_drain""#), "{}", outcome.told);
}

#[test]
fn behind_one_address_no_session_is_moved() {
    let mut cluster = Memory { wanted: 3, one_address: true, ..Memory::default() };
    let planned = PlannedStage { rate_per_s: 1_000.0, ..scaling() };
    let outcome = walk(ALIVE, &planned, &mut cluster, &Interrupt::default());
    assert!(outcome.stopped.is_none(), "{:?}", outcome.stopped);
    assert!(!outcome.told.contains("rebalance\":true"), "{}", outcome.told);
}

#[test]
fn scaling_rebalances_up_and_drains_before_it_takes_away() {
    let mut cluster = Memory { wanted: 3, ..Memory::default() };
    let outcome = walk(ALIVE, &scaling(), &mut cluster, &Interrupt::default());
    assert!(outcome.stopped.is_none(), "{:?}", outcome.stopped);
    use EventRecordKind::{Drain, Mark, ScaleCommand, ScaleConverged, SessionsConverged};
    assert_eq!(
        outcome.kinds,
        [
            SessionsConverged,
            ScaleCommand,
            ScaleConverged,
            SessionsConverged,
            ScaleCommand,
            Drain,
            Drain,
            // That the leaving ones are empty: the sessions have converged once, after all of it.
            Mark,
            ScaleConverged,
            SessionsConverged
        ]
    );
    let targets: Vec<&str> =
        outcome.told.lines().filter(|line| line.contains(r#""targets""#)).collect();
    assert!(targets[0].contains("http://r3") && targets[0].contains(r#""rebalance":true"#));
    assert!(!targets[1].contains("http://r2") && targets[1].contains(r#""rebalance":false"#));
    assert_eq!(cluster.wanted, 2);
}

#[test]
fn a_replica_that_fails_ends_the_steps_with_its_reason() {
    let mut cluster = Memory { wanted: 3, fails: true, ..Memory::default() };
    let outcome = walk(ALIVE, &scaling(), &mut cluster, &Interrupt::default());
    match outcome.stopped {
        Some(Stopped::Failed(failure)) => assert!(failure.message.contains("r9"), "{failure}"),
        other => panic!("not a failure: {other:?}"),
    }
}

#[test]
fn a_generator_that_ends_early_ends_the_steps() {
    let mut cluster = Memory { wanted: 3, ..Memory::default() };
    let ends = "#!/bin/sh\nexit 0\n";
    let outcome = walk(ends, &failover(), &mut cluster, &Interrupt::default());
    assert!(matches!(outcome.stopped, Some(Stopped::Ended)), "{:?}", outcome.stopped);
    assert_eq!(cluster.kills, 0);
}

#[test]
fn an_interrupt_ends_a_wait_that_would_not_be_met() {
    let mut cluster = Memory { wanted: 3, ..Memory::default() };
    let interrupt = Interrupt::default();
    interrupt.raise();
    let outcome = walk(DEAF, &failover(), &mut cluster, &interrupt);
    assert!(matches!(outcome.stopped, Some(Stopped::Interrupted)), "{:?}", outcome.stopped);
    assert_eq!(cluster.kills, 0);
}
