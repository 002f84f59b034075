//! Makes the steps of a search on the sessions that stand: each a short hold at one rate, waited for
//! to its end, then judged. Watches workers; what to try next is decided in `search`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::orders::Orders;
use crate::plan::Plan;
use crate::run::NOTICE_NS;
use crate::search::{Found, Search, Seen, Step, Threshold};
use crate::worker::{Tally, Window};

/// The part of a step that does not count: what a new rate sets off has settled by then.
const SETTLE_NS_MAX: u64 = 1_000_000_000;
/// Shorter observations of a thread's CPU time say nothing.
const CPU_NS_MIN: u64 = 500_000_000;
/// Workers hand a tally over within this time, or never.
const HANDOVER_NS: u64 = 5_000_000_000;

/// The steps of a search.
pub struct Stepping {
    threshold: Threshold,
    search: Search,
    /// The steps made.
    pub steps: Vec<Step>,
    plan: Arc<Plan>,
    stage: Stage,
    /// When the first step began to count.
    pub first_from_ns: u64,
}

enum Stage {
    /// The next step may begin.
    Ready,
    /// A step's load is due, or is waited for.
    Load(UnderWay),
    /// The workers' tallies are waited for since then.
    Tallies(UnderWay, u64),
    Over,
}

struct UnderWay {
    rate_per_s: f64,
    from_ns: u64,
    until_ns: u64,
    /// Per worker: time and CPU time at the first look and the latest.
    cpu: Vec<[(u64, u64); 2]>,
    /// When the scheduler was asked, and for how long each worker had run or wanted to by then.
    wanted: Option<(u64, Vec<u64>)>,
    wanted_share: Option<f64>,
    looks: u64,
    starved_looks: u64,
}

impl Stepping {
    /// A search as planned; `None` where none is.
    pub fn new(plan: &Arc<Plan>) -> Option<Self> {
        Some(Self {
            threshold: plan.find_limit.clone()?,
            search: Search::new(plan.rate_per_s),
            steps: Vec::new(),
            plan: plan.clone(),
            stage: Stage::Ready,
            first_from_ns: u64::MAX,
        })
    }

    /// What is searched for.
    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    /// How the search has ended.
    pub fn found(&self) -> Option<&Found> {
        self.search.found()
    }

    /// Ends the search with what is known; the step under way says nothing.
    pub fn stop(&mut self) {
        self.search.stop();
        self.stage = Stage::Over;
    }

