//! A stage's log files: opening them, their damage, their clocks, their notes, and what the plan
//! in their headers says. The one place that knows latlog's reader and the plan's JSON.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use latlog::{Block, BlockKind, BlockRef, Damage, FileHeader, LogReader, Note};
use serde_json::Value;

use crate::results::LogResult;
use crate::run::record::{ClockRecord, StageRecord};

/// Notes kept of one log; a generator writes far fewer.
const NOTES_MAX: usize = 100_000;
/// Two clocks whose offsets to real time agree within this are taken for one and the same.
const SAME_CLOCK_NS: i128 = 1_000_000_000;

/// The driving host and the offset of its monotonic clock to real time.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The node name.
    pub host: String,
    /// real - mono at the start of the run.
    pub real_minus_mono_ns: i128,
    /// What is known of other hosts' real clocks.
    pub clocks: Vec<ClockRecord>,
}

/// One log, opened and indexed.
pub struct Log {
    /// Path inside the results folder.
    pub path: String,
    /// Headers of its blocks.
    pub index: Vec<BlockRef>,
    /// Added to its times.
    pub shift_ns: i64,
    /// Its notes, in order of time, on the driving host's clock.
    pub notes: Vec<Note>,
    /// What the plan says.
    pub plan: PlanFacts,
    /// What it lacks.
    pub damage: Damage,
    reader: LogReader<File>,
}

/// What the reporter reads of the plan in a log's header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanFacts {
    /// By index.
    pub targets: Vec<String>,
    /// Names of the operations and whether they are load.
    pub ops: Vec<(String, bool)>,
    /// Columns of the samples.
    pub sample_fields: Vec<String>,
    /// `open` or `closed`.
    pub model: String,
    /// Connections that this generator was asked for.
    pub connections: u64,
    /// Its length of the hold phase; 0: until told.
    pub duration_ns: u64,
    /// The MCP revision or protocol in use.
    pub protocol: String,
    /// The seed of its schedule.
    pub seed: Option<u64>,
    /// How its targets were trusted; none where no target speaks TLS.
    pub tls: Option<TlsFacts>,
}

/// TLS as a generator's plan has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Any certificate was believed.
    pub insecure: bool,
    /// Version, cipher and protocol that were agreed upon, each once.
    pub terms: Vec<String>,
}

