//! A rate that changes over time, and when each item of it is due: a pure function of the item's
//! number. Constant, linear and stepped rates are made of segments; nothing here knows a clock.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Segments that one stage may be cut into.
const STEPS_MAX: u32 = 1000;

/// A time in which the rate goes evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// How long it lasts.
    pub ns: u64,
    /// Items a second at its beginning.
    pub from_per_s: f64,
    /// Items a second at its end.
    pub to_per_s: f64,
}

/// A rate over time.
#[derive(Clone, Debug)]
pub enum Curve {
    /// The same for ever; 0 is never due.
    Steady(f64),
    /// One segment after the other; nothing is due after the last.
    Parts(Arc<[Part]>),
}

/// A segment with what lies before it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    segment: Segment,
    begins_ns: u64,
    items_before: f64,
}

impl Curve {
    /// These segments one after the other.
    pub fn of(segments: &[Segment]) -> Self {
        let (mut begins_ns, mut items_before) = (0u64, 0.0);
        let part = |&segment: &Segment| {
            let part = Part { segment, begins_ns, items_before };
            begins_ns = begins_ns.saturating_add(segment.ns);
            let mean_per_s = (segment.from_per_s + segment.to_per_s) / 2.0;
            items_before += mean_per_s * segment.ns as f64 / 1e9;
            part
        };
        Self::Parts(segments.iter().map(part).collect())
    }

    /// The highest rate.
    pub fn most_per_s(&self) -> f64 {
        match self {
            Curve::Steady(rate_per_s) => *rate_per_s,
            Curve::Parts(parts) => {
                let most = |part: &Part| part.segment.from_per_s.max(part.segment.to_per_s);
                parts.iter().map(most).fold(0.0, f64::max)
            }
        }
    }

    /// The rate so long after the beginning.
    pub fn per_s_at(&self, offset_ns: u64) -> f64 {
        let parts = match self {
            Curve::Steady(rate_per_s) => return *rate_per_s,
            Curve::Parts(parts) => parts,
        };
        let at = parts.partition_point(|part| part.begins_ns <= offset_ns).saturating_sub(1);
        let Some(Part { segment, begins_ns, .. }) = parts.get(at) else { return 0.0 };
        let share = (offset_ns.saturating_sub(*begins_ns)) as f64 / segment.ns.max(1) as f64;
        match share < 1.0 {
            true => segment.from_per_s + (segment.to_per_s - segment.from_per_s) * share,
            // Nothing is due after the last segment.
            false => 0.0,
        }
    }

    /// When so many items have become due, from the beginning; `u64::MAX` for never. Where the rate
    /// is 0 for a while, that is the end of this while.
    pub fn offset_ns(&self, items: f64) -> u64 {
        let offset_ns = match self {
            Curve::Steady(rate_per_s) if *rate_per_s > 0.0 => items * 1e9 / rate_per_s,
            Curve::Steady(_) => return u64::MAX,
            Curve::Parts(parts) => match within(parts, items) {
                Some(offset_ns) => offset_ns,
                None => return u64::MAX,
            },
        };
        offset_ns as u64
    }
}

fn within(parts: &[Part], items: f64) -> Option<f64> {
    let at = parts.partition_point(|part| part.items_before <= items).checked_sub(1)?;
    let Part { segment, begins_ns, items_before } = parts[at];
    let Segment { ns, from_per_s: from, to_per_s: to } = segment;
    let items = items - items_before;
    if items <= 0.0 && from + to > 0.0 {
        return Some(begins_ns as f64);
    }
    // from * t + (to - from) / (2 * length) * t^2 = items, in the form that loses no digits.
    let slope = (to - from) / (ns as f64 / 1e9);
    let root = (from * from + 2.0 * slope * items).max(0.0).sqrt();
    let offset_ns = 2.0 * items / (from + root) * 1e9;
    match at + 1 < parts.len() {
        // Rounding may put it a little beyond the end.
        true => Some(begins_ns as f64 + offset_ns.min(ns as f64)),
        false => (offset_ns < ns as f64).then_some(begins_ns as f64 + offset_ns),
    }
}

