//! The coordinator: starts the threads, moves the run from stage to stage, shows what happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use latlog::{End as LogEnd, FileHeader};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::{Cli, End};
use crate::clock::{Clock, Monotonic, anchor, process_cpu_ns};
use crate::control::{Command, read_commands};
use crate::orders::{Orders, Stage, TargetOrder};
use crate::plan::Plan;
use crate::plan::engine::Engine;
use crate::plan::target::TargetUrl;
use crate::ring::{EpollRing, KernelRing, Ring, RingConfig};
use crate::setup::{Setup, SetupError, ask};
use crate::summary::{self, Observed, Summary};
use crate::worker::sample::Sample;
use crate::worker::{Example, LogLink, Remains, Tally, Window, Worker};
use crate::writer::{Log, Written};

/// How often the coordinator looks.
const LOOK: Duration = Duration::from_millis(20);
/// The schedule begins this long after it is announced, so that every worker has seen it.
const NOTICE_NS: u64 = 60_000_000;
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
pub fn run(cli: &Cli, setup: Setup) -> Result<Ended, SetupError> {
    let signals = block_signals()?;
    let plan = Arc::new(setup.plan.clone());
    let start = anchor();
    let orders = Arc::new(Orders::new(start.mono_ns + NOTICE_NS));
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
        commands: cli.control.then(read_commands),
        signals,
        log,
        observed: Observed::default(),
        known: TargetOrder {
            known: plan.targets.clone(),
            wanted: (0..plan.targets.len() as u16).collect(),
            rebalance: false,
        },
        stage: None,
        interrupts: 0,
        next_line_ns: start.mono_ns + NOTICE_NS + 1_000_000_000,
        ramp_failed: false,
        most_established: 0,
        progress_ns: 0,
        drain_from_ns: u64::MAX,
    };
    coordinator.follow(&fleet);
    coordinator.finish(fleet)
}

fn block_signals() -> Result<SignalFd, SetupError> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|e| SetupError::Host(format!("cannot watch for signals: {e}")))
}

/// The worker threads.
struct Fleet {
    windows: Vec<Arc<Window>>,
    threads: Vec<JoinHandle<Result<Remains, String>>>,
}

