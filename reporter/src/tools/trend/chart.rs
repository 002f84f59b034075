//! The picture of a trend: one panel a figure, runs at equal steps in the order of their starts.
//!
//! A run's verdict is a shape as well as a colour: a disc passed, a square failed, a ring is not
//! valid. It knows no file.

use super::{MEASURES, Measure, Point};
use crate::report::charts::WIDTH;
use crate::report::charts::axes::{Axes, SMALL, nice_max};
use crate::report::charts::canvas::{Canvas, Hold, Role, picture, text_width};

const COLUMNS: usize = 2;
const PANEL_HEIGHT: f64 = 150.0;
const TOP: f64 = 64.0;
const ROW_HEIGHT: f64 = 214.0;
const HEIGHT: u32 = 700;

/// Draws all panels.
pub(super) fn draw(runs: &[Point]) -> String {
    picture(WIDTH, HEIGHT, "Headline figures of every run", |canvas| {
        key(canvas);
        for (number, measure) in MEASURES.iter().enumerate() {
            let column = (number % COLUMNS) as f64;
            let row = (number / COLUMNS) as f64;
            let left = 76.0 + column * f64::from(WIDTH) / COLUMNS as f64;
            let top = TOP + row * ROW_HEIGHT;
            let right = (column + 1.0) * f64::from(WIDTH) / COLUMNS as f64 - 16.0;
            panel(canvas, measure, runs, (left, top, right, top + PANEL_HEIGHT));
        }
    })
}

/// What the shapes mean.
fn key(canvas: &Canvas<'_>) {
    let mut x = 22.0;
    for mark in ["PASS", "FAIL", "not valid"] {
        shape(canvas, (x, 16.0), mark);
        canvas.text((x + 9.0, 16.0), mark, SMALL, Role::Ink, Hold::Left);
        x += text_width(mark, SMALL) + 36.0;
    }
    let note = "a line joins runs of the same stage and number of connections";
    canvas.text((x, 16.0), note, SMALL, Role::Muted, Hold::Left);
}

fn panel(canvas: &Canvas<'_>, measure: &Measure, runs: &[Point], place: (f64, f64, f64, f64)) {
    let values: Vec<Option<f64>> = runs.iter().map(measure.of).collect();
    // Half a step of room on both sides, so that the first and the last mark stand free.
    let x = (-0.5, runs.len() as f64 - 0.5);
    let axes = Axes { place, x, y: range(measure, &values), log: false };
    axes.title(canvas, measure.name, measure.better);
    match measure.unit {
        "bytes" => axes.grid_of_bytes(canvas, |tick| measure.show(tick)),
        _ => axes.grid(canvas, |tick| measure.show(tick)),
    }
    dates(canvas, &axes, runs);
    if values.iter().all(Option::is_none) {
        let middle = ((place.0 + place.2) / 2.0, (place.1 + place.3) / 2.0);
        canvas.text(middle, "not measured", SMALL, Role::Muted, Hold::Middle);
        return;
    }
    let at = |run: usize| values[run].map(|value| axes.at(run as f64, value));
    for run in 1..runs.len() {
        if let (Some(from), Some(to)) = (at(run - 1), at(run))
            && runs[run].same_plan(&runs[run - 1])
        {
            canvas.line(&[from, to], Role::Grey, 1.25);
        }
    }
    for (run, point) in runs.iter().enumerate() {
        if let Some(place) = at(run) {
            shape(canvas, place, point.mark());
        }
    }
    last_value(canvas, measure, &values, &axes);
}

/// From 0, except for shares near 100 %, whose differences are what matters.
fn range(measure: &Measure, values: &[Option<f64>]) -> (f64, f64) {
    let known = values.iter().flatten().copied();
    if measure.unit == "%" {
        let low = known.fold(100.0, f64::min);
        let room = [0.1, 1.0, 5.0, 20.0, 50.0].into_iter().find(|room| 100.0 - low <= *room);
        return (100.0 - room.unwrap_or(100.0), 100.0);
    }
    (0.0, nice_max(known.fold(0.0, f64::max) * 1.08))
}

/// The days of as many runs as there is room for, the last one always.
fn dates(canvas: &Canvas<'_>, axes: &Axes, runs: &[Point]) {
    let (left, _, right, bottom) = axes.place;
    canvas.line(&[(left, bottom), (right, bottom)], Role::Muted, 1.0);
    let room = (((right - left) / 84.0) as usize).max(1);
    let step = runs.len().div_ceil(room);
    for (run, point) in runs.iter().enumerate() {
        let x = axes.px(run as f64);
        canvas.line(&[(x, bottom), (x, bottom + 3.0)], Role::Muted, 1.0);
        if (runs.len() - 1 - run).is_multiple_of(step) {
            let label = point.started();
            let label = label.get(5..).unwrap_or_default();
            canvas.text((x, bottom + 14.0), label, SMALL, Role::Muted, Hold::Middle);
        }
    }
}

/// The value that one looks for first, in words, on the right above the panel.
fn last_value(canvas: &Canvas<'_>, measure: &Measure, values: &[Option<f64>], axes: &Axes) {
    if let Some(value) = values.last().copied().flatten() {
        let text = format!("last {}", measure.show(value));
        let (_, top, right, _) = axes.place;
        canvas.bold((right, top - 13.0), &text, SMALL, Role::Ink, Hold::Right);
    }
}

fn shape(canvas: &Canvas<'_>, at: (f64, f64), mark: &str) {
    match mark {
        "PASS" => canvas.dot(at, 4.5, Role::Green),
        "FAIL" => {
            let (x, y) = at;
            canvas.rect((x - 4.5, y - 4.5), (x + 4.5, y + 4.5), Role::Vermillion, 1.0);
        }
        _ => {
            canvas.dot(at, 5.0, Role::Grey);
            canvas.dot(at, 3.0, Role::Paper);
        }
    }
}
