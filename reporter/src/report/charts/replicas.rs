//! Charts of the processes: each target's share, memory with its trend, CPU, the generator.

use super::axes::{Axes, SMALL, nice_max};
use super::canvas::{Canvas, Hold, Role, picture};
use super::{Chart, WIDTH};
use crate::analysis::Analysis;
use crate::analysis::failover::names_of;
use crate::analysis::replicas::{ProcessSample, certain_growth, cores};
use crate::report::units;
use crate::results::{ReplicaResult, Results, TargetResult};

/// Replicas with a panel or row of their own.
const REPLICAS_MAX: usize = 48;
/// Points of a curve; more would not be seen.
const POINTS_MAX: usize = 240;
const PANEL_COLUMNS: usize = 4;

/// Each target's share of the top stage: requests, and service latency from p50 to p99.
pub fn shares(analysis: &Analysis, results: &Results) -> Option<Chart> {
    let name = &analysis.top_stage()?.record.name;
    let stage = results.stages.iter().find(|stage| stage.name == *name)?;
    let targets: Vec<&TargetResult> =
        stage.targets.iter().filter(|target| target.sent > 0).take(REPLICAS_MAX).collect();
    if targets.is_empty() {
        return None;
    }
    let row = 22.0;
    let bottom = 52.0 + row * targets.len() as f64;
    let svg = picture(WIDTH, (bottom + 34.0) as u32, "Share of each target", |canvas| {
        share_bars(canvas, &targets, row, bottom);
        service_ranges(canvas, &targets, row, bottom);
    });
    Some(Chart {
        name: "targets".to_owned(),
        caption: format!(
            "Stage {name}: requests sent to each target in the hold phase, and its service latency: \
             the dot is p50, the line ends at p99."
        ),
        svg,
    })
}

fn row_middle(index: usize, row: f64) -> f64 {
    52.0 + row * (index as f64 + 0.5)
}

fn share_bars(canvas: &Canvas<'_>, targets: &[&TargetResult], row: f64, bottom: f64) {
    let total: u64 = targets.iter().map(|target| target.sent).sum();
    let most = targets.iter().map(|target| target.sent).max().unwrap_or(1) as f64;
    let axes =
        Axes { place: (136.0, 52.0, 430.0, bottom), x: (0.0, most), y: (0.0, 1.0), log: false };
    axes.title(canvas, "Requests", "");
    axes.legend(canvas, &[("answered", Role::Blue), ("failed", Role::Vermillion)]);
    let urls: Vec<&str> = targets.iter().map(|target| target.url.as_str()).collect();
    let labels = names_of(&urls);
    for (index, (target, label)) in targets.iter().zip(labels).enumerate() {
        let y = row_middle(index, row);
        canvas.text((128.0, y), label, SMALL, Role::Ink, Hold::Right);
        let ok_end = axes.px(target.ok as f64);
        canvas.rect((axes.px(0.0), y - 6.0), (ok_end, y + 6.0), Role::Blue, 0.85);
        if target.failed > 0 {
            let end = axes.px(target.sent as f64).max(ok_end + 2.0);
            canvas.rect((ok_end, y - 6.0), (end, y + 6.0), Role::Vermillion, 1.0);
        }
        let share = 100.0 * target.sent as f64 / total as f64;
        let text = format!("{} ({share:.1} %)", units::count(target.sent));
        canvas.text((axes.px(most) + 8.0, y), &text, SMALL, Role::Muted, Hold::Left);
    }
}

