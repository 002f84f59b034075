//! Charts over time: the whole run on one axis, the ramp, a failover, the scaling.

use std::collections::BTreeMap;

use super::axes::{Axes, SMALL, nice_max};
use super::canvas::{Canvas, Hold, Role, picture, text_width};
use super::{Chart, WIDTH};
use crate::analysis::Analysis;
use crate::report::units;
use crate::results::{Results, StageResult, Timeline};

const LEFT: f64 = 72.0;
const RIGHT: f64 = 16.0;
const PANEL_HEIGHT: f64 = 128.0;
const GAP: f64 = 42.0;
/// Reasons with a colour of their own; the rest is one more.
const REASONS: [Role; 5] = [Role::Vermillion, Role::Purple, Role::Orange, Role::Sky, Role::Yellow];

/// A vertical line with a word.
struct Line {
    at_s: f64,
    word: String,
    role: Role,
}

/// What one picture over time shows.
struct View<'a> {
    stages: Vec<&'a StageResult>,
    /// Zero of the axis, and the range in seconds from there.
    zero_ns: u64,
    range_s: (f64, f64),
    lines: Vec<Line>,
    axis_note: &'static str,
    /// Draw the stages' names.
    names: bool,
}

/// The whole run on one axis.
pub fn run(results: &Results) -> Option<Chart> {
    let stages: Vec<&StageResult> = ran(results);
    let (first, last) = (stages.first()?, stages.last()?);
    let zero_ns = first.timeline.start_ns;
    let range_s = (0.0, seconds(zero_ns, end_ns(&last.timeline)));
    let mut lines = Vec::new();
    for kill in &results.failovers {
        let at_s = seconds(zero_ns, kill.killed_at_ns);
        lines.push(Line { at_s, word: word(&kill.cause), role: Role::Vermillion });
    }
    for change in &results.scaling {
        lines.push(Line {
            at_s: seconds(zero_ns, change.commanded_at_ns),
            word: format!("{}→{}", change.from, change.to),
            role: Role::Purple,
        });
    }
    let view = View {
        stages,
        zero_ns,
        range_s,
        lines,
        axis_note: "minutes:seconds of the run",
        names: true,
    };
    Some(Chart {
        name: "timeline".to_owned(),
        caption: "The run on one time axis. Shaded: hold phases, in which the figures are taken. \
                  Offered counts by due time, achieved by answer; latency is response."
            .to_owned(),
        svg: draw(&view, "Throughput, latency, connections and errors over the run"),
    })
}

/// The worst kill, from a little before to a little after the recovery.
pub fn failover(results: &Results) -> Option<Chart> {
    let kill = results.failover.as_ref()?;
    let stage = results.stages.iter().find(|stage| stage.name == kill.stage)?;
    let zero_ns = kill.killed_at_ns;
    let whole =
        (seconds(zero_ns, stage.timeline.start_ns), seconds(zero_ns, end_ns(&stage.timeline)));
    let after = kill.recovery_ns.map_or(whole.1, |recovery| recovery as f64 / 1e9 * 1.5 + 10.0);
    let range_s = (whole.0.max(-10.0), whole.1.min(after.max(20.0)));
    let mut lines = vec![Line { at_s: 0.0, word: word(&kill.cause), role: Role::Vermillion }];
    let mut mark = |at_ns: Option<u64>, word: &str| {
        if let Some(at_ns) = at_ns {
            let at_s = at_ns as f64 / 1e9;
            lines.push(Line { at_s, word: word.to_owned(), role: Role::Green });
        }
    };
    mark(kill.sessions_recovered_ns, "sessions back");
    mark(kill.replica_started_ns, "started");
    mark(kill.replica_healthy_ns, "healthy");
    let view = View {
        stages: vec![stage],
        zero_ns,
        range_s,
        lines,
        axis_note: "time since then",
        names: false,
    };
    Some(Chart {
        name: "failover".to_owned(),
        caption: format!("At 0:00 under load: {} of {}.", word(&kill.cause), kill.replica),
        svg: draw(&view, "The failover: throughput, latency, connections and errors"),
    })
}

/// What a blow is called on an axis.
fn word(cause: &str) -> String {
    cause.replace('_', " ")
}

