//! What the report says: from figures to sections. Every sentence is made from a figure or a
//! record of this run; where there is none, there is no sentence.

mod changes;
mod cluster;
mod latency;
mod setup;
mod summary;
mod tls;

use super::charts::{Chart, canvas};
use super::document::{Block, Cell, Document, Section};
use crate::analysis::Analysis;
use crate::report::units;
use crate::results::Results;

/// The whole report.
pub fn document(analysis: &Analysis, results: &Results, charts: &[Chart]) -> Document {
    let context = Context { analysis, results, charts };
    let sections = [
        summary::validity(&context),
        summary::thresholds(&context),
        setup::tested(&context),
        setup::host(&context),
        cluster::generators(&context),
        latency::stages(&context),
        latency::latency(&context),
        latency::operations(&context),
        latency::over_time(&context),
        latency::errors(&context),
        latency::connections(&context),
        latency::distribution(&context),
        tls::handshakes(&context),
        cluster::targets(&context),
        cluster::processes(&context),
        cluster::balancer(&context),
        changes::failover(&context),
        changes::scaling(&context),
        cluster::generator(&context),
        cluster::scraped(&context),
        cluster::excerpts(&context),
        setup::logs(&context),
        setup::again(&context),
    ];
    Document {
        stamp: summary::stamp(results),
        title: setup::title(results),
        subtitle: setup::subtitle(results),
        notices: summary::notices(&context),
        headline: summary::headline(&context),
        sections: sections.into_iter().flatten().collect(),
        footer: "Every figure was measured in this run; results.json has them for programs."
            .to_owned(),
    }
}

/// What the sections are made from.
struct Context<'a> {
    analysis: &'a Analysis,
    results: &'a Results,
    charts: &'a [Chart],
}

impl Context<'_> {
    /// The chart of this name, if it was drawn.
    fn chart(&self, name: &str) -> Option<Block> {
        let chart = self.charts.iter().find(|chart| chart.name == name)?;
        Some(Block::Chart {
            name: chart.name.clone(),
            caption: chart.caption.clone(),
            svg: canvas::bare(&chart.svg),
        })
    }

    /// The stage that is judged.
    fn top(&self) -> Option<&crate::results::StageResult> {
        crate::verdict::judge::top_stage(self.results)
    }
}

/// A section, if it has anything to say.
fn section(id: &'static str, title: &str, open: bool, blocks: Vec<Block>) -> Option<Section> {
    let title = title.to_owned();
    (!blocks.is_empty()).then_some(Section { id, title, open, blocks })
}

fn count(n: u64) -> Cell {
    Cell::figure(units::count(n), n as f64)
}
