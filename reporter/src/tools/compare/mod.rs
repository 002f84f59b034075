//! Two runs side by side: which figures changed, by how much, and whether that is more than their
//! own restlessness.
//!
//! A stage's figure is one number, so its spread is taken from the seconds of its hold phase: the
//! comparison is of the *median second* (the median of the per-second p99, of the per-second
//! throughput...), and [`interval`] says how well the change is known. A rank test such as
//! Mann-Whitney takes neighbouring seconds for independent, which they are not, and says that
//! something changed but not by how much.
//!
//! The interval knows how restless a run was, and not that two runs of one thing differ: the host is
//! another one a minute later. What both runs measured of that is the slip, which no server has a
//! part in; a latency that changed by less than the slip at its percentile is not certain.
//!
//! A figure that exists once a run (memory a session) has no interval, and says so; `--fail-on` takes
//! it as it is. A hold phase of fewer than [`SECONDS_MIN`] seconds has no interval either, and
//! nothing that it shows is certain: two equal runs differ there by a third.

mod chart;
pub mod interval;
pub mod page;

pub use self::interval::SECONDS_MIN;
use crate::report::units;
use crate::results::{Results, StageResult};
use crate::verdict::threshold::Op;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Median of the per-second medians.
    P50,
    /// Median of the per-second 95th percentiles.
    P95,
    /// Median of the per-second 99th percentiles.
    P99,
    /// Median of the answers a second.
    Throughput,
    /// Share of due requests that failed or were dropped, of the whole hold phase.
    Failures,
    /// Memory of all replicas over sessions held, in the judged window.
    MemoryPerSession,
}

/// All of them, in the order of the table.
pub const METRICS: [Metric; 6] = [
    Metric::P50,
    Metric::P95,
    Metric::P99,
    Metric::Throughput,
    Metric::Failures,
    Metric::MemoryPerSession,
];

/// One figure in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The stage; `run` for figures of the whole run.
    pub stage: String,
    /// What was compared.
    pub metric: Metric,
    /// In the base run.
    pub base: f64,
    /// In the new run.
    pub new: f64,
    /// new / base - 1, in percent; infinite if the base is 0.
    pub percent: f64,
    /// Its 95 % interval; none if the figure exists once a run, or for too few seconds.
    pub interval: Option<(f64, f64)>,
    /// How much of the figure is the generator's and the host's own restlessness: the larger of both
    /// runs' slip at the same percentile; 0 where that has no part in it.
    pub noise: f64,
}

/// A condition such as `p99>+10%`: fails if the figure rose by more than 10 % for certain.
#[derive(Clone, Debug, PartialEq)]
pub struct FailOn {
    /// What must not change.
    pub metric: Metric,
    /// Direction.
    pub op: Op,
    /// In percent, signed.
    pub percent: f64,
    /// As it was typed.
    pub text: String,
}

impl Metric {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Throughput => "throughput",
            Self::Failures => "failures",
            Self::MemoryPerSession => "memory_per_session",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::P50 => "response p50",
            Self::P95 => "response p95",
            Self::P99 => "response p99",
            Self::Throughput => "throughput",
            Self::Failures => "failures",
            Self::MemoryPerSession => "memory a session",
        }
    }

    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        match self.unit() {
            "bytes" => units::bytes(value),
            unit => units::in_unit(value, unit),
        }
    }

    /// The smallest change that its seconds can show, in percent: the latencies of a second are known
    /// to a step of a sixteenth of an octave, and two medians may fall on both sides of one.
    pub fn resolution_percent(self) -> f64 {
        match self {
            Self::P50 | Self::P95 | Self::P99 => 6.25,
            Self::Throughput | Self::Failures | Self::MemoryPerSession => 0.0,
        }
    }

    /// It exists once a run and has no seconds to compare.
    pub fn is_once(self) -> bool {
        match self {
            Self::P50 | Self::P95 | Self::P99 | Self::Throughput => false,
            Self::Failures | Self::MemoryPerSession => true,
        }
    }

    /// The base unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P95 | Self::P99 => "ns",
            Self::Throughput => "/s",
            Self::Failures => "%",
            Self::MemoryPerSession => "bytes",
        }
    }
}