/// The stage in which the number of replicas changes.
pub fn scaling(results: &Results) -> Option<Chart> {
    let name = &results.scaling.first()?.stage;
    let stage = results.stages.iter().find(|stage| stage.name == *name)?;
    let zero_ns = stage.timeline.start_ns;
    let mut lines = Vec::new();
    for change in results.scaling.iter().filter(|change| change.stage == *name) {
        let at_s = seconds(zero_ns, change.commanded_at_ns);
        lines.push(Line {
            at_s,
            word: format!("{}→{}", change.from, change.to),
            role: Role::Purple,
        });
        if let Some(took) = change.converged_ns {
            let at_s = at_s + took as f64 / 1e9;
            lines.push(Line { at_s, word: "converged".to_owned(), role: Role::Green });
        }
    }
    let view = View {
        range_s: (0.0, seconds(zero_ns, end_ns(&stage.timeline))),
        stages: vec![stage],
        zero_ns,
        lines,
        axis_note: "time in the stage",
        names: false,
    };
    Some(Chart {
        name: "scaling".to_owned(),
        caption: format!("Stage {name}: replicas are added and taken away under load."),
        svg: draw(&view, "The scaling: throughput, latency, connections and errors"),
    })
}

/// The connections of the top stage: how they came and which were lost.
pub fn ramp(analysis: &Analysis, results: &Results) -> Option<Chart> {
    let name = &analysis.top_stage()?.record.name;
    let stage = results.stages.iter().find(|stage| stage.name == *name)?;
    if stage.timeline.ok.is_empty() {
        return None;
    }
    let zero_ns = stage.timeline.start_ns;
    let view = View {
        range_s: (0.0, seconds(zero_ns, end_ns(&stage.timeline))),
        stages: vec![stage],
        zero_ns,
        lines: Vec::new(),
        axis_note: "time in the stage",
        names: false,
    };
    let svg = picture(WIDTH, 386, "Connections of the top stage and losses", |canvas| {
        let top = panel(0, 190.0, &view);
        connections(canvas, &view, &top);
        let losses_top = top.place.3 + GAP;
        let place = (LEFT, losses_top, f64::from(WIDTH) - RIGHT, losses_top + 66.0);
        losses(canvas, &view, place);
    });
    Some(Chart {
        name: "connections".to_owned(),
        caption: format!(
            "Stage {name}: connections in their three counts from the first one on, and losses."
        ),
        svg,
    })
}

fn ran(results: &Results) -> Vec<&StageResult> {
    results.stages.iter().filter(|stage| !stage.timeline.ok.is_empty()).collect()
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as f64 - from_ns as f64) / 1e9
}

fn end_ns(timeline: &Timeline) -> u64 {
    timeline.start_ns + timeline.ok.len() as u64 * timeline.bucket_ns
}

fn panel(number: usize, height: f64, view: &View<'_>) -> Axes {
    let top = 52.0 + number as f64 * (PANEL_HEIGHT + GAP);
    let place = (LEFT, top, f64::from(WIDTH) - RIGHT, top + height);
    Axes { place, x: view.range_s, y: (0.0, 1.0), log: false }
}

fn draw(view: &View<'_>, title: &str) -> String {
    let height = 52.0 + 4.0 * PANEL_HEIGHT + 3.0 * GAP + 40.0;
    picture(WIDTH, height as u32, title, |canvas| {
        let panels: Vec<Axes> = (0..4).map(|number| panel(number, PANEL_HEIGHT, view)).collect();
        throughput(canvas, view, &panels[0]);
        latency(canvas, view, &panels[1]);
        connections(canvas, view, &panels[2]);
        errors(canvas, view, &panels[3]);
        words(canvas, view, &panels);
    })
}

/// Hold phases behind the curves.
fn bands(canvas: &Canvas<'_>, view: &View<'_>, axes: &Axes) {
    for stage in &view.stages {
        let (Some(start), Some(length)) = (stage.hold_start_ns, stage.hold_ns) else { continue };
        let from = seconds(view.zero_ns, start).max(view.range_s.0);
        let to = seconds(view.zero_ns, start + length).min(view.range_s.1);
        if from < to {
            let (_, top, _, bottom) = axes.place;
            canvas.rect((axes.px(from), top), (axes.px(to), bottom), Role::Band, 1.0);
        }
    }
}