impl Fleet {
    fn start(
        plan: &Arc<Plan>,
        orders: &Arc<Orders>,
        links: Vec<LogLink>,
    ) -> Result<Self, SetupError> {
        let mut links: Vec<Option<LogLink>> = links.into_iter().map(Some).collect();
        links.resize_with(plan.workers as usize, || None);
        let (ready, waiting) = crossbeam::channel::unbounded();
        let mut fleet = Self { windows: Vec::new(), threads: Vec::new() };
        for (index, link) in links.into_iter().enumerate() {
            let window = Arc::new(Window::default());
            let seat = Seat {
                plan: plan.clone(),
                orders: orders.clone(),
                window: window.clone(),
                index: index as u32,
                link,
            };
            let ready = ready.clone();
            let body = move || match seat.plan.engine.engine {
                Engine::IoUring => serve(KernelRing::new, seat, &ready),
                Engine::Epoll => serve(EpollRing::new, seat, &ready),
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(body)
                .map_err(|e| SetupError::Host(format!("cannot start a worker thread: {e}")))?;
            fleet.windows.push(window);
            fleet.threads.push(thread);
        }
        for _ in 0..plan.workers {
            if let Ok(Some(cause)) = waiting.recv() {
                orders.abandon();
                return Err(SetupError::Host(cause));
            }
        }
        Ok(fleet)
    }

    /// All workers' latest samples, added up.
    fn sum(&self) -> Sample {
        let mut sum = Sample::default();
        self.windows.iter().for_each(|w| sum.add(&w.sample.read()));
        sum
    }

    fn all_drained(&self) -> bool {
        let drained = |w: &Arc<Window>| w.drained.load(std::sync::atomic::Ordering::Acquire);
        self.windows.iter().zip(&self.threads).all(|(w, t)| drained(w) || t.is_finished())
    }

    fn all_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

/// What a worker thread is given.
struct Seat {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    window: Arc<Window>,
    index: u32,
    link: Option<LogLink>,
}

/// The body of a worker thread: builds a worker on its engine, says whether that worked, runs it.
fn serve<R: Ring>(
    engine: fn(&RingConfig) -> std::io::Result<R>,
    seat: Seat,
    ready: &Sender<Option<String>>,
) -> Result<Remains, String> {
    let built = build_worker(engine, seat);
    let _ = ready.send(built.as_ref().err().cloned());
    built?.run().map_err(|e| e.to_string())
}

fn build_worker<R: Ring>(
    engine: fn(&RingConfig) -> std::io::Result<R>,
    seat: Seat,
) -> Result<Worker<R, Monotonic>, String> {
    let Seat { plan, orders, window, index, link } = seat;
    pin(plan.cores[index as usize % plan.cores.len()]);
    // The default slack of 50 us would delay every wait; see prctl(2).
    let _ = nix::sys::prctl::set_timerslack(1);
    let limits = &plan.limits;
    let config = RingConfig {
        slots: limits.sessions,
        entries: limits.ring_entries,
        recv_buffers: limits.recv_buffers,
        recv_buffer_bytes: limits.recv_buffer_bytes,
        send_buffers: limits.send_buffers,
        send_buffer_bytes: limits.send_buffer_bytes,
    };
    let ring = engine(&config).map_err(|e| e.to_string())?;
    Worker::new(plan.clone(), orders, window, index, ring, Monotonic, link)
        .map_err(|e| e.to_string())
}

fn pin(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(core).is_ok() {
        // Not pinned is slower, not wrong.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

/// What the coordinator keeps while the run lasts.
struct Coordinator<'a> {
    cli: &'a Cli,
    setup: &'a Setup,
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    commands: Option<Receiver<Result<Command, String>>>,
    signals: SignalFd,
    log: Option<Log>,
    observed: Observed,
    known: TargetOrder,
    stage: Option<Stage>,
    interrupts: u32,
    next_line_ns: u64,
    ramp_failed: bool,
    most_established: u64,
    progress_ns: u64,
    drain_from_ns: u64,
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
            self.take_commands(now_ns);
            self.advance(now_ns, &sum, fleet);
            self.observed.see(&sum);
            if now_ns >= self.next_line_ns {
                self.next_line_ns += 1_000_000_000;
                self.show(now_ns, &sum, fleet);
            }
        }
    }

    /// Moves the run on, and marks the stages as they come.
    fn advance(&mut self, now_ns: u64, sum: &Sample, fleet: &Fleet) {
        let all = u64::from(self.plan.connections);
        let unannounced = self.orders.warmup_from_ns() == u64::MAX;
        if sum.session_established > self.most_established {
            self.most_established = sum.session_established;
            self.progress_ns = now_ns;
        }
        let late = now_ns > self.progress_ns.max(self.orders.start_ns()) + self.plan.stall_ns;
        if unannounced && (sum.session_established >= all || late) {
            if late {
                self.say(&format!(
                    "the ramp stands still at {} of {all} sessions: going on with these",
                    sum.session_established
                ));
            }
            if sum.session_established == 0 {
                self.ramp_failed = true;
                self.orders.end_load(now_ns);
            } else {
                let warmup = now_ns + NOTICE_NS;
                let from = warmup + self.plan.warmup_ns;
                let until = self.plan.duration_ns.map_or(u64::MAX, |d| from.saturating_add(d));
                self.orders.begin(warmup, from..until);
            }
        }
        let stage = self.orders.stage(now_ns);
        if self.stage != Some(stage) {
            self.entered(stage, now_ns, sum);
        }
        if stage == Stage::Drain {
            self.watch_drain(now_ns, fleet);
        }
        if stage == Stage::Hold {
            self.observed.hold_goes_on(now_ns, process_cpu_ns(), sum);
        }
    }

    fn entered(&mut self, stage: Stage, now_ns: u64, sum: &Sample) {
        let was = self.stage.replace(stage);
        let hold = self.orders.hold();
        let at_ns = match stage {
            Stage::Ramp => self.orders.start_ns(),
            Stage::Warmup => self.orders.warmup_from_ns(),
            Stage::Hold => hold.start,
            Stage::Drain => hold.end,
            Stage::Cooldown | Stage::Abandon => now_ns,
        };
        match stage {
            Stage::Hold => self.observed.hold_begins(now_ns, process_cpu_ns(), sum),
            Stage::Drain => {
                self.observed.hold_goes_on(now_ns, process_cpu_ns(), sum);
                self.drain_from_ns = now_ns;
            }
            Stage::Ramp | Stage::Warmup | Stage::Cooldown | Stage::Abandon => {}
        }
        if was.is_none_or(|w| w.name() != stage.name())
            && let Some(log) = &mut self.log
        {
            log.note(at_ns, "phase", stage.name());
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
        let connections = u64::from(self.plan.connections);
        let limit_ns = 2 * self.plan.timeout_ns + connections * 1_000_000_000 / ENDS_PER_S;
        self.orders.cool_down(now_ns, now_ns + limit_ns);
    }

    fn take_signals(&mut self, now_ns: u64) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.interrupts += 1;
            self.orders.end_load(now_ns);
            if self.interrupts > 1 {
                self.orders.abandon();
            } else {
                self.say("interrupted: ending the sessions; once more exits at once");
            }
        }
    }