    /// Goes on if it is time; the step that has just been judged, if one has. To be called every
    /// few hundredths of a second from the end of the ramp until there is something found.
    pub fn advance(
        &mut self,
        now_ns: u64,
        orders: &Orders,
        windows: &[Arc<Window>],
    ) -> Option<&Step> {
        let before = self.steps.len();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ready => self.begin(now_ns, orders),
            Stage::Load(step) => self.watch(step, now_ns, orders, windows),
            Stage::Tallies(step, since_ns) => self.collect(step, since_ns, now_ns, windows),
            Stage::Over => Stage::Over,
        };
        self.steps.get(before)
    }

    fn begin(&mut self, now_ns: u64, orders: &Orders) -> Stage {
        let Some(rate_per_s) = self.search.next_rate() else { return Stage::Over };
        let due_ns = now_ns + NOTICE_NS;
        let from_ns = due_ns + SETTLE_NS_MAX.min(self.plan.step_ns / 5);
        let until_ns = from_ns + self.plan.step_ns;
        self.first_from_ns = self.first_from_ns.min(from_ns);
        orders.set_rate(rate_per_s);
        orders.begin(due_ns, from_ns..until_ns);
        Stage::Load(UnderWay {
            rate_per_s,
            from_ns,
            until_ns,
            cpu: Vec::new(),
            wanted: None,
            wanted_share: None,
            looks: 0,
            starved_looks: 0,
        })
    }

    fn watch(
        &mut self,
        mut step: UnderWay,
        now_ns: u64,
        orders: &Orders,
        windows: &[Arc<Window>],
    ) -> Stage {
        if orders.hold().end < step.until_ns {
            // Somebody ended the load: a step cut short says nothing.
            self.search.stop();
            return Stage::Over;
        }
        let mut queued = 0;
        for (worker, window) in windows.iter().enumerate() {
            let sample = window.sample.read();
            queued += sample.queued;
            if (step.from_ns..step.until_ns).contains(&now_ns) {
                let seen = (now_ns, sample.cpu_ns);
                match step.cpu.get_mut(worker) {
                    None => step.cpu.push([seen; 2]),
                    Some(cpu) => cpu[1] = seen,
                }
            }
        }
        if (step.from_ns..step.until_ns).contains(&now_ns) {
            if step.looks == 0 {
                step.wanted = Some((now_ns, wanted_ns()));
                // That was the step before.
                windows.iter().for_each(|w| w.drained.store(false, Ordering::Release));
            }
            step.looks += 1;
            // What is due goes at once to a session that is free: while something waits, none is.
            step.starved_looks += u64::from(queued > 0);
        }
        if now_ns >= step.until_ns
            && let Some((asked_ns, before)) = step.wanted.take()
        {
            let span_ns = (now_ns - asked_ns) as f64;
            let shares = before.iter().zip(wanted_ns());
            step.wanted_share =
                shares.map(|(b, a)| a.saturating_sub(*b) as f64 / span_ns).reduce(f64::max);
        }
        // By then each request of the step was answered, lost, or given up.
        let waited = now_ns > step.until_ns + 2 * self.plan.timeout_ns + NOTICE_NS;
        let drained = windows.iter().all(|w| w.drained.load(Ordering::Acquire));
        if now_ns > step.until_ns && (drained || waited) {
            orders.end_round();
            return Stage::Tallies(step, now_ns);
        }
        Stage::Load(step)
    }

    fn collect(
        &mut self,
        step: UnderWay,
        since_ns: u64,
        now_ns: u64,
        windows: &[Arc<Window>],
    ) -> Stage {
        let there = |w: &Arc<Window>| w.round.lock().is_ok_and(|round| round.is_some());
        if !windows.iter().all(there) {
            if now_ns < since_ns + HANDOVER_NS {
                return Stage::Tallies(step, since_ns);
            }
            self.search.stop();
            return Stage::Over;
        }
        let mut tally = Tally::default();
        for window in windows {
            if let Ok(mut round) = window.round.lock()
                && let Some(part) = round.take()
            {
                tally.merge(&part);
            }
        }
        let cpu_share = if self.plan.spin { None } else { self.cpu_share(&step) };
        // A hundredth of the time is what a p99 shows.
        let starved = step.starved_looks * 100 >= step.looks.max(1);
        let wanted_share = if self.plan.spin { None } else { step.wanted_share };
        let seen = Seen { tally, cpu_share, wanted_share, starved };
        let verdict = self.threshold.judge(&seen);
        self.search.record(&verdict);
        self.steps.push(Step {
            rate_per_s: step.rate_per_s,
            from_ns: step.from_ns,
            duration_ns: step.until_ns - step.from_ns,
            seen,
            verdict,
        });
        if self.search.found().is_some() { Stage::Over } else { Stage::Ready }
    }

    /// CPU of the busiest core's workers.
    fn cpu_share(&self, step: &UnderWay) -> Option<f64> {
        let mut cores = vec![0.0; self.plan.cores.len().max(1)];
        for (worker, [(t0, c0), (t1, c1)]) in step.cpu.iter().enumerate() {
            if t1 - t0 < CPU_NS_MIN {
                return None;
            }
            let core = worker % cores.len();
            cores[core] += c1.saturating_sub(*c0) as f64 / (t1 - t0) as f64;
        }
        cores.into_iter().reduce(f64::max)
    }
}

/// For how long each worker thread has run, or was able to and waited for its core
/// (`/proc/<pid>/schedstat`, Documentation/scheduler/sched-stats.rst); none where the kernel keeps no
/// such account.
fn wanted_ns() -> Vec<u64> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut paths: Vec<_> = threads.flatten().map(|thread| thread.path()).collect();
    // In the order of their numbers, so that two readings can be compared.
    paths.sort();
    let worker = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("worker-"))
    };
    let wanted = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        let mut fields = text.split_whitespace().map(str::parse::<u64>);
        Some(fields.next()?.ok()? + fields.next()?.ok()?)
    };
    paths.into_iter().filter(worker).filter_map(wanted).collect()
}
