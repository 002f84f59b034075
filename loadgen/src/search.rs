//! Where a target's limit lies: what a step of load has shown, whether the limit asked for holds in
//! it, and which rate is tried next. Pure decisions; `stepping` makes the steps.

use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::worker::Tally;

/// By how much the rate grows while the threshold holds, and falls before it has ever held.
const FACTOR: f64 = 2.0;
/// A bracket whose ends are this near to each other is the answer.
const NEAR: f64 = 1.05;
/// Steps after which a search ends with the bracket that it has.
const STEPS_MAX: usize = 40;
/// Rates beyond which nothing is tried.
const RATES: std::ops::RangeInclusive<f64> = 0.1..=1e8;
/// A core this busy with the generator is at its end.
const CPU_MAX: f64 = 0.95;
/// A worker that waits for its core for this share of the time measures the host.
const WAIT_MAX: f64 = 0.5;

/// What a user still accepts, such as `p99<500ms,success>=99%`: every rule has to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    rules: Vec<Rule>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    /// A response time that has to stay below.
    Response { figure: Figure, below_ns: u64 },
    /// A share of the offered requests that has to succeed.
    Success { share: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Avg,
    Max,
    Quantile(f64),
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rules: Vec<Rule> = text.split(',').map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules, text: text.to_owned() })
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let wrong = || {
        format!(
            "'{text}' is no rule: write p99<500ms (or avg, max, p50, p90, p95, p999) or success>=99%"
        )
    };
    let text = text.trim();
    if let Some((name, limit)) = text.split_once(">=") {
        let percent: f64 =
            limit.trim().strip_suffix('%').and_then(|n| n.trim().parse().ok()).ok_or_else(wrong)?;
        let fits = name.trim() == "success" && percent > 0.0 && percent <= 100.0;
        return fits.then_some(Rule::Success { share: percent / 100.0 }).ok_or_else(wrong);
    }
    let (name, limit) = text.split_once('<').ok_or_else(wrong)?;
    let figure = match name.trim() {
        "avg" | "mean" => Figure::Avg,
        "max" => Figure::Max,
        "p50" => Figure::Quantile(0.5),
        "p90" => Figure::Quantile(0.9),
        "p95" => Figure::Quantile(0.95),
        "p99" => Figure::Quantile(0.99),
        "p999" => Figure::Quantile(0.999),
        _ => return Err(wrong()),
    };
    let below_ns = crate::cli::duration(limit.trim())?.as_nanos() as u64;
    if below_ns == 0 { Err(wrong()) } else { Ok(Rule::Response { figure, below_ns }) }
}

/// What a step has shown.
#[derive(Default)]
pub struct Seen {
    /// Counts and latencies of the step's requests.
    pub tally: Tally,
    /// CPU of the busiest core's workers, 1.0 a whole core; `None` where it says nothing, because
    /// they poll.
    pub cpu_share: Option<f64>,
    /// For which share of the step the most wanting worker ran or waited for its core; `None` where
    /// that is not known, or says nothing because they poll.
    pub wanted_share: Option<f64>,
    /// Whether there were moments at which a worker had no free session: what waited then waited
    /// for the target.
    pub starved: bool,
}

/// What a step says about its rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The threshold holds.
    Holds,
    /// It does not, because of this.
    Breaks(String),
    /// The generator was at its own limit, so that nothing is said about the target.
    Generator(String),
}

impl Verdict {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Breaks(_) => "breaks",
            Verdict::Generator(_) => "generator",
        }
    }

    pub(crate) fn because(&self) -> &str {
        match self {
            Verdict::Holds => "",
            Verdict::Breaks(because) | Verdict::Generator(because) => because,
        }
    }
}

impl Threshold {
    /// Judges a step. A step in which the generator was at its own limit says nothing about the
    /// target, whether the threshold was kept or not.
    pub fn judge(&self, seen: &Seen) -> Verdict {
        let tally = &seen.tally;
        if let Some(share) = seen.cpu_share.filter(|share| *share >= CPU_MAX) {
            return Verdict::Generator(format!(
                "its workers took {:.0} % of a core",
                share * 100.0
            ));
        }
        if tally.dropped > 0 && !seen.starved {
            return Verdict::Generator(format!(
                "{} requests were never sent although sessions were free",
                tally.dropped
            ));
        }
        let Some((rule, because)) = self.rules.iter().find_map(|r| Some((r, r.broken(tally)?)))
        else {
            return Verdict::Holds;
        };
        if let (Some(wanted), Some(got)) = (seen.wanted_share, seen.cpu_share)
            && wanted - got >= WAIT_MAX
        {
            // Answers that nobody has the time to read make sessions look busy.
            return Verdict::Generator(format!(
                "{because}, while a worker wanted its core for {:.0} % of the time and waited for \
                 it for {:.0} %",
                wanted * 100.0,
                (wanted - got) * 100.0
            ));
        }
        let slip_ns = tally.slip.value_at_quantile(0.99);
        let response_ns = tally.response.value_at_quantile(0.99);
        let late = slip_ns >= response_ns / 2 && !seen.starved && !tally.response.is_empty();
        if late && matches!(rule, Rule::Response { .. }) {
            return Verdict::Generator(format!(
                "slip p99 is {} of {because}, although sessions were free",
                ms(slip_ns)
            ));
        }
        // Who has too few connections sees their end before the target's.
        let busy = if seen.starved { ", at times with no session free" } else { "" };
        Verdict::Breaks(because + busy)
    }
}