    fn take_commands(&mut self, now_ns: u64) {
        let Some(commands) = self.commands.clone() else { return };
        for command in commands.try_iter() {
            let done = match command {
                Ok(Command::End) => {
                    self.orders.end_load(now_ns);
                    Ok(())
                }
                Ok(Command::Mark { name, text }) => {
                    if let Some(log) = &mut self.log {
                        log.note(now_ns, "mark", &format!("{name} {text}"));
                    }
                    Ok(())
                }
                Ok(Command::Targets { urls, rebalance }) => {
                    self.change_targets(&urls, rebalance, now_ns)
                }
                Err(cause) => Err(cause),
            };
            if let Err(cause) = done {
                println!("{}", serde_json::json!({"type": "error", "message": cause}));
            }
        }
    }

    fn change_targets(
        &mut self,
        urls: &[String],
        rebalance: bool,
        now_ns: u64,
    ) -> Result<(), String> {
        let mut order = self.known.clone();
        order.wanted.clear();
        order.rebalance = rebalance;
        for text in urls {
            let url: TargetUrl = text.parse().map_err(|e| format!("{e}"))?;
            let known = order.known.iter().position(|t| t.url == url);
            let index = match known {
                Some(index) => index,
                None => {
                    let mut work = self.plan.work.clone();
                    let target = ask(self.cli, &url, self.setup.wanted, &mut work)
                        .map_err(|e| e.to_string())?;
                    order.known.push(target);
                    let index = order.known.len() - 1;
                    if let Some(log) = &mut self.log {
                        log.note(now_ns, "target_added", &format!("{index} {url}"));
                    }
                    index
                }
            };
            order.wanted.push(index as u16);
        }
        self.known = order.clone();
        self.orders.set_targets(order);
        Ok(())
    }

    /// One line a second.
    fn show(&mut self, now_ns: u64, sum: &Sample, fleet: &Fleet) {
        let interval = summary::merge_intervals(&fleet.windows);
        if self.cli.control {
            let stage = self.orders.stage(now_ns).name();
            println!("{}", summary::status(now_ns, stage, self.plan.connections, sum, &interval));
        } else {
            let elapsed_s = now_ns.saturating_sub(self.orders.start_ns()) / 1_000_000_000;
            println!("{}", summary::line(elapsed_s, sum, &interval));
        }
    }