fn service_ranges(canvas: &Canvas<'_>, targets: &[&TargetResult], row: f64, bottom: f64) {
    let figures = targets.iter().filter_map(|target| target.service_ns.as_ref());
    let (low, high) = figures
        .map(|service| (service.p50, service.p99.unwrap_or(service.p50)))
        .fold((u64::MAX, 1), |(low, high), (p50, p99)| (low.min(p50), high.max(p99)));
    let (low, high) = ((low as f64 * 0.8).log10(), (high as f64 * 1.2).log10());
    let axes = Axes {
        place: (560.0, 52.0, f64::from(WIDTH) - 74.0, bottom),
        x: (low, high),
        y: (0.0, 1.0),
        log: false,
    };
    axes.title(canvas, "Service latency", "p50 to p99, logarithmic");
    for tick in super::axes::log_ticks(10f64.powf(low), 10f64.powf(high), 7) {
        let x = axes.px(tick.log10());
        canvas.line(&[(x, 52.0), (x, bottom)], Role::Grid, 1.0);
        let label = units::duration(tick as u64).replace(".00", "").replace(".0 ", " ");
        canvas.text((x, bottom + 12.0), &label, SMALL, Role::Muted, Hold::Middle);
    }
    for (index, target) in targets.iter().enumerate() {
        let Some(service) = &target.service_ns else { continue };
        let y = row_middle(index, row);
        let px = |ns: u64| axes.px((ns as f64).log10());
        let p50 = px(service.p50);
        canvas.dot((p50, y), 4.0, Role::Orange);
        let Some(p99_ns) = service.p99 else { continue };
        let p99 = px(p99_ns);
        canvas.line(&[(p50, y), (p99, y)], Role::Orange, 2.5);
        canvas.line(&[(p99, y - 4.0), (p99, y + 4.0)], Role::Orange, 1.5);
        let text = units::duration(p99_ns);
        canvas.text((f64::from(WIDTH) - 66.0, y), &text, SMALL, Role::Muted, Hold::Left);
    }
}

/// Memory of each replica over the run, with its trend in the judged window.
pub fn memory(analysis: &Analysis, results: &Results) -> Option<Chart> {
    let shown: Vec<(&ReplicaResult, &Vec<ProcessSample>)> = results
        .replicas
        .iter()
        .filter_map(|replica| Some((replica, analysis.processes.get(&replica.address)?)))
        .take(REPLICAS_MAX)
        .collect();
    if shown.is_empty() {
        return None;
    }
    let most = shown.iter().filter_map(|(replica, _)| replica.rss_bytes_max).max()? as f64;
    let top = nice_max(most / 1_048_576.0 * 1.02);
    let rows = shown.len().div_ceil(PANEL_COLUMNS);
    let height = 16.0 + rows as f64 * 104.0 + 20.0;
    let svg = picture(WIDTH, height as u32, "Memory of each replica", |canvas| {
        for (index, (replica, samples)) in shown.iter().enumerate() {
            memory_panel(canvas, analysis, index, replica, samples, top);
        }
    });
    let window = analysis.memory_window.as_ref().map_or(String::new(), |window| {
        format!(" Shaded: the hold phase of stage {}, in which the trend is judged.", window.stage)
    });
    let what = match results.counts_containers() {
        true => "Memory in MiB of each replica's container",
        false => "Resident memory in MiB of each replica's process",
    };
    Some(Chart {
        name: "memory".to_owned(),
        caption: format!("{what} over the run; a gap is a restart.{window}"),
        svg,
    })
}