impl Rule {
    /// Why it does not hold.
    fn broken(&self, tally: &Tally) -> Option<String> {
        match *self {
            Rule::Response { figure, below_ns } => {
                if tally.response.is_empty() {
                    return Some("no request was answered".into());
                }
                let (name, value_ns) = match figure {
                    Figure::Avg => ("avg".into(), tally.response.mean() as u64),
                    Figure::Max => ("max".into(), tally.response.max()),
                    Figure::Quantile(q) => {
                        let name = format!("p{}", (q * 1000.0).round() / 10.0).replace('.', "");
                        (name, tally.response.value_at_quantile(q))
                    }
                };
                (value_ns >= below_ns).then(|| format!("{name} {}", ms(value_ns)))
            }
            Rule::Success { share } => {
                let offered = tally.sent + tally.dropped;
                let actual = tally.ok as f64 / offered.max(1) as f64;
                (actual < share).then(|| format!("success {:.3} %", actual * 100.0))
            }
        }
    }
}

fn ms(ns: u64) -> String {
    format!("{:.2}ms", ns as f64 / 1e6)
}

/// How a search has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The threshold holds at one rate and breaks at another, near it.
    Knee {
        /// The highest rate at which it holds.
        holds: f64,
        /// The lowest at which it breaks.
        breaks: f64,
    },
    /// The generator came to its own limit: the target's is not known.
    Generator {
        /// The highest rate at which the threshold holds.
        holds: Option<f64>,
        /// The rate at which the generator was at its limit.
        at: f64,
    },
    /// It breaks at every rate that was tried.
    Never,
    /// The search came to the end of its steps or rates, or was told to end.
    Open {
        /// The highest rate at which the threshold holds.
        holds: Option<f64>,
        /// The lowest rate at which it breaks.
        breaks: Option<f64>,
    },
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    next: f64,
    holds: Option<f64>,
    breaks: Option<f64>,
    steps: usize,
    found: Option<Found>,
}

impl Search {
    /// A search that begins at a rate.
    pub fn new(rate_per_s: f64) -> Self {
        Self { next: rate_per_s, holds: None, breaks: None, steps: 0, found: None }
    }

    /// The rate of the next step; `None` when the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        self.found.is_none().then_some(self.next)
    }

    /// Takes what the step at [`Search::next_rate`] says.
    pub fn record(&mut self, verdict: &Verdict) {
        let at = self.next;
        self.steps += 1;
        match verdict {
            Verdict::Holds => self.holds = Some(at),
            Verdict::Breaks(_) => self.breaks = Some(at),
            Verdict::Generator(_) => {
                self.found = Some(Found::Generator { holds: self.holds, at });
                return;
            }
        }
        self.next = match (self.holds, self.breaks) {
            (Some(holds), Some(breaks)) if breaks / holds <= NEAR => {
                self.found = Some(Found::Knee { holds, breaks });
                return;
            }
            (Some(holds), Some(breaks)) => (holds * breaks).sqrt(),
            (Some(holds), None) => holds * FACTOR,
            (None, Some(breaks)) => breaks / FACTOR,
            (None, None) => at,
        };
        if self.holds.is_none() && self.next < *RATES.start() {
            self.found = Some(Found::Never);
        } else if self.steps >= STEPS_MAX || self.next > *RATES.end() {
            self.stop();
        }
    }

    /// Ends the search with what is known.
    pub fn stop(&mut self) {
        let (holds, breaks) = (self.holds, self.breaks);
        self.found.get_or_insert(Found::Open { holds, breaks });
    }

    /// How it has ended.
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }
}

/// A step that was made.
pub struct Step {
    /// Requests a second that were asked for.
    pub rate_per_s: f64,
    /// When the counted part began.
    pub from_ns: u64,
    /// How long it lasted.
    pub duration_ns: u64,
    /// What it has shown.
    pub seen: Seen,
    /// What that says.
    pub verdict: Verdict,
}

