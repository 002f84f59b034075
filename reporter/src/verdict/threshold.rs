//! Thresholds: `metric op value unit`, as typed and as a run has them by default.
//!
//! It parses and compares; it does not know where a value comes from (see `judge`).
//!
//! ```text
//! success>=95%   avg<100ms   p99<500ms   slip_p99<5ms   throughput>3000/s   recovery<30s
//! rss_growth<5%/h   dropped<=0   stage:stress-100k:p99<500ms
//! ```
//!
//! A percentage is held in percent, a duration in nanoseconds, a rate per second. A unit that does
//! not belong to the metric is an error, so that `p99<500` is not read as 500 of something.

use std::fmt;
use std::str::FromStr;

use crate::results::ThresholdOrigin;

/// Why a threshold could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("threshold `{text}`: {problem}")]
pub struct ParseError {
    text: String,
    problem: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// ok / offered, in percent.
    Success,
    /// A figure of one of the three latencies, in nanoseconds.
    Latency(Series, Figure),
    /// Answered load requests a second.
    Throughput,
    /// Kill to recovery, in nanoseconds.
    Recovery,
    /// Load requests lost to a killed replica.
    LostRequests,
    /// Scale command to convergence, in nanoseconds.
    Converge,
    /// Growth of a replica's memory, in percent an hour; an interval.
    RssGrowth,
    /// Load requests that were due and never sent.
    Dropped,
    /// Load requests that were sent and failed.
    Failed,
    /// Sessions alive in the hold phase (the lowest count) over the planned connections, in percent.
    Sessions,
}

/// Which latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// done - intended.
    Response,
    /// done - sent.
    Service,
    /// sent - intended.
    Slip,
}

/// Which figure of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Arithmetic mean.
    Avg,
    /// Median.
    P50,
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
    /// 99.99 %.
    P9999,
    /// Largest.
    Max,
}

/// The comparison that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// The unit that a metric's values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds; typed as `ns`, `us`, `ms`, `s`, `m`, or `h`.
    Nanos,
    /// `%`
    Percent,
    /// `/s`
    PerSecond,
    /// `%/h`
    PercentPerHour,
    /// No unit.
    Count,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The stage it is about; none: the metric's own choice.
    pub stage: Option<String>,
    /// What is compared.
    pub metric: Metric,
    /// How.
    pub op: Op,
    /// With what, in the metric's unit.
    pub limit: f64,
    /// The limit as it was typed, with its unit.
    pub limit_text: String,
    /// Where it comes from.
    pub origin: ThresholdOrigin,
}

/// The metrics that a condition may be about, for those who type one.
const METRICS: &str = "success, throughput, avg, p50, p90, p95, p99, p999, p9999, max (each latency \
    also as service_... and slip_...), recovery, lost_requests, converge, rss_growth, dropped, \
    failed, sessions";

/// The conditions that a run is judged by unless the user says otherwise.
pub const DEFAULTS: [&str; 7] = [
    "sessions>=99%",
    "success>=95%",
    "avg<100ms",
    "p99<500ms",
    "throughput>3,000/s",
    "recovery<30s",
    "rss_growth<5%/h",
];

/// What `--threshold` takes, for its help text.
pub fn help() -> String {
    format!(
        "A condition that the results must meet, such as 'p99<500ms' or 'stage:failover:p99<2s'; \
         may be repeated. Figures: {METRICS}. A default on the same figure gives way [default: {}]",
        DEFAULTS.join(", ")
    )
}

/// The default thresholds with the user's in the place of those of the same name, then the rest.
pub fn resolve(user: &[String]) -> Result<Vec<Threshold>, ParseError> {
    let mut all = Vec::new();
    for text in DEFAULTS {
        let mut threshold: Threshold = text.parse()?;
        threshold.origin = ThresholdOrigin::Default;
        all.push(threshold);
    }
    for text in user {
        let threshold: Threshold = text.parse()?;
        match all.iter_mut().find(|old| old.name() == threshold.name()) {
            Some(old) => *old = threshold,
            None => all.push(threshold),
        }
    }
    Ok(all)
}

impl Threshold {
    /// The metric with its scope; two thresholds of one name replace each other.
    pub fn name(&self) -> String {
        match &self.stage {
            Some(stage) => format!("stage:{stage}:{}", self.metric),
            None => self.metric.to_string(),
        }
    }

    /// Whether `value` (in the metric's unit) satisfies the condition. NaN never does.
    pub fn holds(&self, value: f64) -> bool {
        match self.op {
            Op::Less => value < self.limit,
            Op::LessEqual => value <= self.limit,
            Op::Greater => value > self.limit,
            Op::GreaterEqual => value >= self.limit,
        }
    }
}

impl Op {
    /// As it is typed.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }

    /// True if the larger of two values is the worse one.
    pub fn larger_is_worse(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual)
    }
}