fn memory_panel(
    canvas: &Canvas<'_>,
    analysis: &Analysis,
    index: usize,
    replica: &ReplicaResult,
    samples: &[ProcessSample],
    top: f64,
) {
    let (column, row) = (index % PANEL_COLUMNS, index / PANEL_COLUMNS);
    let width = (f64::from(WIDTH) - 16.0) / PANEL_COLUMNS as f64;
    let left = 44.0 + column as f64 * width;
    let panel_top = 36.0 + row as f64 * 104.0;
    let run = &analysis.run;
    let at_s = |at_ns: u64| (at_ns as f64 - run.started_mono_ns as f64) / 1e9;
    let last = analysis.processes.values().filter_map(|samples| samples.last()).map(|s| s.at_ns);
    let axes = Axes {
        place: (left, panel_top, left + width - 46.0, panel_top + 60.0),
        x: (0.0, at_s(last.max().unwrap_or(0))),
        y: (0.0, top),
        log: false,
    };
    if let Some(window) = &analysis.memory_window {
        let (from, to) = (at_s(window.span.start_ns), at_s(window.span.end_ns));
        let corners = ((axes.px(from), axes.place.1), (axes.px(to), axes.place.3));
        canvas.rect(corners.0, corners.1, Role::Band, 1.0);
    }
    axes.grid(canvas, |mib| format!("{mib:.0}"));
    canvas.text((left, panel_top - 11.0), &replica.address, SMALL, Role::Ink, Hold::Left);
    let (text, role) = match &replica.rss_slope {
        Some(slope) if certain_growth(slope) > 0.0 => {
            (format!("{:+.1} %/h", slope.percent_per_h), Role::Vermillion)
        }
        Some(slope) => (format!("{:+.1} %/h", slope.percent_per_h), Role::Muted),
        None => ("no trend".to_owned(), Role::Muted),
    };
    canvas.text((axes.place.2, panel_top - 11.0), &text, SMALL, role, Hold::Right);
    for process in samples.chunk_by(|a, b| a.incarnation == b.incarnation) {
        let step = process.len().div_ceil(POINTS_MAX).max(1);
        let line: Vec<(f64, f64)> = process
            .iter()
            .step_by(step)
            .map(|s| axes.at(at_s(s.at_ns), s.rss_bytes / 1_048_576.0))
            .collect();
        canvas.line(&line, Role::Blue, 1.4);
    }
    canvas.line(&[(axes.place.0, axes.place.3), (axes.place.2, axes.place.3)], Role::Muted, 1.0);
    if index + PANEL_COLUMNS >= analysis.processes.len().min(REPLICAS_MAX) {
        let end = units::duration_f64(axes.x.1.max(0.0).round() * 1e9);
        canvas.text((axes.place.0, axes.place.3 + 12.0), "0", SMALL, Role::Muted, Hold::Left);
        canvas.text((axes.place.2, axes.place.3 + 12.0), &end, SMALL, Role::Muted, Hold::Right);
    }
}

/// CPU of each replica over the run: every one faint, their median strong.
pub fn cpu(analysis: &Analysis, results: &Results) -> Option<Chart> {
    let zero = analysis.run.started_mono_ns;
    let at_s = |at_ns: u64| (at_ns as f64 - zero as f64) / 1e9;
    let courses: Vec<Vec<(f64, f64)>> = analysis
        .processes
        .values()
        .take(REPLICAS_MAX)
        .map(|samples| {
            let step = samples.len().div_ceil(POINTS_MAX).max(1);
            let thinned: Vec<&ProcessSample> = samples.iter().step_by(step).collect();
            let share =
                |pair: &[&ProcessSample]| Some((at_s(pair[1].at_ns), cores(pair[0], pair[1])?));
            thinned.windows(2).filter_map(share).collect()
        })
        .collect();
    let points = || courses.iter().flatten();
    let most = points().map(|point| point.1).fold(0.0, f64::max);
    let end = points().map(|point| point.0).fold(0.0, f64::max);
    if end <= 0.0 {
        return None;
    }
    let svg = picture(WIDTH, 220, "CPU of each replica", |canvas| {
        let axes = Axes {
            place: (72.0, 36.0, f64::from(WIDTH) - 16.0, 180.0),
            x: (0.0, end),
            y: (0.0, nice_max(most * 1.05)),
            log: false,
        };
        axes.title(canvas, "CPU of the replicas", "cores");
        axes.legend(canvas, &[("each replica", Role::Sky), ("median", Role::Blue)]);
        for stage in &results.stages {
            if let (Some(start), Some(length)) = (stage.hold_start_ns, stage.hold_ns) {
                let (from, to) = (axes.px(at_s(start)), axes.px(at_s(start + length).min(end)));
                canvas.rect((from, axes.place.1), (to, axes.place.3), Role::Band, 1.0);
            }
        }
        axes.grid(canvas, |cores| format!("{}", (cores * 100.0).round() / 100.0));
        for course in &courses {
            let line: Vec<(f64, f64)> = course.iter().map(|(x, y)| axes.at(*x, *y)).collect();
            canvas.faint_line(&line, Role::Sky, 1.0, 0.55);
        }
        let line: Vec<(f64, f64)> =
            medians(&courses, end).into_iter().map(|(x, y)| axes.at(x, y)).collect();
        canvas.line(&line, Role::Blue, 1.8);
        axes.time(canvas, "minutes:seconds of the run");
    });
    Some(Chart {
        name: "cpu".to_owned(),
        caption: "CPU time of each replica's process over wall time. Shaded: hold phases."
            .to_owned(),
        svg,
    })
}