    fn say(&self, text: &str) {
        eprintln!("loadgen: {text}");
    }

    fn say_plan(&self) {
        let plan = &self.plan;
        if let Some(cause) = &plan.engine.refusal {
            self.say(&format!(
                "going on with epoll, where each connection takes a descriptor of the process, \
                 because io_uring does not work here: {cause}"
            ));
        }
        let revisions: BTreeMap<&str, usize> =
            plan.targets.iter().fold(BTreeMap::new(), |mut map, target| {
                *map.entry(target.dialect.name()).or_default() += 1;
                map
            });
        let model = match plan.closed {
            true => "closed loop".to_owned(),
            false => format!(
                "{:.0} req/s open loop ({} arrivals)",
                plan.rate_per_s,
                plan.arrivals.name()
            ),
        };
        self.say(&format!(
            "{} connections at {:.0}/s to {} target(s) {revisions:?}, {model}, {} worker(s) on {}, seed {}",
            plan.connections,
            plan.ramp_per_s,
            plan.targets.len(),
            plan.workers,
            plan.engine.engine.name(),
            plan.seed,
        ));
    }

    /// Joins the workers, ends the log, prints and writes the summary.
    fn finish(mut self, fleet: Fleet) -> Result<Ended, SetupError> {
        let (mut tally, mut last, mut totals) = (Tally::default(), Sample::default(), Vec::new());
        let (mut examples, mut failure): (Vec<Example>, _) = (Vec::new(), None);
        for thread in fleet.threads {
            match thread.join() {
                Ok(Ok(remains)) => {
                    tally.merge(&remains.tally);
                    last.add(&remains.last);
                    totals.push(remains.totals);
                    examples.extend(remains.examples);
                }
                Ok(Err(cause)) => failure = Some(cause),
                Err(_) => failure = Some("a worker panicked".into()),
            }
        }
        let plan = self.plan.clone();
        let (mix, examples) = (&plan.work.mix, summary::first_of_each(examples));
        if self.ramp_failed {
            let cause = examples.first().map_or_else(
                || "no attempt came to an end in the time of the ramp".into(),
                |e| summary::describe_example(e, &self.known.known, mix),
            );
            return Err(SetupError::NothingStands(cause));
        }
        if let Some(log) = &mut self.log {
            for example in &examples {
                let text = summary::example_json(example, &self.known.known, mix).to_string();
                log.note(example.at_ns, "example", &text);
            }
        }
        let path = self.log.as_ref().map(|l| l.path.clone());
        let written = self.log.take().map(|log| log.finish(LogEnd { anchor: anchor(), totals }));
        let spoiled = failure.is_some()
            || last.log_lost_records > 0
            || written.as_ref().is_some_and(|w: &Written| w.error.is_some());
        let summary = Summary {
            plan: &self.plan,
            host: &self.setup.host,
            hold: self.orders.hold(),
            tally: &tally,
            last: &last,
            observed: &self.observed,
            examples: &examples,
            targets: &self.known.known,
            log: path,
            log_error: written.and_then(|w| w.error),
        };
        if let Some(cause) = &failure {
            self.say(cause);
        }
        if self.cli.control {
            println!("{}", serde_json::json!({"type": "done", "stage": summary.to_json()}));
        } else {
            println!("{}", summary.text());
        }
        if let Some(file) = &self.cli.json {
            let text = format!("{:#}\n", summary.to_json());
            std::fs::write(file, text).map_err(|cause| SetupError::Unwritable {
                path: file.clone(),
                option: "--json",
                cause,
            })?;
        }
        Ok(match (self.interrupts > 0, spoiled) {
            (true, _) => Ended::Interrupted,
            (false, true) => Ended::Spoiled,
            (false, false) => Ended::Whole,
        })
    }
}