impl Unit {
    /// The name of the base unit in `results.json`.
    pub fn base(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Percent => "%",
            Self::PerSecond => "/s",
            Self::PercentPerHour => "%/h",
            Self::Count => "count",
        }
    }

    /// The factor from a typed unit to the base unit.
    fn factor(self, typed: &str) -> Option<f64> {
        match (self, typed) {
            (Self::Nanos, "ns") => Some(1.0),
            (Self::Nanos, "us" | "µs") => Some(1e3),
            (Self::Nanos, "ms") => Some(1e6),
            (Self::Nanos, "s") => Some(1e9),
            (Self::Nanos, "m" | "min") => Some(60e9),
            (Self::Nanos, "h") => Some(3600e9),
            (Self::Percent, "%") | (Self::PercentPerHour, "%/h") | (Self::Count, "") => Some(1.0),
            (Self::PerSecond, "/s" | "req/s" | "rps") => Some(1.0),
            (Self::PerSecond, "/min" | "/m") => Some(1.0 / 60.0),
            (Self::PercentPerHour, "%/min") => Some(60.0),
            (Self::PercentPerHour, "%/d") => Some(1.0 / 24.0),
            _ => None,
        }
    }

    /// What to type, for a message.
    fn example(self) -> &'static str {
        match self {
            Self::Nanos => "a duration: ns, us, ms, s, m, h (such as 500ms)",
            Self::Percent => "% (such as 95%)",
            Self::PerSecond => "/s (such as 3000/s)",
            Self::PercentPerHour => "%/h (such as 5%/h)",
            Self::Count => "a bare number",
        }
    }
}

impl Metric {
    /// The unit of its values.
    pub fn unit(self) -> Unit {
        match self {
            Self::Success | Self::Sessions => Unit::Percent,
            Self::Latency(..) | Self::Recovery | Self::Converge => Unit::Nanos,
            Self::Throughput => Unit::PerSecond,
            Self::RssGrowth => Unit::PercentPerHour,
            Self::LostRequests | Self::Dropped | Self::Failed => Unit::Count,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Success => "success",
            Self::Throughput => "throughput",
            Self::Recovery => "recovery",
            Self::LostRequests => "lost_requests",
            Self::Converge => "converge",
            Self::RssGrowth => "rss_growth",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Sessions => "sessions",
            Self::Latency(series, figure) => {
                let prefix = match series {
                    Series::Response => "",
                    Series::Service => "service_",
                    Series::Slip => "slip_",
                };
                return write!(f, "{prefix}{}", figure.name());
            }
        };
        f.write_str(name)
    }
}

impl Figure {
    /// Samples below which it is not stated: at least ten lie beyond a percentile.
    pub fn samples_min(self) -> u64 {
        match self {
            Self::Avg | Self::P50 | Self::Max => 1,
            Self::P90 => 100,
            Self::P95 => 200,
            Self::P99 => 1_000,
            Self::P999 => 10_000,
            Self::P9999 => 100_000,
        }
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::P9999 => "p9999",
            Self::Max => "max",
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (series, figure) = if let Some(rest) = text.strip_prefix("service_") {
            (Series::Service, rest)
        } else if let Some(rest) = text.strip_prefix("slip_") {
            (Series::Slip, rest)
        } else {
            (Series::Response, text.strip_prefix("response_").unwrap_or(text))
        };
        let figure = match figure {
            "avg" | "mean" => Figure::Avg,
            "p50" | "median" => Figure::P50,
            "p90" => Figure::P90,
            "p95" => Figure::P95,
            "p99" => Figure::P99,
            "p999" | "p99.9" => Figure::P999,
            "p9999" | "p99.99" => Figure::P9999,
            "max" => Figure::Max,
            _ => return Self::plain(text),
        };
        Ok(Self::Latency(series, figure))
    }
}

impl Metric {
    fn plain(text: &str) -> Result<Self, String> {
        Ok(match text {
            "success" => Self::Success,
            "throughput" => Self::Throughput,
            "recovery" => Self::Recovery,
            "lost_requests" => Self::LostRequests,
            "converge" => Self::Converge,
            "rss_growth" => Self::RssGrowth,
            "dropped" => Self::Dropped,
            "failed" => Self::Failed,
            "sessions" => Self::Sessions,
            _ => {
                return Err(format!("no metric `{text}`; there are {METRICS}"));
            }
        })
    }
}