/// A stage of load as it is typed: `30s@1000`, `60s@1000..5000`, `60s@1000..4000/4`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How long it lasts.
    pub duration: Duration,
    /// Requests a second at its beginning.
    pub from_per_s: f64,
    /// Requests a second at its end.
    pub to_per_s: f64,
    /// Even steps from the one to the other, both included; 0 for a line.
    pub steps: u32,
}

impl Stage {
    /// A stage whose parts make sense together.
    ///
    /// # Errors
    /// Says what does not.
    pub fn new(duration: Duration, rates: (f64, f64), steps: u32) -> Result<Self, String> {
        let fits = |rate: f64| (0.0..=1e9).contains(&rate);
        if !fits(rates.0) || !fits(rates.1) {
            return Err("a rate is a number from 0 to 1000000000 a second".into());
        }
        if duration.is_zero() {
            return Err("a stage lasts longer than 0s".into());
        }
        if steps == 1 || steps > STEPS_MAX {
            return Err(format!("a stage has from 2 to {STEPS_MAX} steps, or none for a line"));
        }
        Ok(Self { duration, from_per_s: rates.0, to_per_s: rates.1, steps })
    }

    /// The segments that it is made of.
    pub fn segments(&self) -> Vec<Segment> {
        let Self { duration, from_per_s, to_per_s, steps } = *self;
        let ns = duration.as_nanos() as u64;
        if steps == 0 {
            return vec![Segment { ns, from_per_s, to_per_s }];
        }
        let edge = |n: u32| ns / u64::from(steps) * u64::from(n);
        let step = |n: u32| {
            let until_ns = if n + 1 == steps { ns } else { edge(n + 1) };
            let rate = from_per_s + (to_per_s - from_per_s) * f64::from(n) / f64::from(steps - 1);
            Segment { ns: until_ns - edge(n), from_per_s: rate, to_per_s: rate }
        };
        (0..steps).map(step).collect()
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is no stage: write 30s@1000, 60s@1000..5000 or 60s@1000..4000/4");
        let (time, rates) = text.split_once('@').ok_or_else(wrong)?;
        let (rates, steps) = match rates.split_once('/') {
            Some((rates, steps)) => (rates, steps.parse().map_err(|_| wrong())?),
            None => (rates, 0),
        };
        let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
        let rate = |text: &str| text.parse::<f64>().map_err(|_| wrong());
        Self::new(crate::cli::duration(time)?, (rate(from)?, rate(to)?), steps)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s@{}", self.duration.as_secs_f64(), self.from_per_s)?;
        if self.from_per_s != self.to_per_s || self.steps > 0 {
            write!(f, "..{}", self.to_per_s)?;
        }
        if self.steps > 0 { write!(f, "/{}", self.steps) } else { Ok(()) }
    }
}

