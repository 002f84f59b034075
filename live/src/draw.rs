//! A board as a picture: pure, from state to a buffer of cells, for any size of terminal.
//!
//! Nothing is told by colour alone, so that the same picture serves where colours are not wanted.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline, Widget};

use crate::board::{Board, ReplicaState, StageState};
use crate::reading::{Latency, WorkerLoad};
use crate::units;

/// Below this there is one column of words instead of panels.
const SMALL: (u16, u16) = (72, 20);
/// Lines of the three panels of figures, their frames included.
const FIGURES: u16 = 8;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// With colours, or with bold and dim letters only.
    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn of(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn soft(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn doubt(self) -> Style {
        self.of(Color::Yellow)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Draws a board into `area`.
pub fn draw(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALL.0 || area.height < SMALL.1 {
        small(board, paint, area, buffer);
        return;
    }
    let stages = u16::from(!board.stages.is_empty());
    let sparks = if area.height >= 32 { 6 } else { 4 };
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(stages),
        Constraint::Length(1),
        Constraint::Length(FIGURES),
        Constraint::Length(sparks),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .split(area);
    header(board, paint, rows[0], buffer);
    stage_marks(board, paint, rows[1], buffer);
    phase(board, paint, rows[2], buffer);
    let columns = Layout::horizontal([Constraint::Fill(1); 3]).split(rows[3]);
    rates(board, paint, columns[0], buffer);
    connections(board, paint, columns[1], buffer);
    latency(board, paint, columns[2], buffer);
    let columns = Layout::horizontal([Constraint::Fill(1); 2]).split(rows[4]);
    spark_throughput(board, paint, columns[0], buffer);
    spark_p99(board, paint, columns[1], buffer);
    lower(board, paint, rows[5], buffer);
    keys(board, paint, rows[6], buffer);
}

/// What fits where panels do not.
fn small(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let reading = &board.reading;
    let p99 = reading.last.map_or("-".to_owned(), |last| units::duration(last.p99_ns));
    let lines = vec![
        Line::styled(board.title.clone(), paint.strong()),
        Line::raw(format!("{} {}", clock(board.elapsed_s()), stage_and_phase(board))),
        Line::raw(format!("open {}", units::count(reading.tcp_open))),
        Line::raw(format!("alive {}", units::count(reading.session_alive))),
        Line::raw(format!("streams {}", units::count(reading.stream_open))),
        Line::raw(format!("answered {}/s", units::rate(board.rates.achieved_per_s))),
        Line::raw(format!("p99 {p99}")),
        Line::raw(format!("failed {}", units::count(reading.failed + reading.dropped))),
        Line::styled("q: end", paint.soft()),
    ];
    Paragraph::new(lines).render(area, buffer);
}

fn header(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    Line::styled(board.title.clone(), paint.strong()).render(area, buffer);
    let time = format!(" {} ", clock(board.elapsed_s()));
    Paragraph::new(time).alignment(Alignment::Right).style(paint.strong()).render(
        Rect { x: area.right().saturating_sub(10), width: area.width.min(10), ..area },
        buffer,
    );
}

fn stage_marks(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let full: usize = board.stages.iter().map(|stage| stage.name.chars().count() + 4).sum();
    let mut spans = Vec::new();
    for stage in &board.stages {
        // Where there is no room, `100k` for `stress-100k`.
        let short = stage.name.rsplit('-').next().unwrap_or(&stage.name);
        let name = if full > usize::from(area.width) { short } else { &stage.name };
        let (mark, style) = match stage.state {
            StageState::Waiting => ('·', paint.soft()),
            StageState::Running => ('▶', paint.strong()),
            StageState::Done => ('✓', paint.good()),
            StageState::Skipped => ('✗', paint.doubt()),
        };
        spans.push(Span::styled(format!("{mark} {name}  "), style));
    }
    Line::from(spans).render(area, buffer);
}

fn stage_and_phase(board: &Board) -> String {
    let running = board.stages.iter().find(|stage| stage.state == StageState::Running);
    match running {
        Some(stage) => format!("{} {}", stage.name, board.reading.phase),
        None => board.reading.phase.clone(),
    }
}

fn phase(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let name = format!("{:<9}", board.reading.phase);
    let mut spans = vec![Span::styled(name, paint.strong())];
    match board.reading.phase_share {
        Some(share) => {
            let width = usize::from(area.width).saturating_sub(15);
            let done = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
            spans.push(Span::styled("━".repeat(done), paint.of(Color::Cyan)));
            spans.push(Span::styled("─".repeat(width - done), paint.soft()));
            spans.push(Span::raw(format!(" {:>3.0} %", share.clamp(0.0, 1.0) * 100.0)));
        }
        None if board.reading.phase == "hold" => {
            spans.push(Span::styled("until the steps of the stage are through", paint.soft()));
        }
        None => {}
    }
    Line::from(spans).render(area, buffer);
}

/// A line with words on the left and a figure on the right.
fn pair(name: &str, value: String, style: Style, width: u16) -> Line<'static> {
    // Where there is not room for both, the figure stays whole.
    let width = usize::from(width).saturating_sub(value.chars().count());
    let name: String = name.chars().take(width).collect();
    let room = width - name.chars().count();
    Line::from(vec![Span::raw(name), Span::raw(" ".repeat(room)), Span::styled(value, style)])
}

fn panel(title: &str, lines: Vec<Line<'_>>, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let title = Span::styled(format!(" {title} "), paint.strong());
    let block = Block::bordered().title(title).border_style(paint.soft());
    Paragraph::new(lines).block(block).render(area, buffer);
}

fn rates(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(2);
    let (reading, rates) = (&board.reading, &board.rates);
    let per_s = |rate: f64| format!("{}/s", units::rate(rate));
    let planned = reading.planned_per_s.map_or("closed loop".to_owned(), per_s);
    let failed = if rates.failed_per_s > 0.0 { paint.bad() } else { Style::new() };
    let queued = if reading.queued > 0 { paint.doubt() } else { Style::new() };
    let lines = vec![
        pair("planned", planned, paint.soft(), width),
        pair("offered", per_s(rates.offered_per_s), Style::new(), width),
        pair("achieved", per_s(rates.achieved_per_s), paint.strong(), width),
        pair("failed, dropped", per_s(rates.failed_per_s), failed, width),
        pair("in flight", units::count(reading.in_flight), Style::new(), width),
        pair("waiting to be sent", units::count(reading.queued), queued, width),
    ];
    panel("Requests", lines, paint, area, buffer);
}

fn connections(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(2);
    let reading = &board.reading;
    let lost: u64 = reading.losses.values().sum();
    let whole = |count: u64| match reading.planned {
        planned if planned > 0 && count >= planned => paint.good(),
        _ => Style::new(),
    };
    let count =
        |name: &str, count: u64, style: Style| pair(name, units::count(count), style, width);
    let lines = vec![
        count("planned", reading.planned, paint.soft()),
        count("TCP open", reading.tcp_open, whole(reading.tcp_open)),
        count("session established", reading.session_established, Style::new()),
        count("session alive", reading.session_alive, whole(reading.session_alive)),
        count("stream open", reading.stream_open, Style::new()),
        count("lost, refused", lost, if lost > 0 { paint.bad() } else { Style::new() }),
    ];
    panel("Connections", lines, paint, area, buffer);
}

fn latency(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width.saturating_sub(2));
    let (name, column) = (7, width.saturating_sub(7) / 2);
    let row = |label: &str, last: String, run: String| {
        format!("{label:<name$}{last:>column$}{run:>column$}")
    };
    let of = |latency: &Option<Latency>, pick: fn(&Latency) -> u64| {
        latency.as_ref().map_or("-".to_owned(), |latency| units::duration(pick(latency)))
    };
    let (last, run) = (&board.reading.last, &board.reading.run);
    let samples = |latency: &Option<Latency>| units::count(latency.map_or(0, |it| it.count));
    let both = |label: &str, pick: fn(&Latency) -> u64| row(label, of(last, pick), of(run, pick));
    let lines = vec![
        Line::styled(row("", "last s".to_owned(), "run".to_owned()), paint.soft()),
        Line::raw(both("p50", |it| it.p50_ns)),
        Line::raw(both("p90", |it| it.p90_ns)),
        Line::styled(both("p99", |it| it.p99_ns), paint.strong()),
        Line::raw(both("max", |it| it.max_ns)),
        Line::styled(row("answers", samples(last), samples(run)), paint.soft()),
    ];
    panel("Response latency", lines, paint, area, buffer);
}

fn spark_throughput(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let data: Vec<u64> = board.throughput.iter().copied().collect();
    let style = paint.of(Color::Blue);
    let top = |max: u64| format!("Answers/s, highest {}", units::count(max));
    spark(&data, top, paint, style, area, buffer);
}

fn spark_p99(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let data: Vec<u64> = board.p99_us.iter().copied().collect();
    let style = paint.of(Color::Magenta);
    let top = |max: u64| match max {
        0 => "p99 of each second".to_owned(),
        max => format!("p99 of each second, highest {}", units::duration(max * 1_000)),
    };
    spark(&data, top, paint, style, area, buffer);
}

/// The newest values that fit, a column a second.
fn spark(
    data: &[u64],
    title: impl Fn(u64) -> String,
    paint: Paint,
    style: Style,
    area: Rect,
    buffer: &mut Buffer,
) {
    let room = usize::from(area.width.saturating_sub(2));
    let shown = &data[data.len().saturating_sub(room)..];
    let title = title(shown.iter().copied().max().unwrap_or(0));
    let block = Block::bordered()
        .title(Span::styled(format!(" {title} "), paint.strong()))
        .border_style(paint.soft());
    Sparkline::default().data(shown.iter().copied()).style(style).block(block).render(area, buffer);
}

/// Reasons and workers, and below or beside them replicas and events where there are any.
fn lower(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let columns = Layout::horizontal([Constraint::Fill(1); 2]).split(area);
    if board.replicas.is_empty() && board.events.is_empty() {
        reasons(board, paint, columns[0], buffer);
        workers(board, paint, columns[1], buffer);
        return;
    }
    let halves = Layout::vertical([Constraint::Fill(1); 2]);
    let left = halves.split(columns[0]);
    reasons(board, paint, left[0], buffer);
    workers(board, paint, left[1], buffer);
    if area.height < 12 || board.replicas.is_empty() {
        events(board, census(board), paint, columns[1], buffer);
        return;
    }
    let right = halves.split(columns[1]);
    replicas(board, paint, right[0], buffer);
    events(board, String::new(), paint, right[1], buffer);
}

fn reasons(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(2);
    let room = usize::from(area.height.saturating_sub(2));
    let (failures, losses) = (&board.reading.failures, &board.reading.losses);
    let named = |what: &'static str| move |(reason, n): (&String, &u64)| (*n, what, reason.clone());
    let mut all: Vec<(u64, &str, String)> = failures.iter().map(named("request")).collect();
    all.extend(losses.iter().map(named("connection")));
    all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
    let mut lines: Vec<Line<'_>> = all
        .iter()
        .take(room)
        .map(|(n, what, reason)| {
            pair(&format!("{reason} ({what})"), units::count(*n), paint.bad(), width)
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled("none", paint.soft()));
    }
    panel("Errors by reason", lines, paint, area, buffer);
}

fn workers(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.height.saturating_sub(2));
    let mut loads: Vec<(usize, WorkerLoad)> =
        board.reading.workers.iter().copied().enumerate().collect();
    let all = loads.len();
    if all > room {
        loads.sort_by(|a, b| b.1.cpu_share.total_cmp(&a.1.cpu_share));
    }
    let bar_room = usize::from(area.width.saturating_sub(2)).saturating_sub(36).min(20);
    let line = |(number, load): &(usize, WorkerLoad)| {
        let filled = (load.cpu_share.clamp(0.0, 1.0) * bar_room as f64).round() as usize;
        let style = match load.cpu_share {
            share if share >= 0.95 => paint.bad(),
            share if share >= 0.8 => paint.doubt(),
            _ => paint.good(),
        };
        let lag = units::duration(load.reap_lag_ns_max);
        Line::from(vec![
            Span::raw(format!("{number:>3} ")),
            Span::styled("█".repeat(filled), style),
            Span::raw(" ".repeat(bar_room - filled)),
            Span::styled(format!("{:>4.0} %", load.cpu_share * 100.0), style),
            Span::raw(format!(" lag {lag:>8} queue {}", units::count(load.queued))),
        ])
    };
    let lines = loads.iter().take(room).map(line).collect();
    let title = match all {
        0 => "Generator".to_owned(),
        n if n > room => format!("Generator: CPU of {n} workers, busiest first"),
        1 => "Generator: CPU of its worker".to_owned(),
        n => format!("Generator: CPU of {n} workers"),
    };
    panel(&title, lines, paint, area, buffer);
}

