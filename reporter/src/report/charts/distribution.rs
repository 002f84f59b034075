//! Charts of the top stage's latency: the heat map over time and the percentile spectrum.

use std::collections::BTreeMap;

use super::axes::{Axes, SMALL};
use super::canvas::{Canvas, Hold, Role, picture};
use super::{Chart, WIDTH};
use crate::analysis::Analysis;
use crate::analysis::merge::Merged;
use crate::report::units;

/// Columns of the heat map.
const COLUMNS_MAX: usize = 200;
/// Rows to an octave of latency.
const ROWS_PER_OCTAVE: f64 = 4.0;
/// Shades of the heat map, from few to most.
const SHADES: [f64; 7] = [0.12, 0.24, 0.38, 0.53, 0.68, 0.84, 1.0];

/// Answers by time and latency: what a line of percentiles hides.
pub fn heat_map(analysis: &Analysis) -> Option<Chart> {
    let stage = analysis.top_stage()?;
    let merged = stage.merged.as_ref()?;
    let cells = Cells::of(merged)?;
    let svg = picture(WIDTH, 336, "Heat map of response latency", |canvas| {
        cells.draw(canvas, merged);
    });
    Some(Chart {
        name: "heatmap".to_owned(),
        caption: format!(
            "Stage {}: each cell is the share of a moment's answers with that response latency; \
             a stronger colour is more.",
            stage.record.name
        ),
        svg,
    })
}

/// Counts by column and row.
struct Cells {
    counts: BTreeMap<(usize, i32), u64>,
    /// Buckets of the time axis in a column.
    group: usize,
    rows: (i32, i32),
}

fn row_of(ns: u64) -> i32 {
    ((ns.max(1) as f64).log2() * ROWS_PER_OCTAVE).floor() as i32
}

fn ns_of(row: i32) -> f64 {
    (f64::from(row) / ROWS_PER_OCTAVE).exp2()
}

impl Cells {
    fn of(merged: &Merged) -> Option<Self> {
        let buckets = &merged.tally.buckets;
        let group = buckets.len().div_ceil(COLUMNS_MAX).max(1);
        let mut counts = BTreeMap::new();
        for (bucket, tally) in buckets.iter().enumerate() {
            let Some(response) = &tally.response else { continue };
            for (ns, count) in response.steps() {
                *counts.entry((bucket / group, row_of(ns))).or_insert(0) += count;
            }
        }
        let low = counts.keys().map(|(_, row)| *row).min()?;
        let high = counts.keys().map(|(_, row)| *row).max()?;
        Some(Self { counts, group, rows: (low - 1, high + 2) })
    }

    fn draw(&self, canvas: &Canvas<'_>, merged: &Merged) {
        let buckets = &merged.frame.buckets;
        let seconds = |bucket: usize| bucket as f64 * buckets.width_ns as f64 / 1e9;
        let axes = Axes {
            place: (72.0, 36.0, f64::from(WIDTH) - 16.0, 300.0),
            x: (0.0, seconds(buckets.count)),
            y: (ns_of(self.rows.0), ns_of(self.rows.1)),
            log: true,
        };
        axes.title(canvas, "Response latency", "share of the answers of each moment");
        scale(canvas, &axes);
        axes.grid(canvas, units::tick);
        let mut totals: BTreeMap<usize, u64> = BTreeMap::new();
        for ((column, _), count) in &self.counts {
            *totals.entry(*column).or_default() += count;
        }
        // Neighbours of one shade are one rectangle: a tenth of the bytes.
        let shades: BTreeMap<(i32, usize), f64> = self
            .counts
            .iter()
            .map(|((column, row), n)| ((*row, *column), shade(*n as f64 / totals[column] as f64)))
            .collect();
        let cells: Vec<(i32, usize, f64)> =
            shades.into_iter().map(|((row, column), shade)| (row, column, shade)).collect();
        for run in cells.chunk_by(|a, b| a.0 == b.0 && a.1 + 1 == b.1 && a.2 == b.2) {
            let (row, first, shade) = run[0];
            let left = axes.px(seconds(first * self.group));
            let right = axes.px(seconds((first + run.len()) * self.group));
            let (top, bottom) = (axes.py(ns_of(row + 1)), axes.py(ns_of(row)));
            canvas.rect((left, top), (right, bottom), Role::Blue, shade);
        }
        if let Some(hold) = merged.frame.hold {
            for (at, word, held) in
                [(hold.start_ns, "hold ▸", Hold::Right), (hold.end_ns, "◂ end", Hold::Left)]
            {
                let x = axes.px((at as f64 - buckets.start_ns as f64) / 1e9);
                canvas.line(&[(x, axes.place.1), (x, axes.place.3)], Role::Muted, 1.0);
                let x = if held == Hold::Right { x - 4.0 } else { x + 4.0 };
                if x + 34.0 < f64::from(WIDTH) {
                    let width = super::canvas::text_width(word, SMALL) + 4.0;
                    let left = if held == Hold::Right { x - width } else { x - 2.0 };
                    let top = axes.place.1 + 1.0;
                    canvas.rect((left, top), (left + width, top + 15.0), Role::Paper, 0.85);
                    canvas.text((x, axes.place.1 + 9.0), word, SMALL, Role::Muted, held);
                }
            }
        }
        axes.time(canvas, "time in the stage");
    }
}

