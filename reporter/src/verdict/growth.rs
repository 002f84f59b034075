//! The growth of the replicas' memory against its limit. Pure functions on slopes.
//!
//! What is known of a replica's growth is an interval. Only the whole of it meets a limit or misses
//! it: a lower bound of 0 says that there may be no growth, not that there is none. In between
//! nobody can tell, and the threshold is not judged. A replica that was sampled in the window and
//! has no trend, because it was started anew in it, leaves the threshold without its figure: a leak
//! that ends with the process is seen in no slope.

use super::judge::Found;
use super::threshold::{self, Metric, Threshold};
use crate::analysis::replicas::{certain_growth, possible_growth};
use crate::results::{ReplicaResult, SlopeResult};

/// What a replica's slope says of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The whole interval misses it.
    Over,
    /// The whole interval meets it.
    Within,
    /// One end meets it, the other one does not.
    Unsure,
}

impl Growth {
    /// Of one slope.
    pub fn of(slope: &SlopeResult, limit: &Threshold) -> Self {
        if !limit.holds(best(slope, limit)) {
            Self::Over
        } else if limit.holds(worst(slope, limit)) {
            Self::Within
        } else {
            Self::Unsure
        }
    }
}

fn best(slope: &SlopeResult, limit: &Threshold) -> f64 {
    if limit.op.larger_is_worse() { certain_growth(slope) } else { possible_growth(slope) }
}

fn worst(slope: &SlopeResult, limit: &Threshold) -> f64 {
    if limit.op.larger_is_worse() { possible_growth(slope) } else { certain_growth(slope) }
}

/// The limit that a run with these thresholds is judged by.
pub fn limit(thresholds: &[String]) -> Option<Threshold> {
    let all = threshold::resolve(thresholds).ok()?;
    all.into_iter().find(|it| it.metric == Metric::RssGrowth && it.stage.is_none())
}

/// What the replicas' trends say; none if not one of them has a trend.
pub(super) fn find(limit: &Threshold, replicas: &[ReplicaResult]) -> Option<Found> {
    let known: Vec<(&str, &SlopeResult)> = replicas
        .iter()
        .filter_map(|replica| Some((replica.address.as_str(), replica.rss_slope.as_ref()?)))
        .collect();
    let stage = Some(known.first()?.1.stage.clone());
    let that_are = |wanted: Growth| {
        let are = move |known: &&(&str, &SlopeResult)| Growth::of(known.1, limit) == wanted;
        known.iter().copied().filter(move |known| are(&known))
    };
    if let Some((address, value)) = extreme(that_are(Growth::Over), limit, best) {
        let because = Some(format!("{address} grows by at least {value:.1} %/h"));
        return Some(Found::Value { value, stage, because });
    }
    if let Some(because) = without_trend(replicas) {
        return Some(Found::Missing { stage, because });
    }
    if let Some((address, _)) = extreme(that_are(Growth::Unsure), limit, worst) {
        let slope = known.iter().find(|known| known.0 == address)?.1;
        let because = format!(
            "cannot tell: {address} grows by {:+.1} to {:+.1} %/h",
            slope.percent_per_h_low, slope.percent_per_h_high
        );
        return Some(Found::Undecided { stage, because });
    }
    let (_, value) = extreme(that_are(Growth::Within), limit, worst)?;
    let because = Some(format!("at most {value:.1} %/h in each of {} replicas", known.len()));
    Some(Found::Value { value, stage, because })
}

/// The replica whose `end` of the interval is the worst.
fn extreme<'r>(
    known: impl Iterator<Item = (&'r str, &'r SlopeResult)>,
    limit: &Threshold,
    end: fn(&SlopeResult, &Threshold) -> f64,
) -> Option<(&'r str, f64)> {
    let sign = if limit.op.larger_is_worse() { 1.0 } else { -1.0 };
    known
        .map(|(address, slope)| (address, end(slope, limit)))
        .max_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)))
}

