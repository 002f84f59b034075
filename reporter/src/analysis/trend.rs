//! Theil-Sen slope of a series with its confidence interval; pure arithmetic.
//!
//! The slope is the median of the slopes of all pairs of points (Theil 1950, Sen 1968). Its
//! interval comes from Kendall's distribution: with N pairs and the variance of Kendall's S (with
//! its correction for ties), the bounds are the slopes of rank (N -/+ z * sqrt(Var S)) / 2. Neither
//! a garbage collector's saw teeth nor a single jump moves it as they move a least-squares line.
//!
//! Neighbouring samples of resident memory depend on each other, and the interval would be too
//! narrow if each counted. So the window is thinned to medians of [`POINTS_MAX`] equal parts first.

/// Points that a window is thinned to.
pub const POINTS_MAX: usize = 60;
/// Below this number of points nothing is said.
pub const POINTS_MIN: usize = 12;
/// The normal quantile of a two-sided 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// A slope in units of y for each unit of x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Median of the pairwise slopes.
    pub slope: f64,
    /// Lower bound of the 95 % interval.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Points that it was computed from.
    pub points: usize,
}

/// Thins `series` (x, y; x ascending) to at most `parts` points: the medians of x and y in equal
/// parts of the x axis.
pub fn thin(series: &[(f64, f64)], parts: usize) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (series.first(), series.last()) else { return Vec::new() };
    if series.len() <= parts {
        return series.to_vec();
    }
    let width = (last.0 - first.0) / parts as f64;
    let mut groups: Vec<Vec<(f64, f64)>> = vec![Vec::new(); parts];
    for &(x, y) in series {
        let part = if width > 0.0 { ((x - first.0) / width) as usize } else { 0 };
        groups[part.min(parts - 1)].push((x, y));
    }
    groups
        .into_iter()
        .filter(|group| !group.is_empty())
        .map(|group| {
            let mut x: Vec<f64> = group.iter().map(|point| point.0).collect();
            let mut y: Vec<f64> = group.iter().map(|point| point.1).collect();
            (median(&mut x), median(&mut y))
        })
        .collect()
}

/// The slope of `points`; none if there are fewer than [`POINTS_MIN`] or all have the same x.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < POINTS_MIN {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (index, a) in points.iter().enumerate() {
        for b in &points[index + 1..] {
            if b.0 != a.0 {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_by(f64::total_cmp);
    let pairs = slopes.len() as f64;
    let spread = Z_95 * kendall_variance(points).sqrt();
    let rank = |position: f64| {
        let index = position.clamp(0.0, pairs - 1.0) as usize;
        slopes[index]
    };
    let middle = slopes.len() / 2;
    let slope = if slopes.len() % 2 == 1 {
        slopes[middle]
    } else {
        (slopes[middle - 1] + slopes[middle]) / 2.0
    };
    Some(Slope {
        slope,
        low: rank(((pairs - spread) / 2.0).floor() - 1.0),
        high: rank(((pairs + spread) / 2.0).ceil()),
        points: points.len(),
    })
}

/// Variance of Kendall's S under no trend, with the correction for tied y.
fn kendall_variance(points: &[(f64, f64)]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut ys: Vec<f64> = points.iter().map(|point| point.1).collect();
    ys.sort_by(f64::total_cmp);
    let ties: f64 = ys.chunk_by(|a, b| a == b).map(|group| term(group.len() as f64)).sum();
    ((term(points.len() as f64) - ties) / 18.0).max(0.0)
}

/// The median; sorts `values`. 0 for none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A repeatable disturbance between -1 and 1.
    fn noise(seed: &mut u64) -> f64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }

    fn line(slope: f64, amplitude: f64, n: usize, mut seed: u64) -> Vec<(f64, f64)> {
        (0..n)
            .map(|i| (i as f64, 100.0 + slope * i as f64 + amplitude * noise(&mut seed)))
            .collect()
    }

    #[test]
    fn a_straight_line_has_its_slope_and_no_width() {
        let slope = theil_sen(&line(0.5, 0.0, 40, 1)).expect("enough points");
        assert!((slope.slope - 0.5).abs() < 1e-9);
        assert!((slope.low - 0.5).abs() < 1e-9 && (slope.high - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_flat_series_has_no_slope() {
        let slope = theil_sen(&line(0.0, 0.0, 40, 1)).expect("enough points");
        assert_eq!((slope.slope, slope.low, slope.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_published_example_of_kendalls_variance() {
        // n = 10 without ties: 10 * 9 * 25 / 18 = 125.
        assert_eq!(kendall_variance(&line(1.0, 0.0, 10, 1)), 125.0);
    }

    #[test]
    fn a_single_outlier_moves_nothing() {
        let mut points = line(0.0, 0.0, 40, 1);
        points[20].1 = 1e9;
        assert_eq!(theil_sen(&points).expect("enough points").slope, 0.0);
    }

    #[test]
    fn few_points_say_nothing() {
        assert_eq!(theil_sen(&line(1.0, 0.0, POINTS_MIN - 1, 1)), None);
        assert_eq!(theil_sen(&vec![(1.0, 2.0); 40]), None);
    }

    #[test]
    fn noise_without_a_trend_seldom_excludes_zero() {
        let outside = (0..400)
            .filter(|&seed| {
                let slope = theil_sen(&line(0.0, 1.0, 40, seed * 7919 + 1)).expect("points");
                slope.low > 0.0 || slope.high < 0.0
            })
            .count();
        // 5 % of 400 are 20; the bound is four standard deviations above it.
        assert!(outside <= 38, "{outside} of 400 exclude zero");
    }

    #[test]
    fn thinning_keeps_the_course() {
        let thinned = thin(&line(2.0, 1.0, 6000, 3), POINTS_MAX);
        assert_eq!(thinned.len(), POINTS_MAX);
        let slope = theil_sen(&thinned).expect("enough points");
        assert!(slope.low > 1.99 && slope.high < 2.01, "{slope:?}");
    }

    proptest! {
        #[test]
        fn the_bounds_enclose_the_slope(
            ys in proptest::collection::vec(-1e6f64..1e6, POINTS_MIN..60),
        ) {
            let points: Vec<_> = ys.iter().enumerate().map(|(i, &y)| (i as f64, y)).collect();
            let slope = theil_sen(&points).expect("enough points");
            prop_assert!(slope.low <= slope.slope && slope.slope <= slope.high);
        }
    }
}
