//! One stage's logs merged into one set of counts, in bounded memory.
//!
//! Two passes. The first reads notes, events and samples, in order: they say where the hold phase
//! lies, who was killed and when everybody was back. The second reads the requests, whose number
//! has no bound, with several threads that take one block after the other; each thread has one
//! tally (a few megabytes) and one buffer.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use latlog::{BlockKind, BlockRef, Note};
use rayon::prelude::*;
use serde_json::Value;

use super::failover::{self, KillFacts, ScaleFacts};
use super::frame::{self, Buckets, Frame, Span};
use super::logs::{self, Log, PlanFacts, Reference};
use super::samples::{Fields, Samples};
use super::sessions::Sessions;
use super::tally::Tally;
use crate::results::{ExampleResult, LogResult, Mark};
use crate::run::record::{EventRecord, RunRecord, StageRecord};

/// Threads of the second pass: each costs up to 30 MB when there are 256 targets.
const THREADS_MAX: usize = 4;
/// Examples of failures that are kept of a stage.
const EXAMPLES_MAX: usize = 32;

/// All that the logs of one stage say.
pub struct Merged {
    /// The state of each log.
    pub logs: Vec<LogResult>,
    /// Of the first log; the targets of all.
    pub plan: PlanFacts,
    /// Hold phase, time axis, windows.
    pub frame: Frame,
    /// Phase marks, in order.
    pub phases: Vec<Mark>,
    /// First examples of failures.
    pub examples: Vec<ExampleResult>,
    /// The requests.
    pub tally: Tally,
    /// The events.
    pub sessions: Sessions,
    /// The samples.
    pub samples: Samples,
    /// Kills in this stage, each beside its window in the frame.
    pub kills: Vec<KillFacts>,
    /// Scale commands in this stage.
    pub scales: Vec<ScaleFacts>,
}

/// Reads a stage's logs. A log that cannot be opened is listed with its error.
pub fn stage(dir: &Path, run: &RunRecord, record: &StageRecord) -> anyhow::Result<Merged> {
    let (mut logs, mut states) = open_all(dir, run, record)?;
    let plan = shared_plan(&logs);
    let span = stage_span(record, &logs);
    let hold = hold(&logs, span);
    let buckets = Buckets::cover(span);
    let events: Vec<&EventRecord> = run.events.iter().filter(|e| e.stage == record.name).collect();
    let mut kills = failover::kills(&events, &plan.targets, span);
    let mut scales = failover::scales(&events, span);

    let mut sessions = Sessions::new(
        buckets,
        plan.targets.len(),
        kills.iter().map(KillFacts::for_sessions).collect(),
    );
    let mut samples = Samples::new(buckets, hold);
    let event_counts = read_small(&mut logs, &mut sessions, &mut samples);
    let windows = failover::windows(&mut kills, &mut scales, &sessions.victims(), span);

    let load_ops: Vec<bool> = plan.ops.iter().map(|(_, load)| *load).collect();
    let frame = Frame { hold, buckets, mix: frame::mix(&load_ops), load_ops, windows };
    let (tally, request_counts) = read_requests(&mut logs, &frame, plan.targets.len());
    for (index, log) in logs.iter().enumerate() {
        let mut state = log.result(&record.name, request_counts[index], event_counts[index]);
        state.clock_error_ns = log.clock_error_ns(record);
        state.clock_wrong_ns = log.clock_wrong_ns(record);
        states.push(state);
    }
    states.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Merged {
        phases: phases(&logs),
        examples: examples(&logs),
        logs: states,
        plan,
        frame,
        tally,
        sessions,
        samples,
        kills,
        scales,
    })
}

fn open_all(
    dir: &Path,
    run: &RunRecord,
    record: &StageRecord,
) -> anyhow::Result<(Vec<Log>, Vec<LogResult>)> {
    let reference = Reference {
        host: run.host.name.clone(),
        real_minus_mono_ns: i128::from(run.started_real_ns) - i128::from(run.started_mono_ns),
        clocks: run.clocks.clone(),
    };
    let (mut logs, mut states) = (Vec::new(), Vec::new());
    for path in logs::find(&dir.join(&record.log_dir))? {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        match Log::open(&path, name.clone(), &reference) {
            Ok(log) => logs.push(log),
            Err(error) => states.push(logs::unreadable(name, &record.name, &error)),
        }
    }
    Ok((logs, states))
}

