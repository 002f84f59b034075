//! The pictures of a comparison: the percentile spectra of both runs on one axis, the changes with
//! their intervals, and the seconds that the intervals come from. It computes no figure.

use super::{Change, Metric, seconds};
use crate::report::charts::axes::{Axes, SMALL, log_ticks, nice_max};
use crate::report::charts::canvas::{Canvas, Hold, Role, picture};
use crate::report::charts::distribution::percentile_axis;
use crate::report::charts::{Chart, WIDTH};
use crate::report::units;
use crate::results::{Percentiles, StageResult};

/// Colours of both runs, in every picture.
const BASE: Role = Role::Grey;
const NEW: Role = Role::Blue;
/// A change beyond this factor is drawn at the edge.
const FACTOR_MAX: f64 = 1_000.0;

/// Response latency by percentile of both runs in one stage.
pub(super) fn spectrum(base: &StageResult, new: &StageResult) -> Option<Chart> {
    let (of_base, of_new) = (base.response_ns.as_ref()?, new.response_ns.as_ref()?);
    let series = [("base", BASE, points(of_base)), ("new", NEW, points(of_new))];
    let all = || series.iter().flat_map(|(_, _, points)| points.iter().copied());
    let low = all().map(|(_, ns)| ns).min()?.max(100) as f64 * 0.8;
    let high = all().map(|(_, ns)| ns).max()? as f64 * 1.3;
    let last = all().map(|(quantile, _)| beyond(quantile)).fold(1.0, f64::max);
    let svg = picture(WIDTH, 336, "Response latency by percentile in both runs", |canvas| {
        let place = (72.0, 36.0, f64::from(WIDTH) - 24.0, 292.0);
        let axes = Axes { place, x: (0.0, last), y: (low, high), log: true };
        axes.title(canvas, "Response latency by percentile", "both axes logarithmic");
        axes.legend(canvas, &series.each_ref().map(|(name, role, _)| (*name, *role)));
        axes.grid(canvas, units::tick);
        percentile_axis(canvas, &axes);
        for (_, role, points) in &series {
            let line: Vec<(f64, f64)> = points
                .iter()
                .map(|(quantile, ns)| axes.at(beyond(*quantile), *ns as f64))
                .collect();
            canvas.line(&line, *role, 1.8);
            line.iter().for_each(|at| canvas.dot(*at, 3.0, *role));
        }
    });
    Some(Chart {
        name: "compare-spectrum".to_owned(),
        caption: format!(
            "Stage {}: {} answers in the base run, {} in the new one. Points are the percentiles \
             that both counts allow.",
            base.name,
            units::count(of_base.count),
            units::count(of_new.count)
        ),
        svg,
    })
}