/// Connections that come in equal steps at one rate, with a pause after each but the last.
pub fn stepped_ramp(count: u32, per_s: f64, steps: u32, pause: Duration) -> Curve {
    if steps <= 1 || pause.is_zero() {
        return Curve::Steady(per_s);
    }
    let edge = |n: u32| (u64::from(count) * u64::from(n) / u64::from(steps)) as f64;
    let mut segments = Vec::new();
    for n in 0..steps {
        let ns = ((edge(n + 1) - edge(n)) * 1e9 / per_s).ceil() as u64;
        segments.push(Segment { ns, from_per_s: per_s, to_per_s: per_s });
        segments.push(Segment { ns: pause.as_nanos() as u64, from_per_s: 0.0, to_per_s: 0.0 });
    }
    // What the rounding of the steps' edges leaves.
    segments.pop();
    segments.push(Segment { ns: u64::MAX / 4, from_per_s: per_s, to_per_s: per_s });
    Curve::of(&segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn stages(texts: &[&str]) -> Curve {
        let segments = texts.iter().flat_map(|t| t.parse::<Stage>().expect("a stage").segments());
        Curve::of(&segments.collect::<Vec<_>>())
    }

    fn due_before(curve: &Curve, ns: u64) -> u64 {
        (0..).take_while(|k| curve.offset_ns(*k as f64) < ns).count() as u64
    }

    #[test]
    fn the_rate_of_a_moment_lies_on_its_segment() {
        let segment = |from_per_s, to_per_s| Segment { ns: 1_000, from_per_s, to_per_s };
        let curve = Curve::of(&[segment(10.0, 10.0), segment(10.0, 30.0)]);
        let at = [0, 999, 1_500, 2_000].map(|offset_ns| curve.per_s_at(offset_ns));
        assert_eq!(at, [10.0, 10.0, 20.0, 0.0]);
        assert_eq!(Curve::Steady(7.0).per_s_at(u64::MAX), 7.0);
        assert_eq!(Curve::of(&[]).per_s_at(5), 0.0);
    }

    #[test]
    fn a_line_is_due_as_its_area_says() {
        let curve = stages(&["10s@0..100"]);
        // k = 5 t^2
        for (items, expected_s) in [(0.0, 0.0), (5.0, 1.0), (20.0, 2.0), (125.0, 5.0)] {
            let actual_s = curve.offset_ns(items) as f64 / 1e9;
            assert!((actual_s - expected_s).abs() < 1e-9, "{items}: {actual_s}");
        }
        assert_eq!(curve.offset_ns(500.0), u64::MAX, "after the end");
        let down = stages(&["10s@100..0"]);
        assert!((down.offset_ns(95.0) as f64 / 1e9 - 1.0).abs() < 1e-9);
        assert_eq!(due_before(&down, 10 * S), 500);
    }

    #[test]
    fn steps_are_even_and_pauses_are_silent() {
        let curve = stages(&["4s@10..40/4", "2s@0", "1s@10"]);
        let counts: Vec<u64> = (0..=7).map(|s| due_before(&curve, s * S)).collect();
        assert_eq!(counts, [0, 10, 30, 60, 100, 100, 100, 110]);
        assert_eq!(curve.most_per_s(), 40.0);
    }

    #[test]
    fn connections_come_in_steps() {
        let curve = stepped_ramp(100, 50.0, 4, Duration::from_secs(3));
        assert_eq!(due_before(&curve, S / 2), 25);
        assert_eq!(due_before(&curve, 3 * S), 25);
        assert_eq!(due_before(&curve, 4 * S), 50);
        let last = curve.offset_ns(99.0);
        assert!(last > 10 * S && last < 11 * S + S / 2, "{last}");
        assert!(matches!(stepped_ramp(9, 5.0, 1, Duration::from_secs(3)), Curve::Steady(_)));
    }

    #[test]
    fn stages_are_read_back_and_nonsense_is_refused() {
        for text in ["30s@1000", "60s@1000..5000", "1.5s@1..4/4"] {
            let stage: Stage = text.parse().expect("a stage");
            assert_eq!(stage.to_string().parse::<Stage>(), Ok(stage));
        }
        for bad in ["", "30s", "@5", "30s@", "30s@x", "0s@5", "1s@-1", "1s@1..2/1", "1s@1..2/x"] {
            assert!(bad.parse::<Stage>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// Item k is due when the area under the rate reaches k, whatever the segments.
        #[test]
        fn the_area_up_to_an_item_is_its_number(
            segments in prop::collection::vec((1u64..20, 0.0f64..500.0, 0.0f64..500.0), 1..6),
        ) {
            let segments: Vec<Segment> = segments.into_iter()
                .map(|(s, from_per_s, to_per_s)| Segment { ns: s * S, from_per_s, to_per_s })
                .collect();
            let curve = Curve::of(&segments);
            let area = |until_ns: u64| {
                let mut left_s = until_ns as f64 / 1e9;
                segments.iter().map(|g| {
                    let length_s = g.ns as f64 / 1e9;
                    let t = left_s.min(length_s);
                    left_s -= t;
                    g.from_per_s * t + (g.to_per_s - g.from_per_s) / (2.0 * length_s) * t * t
                }).sum::<f64>()
            };
            let mut before_ns = 0;
            for k in 0..2_000 {
                let at_ns = curve.offset_ns(f64::from(k));
                if at_ns == u64::MAX { break; }
                prop_assert!(at_ns >= before_ns, "in order");
                before_ns = at_ns;
                prop_assert!((area(at_ns) - f64::from(k)).abs() < 1e-3, "{} {k}", area(at_ns));
            }
        }
    }
}