/// The first log's plan; a target list that is longer in another log (a target that came during
/// the run and that only one generator noted) is taken from there.
fn shared_plan(logs: &[Log]) -> PlanFacts {
    let mut plan = logs.first().map(|log| log.plan.clone()).unwrap_or_default();
    for log in logs.iter().skip(1) {
        if log.plan.targets.len() > plan.targets.len() {
            plan.targets.clone_from(&log.plan.targets);
        }
        plan.connections += log.plan.connections;
        let insecure = |plan: &PlanFacts| plan.tls.as_ref().is_some_and(|tls| tls.insecure);
        if plan.tls.is_none() || insecure(&log.plan) && !insecure(&plan) {
            plan.tls.clone_from(&log.plan.tls);
        }
    }
    plan
}

fn stage_span(record: &StageRecord, logs: &[Log]) -> Span {
    let start = match record.start_ns {
        0 => logs.iter().map(Log::start_ns).min().unwrap_or(0),
        start => start,
    };
    let end = match record.end_ns {
        0 => logs.iter().map(Log::last_ns).max().unwrap_or(start).saturating_add(1),
        end => end,
    };
    Span { start_ns: start, end_ns: end.max(start + 1) }
}

/// The time in which every generator was in its hold phase; none if there is no such time.
fn hold(logs: &[Log], stage: Span) -> Option<Span> {
    let mut shared: Option<Span> = None;
    for log in logs {
        let own = hold_of(&log.notes, log.last_ns().min(stage.end_ns))?;
        shared = Some(match shared {
            None => own,
            Some(before) => Span {
                start_ns: before.start_ns.max(own.start_ns),
                end_ns: before.end_ns.min(own.end_ns),
            },
        });
    }
    shared.filter(|span| span.length_ns() > 0)
}

/// From the note "hold" to the next phase; to `last_ns` if the log ends in it.
fn hold_of(notes: &[Note], last_ns: u64) -> Option<Span> {
    let mut phases = notes.iter().filter(|note| note.name == "phase");
    let start_ns = phases.find(|note| note.text == "hold")?.at_ns;
    let end_ns = phases.find(|note| note.text != "hold").map_or(last_ns, |note| note.at_ns);
    Some(Span { start_ns, end_ns })
}

/// Feeds events and samples in the order of the file; gives the number of events of each log.
fn read_small(logs: &mut [Log], sessions: &mut Sessions, samples: &mut Samples) -> Vec<u64> {
    let mut payload = Vec::new();
    let mut counts = Vec::with_capacity(logs.len());
    for (number, log) in logs.iter_mut().enumerate() {
        let number = number as u16;
        let fields = Fields::new(log.plan.sample_fields.iter().map(String::as_str));
        samples.describe(number, log.host(), fields);
        let before = sessions.records;
        let mut bad = Vec::new();
        for block in &log.index {
            if !matches!(block.kind, BlockKind::Events | BlockKind::Samples) {
                continue;
            }
            let Ok(read) = log.read(block, &mut payload) else {
                bad.push(*block);
                continue;
            };
            let mut whole = true;
            for event in read.events() {
                let Ok(mut event) = event else {
                    whole = false;
                    break;
                };
                event.at_ns = event.at_ns.saturating_add_signed(log.shift_ns);
                sessions.feed(number, block.worker, &event);
            }
            for sample in read.samples() {
                let Ok(mut sample) = sample else {
                    whole = false;
                    break;
                };
                sample.at_ns = sample.at_ns.saturating_add_signed(log.shift_ns);
                samples.feed(number, block.worker, &sample);
            }
            if !whole {
                bad.push(*block);
            }
        }
        bad.iter().for_each(|block| log.damage.count_bad(block));
        counts.push(sessions.records - before);
    }
    counts
}

