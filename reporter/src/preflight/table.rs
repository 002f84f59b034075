//! The answer on a terminal: aligned, within the width, coloured only where that is wanted.

use std::io::IsTerminal;

use super::report::{Evidence, Item, Report, Verdict};

/// Columns where the terminal does not say.
const WIDTH: usize = 98;
/// Below this the columns would hold nothing.
const WIDTH_MIN: usize = 72;

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStyle {
    /// Columns.
    pub width: usize,
    /// Whether verdicts are coloured.
    pub colour: bool,
    /// Whether every item is shown; else those that are fine fold into one line.
    pub all: bool,
}

impl TableStyle {
    /// No colour, for files and tests.
    pub fn plain() -> Self {
        TableStyle { width: WIDTH, colour: false, all: true }
    }

    /// What the standard output is: colour on a terminal unless NO_COLOR is set and not empty.
    pub fn detect() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse::<usize>().ok());
        TableStyle {
            width: columns.unwrap_or(WIDTH).clamp(WIDTH_MIN, WIDTH),
            colour: std::io::stdout().is_terminal() && !no_colour,
            all: true,
        }
    }
}

/// Widths of the columns; the formula has a line of its own.
struct Columns {
    item: usize,
    needed: usize,
    actual: usize,
    verdict: usize,
}

impl Columns {
    /// The verdict's width is fixed; the others share the rest.
    fn fit(width: usize) -> Columns {
        let verdict = 20;
        let rest = width - verdict - 3 * GAP.len();
        let item = rest * 38 / 100;
        let needed = rest * 25 / 100;
        Columns { item, needed, actual: rest - item - needed, verdict }
    }
}

const GAP: &str = "  ";