/// Replicas by state, in words: `12 healthy, 1 gone`.
fn census(board: &Board) -> String {
    let states =
        [ReplicaState::Healthy, ReplicaState::Starting, ReplicaState::Stopping, ReplicaState::Gone];
    let parts: Vec<String> = states
        .into_iter()
        .filter_map(|state| {
            let n = board.replicas.iter().filter(|replica| replica.state == state).count();
            (n > 0).then(|| format!("{n} {}", state.name()))
        })
        .collect();
    parts.join(", ")
}

fn replicas(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    let width = usize::from(area.width.saturating_sub(2));
    let cell = 28;
    let columns = (width / cell).max(1);
    // What is not as it should be comes first, where there is not room for all.
    let mut shown: Vec<_> = board.replicas.iter().collect();
    if shown.len() > room * columns {
        shown.sort_by_key(|replica| replica.state == ReplicaState::Healthy);
    }
    let mut lines = vec![Vec::new(); room];
    for (at, replica) in shown.iter().take(room * columns).enumerate() {
        let (mark, style) = match replica.state {
            ReplicaState::Healthy => ("●", paint.good()),
            ReplicaState::Starting => ("○", paint.doubt()),
            ReplicaState::Stopping => ("◌", paint.doubt()),
            ReplicaState::Gone => ("✗", paint.bad()),
        };
        let rest = match replica.rss_bytes {
            Some(bytes) => units::bytes(bytes as f64),
            None if replica.state == ReplicaState::Healthy => String::new(),
            None => replica.state.name().to_owned(),
        };
        lines[at % room].push(Span::styled(format!("{mark} "), style));
        lines[at % room].push(Span::raw(format!("{:<15} {rest:>9} ", replica.name)));
    }
    let lines = lines.into_iter().map(Line::from).collect();
    panel(&format!("Replicas: {}", census(board)), lines, paint, area, buffer);
}

