//! Thousands of runs, each drawn by a seed: hostile kernels, failing servers, small limits. After a
//! while all is healed, and then every session has to stand again.
//!
//! `LOADGEN_SEEDS=n` makes n runs, `LOADGEN_SEED=x` makes the run of one seed.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::ring::sim::Dice;

/// Runs without LOADGEN_SEEDS.
const SEEDS: u64 = 1_000;

#[test]
fn every_seed_keeps_the_rules() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let one = number("LOADGEN_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("LOADGEN_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let count = seeds.end - seeds.start;
    let seeds = &seeds;
    let share = move |thread: u64| seeds.clone().skip(thread as usize).step_by(threads as usize);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || share(thread).for_each(try_run)))
            .collect();
        for one in all {
            one.join().unwrap_or_else(|cause| resume_unwind(cause));
        }
    });
    println!("{count} seeds keep the rules");
}

fn try_run(seed: u64) {
    let made = catch_unwind(AssertUnwindSafe(|| run(seed)));
    if let Err(cause) = made {
        eprintln!(
            "seed {seed} fails; to repeat it alone:\n  LOADGEN_SEED={seed} cargo test -p \
             loadgen --lib worker::tests::seeds -- --nocapture\n{:?}",
            case(seed)
        );
        resume_unwind(cause);
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} worker {:?}", self.options, self.worker)?;
        writeln!(
            f,
            "recv_buffers {} send_buffers {} entries {} heal {}",
            self.recv_buffers, self.send_buffers, self.entries, self.heal_ns
        )?;
        writeln!(f, "{:?}", self.kernel)?;
        self.scripts.iter().try_for_each(|script| writeln!(f, "{script:?}"))
    }
}

/// The run of a seed.
fn case(seed: u64) -> Case {
    let mut dice = Dice::new(seed);
    let kernel = Kernel::drawn(&mut dice);
    let speaks = dice.one_of(&[
        Speaks::Sessions,
        Speaks::Sessions,
        Speaks::Sessions,
        Speaks::Lines,
        Speaks::Stateless,
        Speaks::Plain,
        Speaks::HttpSse,
    ]);
    let heal_ns = BEGIN_NS + 200 * MS + dice.below(2 * S);
    let hostile = BEGIN_NS..heal_ns;
    let mut scripts: Vec<Script> =
        (0..1 + dice.below(3)).map(|_| Script::drawn(speaks, &hostile, &mut dice)).collect();
    let workers = 1 + dice.below(2) as u32;
    let most = if dice.chance(0.2) { 50 } else { 12 };
    let connections = workers + dice.below(most) as u32;
    let mut options = format!(
        "-c {connections} --ramp {} --opening {} --timeout {}ms --heartbeat {}ms -d 0 --end {}",
        20 + dice.below(2000),
        workers + dice.below(40) as u32,
        100 + dice.below(900),
        200 + dice.below(2000),
        dice.one_of(&["delete", "close", "reset"]),
    );
    options += &match dice.below(6) {
        0 => " --closed".to_owned(),
        _ => format!(" -r {}", 10 + dice.below(300)),
    };
    options += if dice.chance(0.2) { " --warmup 50ms" } else { "" };
    if !options.contains("--closed") && dice.chance(0.3) {
        options += &format!(" --arrivals poisson --seed {seed}");
    }
    if speaks == Speaks::Lines && dice.chance(0.5) {
        options += &format!(" --in-flight {}", 2 + dice.below(5));
        scripts.iter_mut().for_each(|script| script.several = true);
    }
    if speaks == Speaks::Sessions && dice.chance(0.3) {
        options += &format!(" --sessions {}", connections + 1 + dice.below(60) as u32);
    } else {
        options += if dice.chance(0.4) { " --streams" } else { "" };
        options += if dice.chance(0.2) { " --new-connection-per-request" } else { "" };
    }
    options += if dice.chance(0.3) { " --call echo=3 --call add --call sum=2" } else { "" };
    let spin = dice.chance(0.1);
    options += if spin { " --spin" } else { "" };
    Case {
        options,
        scripts,
        kernel,
        seed,
        heal_ns,
        worker: (dice.below(u64::from(workers)) as u32, workers),
        recv_buffers: dice.one_of(&[1, 2, 4, 64]),
        send_buffers: dice.one_of(&[1, 2, 8, 64]),
        entries: dice.one_of(&[1, 2, 8, 64]),
        // A reading of the clock is what polling consists of here.
        tick_ns: if spin { 1_000 } else { dice.below(300) + 1 },
    }
}

fn run(seed: u64) {
    let case = case(seed);
    let mut run = Run::new(&case);
    run.ramp(S);
    run.turn_until_ns(case.heal_ns);
    // What is under way when all is healed may still run into a timeout, and the last back-off may
    // have begun just then.
    let patience_ns = 2 * run.plan.timeout_ns + 4 * S + 10 * S;
    let mut stood = BTreeSet::new();
    let healed = run.turn_until(case.heal_ns + patience_ns, |run| {
        let stands = |n: &usize| run.worker.sessions[*n].established;
        stood.extend((0..run.worker.count as usize).filter(stands));
        stood.len() == run.worker.count as usize
    });
    if !healed {
        let lost = (0..run.worker.count as usize).find(|n| !stood.contains(n));
        let lost = lost.map(|n| &run.worker.sessions[n]);
        panic!("a session is lost although all is well: {lost:?}");
    }
    run.turn_until_ns(run.now_ns() + 100 * MS);
    let healthy_from_ns = run.now_ns();
    run.turn_until_ns(healthy_from_ns + 100 * MS);
    let finished = run.finish();
    let killed = case.scripts.iter().any(|s| !s.kills.is_empty());
    let interrupts = case.scripts.iter().any(|s| s.streams.interrupts > 0.0);
    for r in finished.requests.iter().filter(|r| r.intended_ns >= healthy_from_ns) {
        // A server may have been restarted while a session was between two connections.
        let forgotten = killed && r.outcome == Outcome::SessionGone;
        // Streams come and go, and answers to the server are under way, when the run ends.
        let beside = [Op::Stream, Op::Pong, Op::Decline].iter().any(|op| op.number() == r.op);
        let unoffered = beside && (r.detail == 405 || r.outcome == Outcome::Stopped);
        // The run may end before there is another connection to ask for the rest of an answer over.
        let halved = interrupts && r.outcome == Outcome::Unanswered;
        let ended = matches!(r.outcome, Outcome::Ok | Outcome::Dropped);
        let fine = forgotten || unoffered || halved || ended;
        assert!(fine, "a failure although all is well: {r:?}");
    }
}
