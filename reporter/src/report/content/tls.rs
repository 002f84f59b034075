//! TLS: handshakes counted and timed apart from connects.

use super::{Context, section};
use crate::report::document::{Block, Cell, Mood, Section, Table};
use crate::report::units;

pub(super) fn handshakes(context: &Context<'_>) -> Option<Section> {
    let mut table = Table::new(&["<Stage", "Full", "Resumed", "Failed", "p50", "p99", "max"]);
    let (mut reasons, mut terms, mut insecure) = (Vec::new(), Vec::new(), false);
    for stage in &context.results.stages {
        let Some(tls) = &stage.tls else { continue };
        let count = |n: u64| Cell::figure(units::count(n), n as f64);
        let time = |ns: Option<u64>| Cell::maybe(ns.map(|ns| ns as f64), units::duration_f64);
        let failed: u64 = tls.failures.values().sum();
        let doubt = |cell: Cell| if failed > 0 { cell.mood(Mood::Doubt) } else { cell };
        let times = tls.handshake_ns.as_ref();
        table.row(vec![
            Cell::text(&stage.name),
            count(tls.full),
            count(tls.resumed),
            doubt(count(failed)),
            time(times.map(|times| times.p50)),
            time(times.and_then(|times| times.p99)),
            time(times.map(|times| times.max)),
        ]);
        reasons.extend(tls.failures.iter().map(|(reason, count)| {
            format!("{}, handshakes failed: `{reason}` {}", stage.name, units::count(*count))
        }));
        terms.extend(tls.terms.iter().cloned());
        insecure |= tls.insecure;
    }
    if table.rows.is_empty() {
        return None;
    }
    terms.sort_unstable();
    terms.dedup();
    let mut text = "A handshake is timed from the established TCP connection until TLS is agreed \
                    upon; connect times are without it, times to establish a session with it."
        .to_owned();
    if !terms.is_empty() {
        text += &format!(" Agreed upon: {}.", terms.join("; "));
    }
    if insecure {
        text += " Any certificate was believed (`--insecure`): this run cannot tell who answered.";
    }
    let mut blocks = vec![Block::Table(table), Block::Text(text)];
    if !reasons.is_empty() {
        blocks.push(Block::List(reasons));
    }
    section("tls", "TLS handshakes", true, blocks)
}
