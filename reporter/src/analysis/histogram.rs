//! Distributions of durations: exact count, sum, least and greatest beside an HDR histogram.
//!
//! The only user of `hdrhistogram`'s settings: how fine, how large, what a percentile is.

use hdrhistogram::Histogram;

use crate::results::Percentiles;

/// One hour: longer durations are counted as this in percentiles; `max` stays exact.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// One hour in microseconds.
const LONGEST_US: u64 = LONGEST_NS / 1_000;
/// Samples that must lie beyond a percentile for it to be stated.
const BEYOND_MIN: f64 = 10.0;

/// A distribution of durations in nanoseconds; percentiles are exact to 0.1 %.
#[derive(Clone)]
pub struct Distribution {
    histogram: Histogram<u64>,
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Distribution {
    /// Three significant digits: about 300 kB.
    pub fn fine() -> Self {
        Self::with_digits(3)
    }

    /// Two significant digits, exact to 1 %: about 40 kB.
    pub fn coarse() -> Self {
        Self::with_digits(2)
    }

    fn with_digits(digits: u8) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, digits)
            .expect("the bounds are constants that the histogram accepts");
        Self { histogram, count: 0, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }

    /// Adds one duration.
    pub fn record(&mut self, duration_ns: u64) {
        self.histogram.saturating_record(duration_ns);
        self.count += 1;
        self.sum_ns += u128::from(duration_ns);
        self.min_ns = self.min_ns.min(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
    }

    /// Adds another distribution of the same fineness.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The figures of `results.json`; none without samples.
    pub fn percentiles(&self) -> Option<Percentiles> {
        if self.count == 0 {
            return None;
        }
        Some(Percentiles {
            count: self.count,
            min: self.min_ns,
            mean: self.sum_ns as f64 / self.count as f64,
            p50: self.quantile(0.5),
            p90: self.tail(0.9),
            p95: self.tail(0.95),
            p99: self.tail(0.99),
            p999: self.tail(0.999),
            p9999: self.tail(0.9999),
            max: self.max_ns,
        })
    }

    /// The value at `quantile`, within the exact least and greatest.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile).clamp(self.min_ns, self.max_ns)
    }

    /// As [`Self::quantile`], if at least [`BEYOND_MIN`] samples lie beyond it.
    fn tail(&self, quantile: f64) -> Option<u64> {
        let beyond = self.count as f64 * (1.0 - quantile);
        (beyond + 1e-6 >= BEYOND_MIN).then(|| self.quantile(quantile))
    }

    /// Points (quantile, ns) of the spectrum, ever denser towards 1, as far as the count allows.
    pub fn spectrum(&self) -> Vec<(f64, u64)> {
        let mut points = Vec::new();
        if self.count == 0 {
            return points;
        }
        let last = 1.0 - 1.0 / self.count as f64;
        let mut step = 0;
        loop {
            // Twenty steps a decade of the share beyond.
            let quantile = 1.0 - 10f64.powf(-f64::from(step) / 20.0);
            if quantile > last || step > 160 {
                points.push((last, self.max_ns));
                return points;
            }
            points.push((quantile, self.quantile(quantile)));
            step += 1;
        }
    }

    /// The histogram itself, for export.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// A distribution of one time bucket: microseconds with one significant digit (16 steps an
/// octave), under 2 kB, so that half an hour of seconds fits into a few megabytes.
#[derive(Clone)]
pub struct Small(Histogram<u32>);

impl Small {
    /// An empty one.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 1)
            .expect("the bounds are constants that the histogram accepts");
        Self(histogram)
    }

    /// Adds one duration.
    pub fn record(&mut self, duration_ns: u64) {
        self.0.saturating_record(duration_ns / 1_000);
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// The value at `quantile`, the middle of its step; none without samples.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        let value = self.0.value_at_quantile(quantile);
        Some(self.0.median_equivalent(value) * 1_000)
    }

    /// (duration in ns, count) of each step that has samples.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|step| {
            let middle = self.0.median_equivalent(step.value_iterated_to());
            (middle * 1_000, u64::from(step.count_at_value()))
        })
    }
}

impl Default for Small {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_agree_with_sorting() {
        let mut values: Vec<u64> = (1..=20_000u64).map(|i| i * i % 999_983 * 997 + 1).collect();
        let mut distribution = Distribution::fine();
        values.iter().for_each(|&value| distribution.record(value));
        values.sort_unstable();
        let figures = distribution.percentiles().expect("has samples");
        assert_eq!(figures.count, 20_000);
        assert_eq!((figures.min, figures.max), (values[0], values[19_999]));
        let sum: u64 = values.iter().sum();
        assert!((figures.mean - sum as f64 / 20_000.0).abs() < 1e-6);
        for (figure, rank) in [(Some(figures.p50), 10_000), (figures.p99, 19_800)] {
            let (figure, exact) = (figure.expect("enough samples"), values[rank - 1] as f64);
            assert!((figure as f64 - exact).abs() <= exact * 0.001, "{figure} beside {exact}");
        }
    }

    #[test]
    fn a_tail_percentile_needs_ten_samples_beyond_it() {
        let of = |count: u64| {
            let mut distribution = Distribution::fine();
            (0..count).for_each(|value| distribution.record(value));
            let of = distribution.percentiles().expect("has samples");
            [of.p90, of.p95, of.p99, of.p999, of.p9999].map(|tail| tail.is_some())
        };
        for (stated, count) in [100, 200, 1_000, 10_000, 100_000].into_iter().enumerate() {
            let expected = |least: usize| std::array::from_fn::<bool, 5, _>(|tail| tail < least);
            assert_eq!(of(count - 1), expected(stated), "{count}");
            assert_eq!(of(count), expected(stated + 1), "{count}");
        }
    }

    #[test]
    fn merging_is_the_same_as_recording_into_one() {
        let (mut a, mut b, mut both) =
            (Distribution::fine(), Distribution::fine(), Distribution::fine());
        for value in 0..5_000u64 {
            if value % 3 == 0 {
                a.record(value * 77)
            } else {
                b.record(value * 77)
            };
            both.record(value * 77);
        }
        a.add(&b);
        assert_eq!(a.percentiles(), both.percentiles());
    }

    #[test]
    fn an_hour_long_wait_keeps_its_exact_maximum() {
        let mut distribution = Distribution::coarse();
        distribution.record(2 * LONGEST_NS);
        assert_eq!(distribution.percentiles().expect("one sample").max, 2 * LONGEST_NS);
    }

    #[test]
    fn the_spectrum_ends_at_the_maximum_and_never_falls() {
        let mut distribution = Distribution::fine();
        (1..=1_000u64).for_each(|value| distribution.record(value * 1_000));
        let points = distribution.spectrum();
        assert_eq!(points.last(), Some(&(0.999, 1_000_000)));
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 <= pair[1].0));
    }
}
