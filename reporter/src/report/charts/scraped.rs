//! What the stack's Prometheus saw, a panel for each query that it answered: servers, generators and
//! nodes on one axis of time, with the kills and scale commands on it.

use super::axes::{Axes, SMALL, nice_max};
use super::canvas::{Canvas, Hold, Role, picture};
use super::{Chart, WIDTH};
use crate::analysis::Analysis;
use crate::analysis::scraped::{Curve, rate, sum};
use crate::report::units;
use crate::run::record::Impact;

/// How a query's series become curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Each as it is.
    Each,
    /// All added up.
    Sum,
    /// What each counter gains a second.
    Rate,
    /// The same, added up.
    RateSum,
}

/// Query, label and value that select series, title, unit, treatment.
type Panel = (&'static str, Option<(&'static str, &'static str)>, &'static str, &'static str, How);

/// A curve.
type Points = Vec<(f64, f64)>;

const PANELS: [Panel; 10] = [
    ("up", Some(("job", "erlmcp-server")), "Replicas that answer their scrape", "", How::Sum),
    ("sessions", None, "Sessions in each server", "", How::Each),
    ("client_sessions", None, "Sessions alive at the generators", "", How::Sum),
    ("requests", None, "Requests that the servers answered", "a second", How::RateSum),
    (
        "client_requests",
        Some(("outcome", "ok")),
        "Answered at the generators",
        "a second",
        How::RateSum,
    ),
    ("client_failures", None, "Failed at the generators", "a second", How::RateSum),
    ("cpu", None, "CPU of each server", "cores", How::Rate),
    ("client_cpu", None, "CPU of each generator's worker", "cores", How::Rate),
    ("descriptors", None, "Descriptors of each server", "", How::Each),
    ("node_memory", None, "Memory left on each node", "GiB", How::Each),
];
const COLUMNS: usize = 2;
const PANEL_HEIGHT: f64 = 128.0;
/// Curves of a panel that are told apart by colour; more are faint ones of one colour.
const COLOURS: [Role; 4] = [Role::Blue, Role::Orange, Role::Green, Role::Purple];
const CURVES_MAX: usize = 64;

/// The chart; none without an answer of Prometheus.
pub fn draw(analysis: &Analysis) -> Option<Chart> {
    let panels: Vec<(&Panel, Vec<Points>)> = PANELS
        .iter()
        .map(|panel| (panel, curves(analysis, panel)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    if panels.is_empty() {
        return None;
    }
    let end = panels.iter().flat_map(|(_, curves)| curves.iter().flatten());
    let end = end.map(|point| point.0).fold(0.0, f64::max);
    let rows = panels.len().div_ceil(COLUMNS);
    let height = 10.0 + rows as f64 * PANEL_HEIGHT;
    let svg = picture(WIDTH, height as u32, "What Prometheus saw", |canvas| {
        for (index, (panel, curves)) in panels.iter().enumerate() {
            let axes = place(index, end, curves);
            axes.title(canvas, panel.2, panel.3);
            events(canvas, analysis, &axes);
            axes.grid(canvas, label);
            lines(canvas, &axes, curves);
            axes.time(canvas, "");
        }
    });
    let caption = "Range queries of the stack's own Prometheus over the run; the answers are in \
                   metrics/prometheus/. Dashed: kills, losses and drains of nodes, updates, and changes of the \
                   number of replicas.";
    Some(Chart { name: "prometheus".to_owned(), caption: caption.to_owned(), svg })
}

fn curves(analysis: &Analysis, panel: &Panel) -> Vec<Points> {
    let (query, wanted, _, unit, how) = *panel;
    let all = analysis.scraped.get(query).map_or(&[][..], Vec::as_slice);
    let has = |curve: &&Curve| {
        wanted.is_none_or(|(label, value)| curve.labels.get(label).is_some_and(|own| own == value))
    };
    let factor = if unit == "GiB" { 1.0 / 1_073_741_824.0 } else { 1.0 };
    let scaled = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().filter(|point| point.0 >= 0.0).map(|(x, y)| (*x, y * factor)).collect()
    };
    let chosen: Vec<&Curve> = all.iter().filter(has).take(CURVES_MAX).collect();
    let rates = || chosen.iter().map(|curve| rate(&curve.points)).collect::<Vec<_>>();
    let drawn = match how {
        How::Each => chosen.iter().map(|curve| scaled(&curve.points)).collect(),
        How::Sum => vec![scaled(&sum(chosen.iter().map(|curve| curve.points.as_slice())))],
        How::Rate => rates().iter().map(|points| scaled(points)).collect(),
        How::RateSum => {
            let rates = rates();
            vec![scaled(&sum(rates.iter().map(Vec::as_slice)))]
        }
    };
    drawn.into_iter().filter(|curve| curve.len() > 1).collect()
}

fn place(index: usize, end: f64, curves: &[Points]) -> Axes {
    let (column, row) = (index % COLUMNS, index / COLUMNS);
    let width = f64::from(WIDTH) / COLUMNS as f64;
    let (left, top) = (52.0 + column as f64 * width, 34.0 + row as f64 * PANEL_HEIGHT);
    let most = curves.iter().flatten().map(|point| point.1).fold(0.0, f64::max);
    Axes {
        place: (left, top, left + width - 68.0, top + 68.0),
        x: (0.0, end),
        y: (0.0, nice_max(most * 1.02)),
        log: false,
    }
}

fn label(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 => units::count(whole as u64),
        part => format!("{}", (part * 100.0).round() / 100.0),
    }
}

fn lines(canvas: &Canvas<'_>, axes: &Axes, curves: &[Points]) {
    let many = curves.len() > COLOURS.len();
    for (index, curve) in curves.iter().enumerate() {
        let line: Vec<(f64, f64)> = curve.iter().map(|(x, y)| axes.at(*x, *y)).collect();
        match many {
            true => canvas.faint_line(&line, Role::Blue, 1.0, 0.5),
            false => canvas.line(&line, COLOURS[index], 1.4),
        }
    }
    if many {
        let text = format!("{} series", curves.len());
        let at = (axes.place.2, axes.place.1 - 13.0);
        canvas.text(at, &text, SMALL, Role::Muted, Hold::Right);
    }
}

fn events(canvas: &Canvas<'_>, analysis: &Analysis, axes: &Axes) {
    for event in &analysis.run.events {
        let role = match event.impact() {
            Some(Impact::Blow) => Role::Vermillion,
            Some(Impact::Change) => Role::Grey,
            None => continue,
        };
        let at_s = (event.at_ns as f64 - analysis.run.started_mono_ns as f64) / 1e9;
        if (0.0..=axes.x.1).contains(&at_s) {
            let x = axes.px(at_s);
            canvas.dashes((x, axes.place.1), (x, axes.place.3), role, 1.0);
        }
    }
}
