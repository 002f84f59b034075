//! The charts: from figures to SVG pictures. Each file draws one kind; `canvas` is the only one
//! that knows how a picture is made. No chart computes a figure of its own.

pub mod axes;
pub mod canvas;
pub mod distribution;
pub mod replicas;
pub mod scraped;
pub mod timeline;

use crate::analysis::Analysis;
use crate::results::Results;

/// Width of every chart, pixels.
pub const WIDTH: u32 = 960;

/// A chart with its place in the report.
#[derive(Clone, Debug)]
pub struct Chart {
    /// File name below `charts/`, without `.svg`; unique.
    pub name: String,
    /// What it shows, in a sentence of the caption.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// All charts that the run has data for.
pub fn draw(analysis: &Analysis, results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    charts.extend(timeline::run(results));
    charts.extend(timeline::ramp(analysis, results));
    charts.extend(distribution::heat_map(analysis));
    charts.extend(distribution::spectrum(analysis));
    charts.extend(replicas::shares(analysis, results));
    charts.extend(replicas::memory(analysis, results));
    charts.extend(replicas::cpu(analysis, results));
    charts.extend(timeline::failover(results));
    charts.extend(timeline::scaling(results));
    charts.extend(replicas::generator(analysis));
    charts.extend(scraped::draw(analysis));
    charts
}
