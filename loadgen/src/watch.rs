//! From what workers show of themselves to a status: once a second, for the dashboard and for a
//! driving program. It looks at the workers' windows and never asks them for anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use latlog::Outcome;
use live::{Latency, Reading, WorkerLoad};

use crate::orders::{Orders, Stage};
use crate::plan::Plan;
use crate::summary::merge_intervals;
use crate::worker::sample::Sample;
use crate::worker::{Latencies, Window, latencies};

/// What is remembered from one look to the next.
pub struct Watch {
    /// Responses of all seconds that were seen.
    run: Latencies,
    seen: Vec<Seen>,
}

/// What was seen of one worker.
#[derive(Clone, Copy, Default)]
struct Seen {
    intervals: u64,
    at_ns: u64,
    cpu_ns: u64,
    reap_lag_ns_max: u64,
}

impl Watch {
    /// Before anything was seen.
    pub fn new(windows: &[Arc<Window>]) -> Self {
        Self { run: latencies(), seen: vec![Seen::default(); windows.len()] }
    }

    /// Takes what workers have shown since the last look; to be called many times a second, so
    /// that no second is missed.
    pub fn look(&mut self, windows: &[Arc<Window>]) {
        for (seen, window) in self.seen.iter_mut().zip(windows) {
            let lag = window.sample.read().reap_lag_ns_max;
            seen.reap_lag_ns_max = seen.reap_lag_ns_max.max(lag);
            let intervals = window.intervals.load(Ordering::Acquire);
            if intervals == seen.intervals {
                continue;
            }
            seen.intervals = intervals;
            if let Ok(interval) = window.interval.lock()
                && let Some(interval) = interval.as_ref()
            {
                let _ = self.run.add(interval);
            }
        }
    }

    /// The status at `now_ns`; the workers' loads are since the status before.
    pub fn reading(
        &mut self,
        now_ns: u64,
        plan: &Plan,
        orders: &Orders,
        sum: &Sample,
        windows: &[Arc<Window>],
    ) -> Reading {
        let last = merge_intervals(windows);
        let some = |value: u64| (!last.is_empty()).then_some(value);
        let stage = orders.stage(now_ns);
        let offset_ns = now_ns.saturating_sub(orders.warmup_from_ns());
        let rate = orders.rate().unwrap_or_else(|| plan.curve.per_s_at(offset_ns));
        Reading {
            t_ns: now_ns,
            phase: stage.name().to_owned(),
            phase_share: phase_share(stage, now_ns, orders, sum, (plan.sessions, plan.connections)),
            planned: u64::from(plan.sessions),
            planned_per_s: (!plan.closed).then_some(rate),
            tcp_open: sum.tcp_open,
            session_established: sum.session_established,
            session_alive: sum.session_alive,
            stream_open: sum.stream_open,
            tls_full: sum.tls_full,
            tls_resumed: sum.tls_resumed,
            tls_failed: sum.tls_failed,
            sent: sum.sent,
            ok: sum.ok,
            failed: sum.failed,
            dropped: sum.dropped,
            queued: sum.queued,
            in_flight: sum.in_flight,
            avg_ns: some(last.mean() as u64),
            p99_ns: some(last.value_at_quantile(0.99)),
            last: latency(&last),
            run: latency(&self.run),
            failures: by_reason(windows.iter().map(|window| &window.failures)),
            losses: by_reason(windows.iter().map(|window| &window.losses)),
            workers: self.loads(now_ns, windows),
        }
    }

    fn loads(&mut self, now_ns: u64, windows: &[Arc<Window>]) -> Vec<WorkerLoad> {
        let load = |(seen, window): (&mut Seen, &Arc<Window>)| {
            let sample = window.sample.read();
            let wall_ns = now_ns.saturating_sub(seen.at_ns);
            let used_ns = sample.cpu_ns.saturating_sub(seen.cpu_ns);
            let known = seen.at_ns > 0 && wall_ns > 0;
            let load = WorkerLoad {
                cpu_share: if known { used_ns as f64 / wall_ns as f64 } else { 0.0 },
                reap_lag_ns_max: seen.reap_lag_ns_max,
                queued: sample.queued,
                in_flight: sample.in_flight,
            };
            *seen = Seen { at_ns: now_ns, cpu_ns: sample.cpu_ns, reap_lag_ns_max: 0, ..*seen };
            load
        };
        self.seen.iter_mut().zip(windows).map(load).collect()
    }
}