impl std::str::FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spaceless: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let fail = |problem: &str| format!("`{text}`: {problem}, as in `p99>+10%`");
        let at = spaceless.find(['<', '>']).ok_or_else(|| fail("`<` or `>` is missing"))?;
        let (name, rest) = spaceless.split_at(at);
        let metric = METRICS.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name()).collect();
            fail(&format!("no figure `{name}`; there are {}", names.join(", ")))
        })?;
        let (op, value) = match rest.split_at(1) {
            (">", value) => (Op::Greater, value),
            (_, value) => (Op::Less, value),
        };
        let percent = value
            .strip_suffix('%')
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|percent| percent.is_finite())
            .ok_or_else(|| fail("the limit must be a signed percentage"))?;
        Ok(Self { metric, op, percent, text: text.to_owned() })
    }
}

impl FailOn {
    /// Whether a change breaks the condition: its figure does, and for certain.
    pub fn broken_by(&self, change: &Change) -> bool {
        self.exceeded_by(change) && change.is_certain()
    }

    /// Whether a change's figure lies beyond the condition, certain or not.
    pub fn exceeded_by(&self, change: &Change) -> bool {
        let beyond = match self.op {
            Op::Greater | Op::GreaterEqual => change.percent > self.percent,
            Op::Less | Op::LessEqual => change.percent < self.percent,
        };
        change.metric == self.metric && beyond
    }
}

impl Change {
    /// The interval does not contain "no change", and the change is more than the figure's own
    /// resolution and more than its noise. A figure that exists once a run is taken as it is; one
    /// of too few seconds is never certain.
    pub fn is_certain(&self) -> bool {
        match self.interval {
            Some((low, high)) => {
                (low > 0.0 || high < 0.0)
                    && self.percent.abs() > self.metric.resolution_percent()
                    && (self.new - self.base).abs() > self.noise
            }
            None => self.metric.is_once(),
        }
    }
}

/// Every figure that both runs have, stage by stage.
pub fn compare(base: &Results, new: &Results) -> Vec<Change> {
    let mut changes = Vec::new();
    for before in &base.stages {
        let Some(after) = new.stages.iter().find(|stage| stage.name == before.name) else {
            continue;
        };
        for metric in METRICS {
            changes.extend(change_of_stage(metric, before, after));
        }
    }
    if let (Some(before), Some(after)) = (memory_per_session(base), memory_per_session(new)) {
        changes.push(change("run", Metric::MemoryPerSession, before, after, None));
    }
    changes
}

/// What differs between the conditions of both runs, so that a change may come from there.
pub fn differences(base: &Results, new: &Results) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |name: &str, before: String, after: String| {
        if before != after {
            found.push(format!("{name}: {before} -> {after}"));
        }
    };
    let host = |results: &Results, key: &str| results.host[key].to_string();
    check("command", without_place(&base.command), without_place(&new.command));
    for key in ["name", "kernel", "cores", "cpu_model", "mem_bytes"] {
        check(key, host(base, key), host(new, key));
    }
    check("server", base.server.version.clone(), new.server.version.clone());
    check("versions", base.versions.to_string(), new.versions.to_string());
    for (results, name) in [(base, "base"), (new, "new")] {
        if !results.valid {
            found.push(format!("the {name} run is not valid"));
        }
    }
    found
}

/// A command without `--out`: where results are kept is no condition of a run.
fn without_place(command: &str) -> String {
    let Ok(words) = shell_words::split(command) else { return command.to_owned() };
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--out" => drop(words.next()),
            word if word.starts_with("--out=") => {}
            word => kept.push(word),
        }
    }
    shell_words::join(kept)
}

fn change(
    stage: &str,
    metric: Metric,
    base: f64,
    new: f64,
    interval: Option<(f64, f64)>,
) -> Change {
    let percent = percent(base, new);
    Change { stage: stage.to_owned(), metric, base, new, percent, interval, noise: 0.0 }
}

fn percent(base: f64, new: f64) -> f64 {
    match (base == 0.0, new == 0.0) {
        (true, true) => 0.0,
        (true, false) => f64::INFINITY,
        (false, _) => 100.0 * (new / base - 1.0),
    }
}

fn change_of_stage(metric: Metric, before: &StageResult, after: &StageResult) -> Option<Change> {
    if metric == Metric::Failures {
        let share = |stage: &StageResult| Some(100.0 * (1.0 - stage.requests.success_share?));
        return Some(change(&before.name, metric, share(before)?, share(after)?, None));
    }
    let (base, new) = (seconds(metric, before)?, seconds(metric, after)?);
    let interval = interval::of_change(&base, &new);
    let found = change(&before.name, metric, median(base), median(new), interval);
    Some(Change { noise: noise(metric, before).max(noise(metric, after)), ..found })
}