/// Why the replicas that were sampled in the window have no trend; those that a later stage added
/// are not of it.
pub(super) fn without_trend(replicas: &[ReplicaResult]) -> Option<String> {
    let mut unknown = replicas
        .iter()
        .filter(|replica| replica.rss_bytes_start.is_some() && replica.rss_slope.is_none());
    let first = unknown.next()?;
    let why = first.rss_because.as_deref().unwrap_or("it has no trend");
    let more = match unknown.count() {
        0 => String::new(),
        1 => "; and one more replica".to_owned(),
        more => format!("; and {more} more replicas"),
    };
    Some(format!("{}: {why}{more}", first.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::frame::Span;
    use crate::analysis::replicas::{ProcessSample, WINDOW_NS_MIN, Window, memory};

    const SECOND_NS: u64 = 1_000_000_000;
    const PAGE: f64 = 4_096.0;

    fn default() -> Threshold {
        limit(&[]).expect("the defaults have one")
    }

    /// A replica of 100 MiB whose growth lies between two rates, in percent an hour.
    fn replica(address: &str, low: f64, high: f64) -> ReplicaResult {
        let bytes = |percent: f64| percent / 100.0 * 104_857_600.0;
        ReplicaResult {
            address: address.to_owned(),
            requests_ok: 0,
            sessions_peak: 0,
            cpu_cores: None,
            rss_bytes_max: Some(104_857_600),
            rss_bytes_start: Some(104_857_600),
            rss_bytes_end: Some(104_857_600),
            rss_slope: Some(SlopeResult {
                stage: "stress".to_owned(),
                window_ns: WINDOW_NS_MIN,
                points: 60,
                bytes_per_h: bytes((low + high) / 2.0),
                bytes_per_h_low: bytes(low),
                bytes_per_h_high: bytes(high),
                percent_per_h: (low + high) / 2.0,
                percent_per_h_low: low,
                percent_per_h_high: high,
            }),
            rss_because: None,
            incarnations: 1,
        }
    }

    fn untold(address: &str, why: &str) -> ReplicaResult {
        let rss_because = Some(why.to_owned());
        ReplicaResult { rss_slope: None, rss_because, ..replica(address, 0.0, 0.0) }
    }

    fn found(replicas: &[ReplicaResult]) -> Found {
        find(&default(), replicas).expect("some have a trend")
    }

    #[test]
    fn only_a_whole_interval_meets_or_misses_the_limit() {
        let Found::Value { value, because, .. } =
            found(&[replica("a", -1.0, 0.9), replica("b", 1.0, 4.9)])
        else {
            panic!("both are within")
        };
        assert_eq!(value, 4.9);
        assert_eq!(because.as_deref(), Some("at most 4.9 %/h in each of 2 replicas"));
        let grown = found(&[replica("a", -2.0, 42.0), replica("b", 5.1, 9.0)]);
        assert!(matches!(grown, Found::Value { value: 5.1, .. }), "{grown:?}");
        let Found::Undecided { because, .. } =
            found(&[replica("a", -1.0, 1.0), replica("b", -2.0, 42.0)])
        else {
            panic!("b may have grown by 42 %/h")
        };
        assert_eq!(because, "cannot tell: b grows by -2.0 to +42.0 %/h");
    }

    #[test]
    fn a_replica_of_the_window_without_a_trend_is_named() {
        let anew = untold("b", "its process was started anew in the window");
        let Found::Missing { because, .. } = found(&[replica("a", -1.0, 1.0), anew.clone()]) else {
            panic!("b is not known")
        };
        assert_eq!(because, "b: its process was started anew in the window");
        let grown = found(&[replica("a", 6.0, 9.0), anew]);
        assert!(matches!(grown, Found::Value { value: 6.0, .. }), "{grown:?}");
    }

    #[test]
    fn a_replica_that_a_later_stage_added_is_not_of_the_window() {
        let later = ReplicaResult {
            rss_bytes_start: None,
            ..untold("b", "no sample of this replica in the window")
        };
        let Found::Value { because, .. } = found(&[replica("a", -1.0, 1.0), later.clone()]) else {
            panic!("a is within")
        };
        assert_eq!(because.as_deref(), Some("at most 1.0 %/h in each of 1 replicas"));
        assert_eq!(find(&default(), &[later]), None);
    }

    /// A replica of 20 MB that grows by `percent_per_h`, in whole pages, with up to 16 pages of
    /// noise, over 330 s.
    fn small(percent_per_h: f64, mut seed: u64) -> SlopeResult {
        let span = Span { start_ns: SECOND_NS, end_ns: 331 * SECOND_NS };
        let window = Window { stage: "stress".to_owned(), span, sessions: (10_000, 10_000) };
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 60) as f64
        };
        let sample = |second: u64| {
            let grown = 20e6 * percent_per_h / 100.0 * second as f64 / 3_600.0;
            ProcessSample {
                at_ns: (1 + second) * SECOND_NS,
                incarnation: 1,
                rss_bytes: ((20e6 + grown) / PAGE).floor() * PAGE + noise() * PAGE,
                cpu_ns: 0.0,
                fds: 0.0,
            }
        };
        let samples: Vec<ProcessSample> = (0..330).map(sample).collect();
        memory(&samples, &window).trend.expect("a trend")
    }

    #[test]
    fn small_replicas_are_judged_and_pages_that_come_and_go_are_no_growth() {
        for seed in 1..=12 {
            let (flat, leak) = (small(0.0, seed), small(15.0, seed));
            assert_eq!(Growth::of(&flat, &default()), Growth::Within, "{seed}: {flat:?}");
            assert_eq!(Growth::of(&leak, &default()), Growth::Over, "{seed}: {leak:?}");
        }
    }
}
