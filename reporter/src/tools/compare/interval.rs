//! The interval of a change between two runs' seconds: the method of batch means, on medians.
//!
//! Each run's seconds are cut into [`BATCHES`] stretches of equal length. How far the medians of the
//! stretches lie apart says how well the run's median is known, and Student's t how much that is
//! worth for so few of them. Neighbouring seconds are alike (a pause of the server lasts several);
//! stretches are so far less, and the longer the run, the less.
//!
//! A bootstrap of blocks of five seconds takes such short series for surer than they are: of equal runs
//! with 10 seconds, one interval in seven missed 0 % without any likeness of neighbours, and one in five
//! with as much as was measured (docs/journal/compare.md).

/// Stretches of a run. More of them make narrower intervals, and stretches that are more alike.
pub const BATCHES: usize = 4;
/// Fewer seconds than this have no interval.
pub const SECONDS_MIN: usize = 10;

/// The 97.5 % quantile of Student's t by degrees of freedom, from 3 (one run alone is restless) to 6
/// (both equally).
const STUDENT_T: [f64; 4] = [3.182, 2.776, 2.571, 2.447];
/// A stretch in which nothing was answered counts as this, so that it has a logarithm.
const LEAST: f64 = 1e-3;

/// The 95 % interval of new / base - 1 in percent; none for too few seconds, or where the base is
/// nothing.
pub fn of_change(base: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if base.len().min(new.len()) < SECONDS_MIN || median(base) <= 0.0 {
        return None;
    }
    // Logarithms, so that half and double are as far from no change.
    let change = median(new).max(LEAST).ln() - median(base).ln();
    let (of_base, of_new) = (variance(base), variance(new));
    let half = student_t(of_base, of_new) * (of_base + of_new).sqrt();
    let percent = |logarithm: f64| 100.0 * logarithm.exp_m1();
    Some((percent(change - half), percent(change + half)))
}

/// How well the logarithm of a run's median is known.
fn variance(seconds: &[f64]) -> f64 {
    let end = |batch: usize| batch * seconds.len() / BATCHES;
    let logarithms: Vec<f64> = (0..BATCHES)
        .map(|batch| median(&seconds[end(batch)..end(batch + 1)]).max(LEAST).ln())
        .collect();
    let mean = logarithms.iter().sum::<f64>() / BATCHES as f64;
    let squares: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
    squares / (BATCHES - 1) as f64 / BATCHES as f64
}

/// By the degrees of freedom that Welch and Satterthwaite give two variances of `BATCHES - 1` each.
fn student_t(a: f64, b: f64) -> f64 {
    let squares = a * a + b * b;
    if squares == 0.0 {
        return STUDENT_T[0];
    }
    let freedom = (a + b).powi(2) * (BATCHES - 1) as f64 / squares;
    let place = (freedom as usize).saturating_sub(BATCHES - 1);
    STUDENT_T[place.min(STUDENT_T.len() - 1)]
}

fn median(values: &[f64]) -> f64 {
    crate::analysis::trend::median(&mut values.to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Metric};
    use super::*;

    /// xorshift64*: the same everywhere.
    fn random(seed: &mut u64) -> f64 {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        (seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(seed: &mut u64) -> f64 {
        let (radius, angle) = (random(seed).max(1e-18), random(seed));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// How the seconds of a run go up and down. Of the stress stages of the reports in docs/, p50 has a
    /// spread of 0.02 to 0.09 and p99 one of 0.2 to 0.6, and neighbours are alike by 0.35 at most.
    struct Weather {
        seconds: usize,
        spread: f64,
        alike: f64,
    }

    impl Weather {
        /// A run's seconds around `middle`: logarithms of a first-order autoregression, now and then a
        /// second with a pause, in steps of a sixteenth of an octave as the time line has them.
        fn run(&self, middle: f64, seed: &mut u64) -> Vec<f64> {
            let mut state = normal(seed);
            let second = |_| {
                state = self.alike * state + (1.0 - self.alike.powi(2)).sqrt() * normal(seed);
                let pause = if random(seed) < 0.02 { 5.0 } else { 1.0 };
                let value = middle * (self.spread * state).exp() * pause;
                let step = value.log2().floor().exp2() / 16.0;
                ((value / step).floor() + 0.5) * step
            };
            (0..self.seconds).map(second).collect()
        }

        /// The share of pairs of runs that differ by `factor` and in which a change is certain.
        fn certain(&self, factor: f64) -> f64 {
            const PAIRS: u32 = 2_000;
            let mut seed = 0x9E37_79B9_7F4A_7C15;
            let pair = |_: &u32| {
                let base = self.run(150_000.0, &mut seed);
                let new = self.run(150_000.0 * factor, &mut seed);
                let (of_base, of_new) = (median(&base), median(&new));
                let change = Change {
                    stage: String::new(),
                    metric: Metric::P99,
                    base: of_base,
                    new: of_new,
                    percent: 100.0 * (of_new / of_base - 1.0),
                    interval: of_change(&base, &new),
                    noise: 0.0,
                };
                change.is_certain()
            };
            (0..PAIRS).filter(pair).count() as f64 / f64::from(PAIRS)
        }
    }

    #[test]
    fn equal_runs_are_seldom_taken_for_different_ones() {
        for seconds in [SECONDS_MIN, 15, 26, 60] {
            for (spread, alike) in [(0.1, 0.0), (0.1, 0.35), (0.3, 0.0), (0.3, 0.35)] {
                let share = Weather { seconds, spread, alike }.certain(1.0);
                assert!(share < 0.07, "{seconds} s, {spread}, {alike}: {share}");
            }
        }
        // Nearly as alike as the most that was measured (docs/journal/compare.md): the price of short runs.
        let share = Weather { seconds: 26, spread: 0.3, alike: 0.6 }.certain(1.0);
        assert!(share < 0.09, "{share}");
    }

    #[test]
    fn different_runs_are_found() {
        for (seconds, spread, factor, least) in [(26, 0.1, 1.3, 0.9), (60, 0.3, 2.0, 0.95)] {
            let share = Weather { seconds, spread, alike: 0.35 }.certain(factor);
            assert!(share > least, "{seconds} s, {spread}, ×{factor}: {share}");
        }
    }

    #[test]
    fn the_interval_is_around_the_change_and_as_wide_for_half_as_for_double() {
        let weather = Weather { seconds: 40, spread: 0.2, alike: 0.2 };
        let (base, new) = (weather.run(1e5, &mut 7), weather.run(2e5, &mut 99));
        let up = of_change(&base, &new).expect("enough seconds");
        let down = of_change(&new, &base).expect("enough seconds");
        let change = 100.0 * (median(&new) / median(&base) - 1.0);
        assert!(up.0 < change && change < up.1, "{up:?} around {change}");
        let inverse = |percent: f64| 100.0 * (1.0 / (1.0 + percent / 100.0) - 1.0);
        assert!((inverse(up.1) - down.0).abs() < 1e-6, "{up:?} {down:?}");
    }

    #[test]
    fn too_few_seconds_and_nothing_to_compare_with_have_no_interval() {
        let (few, many) = ([1.0; SECONDS_MIN - 1], [1.0; SECONDS_MIN]);
        assert_eq!(of_change(&few, &many), None);
        assert_eq!(of_change(&many, &few), None);
        assert_eq!(of_change(&[0.0; 20], &many), None);
        assert_eq!(of_change(&many, &many), Some((0.0, 0.0)));
        let (_, high) = of_change(&many, &[0.0; 20]).expect("answers that no longer come");
        assert!(high < -99.0, "{high}");
    }
}