/// The middles of a stage's buckets that are in view, with their numbers.
fn buckets<'a>(
    view: &'a View<'_>,
    timeline: &'a Timeline,
) -> impl Iterator<Item = (usize, f64)> + 'a {
    let middle = move |bucket: usize| {
        let at = timeline.start_ns + bucket as u64 * timeline.bucket_ns + timeline.bucket_ns / 2;
        (bucket, seconds(view.zero_ns, at))
    };
    let inside = |(_, at): &(usize, f64)| view.range_s.0 <= *at && *at <= view.range_s.1;
    (0..timeline.ok.len()).map(middle).filter(inside)
}

fn per_s(timeline: &Timeline, count: u64) -> f64 {
    count as f64 / (timeline.bucket_ns as f64 / 1e9)
}

fn throughput(canvas: &Canvas<'_>, view: &View<'_>, axes: &Axes) {
    let peak = view.stages.iter().flat_map(|stage| {
        let line = &stage.timeline;
        buckets(view, line).map(|(b, _)| per_s(line, line.ok[b].max(line.offered[b])))
    });
    let axes = Axes { y: (0.0, nice_max(peak.fold(0.0, f64::max) * 1.02)), ..axes.clone() };
    bands(canvas, view, &axes);
    axes.grid(canvas, units::rate);
    axes.title(canvas, "Throughput", "requests/s");
    axes.legend(canvas, &[("offered", Role::Grey), ("achieved", Role::Blue)]);
    for stage in &view.stages {
        let line = &stage.timeline;
        let points: Vec<(f64, f64)> =
            buckets(view, line).map(|(b, at)| axes.at(at, per_s(line, line.ok[b]))).collect();
        area_below(canvas, &axes, &points, Role::Blue, 0.16);
        let offered: Vec<(f64, f64)> =
            buckets(view, line).map(|(b, at)| axes.at(at, per_s(line, line.offered[b]))).collect();
        canvas.line(&offered, Role::Grey, 1.0);
        canvas.line(&points, Role::Blue, 1.5);
    }
    baseline(canvas, &axes);
}

fn area_below(canvas: &Canvas<'_>, axes: &Axes, points: &[(f64, f64)], role: Role, opacity: f64) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let mut area = points.to_vec();
    area.push((last.0, axes.place.3));
    area.push((first.0, axes.place.3));
    canvas.area(&area, role, opacity);
}

fn latency(canvas: &Canvas<'_>, view: &View<'_>, axes: &Axes) {
    let values = view.stages.iter().flat_map(|stage| {
        let line = &stage.timeline;
        buckets(view, line).flat_map(|(b, _)| [line.p50_ns[b], line.p99_ns[b]]).flatten()
    });
    let (low, high) =
        values.fold((u64::MAX, 0), |(low, high), value| (low.min(value), high.max(value)));
    bands(canvas, view, axes);
    axes.title(canvas, "Response latency", "logarithmic");
    let series = [("p50", Role::Green), ("p95", Role::Orange), ("p99", Role::Vermillion)];
    axes.legend(canvas, &series);
    if high == 0 {
        baseline(canvas, axes);
        return;
    }
    let low = (low.max(1_000) as f64 * 0.7).min(high as f64 / 12.0);
    let axes = Axes { y: (low, high as f64 * 1.3), log: true, ..axes.clone() };
    axes.grid(canvas, units::tick);
    for stage in &view.stages {
        let line = &stage.timeline;
        for (course, role) in [
            (&line.p99_ns, Role::Vermillion),
            (&line.p95_ns, Role::Orange),
            (&line.p50_ns, Role::Green),
        ] {
            let points = buckets(view, line).map(|(b, at)| (at, course[b].map(|ns| ns as f64)));
            axes.broken_line(canvas, points, role, 1.4);
        }
    }
    baseline(canvas, &axes);
}