/// Draws the table, the fixes and the summary.
pub fn draw(report: &Report, style: &TableStyle) -> String {
    let columns = Columns::fit(style.width);
    let mut out = String::new();
    row(&mut out, &columns, ["item", "needed (and why)", "actual", "verdict"], style, None);
    out.push_str(&"-".repeat(style.width));
    out.push('\n');
    for item in report.items.iter().filter(|i| style.all || !fine(i)) {
        draw_item(&mut out, &columns, item, style);
    }
    draw_fixes(&mut out, report, style);
    out.push('\n');
    for line in wrap(&report.summary(), style.width) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

impl Report {
    /// The table for a terminal, with the fixes and the summary.
    pub fn table(&self, style: &TableStyle) -> String {
        draw(self, style)
    }
}

fn fine(item: &Item) -> bool {
    item.verdict == Verdict::Ok
}

fn verdict_text(item: &Item) -> String {
    let how = match item.evidence {
        Evidence::Tried => "tried",
        Evidence::Read => "read",
    };
    let advice = if item.required || fine(item) { "" } else { ", advice" };
    match item.verdict {
        Verdict::CannotTell => format!("{}{advice}", item.verdict.name()),
        Verdict::Ok | Verdict::DoesNotFit => {
            let mark = if advice.is_empty() { item.verdict.name() } else { "advice" };
            format!("{mark} ({how})")
        }
    }
}

fn draw_item(out: &mut String, columns: &Columns, item: &Item, style: &TableStyle) {
    let cells = [item.title.as_str(), &item.needed, &item.actual, &verdict_text(item)];
    row(out, columns, cells, style, Some(item));
    let note = item.note.as_deref().filter(|_| !fine(item)).unwrap_or("");
    for (text, code) in [(item.formula.as_str(), DIM), (note, YELLOW)] {
        for line in wrap(text, style.width - 4).iter().filter(|l| !l.is_empty()) {
            out.push_str(&format!("    {}\n", paint(line, code, style)));
        }
    }
}

fn draw_fixes(out: &mut String, report: &Report, style: &TableStyle) {
    let mut seen = Vec::new();
    for (required, head) in [(true, "To fix:"), (false, "Advised:")] {
        let fixes = report.items.iter().filter(|i| i.required == required && !fine(i));
        let mut fixes =
            fixes.filter_map(|i| i.fix.as_ref()).filter(|f| !seen.contains(*f)).peekable();
        if fixes.peek().is_none() {
            continue;
        }
        out.push('\n');
        out.push_str(&paint(head, BOLD, style));
        out.push('\n');
        let these: Vec<String> = fixes.cloned().collect();
        for fix in these {
            if !seen.contains(&fix) {
                // A command is copied whole: it is never wrapped.
                out.push_str(&format!("  {fix}\n"));
                seen.push(fix);
            }
        }
    }
    if report.tuning.iter().any(|t| t.differs && t.writable) {
        out.push_str("\nAll kernel settings at once, with a back-up: reporter preflight --apply\n");
    }
}

fn row(
    out: &mut String,
    columns: &Columns,
    cells: [&str; 4],
    style: &TableStyle,
    item: Option<&Item>,
) {
    let widths = [columns.item, columns.needed, columns.actual, columns.verdict];
    let wrapped: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| cell.lines().flat_map(|l| wrap(l, width)).collect())
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = String::new();
        for (i, (cell, width)) in wrapped.iter().zip(widths).enumerate() {
            let part = cell.get(line).map_or("", String::as_str);
            let pad = " ".repeat(width.saturating_sub(part.chars().count()));
            let shown = match item {
                Some(item) if i == 3 => paint(part, colour_of(item), style),
                Some(_) => part.to_owned(),
                None => paint(part, BOLD, style),
            };
            text.push_str(&shown);
            if i < 3 {
                text.push_str(&pad);
                text.push_str(GAP);
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

fn colour_of(item: &Item) -> &'static str {
    match item.verdict {
        Verdict::Ok => GREEN,
        Verdict::DoesNotFit if item.required => RED,
        Verdict::DoesNotFit | Verdict::CannotTell => YELLOW,
    }
}

fn paint(text: &str, code: &str, style: &TableStyle) -> String {
    if style.colour && !text.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Breaks at blanks; a word longer than the width is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + letters.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while letters.len() > width {
            let rest = letters.split_off(width);
            push(&mut lines, &letters);
            lines.push(String::new());
            letters = rest;
            used = 0;
        }
        if used > 0 {
            push(&mut lines, &[' ']);
            used += 1;
        }
        used += letters.len();
        push(&mut lines, &letters);
    }
    lines
}

fn push(lines: &mut [String], letters: &[char]) {
    if let Some(last) = lines.last_mut() {
        last.extend(letters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::fake::{host, set};
    use crate::preflight::profile::Profile;
    use crate::preflight::{Plan, judge};

    fn report(connections: u64) -> Report {
        let mut host = host();
        set(&mut host, "net.core.somaxconn", "16");
        judge(&Plan { connections, ..Plan::default() }, host, &Profile::built_in())
    }

    #[test]
    fn lines_wrap_at_blanks_and_long_words_are_cut() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn no_line_but_a_command_is_wider_than_the_table() {
        for width in [72, 80, 98] {
            let style = TableStyle { width, ..TableStyle::plain() };
            for line in report(1_000_000).table(&style).lines() {
                let command = line.starts_with("  sysctl") || line.starts_with("  reporter");
                assert!(command || line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn plain_text_has_no_escapes_and_colour_does_not_move_columns() {
        let report = report(100_000);
        let plain = report.table(&TableStyle::plain());
        assert!(!plain.contains('\x1b'));
        let coloured = report.table(&TableStyle { colour: true, ..TableStyle::plain() });
        let mut bare = coloured;
        for code in [BOLD, DIM, GREEN, YELLOW, RED, "0"] {
            bare = bare.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn a_failing_item_shows_its_command_and_the_summary_its_name() {
        let text = report(100_000).table(&TableStyle::plain());
        assert!(text.contains("sysctl -w net.core.somaxconn=65535"), "{text}");
        assert!(text.contains("does not fit: 100,000 connections"), "{text}");
    }

    #[test]
    fn fine_items_can_be_folded_away() {
        let style = TableStyle { all: false, ..TableStyle::plain() };
        let text = report(100_000).table(&style);
        assert!(!text.contains("clock source") && text.contains("accept queue"), "{text}");
    }
}
