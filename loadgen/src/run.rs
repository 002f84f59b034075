//! The coordinator: starts the threads, moves the run from stage to stage, shows what happens.

mod finish;
mod talk;
mod targets;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use latlog::FileHeader;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::{Cli, End};
use crate::clock::{Clock, Monotonic, anchor, process_cpu_ns};
use crate::control::{Command, Link, mono_ns};
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::orders::{Orders, Stage, TargetOrder};
use crate::plan::Plan;
use crate::setup::{Setup, SetupError};
use crate::stepping::Stepping;
use crate::watch::Watch;
use crate::worker::sample::Sample;
use crate::writer::Log;

/// How often the coordinator looks.
const LOOK: Duration = Duration::from_millis(20);
/// The schedule begins this long after it is announced, so that every worker has seen it.
pub const NOTICE_NS: u64 = 60_000_000;
/// Sessions that a cool-down ends a second, at the least; bounds how long it may take.
const ENDS_PER_S: u64 = 1000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Whole,
    /// Its log has a gap, or a worker failed.
    Spoiled,
    /// By a signal; what was measured is kept.
    Interrupted,
}

/// Runs the plan to its end, prints the report and writes the files asked for.
///
/// # Errors
/// The run could not begin, or no session could be established.
pub fn run(cli: &Cli, setup: Setup, link: Option<Link>) -> Result<Ended, SetupError> {
    let signals = block_signals()?;
    let plan = Arc::new(setup.plan.clone());
    let metrics = cli.metrics.map(Metrics::listen).transpose()?;
    let ordered_ns = link.as_ref().map_or(Ok(None), |link| link.await_start(&plan))?;
    let start = anchor();
    let first_ns = start.mono_ns + NOTICE_NS;
    let start_ns = ordered_ns.map_or(first_ns, |ordered_ns| ordered_ns.max(first_ns));
    let orders = Arc::new(Orders::new(start_ns));
    let header = FileHeader {
        host: setup.host.name.clone(),
        pid: std::process::id(),
        start,
        plan: plan.to_json(),
    };
    let (mut log, mut links) = (None, Vec::new());
    if let Some(dir) = &cli.log {
        let path = dir.join(format!("{}-{}.latlog", header.host, header.pid));
        let (started, made) = Log::start(path, &header, plan.workers)?;
        (log, links) = (Some(started), made);
    }
    let fleet = Fleet::start(&plan, &orders, links)?;
    let mut coordinator = Coordinator {
        cli,
        setup: &setup,
        plan: plan.clone(),
        orders,
        link,
        metrics,
        signals,
        log,
        observed: Observed::default(),
        known: TargetOrder {
            known: plan.targets.clone(),
            wanted: (0..plan.targets.len() as u16).collect(),
            rebalance: false,
        },
        found: (0..plan.targets.len() as u16).collect(),
        left_out: BTreeSet::new(),
        stage: None,
        noted: "",
        stepping: Stepping::new(&plan),
        interrupts: 0,
        next_line_ns: start_ns + 1_000_000_000,
        ramped: false,
        ramp_failed: false,
        most_stood: 0,
        progress_ns: 0,
        drain_from_ns: u64::MAX,
        watch: Watch::new(&fleet.windows),
        screen: None,
        said: Vec::new(),
    };
    coordinator.take_screen();
    coordinator.follow(&fleet);
    coordinator.finish(fleet)
}

/// The signals that end a run.
fn ending_signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    if !live::screen::outlives_terminal() {
        set.add(Signal::SIGHUP);
    }
    set
}

fn block_signals() -> Result<SignalFd, SetupError> {
    let set = ending_signals();
    set.thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|e| SetupError::Host(format!("cannot watch for signals: {e}")))
}

/// What the coordinator keeps while the run lasts.
struct Coordinator<'a> {
    cli: &'a Cli,
    setup: &'a Setup,
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    link: Option<Link>,
    metrics: Option<Metrics>,
    signals: SignalFd,
    log: Option<Log>,
    observed: Observed,
    known: TargetOrder,
    /// The targets that names had when they were looked at last.
    found: Vec<u16>,
    /// Why some of their addresses are none, as far as it was said.
    left_out: BTreeSet<String>,
    stage: Option<Stage>,
    /// The phase that was noted last.
    noted: &'static str,
    stepping: Option<Stepping>,
    interrupts: u32,
    next_line_ns: u64,
    ramped: bool,
    ramp_failed: bool,
    most_stood: u64,
    progress_ns: u64,
    drain_from_ns: u64,
    watch: Watch,
    screen: Option<live::Screen>,
    /// What was said on the dashboard; it is said again when that is gone.
    said: Vec<String>,
}