fn connections(canvas: &Canvas<'_>, view: &View<'_>, axes: &Axes) {
    let peak = view.stages.iter().flat_map(|stage| {
        let line = &stage.timeline;
        let planned = Some(stage.connections.planned);
        buckets(view, line).flat_map(move |(b, _)| [line.tcp_open[b], planned]).flatten()
    });
    let top = nice_max(peak.max().unwrap_or(0) as f64 * 1.05);
    let axes = Axes { y: (0.0, top), ..axes.clone() };
    bands(canvas, view, &axes);
    axes.grid(canvas, |n| units::count(n as u64));
    axes.title(canvas, "Connections", "held at the same time");
    let streams = view.stages.iter().any(|stage| stage.connections.stream_open_peak > Some(0));
    let mut series =
        vec![("planned", Role::Grey), ("TCP open", Role::Sky), ("session alive", Role::Blue)];
    if streams {
        series.push(("stream open", Role::Green));
    }
    axes.legend(canvas, &series);
    for stage in &view.stages {
        let line = &stage.timeline;
        let ends = (seconds(view.zero_ns, line.start_ns), seconds(view.zero_ns, end_ns(line)));
        let planned = axes.py(stage.connections.planned as f64);
        let (from, to) = (ends.0.max(view.range_s.0), ends.1.min(view.range_s.1));
        canvas.dashes((axes.px(from), planned), (axes.px(to), planned), Role::Grey, 1.0);
        let mut courses = vec![(&line.tcp_open, Role::Sky, 2.6)];
        if streams {
            courses.push((&line.stream_open, Role::Green, 1.4));
        }
        courses.push((&line.session_alive, Role::Blue, 1.4));
        for (course, role, width) in courses {
            let points = buckets(view, line).map(|(b, at)| (at, course[b].map(|n| n as f64)));
            axes.broken_line(canvas, points, role, width);
        }
    }
    baseline(canvas, &axes);
}

/// The reasons in view by weight; those without a colour of their own are gathered.
fn reasons(view: &View<'_>) -> Vec<(String, Role)> {
    let mut weights: BTreeMap<String, u64> = BTreeMap::new();
    for stage in &view.stages {
        let line = &stage.timeline;
        for (bucket, _) in buckets(view, line) {
            for (reason, course) in &line.errors {
                *weights.entry(reason.clone()).or_default() += course[bucket];
            }
            *weights.entry("dropped".to_owned()).or_default() += line.dropped[bucket];
        }
    }
    let mut sorted: Vec<(String, u64)> =
        weights.into_iter().filter(|(_, weight)| *weight > 0).collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut roles = REASONS.into_iter();
    sorted.into_iter().map(|(reason, _)| (reason, roles.next().unwrap_or(Role::Grey))).collect()
}

fn errors(canvas: &Canvas<'_>, view: &View<'_>, axes: &Axes) {
    let reasons = reasons(view);
    let count = |line: &Timeline, reason: &str, bucket: usize| match reason {
        "dropped" => line.dropped[bucket],
        reason => line.errors.get(reason).map_or(0, |course| course[bucket]),
    };
    let total = |line: &Timeline, bucket: usize| -> f64 {
        let sum: u64 = reasons.iter().map(|(reason, _)| count(line, reason, bucket)).sum();
        per_s(line, sum)
    };
    let peak = view.stages.iter().flat_map(|stage| {
        buckets(view, &stage.timeline).map(|(bucket, _)| total(&stage.timeline, bucket))
    });
    let axes = Axes { y: (0.0, nice_max(peak.fold(0.0, f64::max))), ..axes.clone() };
    bands(canvas, view, &axes);
    axes.title(canvas, "Failed and dropped", "requests/s by reason");
    if reasons.is_empty() {
        let middle = (axes.place.0 + axes.place.2) / 2.0;
        let y = (axes.place.1 + axes.place.3) / 2.0;
        canvas.text((middle, y), "none", SMALL, Role::Muted, Hold::Middle);
    } else {
        axes.grid(canvas, units::rate);
        legend_of_reasons(canvas, &axes, &reasons);
    }
    for stage in &view.stages {
        let line = &stage.timeline;
        let width = line.bucket_ns as f64 / 1e9;
        let pixels = (axes.px(width) - axes.px(0.0)).max(1.6);
        for (bucket, at) in buckets(view, line) {
            let mut below = 0.0;
            let left = axes.px(at) - pixels / 2.0;
            for (reason, role) in &reasons {
                let here = per_s(line, count(line, reason, bucket));
                if here > 0.0 {
                    let (low, high) = (axes.py(below), axes.py(below + here));
                    let high = high.min(low - 1.0);
                    canvas.rect((left, high), (left + pixels * 0.92, low), *role, 1.0);
                    below += here;
                }
            }
        }
    }
    axes.time(canvas, view.axis_note);
}