impl Step {
    /// The step as the log and `--json` keep it.
    pub fn to_json(&self) -> Value {
        let t = &self.seen.tally;
        let at = |q| (!t.response.is_empty()).then(|| t.response.value_at_quantile(q));
        json!({
            "rate_per_s": self.rate_per_s,
            "from_ns": self.from_ns,
            "duration_ns": self.duration_ns,
            "offered": t.sent + t.dropped,
            "ok": t.ok,
            "failed": t.sent - t.ok,
            "dropped": t.dropped,
            "response_ns": {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)},
            "slip_ns_p99": t.slip.value_at_quantile(0.99),
            "cpu_share": self.seen.cpu_share,
            "wanted_share": self.seen.wanted_share,
            "starved": self.seen.starved,
            "verdict": self.verdict.name(),
            "because": self.verdict.because(),
        })
    }
}

/// The search as `--json` has it.
pub fn to_json(threshold: &Threshold, steps: &[Step], found: &Found) -> Value {
    let (kind, holds, breaks, generator) = match *found {
        Found::Knee { holds, breaks } => ("knee", Some(holds), Some(breaks), None),
        Found::Generator { holds, at } => ("generator", holds, None, Some(at)),
        Found::Never => ("never", None, None, None),
        Found::Open { holds, breaks } => ("open", holds, breaks, None),
    };
    json!({
        "threshold": threshold.to_string(),
        "found": kind,
        "holds_per_s": holds,
        "breaks_per_s": breaks,
        "generator_limit_per_s": generator,
        "steps": steps.iter().map(Step::to_json).collect::<Vec<_>>(),
    })
}