/// How much of a stage is over, where its end can be told.
fn phase_share(
    stage: Stage,
    now_ns: u64,
    orders: &Orders,
    sum: &Sample,
    (sessions, connections): (u32, u32),
) -> Option<f64> {
    let hold = orders.hold();
    let between = |from_ns: u64, until_ns: u64| {
        let known = until_ns != u64::MAX && until_ns > from_ns;
        known.then(|| (now_ns.saturating_sub(from_ns)) as f64 / (until_ns - from_ns) as f64)
    };
    let of = |count: u64, all: u32| count as f64 / f64::from(all.max(1));
    match stage {
        Stage::Ramp => Some(of(sum.session_stood, sessions)),
        Stage::Warmup => between(orders.warmup_from_ns(), hold.start),
        Stage::Hold => between(hold.start, hold.end),
        Stage::Cooldown => Some(1.0 - of(sum.tcp_open, connections)),
        Stage::Drain | Stage::Abandon => None,
    }
    .map(|share| share.clamp(0.0, 1.0))
}

fn latency(of: &Latencies) -> Option<Latency> {
    (!of.is_empty()).then(|| Latency {
        count: of.len(),
        p50_ns: of.value_at_quantile(0.5),
        p90_ns: of.value_at_quantile(0.9),
        p99_ns: of.value_at_quantile(0.99),
        max_ns: of.max(),
    })
}

/// The reasons that occurred, over all workers.
fn by_reason<'w, const N: usize>(
    counts: impl Iterator<Item = &'w [AtomicU64; N]>,
) -> BTreeMap<String, u64> {
    let mut sums = [0; N];
    for worker in counts {
        sums.iter_mut().zip(worker).for_each(|(sum, n)| *sum += n.load(Ordering::Relaxed));
    }
    let named = Outcome::ALL.iter().zip(sums).filter(|(_, n)| *n > 0);
    named.map(|(outcome, n)| (outcome.name().to_owned(), n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(responses_ns: &[u64]) -> Arc<Window> {
        let window = Window::default();
        let mut interval = latencies();
        responses_ns.iter().for_each(|ns| interval.saturating_record(*ns));
        *window.interval.lock().expect("nobody panics") = Some(interval);
        window.intervals.store(1, Ordering::Release);
        Arc::new(window)
    }

    #[test]
    fn a_second_counts_once_however_often_it_is_looked_at() {
        let windows = [window(&[1_000_000, 2_000_000]), window(&[3_000_000])];
        let mut watch = Watch::new(&windows);
        watch.look(&windows);
        watch.look(&windows);
        assert_eq!(watch.run.len(), 3);
        windows[0].intervals.fetch_add(1, Ordering::Release);
        watch.look(&windows);
        assert_eq!(watch.run.len(), 5);
    }

    #[test]
    fn a_workers_load_is_of_the_time_since_the_status_before() {
        let windows = [window(&[])];
        let mut watch = Watch::new(&windows);
        let publish = |cpu_ns, lag| {
            let sample = Sample { cpu_ns, reap_lag_ns_max: lag, ..Sample::default() };
            windows[0].sample.publish(&sample);
        };
        publish(5_000, 10);
        assert_eq!(watch.loads(1_000_000, &windows)[0].cpu_share, 0.0, "nothing to compare with");
        publish(255_000, 70);
        watch.look(&windows);
        publish(255_000, 20);
        watch.look(&windows);
        let load = watch.loads(1_500_000, &windows)[0];
        assert_eq!((load.cpu_share, load.reap_lag_ns_max), (0.5, 70));
        publish(255_000, 0);
        watch.look(&windows);
        assert_eq!(watch.loads(1_600_000, &windows)[0].reap_lag_ns_max, 0, "of another second");
    }

    #[test]
    fn reasons_add_up_over_workers_and_have_names() {
        let windows = [window(&[]), window(&[])];
        windows[0].failures[Outcome::Reset as usize].store(2, Ordering::Relaxed);
        windows[1].failures[Outcome::Reset as usize].store(3, Ordering::Relaxed);
        let found = by_reason(windows.iter().map(|window| &window.failures));
        assert_eq!(found, [("reset".to_owned(), 5)].into());
    }

    #[test]
    fn a_phase_is_as_far_as_its_end_is_known() {
        let orders = Orders::new(0);
        let sum = Sample { session_stood: 25, tcp_open: 75, ..Sample::default() };
        let share =
            |stage, now_ns, orders: &Orders| phase_share(stage, now_ns, orders, &sum, (100, 300));
        assert_eq!(share(Stage::Ramp, 5, &orders), Some(0.25));
        assert_eq!(share(Stage::Cooldown, 5, &orders), Some(0.75));
        orders.begin(10, 20..40);
        assert_eq!(share(Stage::Warmup, 15, &orders), Some(0.5));
        assert_eq!(share(Stage::Hold, 25, &orders), Some(0.25));
        orders.begin(10, 20..u64::MAX);
        assert_eq!(share(Stage::Hold, 25, &orders), None, "until told");
    }
}