/// The latency logs below `folder`, in order of name. None if the folder does not exist.
pub fn find(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("{}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "latlog") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Log {
    /// Opens a log, indexes it and reads its notes.
    pub fn open(path: &Path, name: String, reference: &Reference) -> Result<Self, latlog::Error> {
        let mut reader = LogReader::open(path)?;
        let index = reader.index()?;
        let mut log = Self {
            path: name,
            index,
            shift_ns: shift_ns(reader.header(), reference),
            notes: Vec::new(),
            plan: PlanFacts::read(&reader.header().plan),
            damage: reader.damage().clone(),
            reader,
        };
        log.read_notes();
        Ok(log)
    }

    fn read_notes(&mut self) {
        let mut payload = Vec::new();
        let mut notes = Vec::new();
        let mut bad = Vec::new();
        for block in self.index.iter().filter(|block| block.kind == BlockKind::Notes) {
            match self.read(block, &mut payload) {
                Ok(read) => notes.extend(read.notes().map_while(Result::ok)),
                Err(_) => bad.push(*block),
            }
            if notes.len() > NOTES_MAX {
                notes.truncate(NOTES_MAX);
                break;
            }
        }
        bad.iter().for_each(|block| self.damage.count_bad(block));
        for note in &mut notes {
            note.at_ns = note.at_ns.saturating_add_signed(self.shift_ns);
            if note.name == "target_added" {
                self.plan.add_target(&note.text);
            }
        }
        notes.sort_by_key(|note| note.at_ns);
        self.notes = notes;
    }

    /// Reads one block of the index.
    pub fn read<'p>(
        &self,
        block: &BlockRef,
        payload: &'p mut Vec<u8>,
    ) -> Result<Block<'p>, latlog::Error> {
        self.reader.read_block(block, payload)
    }

    /// The latest instant that the log knows of, on the driving host's clock.
    pub fn last_ns(&self) -> u64 {
        let blocks = self.index.iter().map(|block| block.base_ns).max().unwrap_or(0);
        let end = self.reader.end().map_or(0, |end| end.anchor.mono_ns);
        let last = blocks.max(end).max(self.reader.header().start.mono_ns);
        last.saturating_add_signed(self.shift_ns)
    }

    /// When it was opened, on the driving host's clock.
    pub fn start_ns(&self) -> u64 {
        self.reader.header().start.mono_ns.saturating_add_signed(self.shift_ns)
    }

    /// How far real time moved against the monotonic clock from the log's start to its end.
    fn drift_ns(&self) -> Option<i64> {
        let offset =
            |anchor: latlog::Anchor| i128::from(anchor.real_ns) - i128::from(anchor.mono_ns);
        let end = self.reader.end()?.anchor;
        i64::try_from(offset(end) - offset(self.reader.header().start)).ok()
    }

    /// The generator's host.
    pub fn host(&self) -> &str {
        &self.reader.header().host
    }

    /// How far its times may be off on the driving host's clock: 0 on one and the same clock. On
    /// another, the log cannot begin before its generator was started nor end after that was seen
    /// to end, so the offset can be wrong by no more than the larger of both gaps. None if nobody
    /// saw its start and end.
    pub fn clock_error_ns(&self, record: &StageRecord) -> Option<u64> {
        if self.shift_ns == 0 {
            return Some(0);
        }
        if !record.driven {
            return None;
        }
        Some(record.start_ns.abs_diff(self.start_ns()).max(record.end_ns.abs_diff(self.last_ns())))
    }

    /// By how much the log begins before its generator was started, or ends after that was seen to
    /// end: the offset is wrong by at least this.
    pub fn clock_wrong_ns(&self, record: &StageRecord) -> u64 {
        if self.shift_ns == 0 || !record.driven {
            return 0;
        }
        let early = record.start_ns.saturating_sub(self.start_ns());
        early.max(self.last_ns().saturating_sub(record.end_ns))
    }

    /// Its state for `results.json`.
    pub fn result(&self, stage: &str, requests: u64, events: u64) -> LogResult {
        LogResult {
            path: self.path.clone(),
            stage: stage.to_owned(),
            host: self.reader.header().host.clone(),
            requests,
            events,
            clock_offset_ns: self.shift_ns,
            clock_drift_ns: self.drift_ns(),
            clock_error_ns: None,
            clock_wrong_ns: 0,
            torn_tail_bytes: self.damage.torn_tail_bytes,
            skipped_bytes: self.damage.skipped_bytes,
            bad_blocks: self.damage.bad_blocks,
            missing_blocks: self.damage.missing_blocks,
            missing_requests: self.damage.missing_requests,
            ended: !self.damage.no_end_block,
            error: None,
        }
    }
}

/// The state of a log that could not be opened.
pub fn unreadable(name: String, stage: &str, error: &latlog::Error) -> LogResult {
    LogResult {
        path: name,
        stage: stage.to_owned(),
        host: String::new(),
        requests: 0,
        events: 0,
        clock_offset_ns: 0,
        clock_drift_ns: None,
        clock_error_ns: None,
        clock_wrong_ns: 0,
        torn_tail_bytes: 0,
        skipped_bytes: 0,
        bad_blocks: 0,
        missing_blocks: 0,
        missing_requests: None,
        ended: false,
        error: Some(error.to_string()),
    }
}

/// What to add to a log's times: nothing on the driving host, else the difference of the offsets
/// between monotonic and real time, which is as good as the hosts' agreement on real time; where
/// their real clocks were compared and found to differ, less that difference.
fn shift_ns(header: &FileHeader, reference: &Reference) -> i64 {
    let offset = i128::from(header.start.real_ns) - i128::from(header.start.mono_ns);
    let shift = offset - reference.real_minus_mono_ns;
    if header.host == reference.host || shift.abs() < SAME_CLOCK_NS {
        return 0;
    }
    let ahead = reference.clocks.iter().find(|clock| clock.host == header.host);
    let ahead = ahead.filter(|clock| clock.offset_ns.unsigned_abs() > clock.error_ns);
    i64::try_from(shift - i128::from(ahead.map_or(0, |clock| clock.offset_ns))).unwrap_or(0)
}

