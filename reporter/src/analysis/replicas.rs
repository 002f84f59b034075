//! The replicas' processes: memory with its trend, CPU. From `metrics/replicas.csv`.
//!
//! Memory is judged in one window: the hold phase of a stage whose sessions are constant. A trend
//! is stated only if the window is long enough and the process was the same one throughout.

use std::collections::BTreeMap;

use super::frame::Span;
use super::table::Table;
use super::trend::{self, POINTS_MAX};
use crate::results::SlopeResult;

/// Shortest window in which a trend is stated. In five minutes a growth of 5 % an hour is 0.4 %,
/// more than a page here and there; in one minute it would be lost among them.
pub const WINDOW_NS_MIN: u64 = 300_000_000_000;

/// Growth over the whole window below which there is none, whatever the percentage: 4 pages.
/// Resident memory moves by pages, and a process that only goes on touches one for the first time
/// now and then. For a server of 4 MiB or more, 5 % an hour are above it in the shortest window.
pub const GROWTH_BYTES_MIN: f64 = 16_384.0;

const HOUR_NS: f64 = 3_600_000_000_000.0;

/// One sample of a replica's process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessSample {
    /// When.
    pub at_ns: u64,
    /// Which process of the replica, from 1.
    pub incarnation: u32,
    /// Resident memory.
    pub rss_bytes: f64,
    /// CPU time since the process began.
    pub cpu_ns: f64,
    /// Open descriptors; NaN if unknown.
    pub fds: f64,
}

/// All samples by replica address, in order of time.
pub type ByReplica = BTreeMap<String, Vec<ProcessSample>>;

/// The window in which memory is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The stage's name.
    pub stage: String,
    /// Its hold phase.
    pub span: Span,
    /// The lowest and the highest number of sessions alive in it.
    pub sessions: (u64, u64),
}

/// Share of the highest number of sessions that the lowest may be for both to count as one.
const CONSTANT_SHARE: f64 = 0.98;

impl Window {
    /// Memory that follows the number of sessions says nothing of growth.
    pub fn is_constant(&self) -> bool {
        let (low, high) = self.sessions;
        high > 0 && low as f64 >= high as f64 * CONSTANT_SHARE
    }
}

/// Memory of one replica in the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// At the start of the window.
    pub start_bytes: Option<u64>,
    /// At its end.
    pub end_bytes: Option<u64>,
    /// The trend, or why there is none.
    pub trend: Result<SlopeResult, String>,
}

/// Sorts the table's rows by replica.
pub fn by_replica(table: &Table) -> ByReplica {
    let mut replicas = ByReplica::new();
    for row in 0..table.len() {
        let sample = ProcessSample {
            at_ns: table.at_ns(row),
            incarnation: table.number(row, "incarnation") as u32,
            rss_bytes: table.number(row, "rss_bytes"),
            cpu_ns: table.number(row, "cpu_ns"),
            fds: table.number(row, "fds"),
        };
        if sample.at_ns > 0 && sample.rss_bytes > 0.0 {
            replicas.entry(table.text(row, "replica").to_owned()).or_default().push(sample);
        }
    }
    replicas.values_mut().for_each(|samples| samples.sort_by_key(|sample| sample.at_ns));
    replicas
}

/// Memory in the window.
pub fn memory(samples: &[ProcessSample], window: &Window) -> Memory {
    let inside: Vec<&ProcessSample> =
        samples.iter().filter(|sample| window.span.contains(sample.at_ns)).collect();
    let bytes = |sample: &&ProcessSample| sample.rss_bytes as u64;
    Memory {
        start_bytes: inside.first().map(bytes),
        end_bytes: inside.last().map(bytes),
        trend: slope(&inside, window),
    }
}

fn slope(inside: &[&ProcessSample], window: &Window) -> Result<SlopeResult, String> {
    let (Some(first), Some(last)) = (inside.first(), inside.last()) else {
        return Err("no sample of this replica in the window".to_owned());
    };
    if first.incarnation != last.incarnation {
        return Err("its process was started anew in the window".to_owned());
    }
    let length_ns = last.at_ns - first.at_ns;
    // A sample a second: the first and the last one lie up to a second inside of the window.
    if length_ns.saturating_add(2_000_000_000) < WINDOW_NS_MIN {
        return Err(format!(
            "{} s of samples, and a trend needs {} s",
            length_ns / 1_000_000_000,
            WINDOW_NS_MIN / 1_000_000_000
        ));
    }
    let series: Vec<(f64, f64)> = inside
        .iter()
        .map(|sample| ((sample.at_ns - first.at_ns) as f64 / HOUR_NS, sample.rss_bytes))
        .collect();
    let points = trend::thin(&series, POINTS_MAX);
    let slope = trend::theil_sen(&points)
        .ok_or_else(|| format!("{} points, and a trend needs more", points.len()))?;
    let start = points[0].1;
    let percent = |bytes_per_h: f64| 100.0 * bytes_per_h / start;
    Ok(SlopeResult {
        stage: window.stage.clone(),
        window_ns: length_ns,
        points: slope.points as u64,
        bytes_per_h: slope.slope,
        bytes_per_h_low: slope.low,
        bytes_per_h_high: slope.high,
        percent_per_h: percent(slope.slope),
        percent_per_h_low: percent(slope.low),
        percent_per_h_high: percent(slope.high),
    })
}