/// `census` is what the title says of replicas that have no panel of their own.
fn events(board: &Board, census: String, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.height.saturating_sub(2));
    let width = usize::from(area.width.saturating_sub(2 + 7)).max(8);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for event in board.events.iter().rev() {
        let parts = wrapped(&event.text, width);
        if lines.len() + parts.len() > room {
            break;
        }
        let style = if event.bad { paint.bad() } else { Style::new() };
        let time = clock(board.since_start_s(event.at_ns));
        for (number, part) in parts.into_iter().enumerate().rev() {
            let time = if number == 0 { time.as_str() } else { "" };
            let time = Span::styled(format!("{time:>6} "), paint.soft());
            lines.push(Line::from(vec![time, Span::styled(part, style)]));
        }
    }
    lines.reverse();
    let title = match census.as_str() {
        "" => "Events".to_owned(),
        census => format!("Events · {census}"),
    };
    panel(&title, lines, paint, area, buffer);
}

fn keys(board: &Board, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let (text, style) = match board.ending {
        true => ("ending, results are kept · q once more: exit at once", paint.doubt()),
        false => ("q or Ctrl-C: end now and keep the results", paint.soft()),
    };
    Line::styled(text, style).render(area, buffer);
}

/// A text in lines of at most `width` characters, broken between words where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        let long = line.chars().count() + 1 + word.chars().count() > width;
        match line.is_empty() {
            true => line.push_str(word),
            false if long => lines.push(word.to_owned()),
            false => *line = format!("{line} {word}"),
        }
    }
    lines
}

/// `m:ss` or `h:mm:ss`.
fn clock(seconds: u64) -> String {
    match seconds / 3_600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