impl FromStr for Threshold {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |problem: String| ParseError { text: text.to_owned(), problem };
        let spaceless: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (stage, condition) = match spaceless.strip_prefix("stage:") {
            None => (None, spaceless.as_str()),
            Some(rest) => {
                let at = rest.rfind(':').filter(|&at| at > 0).ok_or_else(|| {
                    fail("after `stage:` a name and a condition, `stage:NAME:p99<500ms`".to_owned())
                })?;
                (Some(rest[..at].to_owned()), &rest[at + 1..])
            }
        };
        let at = condition
            .find(['<', '>', '='])
            .ok_or_else(|| fail("one of <, <=, >, >= is missing, as in `p99<500ms`".to_owned()))?;
        let (name, rest) = condition.split_at(at);
        let (op, value) = if let Some(value) = rest.strip_prefix("<=") {
            (Op::LessEqual, value)
        } else if let Some(value) = rest.strip_prefix(">=") {
            (Op::GreaterEqual, value)
        } else if let Some(value) = rest.strip_prefix('<') {
            (Op::Less, value)
        } else if let Some(value) = rest.strip_prefix('>') {
            (Op::Greater, value)
        } else {
            return Err(fail("`=` compares nothing measured; use <, <=, > or >=".to_owned()));
        };
        let metric: Metric = name.parse().map_err(fail)?;
        let (limit, limit_text) = limit(metric.unit(), value).map_err(fail)?;
        Ok(Self { stage, metric, op, limit, limit_text, origin: ThresholdOrigin::User })
    }
}

/// Reads a number with its unit; thousands may be separated by `,` or `_`, and end in `k`.
fn limit(unit: Unit, text: &str) -> Result<(f64, String), String> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | ',' | '_')).unwrap_or(text.len());
    let (digits, mut typed_unit) = text.split_at(end);
    let plain: String = digits.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let mut number: f64 =
        plain.parse().map_err(|_| format!("`{text}` does not begin with a number"))?;
    if let Some(rest) = typed_unit.strip_prefix('k') {
        number *= 1e3;
        typed_unit = rest;
    }
    let factor = unit
        .factor(typed_unit)
        .ok_or_else(|| format!("the unit of `{text}` must be {}", unit.example()))?;
    let shown = match unit {
        Unit::Percent | Unit::PercentPerHour | Unit::Nanos => format!("{digits} {typed_unit}"),
        Unit::PerSecond | Unit::Count => text.to_owned(),
    };
    Ok((number * factor, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Threshold {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<Threshold>().expect_err(text).to_string()
    }

    #[test]
    fn units_are_brought_to_the_base_unit() {
        for (text, limit) in [
            ("p99<500ms", 5e8),
            ("p99 < 0.5 s", 5e8),
            ("slip_p99<=250us", 2.5e5),
            ("recovery<1m", 6e10),
            ("success>=95%", 95.0),
            ("throughput>3,000/s", 3e3),
            ("throughput>3k/s", 3e3),
            ("rss_growth<5%/h", 5.0),
            ("rss_growth<120%/d", 5.0),
            ("dropped<=0", 0.0),
        ] {
            assert_eq!(parsed(text).limit, limit, "{text}");
        }
    }

    #[test]
    fn a_wrong_unit_is_an_error_that_says_the_right_one() {
        assert!(refused("p99<500").contains("a duration"));
        assert!(refused("success>=0.95").contains("such as 95%"));
        assert!(refused("throughput>3000ms").contains("such as 3000/s"));
        assert!(refused("dropped<=0%").contains("a bare number"));
        assert!(refused("p98<1ms").contains("no metric `p98`"));
        assert!(refused("p99=1ms").contains("compares nothing"));
        assert!(refused("p99").contains("is missing"));
        assert!(refused("p99<ms").contains("does not begin with a number"));
        assert!(refused("stage:p99<1ms").contains("stage:NAME"));
    }

    #[test]
    fn the_help_names_what_can_be_typed() {
        let named = METRICS.replace("(each latency also as service_... and slip_...)", "");
        for name in named.split(',').map(str::trim) {
            assert_eq!(name.parse::<Metric>().map(|it| it.to_string()), Ok(name.to_owned()));
        }
        for default in DEFAULTS {
            assert!(METRICS.contains(&parsed(default).metric.to_string()), "{default}");
        }
    }

    #[test]
    fn a_scope_is_part_of_the_name() {
        let scoped = parsed("stage:stress-100k:p99<500ms");
        assert_eq!(scoped.stage.as_deref(), Some("stress-100k"));
        assert_eq!(scoped.name(), "stage:stress-100k:p99");
    }

    #[test]
    fn the_users_threshold_takes_the_place_of_the_default() {
        let user = ["p99<250ms".to_owned(), "dropped<=0".to_owned()];
        let all = resolve(&user).expect("resolves");
        assert_eq!(all.len(), DEFAULTS.len() + 1);
        assert_eq!(all[3].limit, 2.5e8);
        assert_eq!(all[3].origin, ThresholdOrigin::User);
        assert_eq!(all[0].origin, ThresholdOrigin::Default);
        assert_eq!(all[7].name(), "dropped");
    }

    #[test]
    fn the_edge_belongs_to_the_operator_with_the_equals_sign() {
        assert!(!parsed("avg<100ms").holds(1e8));
        assert!(parsed("avg<=100ms").holds(1e8));
        assert!(parsed("success>=95%").holds(95.0));
        assert!(!parsed("success>95%").holds(95.0));
        assert!(!parsed("success>95%").holds(f64::NAN));
    }
}