/// A stage's slip at the percentile that is compared.
fn noise(metric: Metric, stage: &StageResult) -> f64 {
    let Some(slip) = &stage.slip_ns else { return 0.0 };
    match metric {
        Metric::P50 => slip.p50 as f64,
        // Where so few requests were sent, the worst of them.
        Metric::P95 => slip.p95.unwrap_or(slip.max) as f64,
        Metric::P99 => slip.p99.unwrap_or(slip.max) as f64,
        Metric::Throughput | Metric::Failures | Metric::MemoryPerSession => 0.0,
    }
}

/// The figure in each bucket that lies inside of the hold phase.
fn seconds(metric: Metric, stage: &StageResult) -> Option<Vec<f64>> {
    let line = &stage.timeline;
    let (start, length) = (stage.hold_start_ns?, stage.hold_ns?);
    let inside = |bucket: &usize| {
        let at = line.start_ns + *bucket as u64 * line.bucket_ns;
        at >= start && at + line.bucket_ns <= start + length
    };
    let time = |course: &[Option<u64>], bucket: usize| course.get(bucket)?.map(|ns| ns as f64);
    let value = |bucket: usize| match metric {
        Metric::P50 => time(&line.p50_ns, bucket),
        Metric::P95 => time(&line.p95_ns, bucket),
        Metric::P99 => time(&line.p99_ns, bucket),
        Metric::Throughput => Some(*line.ok.get(bucket)? as f64 / (line.bucket_ns as f64 / 1e9)),
        Metric::Failures | Metric::MemoryPerSession => None,
    };
    let values: Vec<f64> = (0..line.ok.len()).filter(inside).filter_map(value).collect();
    (!values.is_empty()).then_some(values)
}

/// Memory of all replicas at the end of the judged window over the sessions held, bytes.
pub fn memory_per_session(results: &Results) -> Option<f64> {
    let memory: u64 = results.replicas.iter().filter_map(|replica| replica.rss_bytes_end).sum();
    let stage = crate::verdict::judge::top_stage(results)?;
    let sessions = stage.connections.session_alive_peak.filter(|sessions| *sessions > 0)?;
    (memory > 0).then(|| memory as f64 / sessions as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    crate::analysis::trend::median(&mut values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_breaks_only_on_a_certain_change_beyond_it() {
        let condition: FailOn = "p99>+10%".parse().expect("parses");
        let with = |percent: f64, interval: Option<(f64, f64)>| Change {
            stage: "s".to_owned(),
            metric: Metric::P99,
            base: 1.0,
            new: 1.0 + percent / 100.0,
            percent,
            interval,
            noise: 0.0,
        };
        assert!(condition.broken_by(&with(12.0, Some((5.0, 20.0)))));
        assert!(!condition.broken_by(&with(12.0, Some((-1.0, 20.0)))), "it may be no change");
        assert!(!condition.broken_by(&with(9.0, Some((5.0, 20.0)))), "it is within the limit");
        assert!(!with(-4.9, Some((-7.3, -4.9))).is_certain(), "one step of the seconds' scale");
        let within = Change { noise: 0.5, ..with(24.0, Some((12.0, 40.0))) };
        assert!(!within.is_certain(), "the generator itself added as much");
        assert!(Change { noise: 0.1, ..within }.is_certain());
        assert!(!condition.broken_by(&with(900.0, None)), "too few seconds to tell");
        let once = Change { metric: Metric::Failures, ..with(12.0, None) };
        assert!("failures>+10%".parse::<FailOn>().expect("parses").broken_by(&once));
        let falls: FailOn = "throughput<-5%".parse().expect("parses");
        assert!(!falls.broken_by(&with(-50.0, None)), "another figure");
    }

    #[test]
    fn where_results_are_kept_is_no_condition_of_a_run() {
        let place = |command: &str| without_place(command);
        assert_eq!(place("reporter run --out 'a b' -c 10"), "reporter run -c 10");
        assert_eq!(place("reporter run -c 10 --out=b"), "reporter run -c 10");
        assert_ne!(place("reporter run -c 10 --out a"), place("reporter run -c 20 --out a"));
        assert_eq!(place("an unclosed ' quote"), "an unclosed ' quote");
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for bad in ["p99", "p98>1%", "p99>10", "p99>x%", "p99>inf%"] {
            assert!(bad.parse::<FailOn>().expect_err(bad).contains("as in `p99>+10%`"), "{bad}");
        }
    }

    #[test]
    fn a_change_from_nothing_is_infinite_and_none_is_zero() {
        assert_eq!(percent(0.0, 0.0), 0.0);
        assert_eq!(percent(0.0, 1.0), f64::INFINITY);
        assert_eq!(percent(2.0, 1.0), -50.0);
    }
}
