//! The report: from a results folder to FINAL_REPORT and its companions.
//!
//! It is a pure function of the folder: the same folder gives the same bytes, whenever and
//! wherever it is made. It knows nothing of how the run was driven.

pub mod charts;
pub mod content;
pub mod document;
pub mod html;
pub mod markdown;
pub mod text;

use std::fs;
use std::path::Path;

use anyhow::Context;
pub use live::units;

use crate::results::{Results, Verdict};
use crate::{analysis, verdict};

/// What a report came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// About the server.
    pub verdict: Verdict,
    /// Whether the figures can be believed.
    pub valid: bool,
    /// A signal ended the run early.
    pub interrupted: bool,
}

/// Reads the folder and writes FINAL_REPORT.md, FINAL_REPORT.html, results.json, results.txt and
/// charts/*.svg into it; files of those names are replaced.
///
/// # Errors
/// The folder has no readable `run.json`, or a file cannot be written. A damaged or missing log is
/// no error: it is a finding of the report.
pub fn write(dir: &Path) -> anyhow::Result<Outcome> {
    let analysis = analysis::read(dir)?;
    let results = verdict::judge(&analysis)?;
    let charts = charts::draw(&analysis, &results);
    let document = content::document(&analysis, &results, &charts);

    let folder = dir.join("charts");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for chart in &charts {
        put(&folder.join(format!("{}.svg", chart.name)), &chart.svg)?;
    }
    put(&dir.join("FINAL_REPORT.md"), &markdown::render(&document))?;
    put(&dir.join("FINAL_REPORT.html"), &html::render(&document)?)?;
    put(&dir.join("results.txt"), &text::render(&results))?;
    // Last: a program that waits for it finds everything else in its place.
    put(&dir.join("results.json"), &json(&results)?)?;
    Ok(Outcome { verdict: results.verdict, valid: results.valid, interrupted: results.interrupted })
}

fn json(results: &Results) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(results)? + "\n")
}

/// Replaces a file as a whole: a reader sees the old or the new one, never half of it.
pub(crate) fn put(path: &Path, content: &str) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.part"));
    fs::write(&draft, content).with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
}