/// The median of all courses in equal parts of the time.
fn medians(courses: &[Vec<(f64, f64)>], end: f64) -> Vec<(f64, f64)> {
    let parts = courses.iter().map(Vec::len).max().unwrap_or(0).clamp(1, POINTS_MAX / 2);
    let width = end / parts as f64;
    let mut groups: Vec<Vec<f64>> = vec![Vec::new(); parts];
    for (x, y) in courses.iter().flatten() {
        groups[((x / width) as usize).min(parts - 1)].push(*y);
    }
    groups
        .iter_mut()
        .enumerate()
        .filter(|(_, group)| !group.is_empty())
        .map(|(part, group)| ((part as f64 + 0.5) * width, crate::analysis::trend::median(group)))
        .collect()
}

/// CPU share of each of the generator's workers in the top stage.
pub fn generator(analysis: &Analysis) -> Option<Chart> {
    let stage = analysis.top_stage()?;
    let merged = stage.merged.as_ref()?;
    let courses = merged.samples.cpu_over_time();
    let buckets = &merged.frame.buckets;
    if courses.iter().flatten().flatten().count() < 2 {
        return None;
    }
    let svg = picture(WIDTH, 220, "CPU of the generator's workers", |canvas| {
        let most = courses.iter().flatten().flatten().copied().fold(1.0, f64::max);
        let axes = Axes {
            place: (72.0, 36.0, f64::from(WIDTH) - 16.0, 180.0),
            x: (0.0, buckets.count as f64 * buckets.width_ns as f64 / 1e9),
            y: (0.0, (most * 100.0).max(100.0)),
            log: false,
        };
        axes.title(canvas, "CPU of the generator's workers", "percent of a core");
        axes.grid(canvas, |percent| format!("{percent:.0}"));
        let roles = [Role::Blue, Role::Orange, Role::Green, Role::Purple];
        let many = courses.len() > roles.len();
        for (worker, course) in courses.iter().enumerate() {
            let role = if many { Role::Blue } else { roles[worker] };
            let at = |bucket: usize| (bucket as f64 + 0.5) * buckets.width_ns as f64 / 1e9;
            let points =
                course.iter().enumerate().map(|(b, share)| (at(b), share.map(|s| s * 100.0)));
            axes.broken_line(canvas, points, role, if many { 0.8 } else { 1.4 });
        }
        let names: Vec<String> = (0..courses.len()).map(|w| format!("worker {w}")).collect();
        if !many {
            let items: Vec<(&str, Role)> = names.iter().map(String::as_str).zip(roles).collect();
            axes.legend(canvas, &items);
        }
        let limit = axes.py(95.0);
        canvas.dashes((axes.place.0, limit), (axes.place.2, limit), Role::Vermillion, 1.0);
        let label = (axes.place.0 + 6.0, limit + 9.0);
        canvas.text(label, "95 %: no reserve", SMALL, Role::Vermillion, Hold::Left);
        axes.time(canvas, "time in the stage");
    });
    Some(Chart {
        name: "generator".to_owned(),
        caption: format!("Stage {}: CPU time of each worker over wall time.", stage.record.name),
        svg,
    })
}