fn legend_of_reasons(canvas: &Canvas<'_>, axes: &Axes, reasons: &[(String, Role)]) {
    let mut items: Vec<(&str, Role)> =
        reasons.iter().take(REASONS.len()).map(|(name, role)| (name.as_str(), *role)).collect();
    if reasons.len() > REASONS.len() {
        items.push(("others", Role::Grey));
    }
    axes.legend(canvas, &items);
}

fn losses(canvas: &Canvas<'_>, view: &View<'_>, place: (f64, f64, f64, f64)) {
    let stage = view.stages[0];
    let line = &stage.timeline;
    let peak = line.losses.iter().copied().max().unwrap_or(0);
    let axes = Axes { place, x: view.range_s, y: (0.0, nice_max(peak as f64)), log: false };
    bands(canvas, view, &axes);
    let total: u64 = line.losses.iter().sum();
    axes.title(
        canvas,
        "Losses",
        &format!("connections and sessions, {} in all", units::count(total)),
    );
    if total > 0 {
        axes.grid(canvas, |n| units::count(n as u64));
    }
    for (bucket, at) in buckets(view, line) {
        if line.losses[bucket] > 0 {
            let (x, y) = axes.at(at, line.losses[bucket] as f64);
            canvas.line(&[(x, place.3), (x, y.min(place.3 - 1.5))], Role::Vermillion, 2.0);
        }
    }
    axes.time(canvas, view.axis_note);
}

fn baseline(canvas: &Canvas<'_>, axes: &Axes) {
    let (left, _, right, bottom) = axes.place;
    canvas.line(&[(left, bottom), (right, bottom)], Role::Muted, 1.0);
}

/// Vertical lines through all panels, with words above in as many rows as they need; and the
/// stages' names.
fn words(canvas: &Canvas<'_>, view: &View<'_>, panels: &[Axes]) {
    let first = &panels[0];
    // The stages' names take the second row.
    let rows = if view.names { 1 } else { 2 };
    let mut ends = [f64::MIN; 2];
    let mut lines: Vec<&Line> = view.lines.iter().collect();
    lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    for line in lines {
        if line.at_s < view.range_s.0 || line.at_s > view.range_s.1 {
            continue;
        }
        let x = first.px(line.at_s);
        for panel in panels {
            canvas.line(&[(x, panel.place.1), (x, panel.place.3)], line.role, 1.0);
        }
        let half = text_width(&line.word, SMALL) / 2.0 + 2.0;
        let centre = x.clamp(LEFT + half, f64::from(WIDTH) - RIGHT - half);
        let row = (0..rows).find(|row| centre - half > ends[*row]);
        // Without room for its word a line stays without.
        if let Some(row) = row {
            ends[row] = centre + half;
            let y = 9.0 + 13.0 * row as f64;
            canvas.text((centre, y), &line.word, SMALL, line.role, Hold::Middle);
        }
    }
    if view.names {
        stage_names(canvas, view, panels);
    }
}

fn stage_names(canvas: &Canvas<'_>, view: &View<'_>, panels: &[Axes]) {
    let mut end = f64::MIN;
    for stage in &view.stages {
        let x = panels[0].px(seconds(view.zero_ns, stage.timeline.start_ns));
        for panel in panels {
            let line = [(x, panel.place.1), (x, panel.place.3)];
            canvas.faint_line(&line, Role::Muted, 1.0, 0.4);
        }
        let width = text_width(&stage.name, SMALL);
        if x > end && x + width < f64::from(WIDTH) {
            canvas.faint_line(&[(x, 18.0), (x, 30.0)], Role::Muted, 1.0, 0.4);
            canvas.text((x + 4.0, 24.0), &stage.name, SMALL, Role::Muted, Hold::Left);
            end = x + width + 6.0;
        }
    }
}