impl Coordinator<'_> {
    /// Looks at the workers until they have ended.
    fn follow(&mut self, fleet: &Fleet) {
        self.say_plan();
        while !fleet.all_ended() {
            std::thread::sleep(LOOK);
            let now_ns = Monotonic.now_ns();
            let sum = fleet.sum();
            self.take_signals(now_ns);
            self.follow_names(now_ns);
            self.take_commands(now_ns);
            self.advance(now_ns, &sum, fleet);
            self.make_steps(now_ns, fleet);
            self.observed.see(&sum);
            self.watch.look(&fleet.windows);
            self.serve_metrics(now_ns, fleet);
            if now_ns >= self.next_line_ns {
                self.next_line_ns += 1_000_000_000;
                self.show(now_ns, &sum, fleet);
            }
        }
    }

    /// Moves the run on, and marks the stages as they come.
    fn advance(&mut self, now_ns: u64, sum: &Sample, fleet: &Fleet) {
        let all = u64::from(self.plan.sessions);
        let unannounced = self.orders.warmup_from_ns() == u64::MAX;
        // A server that ends idle connections early lets few moments see all sessions at once.
        if sum.session_stood > self.most_stood {
            self.most_stood = sum.session_stood;
            self.progress_ns = now_ns;
        }
        let late = now_ns > self.progress_ns.max(self.orders.start_ns()) + self.plan.stall_ns;
        if unannounced && !self.ramped && (sum.session_stood >= all || late) {
            self.ramped = true;
            if late {
                self.say(&format!(
                    "the ramp stands still at {} of {all} sessions: going on with these",
                    sum.session_stood
                ));
            }
            if self.most_stood == 0 {
                self.ramp_failed = true;
                self.orders.end_load(now_ns);
            } else if self.stepping.is_none() && !self.gated() {
                self.begin(now_ns + NOTICE_NS);
            }
        }
        let stage = self.orders.stage(now_ns);
        if self.stage != Some(stage) {
            self.entered(stage, now_ns, sum, fleet);
        }
        if stage == Stage::Drain && !self.searching() {
            self.watch_drain(now_ns, fleet);
        }
        if stage == Stage::Hold {
            self.observed.hold_goes_on(now_ns, process_cpu_ns(), &fleet.windows);
        }
    }

    /// Says in the log when each stage of the load begins.
    fn note_stages(&mut self, mut at_ns: u64) {
        let Some(log) = &mut self.log else { return };
        for stage in &self.plan.stages {
            log.note(at_ns, "load_stage", &stage.to_string());
            at_ns = at_ns.saturating_add(stage.duration.as_nanos() as u64);
        }
    }

    /// Fixes when the schedule begins, and so when it counts and ends.
    fn begin(&mut self, warmup_ns: u64) {
        let from = warmup_ns.saturating_add(self.plan.warmup_ns);
        let until = self.plan.duration_ns.map_or(u64::MAX, |d| from.saturating_add(d));
        self.orders.begin(warmup_ns, from..until);
        self.note_stages(from);
    }

    /// Whether the schedule begins when the driver says so.
    fn gated(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.gated)
    }

    fn entered(&mut self, stage: Stage, now_ns: u64, sum: &Sample, fleet: &Fleet) {
        self.stage = Some(stage);
        let hold = self.orders.hold();
        let at_ns = match stage {
            Stage::Ramp => self.orders.start_ns(),
            Stage::Warmup => self.orders.warmup_from_ns(),
            Stage::Hold => hold.start,
            Stage::Drain => hold.end,
            Stage::Cooldown | Stage::Abandon => now_ns,
        };
        match stage {
            // Of several steps, the first begins it.
            Stage::Hold if self.noted != "hold" => {
                self.observed.hold_begins(now_ns, process_cpu_ns(), &fleet.windows);
            }
            Stage::Drain => {
                self.observed.hold_goes_on(now_ns, process_cpu_ns(), &fleet.windows);
                self.drain_from_ns = now_ns;
            }
            Stage::Ramp | Stage::Warmup | Stage::Hold | Stage::Cooldown | Stage::Abandon => {}
        }
        // All steps of a search are one hold.
        let between_steps = self.noted == "hold" && self.searching();
        if self.noted != stage.name() && !between_steps {
            self.noted = stage.name();
            if let Some(screen) = &self.screen {
                let alive = live::units::count(sum.session_alive);
                let text = format!("{}, with {alive} sessions alive", stage.name());
                screen.update(|board| board.event(now_ns, text, false));
            }
            if let Some(log) = &mut self.log {
                log.note(at_ns, "phase", stage.name());
            }
        }
    }

    /// Whether a search goes on.
    fn searching(&self) -> bool {
        self.stepping.as_ref().is_some_and(|s| s.found().is_none())
    }

    /// Takes the search a step further, and ends the load with it.
    fn make_steps(&mut self, now_ns: u64, fleet: &Fleet) {
        if !self.ramped || self.ramp_failed || !self.searching() {
            return;
        }
        let Some(stepping) = &mut self.stepping else { return };
        if let Some(step) = stepping.advance(now_ns, &self.orders, &fleet.windows) {
            let text = step.to_json().to_string();
            if let Some(screen) = &self.screen {
                let (rate, verdict) = (step.rate_per_s, &step.verdict);
                let said = format!("{rate:.0}/s: {} {}", verdict.name(), verdict.because());
                screen.update(|board| board.event(now_ns, said, false));
            }
            if let Some(log) = &mut self.log {
                log.note(now_ns, "step", &text);
            }
        }
        if stepping.found().is_some() {
            self.orders.end_load(now_ns);
            self.stop_search();
        }
    }

    fn stop_search(&mut self) {
        if let Some(stepping) = &mut self.stepping {
            stepping.stop();
            // The stage may stay the same; the phase that it belongs to does not.
            self.stage = None;
        }
    }

    /// Lets sessions end once all that was due or sent has come to its end.
    fn watch_drain(&mut self, now_ns: u64, fleet: &Fleet) {
        let waited = now_ns > self.drain_from_ns + self.plan.timeout_ns + NOTICE_NS;
        if !waited && !fleet.all_drained() {
            return;
        }
        if self.plan.end == End::Abandon || self.interrupts > 1 {
            self.orders.abandon();
            return;
        }
        let sessions = u64::from(self.plan.sessions);
        let limit_ns = 2 * self.plan.timeout_ns + sessions * 1_000_000_000 / ENDS_PER_S;
        self.orders.cool_down(now_ns, now_ns + limit_ns);
    }

    fn take_signals(&mut self, now_ns: u64) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.interrupts += 1;
            if let Some(screen) = &self.screen {
                screen.update(|board| board.ending = true);
            }
            self.stop_search();
            self.orders.end_load(now_ns);
            if self.interrupts > 1 {
                self.orders.abandon();
            } else {
                self.say("interrupted: ending the sessions; once more exits at once");
            }
        }
    }

    fn take_commands(&mut self, now_ns: u64) {
        let Some(link) = self.link.clone() else { return };
        for command in link.orders() {
            let done = match command {
                Ok(Command::End) => {
                    self.stop_search();
                    self.orders.end_load(now_ns);
                    Ok(())
                }
                Ok(Command::Mark { name, text }) => {
                    if let Some(log) = &mut self.log {
                        log.note(now_ns, "mark", &format!("{name} {text}"));
                    }
                    if let Some(metrics) = &mut self.metrics {
                        metrics.mark(&name, &text);
                    }
                    Ok(())
                }
                Ok(Command::Targets { urls, rebalance }) => {
                    self.change_targets(&urls, rebalance, now_ns)
                }
                Ok(Command::Hold { at_real_ns }) => self.hold_at(at_real_ns, now_ns),
                Ok(Command::Start { .. } | Command::Fetch | Command::Clock) => {
                    Err("not while the load lasts".to_owned())
                }
                Err(cause) => Err(cause),
            };
            if let Err(cause) = done {
                link.say(&serde_json::json!({"type": "error", "message": cause}));
            }
        }
    }

    fn hold_at(&mut self, at_real_ns: u64, now_ns: u64) -> Result<(), String> {
        if !self.gated() || self.orders.warmup_from_ns() != u64::MAX {
            return Err("the schedule has begun, or begins by itself".to_owned());
        }
        self.ramped = true;
        self.begin(mono_ns(at_real_ns).max(now_ns + NOTICE_NS));
        Ok(())
    }
}