impl TlsFacts {
    fn read(tls: &Value) -> Self {
        let terms = tls["terms"].as_array().map_or(&[][..], Vec::as_slice);
        let mut terms: Vec<String> =
            terms.iter().filter_map(|terms| terms.as_str().map(str::to_owned)).collect();
        terms.sort_unstable();
        terms.dedup();
        Self { insecure: tls["insecure"] == true, terms }
    }
}

impl PlanFacts {
    /// Takes what is there; a plan of another shape gives empty facts.
    pub fn read(plan: &Value) -> Self {
        let texts = |key: &str| -> Vec<String> {
            let items = plan[key].as_array().map_or(&[][..], Vec::as_slice);
            items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
        };
        let number = |key: &str| plan[key].as_u64().unwrap_or(0);
        let ops = plan["ops"].as_array().map_or(&[][..], Vec::as_slice);
        let op = |op: &Value| {
            (op["name"].as_str().unwrap_or("?").to_owned(), op["kind"].as_str() == Some("load"))
        };
        Self {
            targets: texts("targets"),
            ops: ops.iter().map(op).collect(),
            sample_fields: texts("sample_fields"),
            model: plan["model"].as_str().unwrap_or_default().to_owned(),
            connections: number("connections"),
            duration_ns: number("duration_ns"),
            protocol: plan["protocol"].as_str().unwrap_or_default().to_owned(),
            seed: plan["seed"].as_u64(),
            tls: plan["tls"].is_object().then(|| TlsFacts::read(&plan["tls"])),
        }
    }

    /// `"index url"` of a target that came during the run.
    fn add_target(&mut self, text: &str) {
        let Some((index, url)) = text.split_once(' ') else { return };
        let Ok(index) = index.parse::<u16>() else { return };
        let index = usize::from(index);
        if self.targets.len() <= index {
            self.targets.resize(index + 1, String::new());
        }
        url.clone_into(&mut self.targets[index]);
    }
}

#[cfg(test)]
mod tests {
    use latlog::Anchor;
    use serde_json::json;

    use super::*;

    fn header(host: &str, real_minus_mono_ns: u64) -> FileHeader {
        let start = Anchor { mono_ns: 50, real_ns: 50 + real_minus_mono_ns };
        FileHeader { host: host.to_owned(), pid: 1, start, plan: Value::Null }
    }

    #[test]
    fn another_hosts_times_move_by_the_difference_of_the_offsets() {
        let reference = Reference {
            host: "driver".to_owned(),
            real_minus_mono_ns: 100_000_000_000,
            clocks: Vec::new(),
        };
        assert_eq!(shift_ns(&header("other", 160_000_000_000), &reference), 60_000_000_000);
        assert_eq!(shift_ns(&header("driver", 160_000_000_000), &reference), 0);
        assert_eq!(shift_ns(&header("container", 100_000_400_000), &reference), 0);
    }

    #[test]
    fn a_clock_that_was_found_to_be_ahead_is_put_back_by_as_much() {
        let clock = |offset_ns, error_ns| {
            let host = "other".to_owned();
            let clocks = vec![ClockRecord { host, offset_ns, error_ns }];
            let host = "driver".to_owned();
            let reference = Reference { host, real_minus_mono_ns: 100_000_000_000, clocks };
            shift_ns(&header("other", 160_000_000_000), &reference)
        };
        assert_eq!(clock(7_000_000, 500_000), 59_993_000_000);
        assert_eq!(clock(400_000, 500_000), 60_000_000_000, "less than can be told");
    }

    #[test]
    fn a_target_that_comes_later_gets_its_place() {
        let mut plan = PlanFacts::read(&json!({
            "targets": ["http://a/"],
            "ops": [{"name": "ping", "kind": "load"}, {"name": "initialize", "kind": "session"}],
        }));
        plan.add_target("2 http://c/");
        plan.add_target("nonsense");
        assert_eq!(plan.targets, ["http://a/", "", "http://c/"]);
        assert_eq!(plan.ops, [("ping".to_owned(), true), ("initialize".to_owned(), false)]);
    }
}