/// A single answer among thousands must still be seen, so shades are logarithmic.
fn shade(share: f64) -> f64 {
    let steps = (4.0 + share.max(1e-4).log10()) / 4.0 * SHADES.len() as f64;
    SHADES[(steps as usize).min(SHADES.len() - 1)]
}

fn scale(canvas: &Canvas<'_>, axes: &Axes) {
    let (_, top, right, _) = axes.place;
    let words = ["≤ 0.04 %", "100 %"];
    let width = 14.0;
    let end = right - 42.0;
    let start = end - width * SHADES.len() as f64;
    for (index, shade) in SHADES.iter().enumerate() {
        let x = start + index as f64 * width;
        canvas.rect((x, top - 18.0), (x + width, top - 8.0), Role::Blue, *shade);
    }
    canvas.text((start - 6.0, top - 13.0), words[0], SMALL, Role::Muted, Hold::Right);
    canvas.text((end + 6.0, top - 13.0), words[1], SMALL, Role::Muted, Hold::Left);
}

/// Latency by percentile, the tail spread out.
pub fn spectrum(analysis: &Analysis) -> Option<Chart> {
    let stage = analysis.top_stage()?;
    let tally = &stage.merged.as_ref()?.tally;
    if tally.response.count() == 0 {
        return None;
    }
    let series = [
        ("slip", Role::Grey, tally.slip.spectrum()),
        ("service", Role::Orange, tally.service.spectrum()),
        ("response", Role::Blue, tally.response.spectrum()),
    ];
    let low =
        series.iter().filter_map(|(_, _, points)| points.first()).map(|point| point.1).min()?;
    // Ten samples lie beyond its end, as beyond every percentile that is stated.
    let decades = (tally.response.count() as f64 / 10.0).log10().max(1.0);
    let stated = |(quantile, _): &&(f64, u64)| -(1.0 - quantile).log10() <= decades * 1.000_001;
    let ends = series.iter().flat_map(|(_, _, points)| points.iter().filter(stated));
    let high = ends.map(|point| point.1).max()?;
    let svg = picture(WIDTH, 336, "Latency by percentile", |canvas| {
        let axes = Axes {
            place: (72.0, 36.0, f64::from(WIDTH) - 24.0, 292.0),
            x: (0.0, decades),
            y: ((low.max(100) as f64) * 0.8, high as f64 * 1.3),
            log: true,
        };
        axes.title(canvas, "Latency by percentile", "both axes logarithmic");
        axes.legend(canvas, &series.each_ref().map(|(name, role, _)| (*name, *role)));
        axes.grid(canvas, units::tick);
        percentile_axis(canvas, &axes);
        for (_, role, points) in &series {
            let line: Vec<(f64, f64)> = points
                .iter()
                .map(|(quantile, ns)| (-(1.0 - quantile).log10(), *ns as f64))
                .filter(|(place, _)| *place <= decades * 1.000_001)
                .map(|(place, ns)| axes.at(place, ns))
                .collect();
            // Response lies upon service where nothing slips: service is the wider line below.
            let width = if *role == Role::Orange { 4.5 } else { 1.8 };
            canvas.line(&line, *role, width);
        }
    });
    Some(Chart {
        name: "spectrum".to_owned(),
        caption: format!(
            "Stage {}: {} answered requests of the hold phase. Response = slip + service for each \
             request; where the curves of response and service part, the generator's delay shows. The \
             curves end where ten samples lie beyond.",
            stage.record.name,
            units::count(tally.response.count())
        ),
        svg,
    })
}

/// The words below an axis of `-log10(1 - quantile)`.
pub(crate) fn percentile_axis(canvas: &Canvas<'_>, axes: &Axes) {
    let (left, top, right, bottom) = axes.place;
    canvas.line(&[(left, bottom), (right, bottom)], Role::Muted, 1.0);
    for (quantile, label) in [
        (0.0, "min"),
        (0.5, "p50"),
        (0.75, "p75"),
        (0.9, "p90"),
        (0.99, "p99"),
        (0.999, "p99.9"),
        (0.9999, "p99.99"),
        (0.99999, "p99.999"),
        (0.999999, "p99.9999"),
    ] {
        let x = -(1.0f64 - quantile).log10();
        if x > axes.x.1 {
            break;
        }
        let x = axes.px(x);
        canvas.line(&[(x, top), (x, bottom)], Role::Grid, 1.0);
        canvas.text((x, bottom + 14.0), label, SMALL, Role::Muted, Hold::Middle);
    }
    canvas.text((right, bottom + 30.0), "percentile", SMALL, Role::Muted, Hold::Right);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_rise_with_the_share_and_none_is_invisible() {
        assert_eq!(shade(0.0), SHADES[0]);
        assert_eq!(shade(1.0), SHADES[SHADES.len() - 1]);
        assert!(shade(0.001) < shade(0.01) && shade(0.01) < shade(0.2));
    }

    #[test]
    fn a_row_contains_the_latencies_that_fall_into_it() {
        for ns in [1_000, 183_000, 5_000_000, 999_999_999] {
            let row = row_of(ns);
            assert!(ns_of(row) <= ns as f64 * 1.000_001 && (ns as f64) < ns_of(row + 1));
        }
    }
}