/// The growth that is certain, in percent an hour: the interval's lower bound, 0 if that is not
/// even [`GROWTH_BYTES_MIN`] over the window.
pub fn certain_growth(slope: &SlopeResult) -> f64 {
    if is_growth(slope, slope.bytes_per_h_low) { slope.percent_per_h_low } else { 0.0 }
}

/// The most that it may be, in percent an hour: the interval's upper bound, 0 if that is not even
/// [`GROWTH_BYTES_MIN`] over the window.
pub fn possible_growth(slope: &SlopeResult) -> f64 {
    if is_growth(slope, slope.bytes_per_h_high) { slope.percent_per_h_high } else { 0.0 }
}

fn is_growth(slope: &SlopeResult, bytes_per_h: f64) -> bool {
    bytes_per_h * slope.window_ns as f64 / HOUR_NS >= GROWTH_BYTES_MIN
}

/// Median CPU use in `span`, in cores, from sample to sample of one process.
pub fn cpu_cores(samples: &[ProcessSample], span: Span) -> Option<f64> {
    let mut shares: Vec<f64> = samples
        .windows(2)
        .filter(|pair| span.contains(pair[0].at_ns) && span.contains(pair[1].at_ns))
        .filter_map(|pair| cores(&pair[0], &pair[1]))
        .collect();
    (!shares.is_empty()).then(|| trend::median(&mut shares))
}

/// CPU use between two samples, in cores; none across a restart.
pub fn cores(before: &ProcessSample, after: &ProcessSample) -> Option<f64> {
    let wall_ns = after.at_ns.checked_sub(before.at_ns).filter(|wall| *wall > 0)?;
    let used = after.cpu_ns - before.cpu_ns;
    let same = before.incarnation == after.incarnation && used >= 0.0;
    same.then_some(used / wall_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const MIB: f64 = 1_048_576.0;

    fn window(seconds: u64) -> Window {
        let span = Span { start_ns: SECOND_NS, end_ns: (1 + seconds) * SECOND_NS };
        Window { stage: "stress".to_owned(), span, sessions: (99, 100) }
    }

    /// A replica of 100 MiB that grows by `bytes_per_s`, with a saw tooth of 2 MiB.
    fn samples(seconds: u64, bytes_per_s: f64) -> Vec<ProcessSample> {
        (0..=seconds)
            .map(|s| ProcessSample {
                at_ns: (1 + s) * SECOND_NS,
                incarnation: 1,
                rss_bytes: 100.0 * MIB + s as f64 * bytes_per_s + (s % 20) as f64 * MIB / 10.0,
                cpu_ns: s as f64 * 2.5e8,
                fds: 10.0,
            })
            .collect()
    }

    #[test]
    fn growth_is_found_and_a_saw_tooth_is_not_growth() {
        let leaking = memory(&samples(600, 20_000.0), &window(600)).trend.expect("a trend");
        // 20 kB a second are 68.7 MiB an hour, on 100 to 102 MiB.
        assert!((64.0..70.0).contains(&leaking.percent_per_h), "{leaking:?}");
        assert!(certain_growth(&leaking) > 50.0);
        let flat = memory(&samples(600, 0.0), &window(600)).trend.expect("a trend");
        assert!(flat.percent_per_h_low <= 0.0, "{flat:?}");
        assert_eq!(certain_growth(&flat), 0.0);
    }

    #[test]
    fn a_short_window_or_a_restart_has_no_trend() {
        let short = memory(&samples(60, 20_000.0), &window(60)).trend.expect_err("too short");
        assert_eq!(short, "59 s of samples, and a trend needs 300 s");
        let mut restarted = samples(600, 0.0);
        restarted[500..].iter_mut().for_each(|sample| sample.incarnation = 2);
        let reason = memory(&restarted, &window(600)).trend.expect_err("another process");
        assert!(reason.contains("started anew"));
        assert!(memory(&[], &window(600)).trend.is_err());
    }

    #[test]
    fn a_window_in_which_sessions_come_or_go_is_none() {
        assert!(window(600).is_constant());
        assert!(!Window { sessions: (97, 100), ..window(600) }.is_constant());
        assert!(!Window { sessions: (0, 0), ..window(600) }.is_constant());
    }

    #[test]
    fn a_few_pages_are_no_growth_whatever_the_percentage() {
        let slope = SlopeResult {
            stage: String::new(),
            window_ns: WINDOW_NS_MIN,
            points: 60,
            bytes_per_h: 1e5,
            bytes_per_h_low: 5e4,
            bytes_per_h_high: 1.5e5,
            percent_per_h: 20.0,
            percent_per_h_low: 10.0,
            percent_per_h_high: 30.0,
        };
        assert_eq!((certain_growth(&slope), possible_growth(&slope)), (0.0, 0.0));
    }

    #[test]
    fn cpu_is_in_cores_and_skips_a_restart() {
        let mut samples = samples(10, 0.0);
        assert_eq!(cpu_cores(&samples, window(10).span), Some(0.25));
        samples[5].incarnation = 2;
        assert_eq!(cores(&samples[4], &samples[5]), None);
    }
}