/// The table of all steps, and what they say together.
pub fn to_text(threshold: &Threshold, steps: &[Step], found: &Found) -> String {
    let mut out = format!("\n=== LIMIT OF {threshold} ===\n");
    let _ = writeln!(
        out,
        "{:>12} {:>10} {:>9} {:>11} {:>11} {:>11} {:>6} {:>6}  verdict",
        "req/s", "offered", "success", "p50", "p99", "slip p99", "CPU", "wanted"
    );
    for step in steps {
        let t = &step.seen.tally;
        let success = 100.0 * t.ok as f64 / (t.sent + t.dropped).max(1) as f64;
        let percent =
            |share: Option<f64>| share.map_or("-".into(), |s| format!("{:.0}%", s * 100.0));
        let _ = writeln!(
            out,
            "{:>12.1} {:>10} {:>8.3}% {:>11} {:>11} {:>11} {:>6} {:>6}  {}",
            step.rate_per_s,
            t.sent + t.dropped,
            success,
            ms(t.response.value_at_quantile(0.5)),
            ms(t.response.value_at_quantile(0.99)),
            ms(t.slip.value_at_quantile(0.99)),
            percent(step.seen.cpu_share),
            percent(step.seen.wanted_share),
            format!("{} {}", step.verdict.name(), step.verdict.because()).trim_end()
        );
    }
    let held = |holds: &Option<f64>| match holds {
        Some(rate) => format!("it holds at {rate:.1} req/s"),
        None => "no rate was found at which it holds".into(),
    };
    out += &match found {
        Found::Knee { holds, breaks } => {
            format!("Knee: holds at {holds:.1} req/s, breaks at {breaks:.1} req/s")
        }
        Found::Generator { holds, at } => format!(
            "Generator limit at {at:.1} req/s, not the target's: {}; what lies beyond needs more \
             cores or generators",
            held(holds)
        ),
        Found::Never => "It holds at no rate".into(),
        Found::Open { holds, breaks: Some(breaks) } => {
            format!("Ended early: {}, and breaks at {breaks:.1} req/s", held(holds))
        }
        Found::Open { holds, breaks: None } => {
            format!("Ended early: {}, and no rate was found at which it breaks", held(holds))
        }
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn threshold() -> Threshold {
        "p99<500ms,success>=99%".parse().expect("parses")
    }

    /// A thousand requests that took this long, of which so many failed or were dropped.
    fn seen(response_ns: u64, slip_ns: u64, failed: u64, dropped: u64) -> Seen {
        let mut tally = Tally { sent: 1000, ok: 1000 - failed, dropped, ..Tally::default() };
        tally.response.saturating_record_n(response_ns, 1000);
        tally.slip.saturating_record_n(slip_ns, 1000);
        Seen { tally, cpu_share: Some(0.4), wanted_share: Some(0.5), starved: false }
    }

    fn breaks(seen: &Seen, why: &str) -> bool {
        matches!(threshold().judge(seen), Verdict::Breaks(because) if because.contains(why))
    }

    fn generator(seen: &Seen, why: &str) -> bool {
        matches!(threshold().judge(seen), Verdict::Generator(because) if because.contains(why))
    }

    #[test]
    fn thresholds_parse() {
        for good in
            ["p50<1ms", "avg<1s", "mean<2s, max<1m", "p999<5ms,success>=99.9%", "success>=100%"]
        {
            assert_eq!(good.parse::<Threshold>().map(|t| t.to_string()), Ok(good.into()));
        }
        for bad in [
            "",
            "p99",
            "p98<1s",
            "p99>1s",
            "p99<",
            "p99<0ms",
            "success>=0%",
            "success>=x%",
            "success>=101%",
            "success>=99",
            "p99<1s,",
            "p99<=1s",
        ] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_step_is_held_against_every_rule() {
        assert_eq!(threshold().judge(&seen(499 * MS, MS, 10, 0)), Verdict::Holds);
        assert!(breaks(&seen(501 * MS, MS, 0, 0), "p99"));
        let average: Threshold = "avg<500ms".parse().expect("parses");
        assert_eq!(average.judge(&seen(499 * MS, MS, 0, 0)), Verdict::Holds);
        let broken = average.judge(&seen(501 * MS, MS, 0, 0));
        assert!(broken.because().starts_with("avg 50"), "{broken:?}");
        assert!(breaks(&seen(MS, 0, 11, 0), "success"));
        let unanswered = Seen { tally: Tally { sent: 9, ..Tally::default() }, ..Seen::default() };
        assert!(breaks(&unanswered, "no request was answered"));
    }

    #[test]
    fn what_the_generator_did_is_not_the_targets() {
        assert!(generator(&seen(600 * MS, 400 * MS, 0, 0), "slip"));
        assert!(generator(&seen(MS, 0, 0, 20), "never sent"));
        let busy = Seen { cpu_share: Some(0.96), ..seen(MS, 0, 0, 0) };
        assert!(generator(&busy, "core"), "also where the threshold was kept");
        let crowded = Seen { wanted_share: Some(0.99), starved: true, ..seen(600 * MS, MS, 0, 0) };
        assert!(generator(&crowded, "waited"));
        let kept = Seen { wanted_share: Some(0.99), ..seen(MS, MS, 0, 0) };
        assert_eq!(threshold().judge(&kept), Verdict::Holds, "in spite of it");
        // All sessions were busy: what waited, waited for the target.
        let starved = Seen { starved: true, ..seen(600 * MS, 400 * MS, 0, 0) };
        assert!(breaks(&starved, "p99"));
        let dropped = Seen { starved: true, ..seen(MS, 0, 0, 20) };
        assert!(breaks(&dropped, "success"));
        // Slip beside quick failures says nothing about why they failed.
        assert!(breaks(&seen(2 * MS, 2 * MS, 500, 0), "success"));
        // Slip within a threshold that is kept does no harm.
        assert_eq!(threshold().judge(&seen(MS, MS, 0, 0)), Verdict::Holds);
    }

    fn search(start: f64, limit: f64) -> (Search, usize) {
        let mut search = Search::new(start);
        let mut steps = 0;
        while let Some(rate) = search.next_rate() {
            let broken = rate > limit;
            search.record(&if broken { Verdict::Breaks(String::new()) } else { Verdict::Holds });
            steps += 1;
        }
        (search, steps)
    }

    #[test]
    fn a_target_that_never_holds_is_said_to() {
        let (search, steps) = search(1000.0, 0.0);
        assert_eq!(search.found(), Some(&Found::Never));
        assert!(steps < 16);
    }

    #[test]
    fn the_generators_limit_ends_a_search() {
        let mut search = Search::new(10.0);
        search.record(&Verdict::Holds);
        search.record(&Verdict::Generator(String::new()));
        assert_eq!(search.found(), Some(&Found::Generator { holds: Some(10.0), at: 20.0 }));
        assert_eq!(search.next_rate(), None);
        let text = to_text(&threshold(), &[], search.found().expect("over"));
        assert!(text.contains("Generator limit at 20.0") && !text.contains("Knee"), "{text}");
    }

    #[test]
    fn a_search_that_is_stopped_says_what_it_knows() {
        let mut search = Search::new(10.0);
        search.record(&Verdict::Holds);
        search.record(&Verdict::Breaks(String::new()));
        search.stop();
        let open = Found::Open { holds: Some(10.0), breaks: Some(20.0) };
        assert_eq!(search.found(), Some(&open));
    }

    proptest! {
        #[test]
        fn the_knee_is_bracketed_wherever_it_lies(start in 1.0f64..1e6, limit in 1.0f64..1e6) {
            let (search, steps) = search(start, limit);
            let Some(Found::Knee { holds, breaks }) = search.found() else {
                return Err(TestCaseError::fail(format!("{search:?}")));
            };
            prop_assert!(*holds <= limit && limit < *breaks);
            prop_assert!(breaks / holds <= NEAR);
            prop_assert!(steps <= 27, "{} steps", steps);
        }
    }
}