/// What one thread of the second pass has.
struct Share {
    tally: Tally,
    bad: Vec<(usize, BlockRef)>,
    counts: Vec<u64>,
}

/// Counts all requests; gives their number in each log.
fn read_requests(logs: &mut [Log], frame: &Frame, targets: usize) -> (Tally, Vec<u64>) {
    let work: Vec<(usize, BlockRef)> = logs
        .iter()
        .enumerate()
        .flat_map(|(number, log)| log.index.iter().map(move |block| (number, *block)))
        .filter(|(_, block)| block.kind == BlockKind::Requests)
        .collect();
    let threads = rayon::current_num_threads().clamp(1, THREADS_MAX).min(work.len().max(1));
    let next = AtomicUsize::new(0);
    let shared: &[Log] = logs;
    let shares: Vec<Share> = (0..threads)
        .into_par_iter()
        .map(|_| {
            let mut share = Share {
                tally: Tally::new(frame, targets),
                bad: Vec::new(),
                counts: vec![0; shared.len()],
            };
            let mut payload = Vec::new();
            while let Some((number, block)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                count_block(&shared[*number], *number, block, frame, &mut payload, &mut share);
            }
            share
        })
        .collect();
    let mut total = Tally::new(frame, targets);
    let mut counts = vec![0; logs.len()];
    for share in shares {
        total.add(&share.tally);
        share.bad.iter().for_each(|(number, block)| logs[*number].damage.count_bad(block));
        counts.iter_mut().zip(&share.counts).for_each(|(count, more)| *count += more);
    }
    (total, counts)
}

fn count_block(
    log: &Log,
    number: usize,
    block: &BlockRef,
    frame: &Frame,
    payload: &mut Vec<u8>,
    share: &mut Share,
) {
    let Ok(read) = log.read(block, payload) else {
        share.bad.push((number, *block));
        return;
    };
    for request in read.requests() {
        let Ok(mut request) = request else {
            share.bad.push((number, *block));
            return;
        };
        if log.shift_ns != 0 {
            let moved = |at_ns: u64| at_ns.saturating_add_signed(log.shift_ns);
            request.intended_ns = moved(request.intended_ns);
            request.sent_ns = moved(request.sent_ns);
            request.first_byte_ns = moved(request.first_byte_ns);
            request.done_ns = moved(request.done_ns);
        }
        share.tally.record(frame, &request);
        share.counts[number] += 1;
    }
}

/// The phase marks of the first log: its generator's phases stand for all.
fn phases(logs: &[Log]) -> Vec<Mark> {
    let Some(log) = logs.first() else { return Vec::new() };
    log.notes
        .iter()
        .filter(|note| note.name == "phase")
        .map(|note| Mark { at_ns: note.at_ns, name: note.text.clone(), text: String::new() })
        .collect()
}

fn examples(logs: &[Log]) -> Vec<ExampleResult> {
    let mut examples: Vec<ExampleResult> = logs
        .iter()
        .flat_map(|log| &log.notes)
        .filter(|note| note.name == "example")
        .map(|note| ExampleResult {
            at_ns: note.at_ns,
            example: serde_json::from_str(&note.text)
                .unwrap_or_else(|_| Value::String(note.text.clone())),
        })
        .collect();
    examples.sort_by_key(|example| example.at_ns);
    examples.truncate(EXAMPLES_MAX);
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(at_ns: u64, text: &str) -> Note {
        Note { at_ns, name: "phase".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn hold_ends_with_the_next_phase_or_with_the_log() {
        let mut notes = vec![note(1, "ramp"), note(5, "warmup"), note(9, "hold")];
        assert_eq!(hold_of(&notes, 20), Some(Span { start_ns: 9, end_ns: 20 }));
        notes.push(note(15, "cooldown"));
        assert_eq!(hold_of(&notes, 20), Some(Span { start_ns: 9, end_ns: 15 }));
        assert_eq!(hold_of(&notes[..2], 20), None);
    }
}