/// Place of a quantile on an axis that spreads the tail out.
fn beyond(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn points(of: &Percentiles) -> Vec<(f64, u64)> {
    let mut points = vec![(0.0, of.min), (0.5, of.p50)];
    for (quantile, ns) in
        [(0.9, of.p90), (0.95, of.p95), (0.99, of.p99), (0.999, of.p999), (0.9999, of.p9999)]
    {
        points.extend(ns.map(|ns| (quantile, ns)));
    }
    points
}

/// Every change of one stage as a point with its interval, on one axis of factors.
pub(super) fn changes(stage: &str, changes: &[Change]) -> Option<Chart> {
    let shown: Vec<&Change> = changes
        .iter()
        .filter(|change| change.stage == stage || change.stage == "run")
        .filter(|change| change.base > 0.0 && change.new > 0.0)
        .collect();
    if shown.is_empty() {
        return None;
    }
    let row = 30.0;
    let height = 36.0 + row * shown.len() as f64 + 40.0;
    let (low, high) = range(&shown);
    let svg = picture(WIDTH, height as u32, "Changes with their intervals", |canvas| {
        let place = (150.0, 36.0, f64::from(WIDTH) - 200.0, height - 40.0);
        let axes = Axes { place, x: (low.ln(), high.ln()), y: (0.0, 1.0), log: false };
        axes.title(canvas, "New run over base run", "with the 95 % interval of the change");
        factors(canvas, &axes, low, high);
        for (number, change) in shown.iter().enumerate() {
            change_row(canvas, &axes, change, 36.0 + row * (number as f64 + 0.5));
        }
    });
    Some(Chart {
        name: "compare-changes".to_owned(),
        caption: format!(
            "Stage {stage}: a figure that changed for certain is filled, with its percentage in bold: \
             its interval lies on one side of ×1, and the change is more than the slip at that \
             percentile. A ring without a line has no interval: it exists once a run, or in too few \
             seconds."
        ),
        svg,
    })
}

fn factor(percent: f64) -> f64 {
    (1.0 + percent / 100.0).clamp(1.0 / FACTOR_MAX, FACTOR_MAX)
}

/// All intervals with some room, and ×1 in any case.
fn range(changes: &[&Change]) -> (f64, f64) {
    let ends = changes.iter().flat_map(|change| {
        let (low, high) = change.interval.unwrap_or((change.percent, change.percent));
        [factor(low), factor(high), factor(change.percent)]
    });
    let (low, high) = ends.fold((0.8f64, 1.25f64), |(l, h), end| (l.min(end), h.max(end)));
    (low / 1.05, high * 1.05)
}

fn factors(canvas: &Canvas<'_>, axes: &Axes, low: f64, high: f64) {
    let (_, top, _, bottom) = axes.place;
    let near = [0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0];
    let ticks: Vec<f64> = match high / low {
        span if span < 5.0 => near.into_iter().filter(|t| (low..=high).contains(t)).collect(),
        _ => log_ticks(low, high, 9),
    };
    for tick in ticks {
        let x = axes.px(tick.ln());
        canvas.line(&[(x, top), (x, bottom)], Role::Grid, 1.0);
        canvas.text((x, bottom + 14.0), &format!("×{tick}"), SMALL, Role::Muted, Hold::Middle);
    }
    let x = axes.px(0.0);
    canvas.line(&[(x, top), (x, bottom)], Role::Muted, 1.5);
}

fn change_row(canvas: &Canvas<'_>, axes: &Axes, change: &Change, y: f64) {
    let (left, _, right, _) = axes.place;
    canvas.text((left - 12.0, y), change.metric.title(), SMALL, Role::Ink, Hold::Right);
    let certain = change.is_certain() && change.interval.is_some();
    let role = if certain { Role::Vermillion } else { Role::Grey };
    if let Some((low, high)) = change.interval {
        let ends = (axes.px(factor(low).ln()), axes.px(factor(high).ln()));
        canvas.line(&[(ends.0, y), (ends.1, y)], role, 3.0);
        for x in [ends.0, ends.1] {
            canvas.line(&[(x, y - 5.0), (x, y + 5.0)], role, 1.5);
        }
    }
    let at = (axes.px(factor(change.percent).ln()), y);
    canvas.dot(at, 5.5, role);
    if !certain {
        canvas.dot(at, 3.2, Role::Paper);
    }
    let text = format!("{:+.1} %", change.percent);
    let show = |text: &str| match certain {
        true => canvas.bold((right + 14.0, y), text, SMALL, Role::Ink, Hold::Left),
        false => canvas.text((right + 14.0, y), text, SMALL, Role::Muted, Hold::Left),
    };
    show(&text);
    let values =
        format!("{} → {}", change.metric.show(change.base), change.metric.show(change.new));
    canvas.text((f64::from(WIDTH) - 8.0, y), &values, SMALL, Role::Muted, Hold::Right);
}

/// The figures second by second, from the start of each run's hold phase.
pub(super) fn course(base: &StageResult, new: &StageResult) -> Option<Chart> {
    let panels = [
        (Metric::P50, "p50 of each second"),
        (Metric::P99, "p99 of each second"),
        (Metric::Throughput, "Answers a second"),
    ];
    let courses: Vec<_> = panels
        .into_iter()
        .filter_map(|(metric, title)| {
            Some((metric, title, seconds(metric, base)?, seconds(metric, new)?))
        })
        .collect();
    if courses.is_empty() {
        return None;
    }
    let (panel, gap) = (104.0, 44.0);
    let height = 36.0 + courses.len() as f64 * (panel + gap);
    let width_s = base.timeline.bucket_ns as f64 / 1e9;
    let most = courses.iter().map(|(_, _, b, n)| b.len().max(n.len())).max()? as f64;
    let svg = picture(WIDTH, height as u32, "Both runs second by second", |canvas| {
        for (number, (metric, title, of_base, of_new)) in courses.iter().enumerate() {
            let top = 36.0 + number as f64 * (panel + gap);
            let place = (72.0, top, f64::from(WIDTH) - 24.0, top + panel);
            let axes = Axes { place, x: (0.0, most * width_s), ..scale(*metric, of_base, of_new) };
            axes.title(canvas, title, if axes.log { "logarithmic" } else { "" });
            axes.legend(canvas, &[("base", BASE), ("new", NEW)]);
            axes.grid(canvas, |value| match metric {
                Metric::Throughput => units::rate(value),
                _ => units::tick(value),
            });
            for (values, role) in [(of_base, BASE), (of_new, NEW)] {
                let points = values.iter().enumerate();
                let line: Vec<(f64, f64)> = points
                    .map(|(second, value)| axes.at((second as f64 + 0.5) * width_s, *value))
                    .collect();
                canvas.line(&line, role, 1.6);
            }
            let last = number + 1 == courses.len();
            axes.time(canvas, if last { "time in the hold phase" } else { "" });
        }
    });
    Some(Chart {
        name: "compare-seconds".to_owned(),
        caption: format!(
            "Stage {}: whole seconds of both hold phases, beside each other. The compared figure is \
             the median of each line; its interval comes from how restless the lines are.",
            base.name
        ),
        svg,
    })
}

/// From 0 for rates; logarithmic for latencies.
fn scale(metric: Metric, base: &[f64], new: &[f64]) -> Axes {
    let all = || base.iter().chain(new).copied();
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let (y, log) = match metric {
        Metric::Throughput => ((0.0, nice_max(high * 1.05)), false),
        _ => ((low.max(1.0) * 0.7, (high * 1.4).max(low * 12.0)), true),
    };
    Axes { place: (0.0, 0.0, 1.0, 1.0), x: (0.0, 1.0), y, log }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(percent: f64, interval: Option<(f64, f64)>) -> Change {
        let stage = "s".to_owned();
        Change { stage, metric: Metric::P99, base: 1.0, new: 2.0, percent, interval, noise: 0.0 }
    }

    #[test]
    fn the_axis_holds_every_interval_and_no_change() {
        let up = change(8_376.0, Some((7_816.0, 12_354.0)));
        let (low, high) = range(&[&up]);
        assert!(low < 1.0 && high > 124.0, "{low} {high}");
        let (low, high) = range(&[&change(-60.0, Some((-100.0, 5.0)))]);
        assert!(low < 0.01 && low > 0.0 && high > 1.05, "{low} {high}");
    }

    #[test]
    fn a_figure_that_is_nothing_in_a_run_is_left_out() {
        let none = Change { base: 0.0, ..change(f64::INFINITY, None) };
        assert!(changes("s", &[none]).is_none());
        let drawn = changes("s", &[change(100.0, Some((50.0, 200.0)))]).expect("one is drawn");
        assert!(drawn.svg.contains("+100.0 %"), "{}", drawn.svg);
    }
}
