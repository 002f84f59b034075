//! One stage driven from two hosts: their logs come from clocks that know nothing of each other,
//! and the report has every record of both at its true place, and says by how much it moved them.

mod report_support;

use std::fs;
use std::path::Path;

use latlog::{Anchor, Block, BlockBuilder, BlockKind, End, FileHeader, LogReader, LogWriter};
use latlog::{RUN_WORKER, WorkerTotals};
use report_support::{Made, S, small};
use reporter::results::{Results, StageResult, parse};

const LOGS: &str = "logs/03-stress-500";
/// The other host was started this much later: its monotonic clock shows less at the same time.
const LATER_NS: u64 = 3_600 * S;

/// Takes one worker's records (and the run's notes) out of a log into a log of another host.
fn take(from: &Path, to: &Path, host: &str, worker: u16, back_ns: u64) {
    let mut reader = LogReader::open(from).expect("is a log");
    let header = reader.header();
    let moved = |anchor: Anchor| Anchor { mono_ns: anchor.mono_ns - back_ns, ..anchor };
    let header = FileHeader {
        host: host.to_owned(),
        pid: header.pid,
        start: moved(header.start),
        plan: header.plan.clone(),
    };
    let mut writer = LogWriter::create(to, &header).expect("creates");
    let (mut totals, mut end) = (Vec::new(), None);
    for block in reader.blocks() {
        let block = block.expect("is sound");
        if let Some(last) = block.end() {
            let mine = |totals: &WorkerTotals| [worker, RUN_WORKER].contains(&totals.worker);
            totals.extend(last.totals.iter().filter(|totals| mine(totals)).cloned());
            end = Some(moved(last.anchor));
        } else if [worker, RUN_WORKER].contains(&block.worker()) {
            let copied = copy(&block, back_ns);
            writer.append(&copied).expect("appends");
        }
    }
    let anchor = end.expect("the log was closed");
    writer.finish(&End { anchor, totals }).expect("finishes");
}

/// The block with all its times on the other host's clock.
fn copy(block: &Block<'_>, back_ns: u64) -> Vec<u8> {
    let mut builder = BlockBuilder::new(block.worker(), block.kind(), 256 << 10);
    match block.kind() {
        BlockKind::Requests => block.requests().for_each(|request| {
            let mut request = request.expect("is sound");
            request.intended_ns -= back_ns;
            request.sent_ns -= back_ns;
            request.first_byte_ns -= back_ns;
            request.done_ns -= back_ns;
            builder.push_request(&request).expect("fits");
        }),
        BlockKind::Events => block.events().for_each(|event| {
            let mut event = event.expect("is sound");
            event.at_ns -= back_ns;
            builder.push_event(&event).expect("fits");
        }),
        BlockKind::Samples => block.samples().for_each(|sample| {
            let mut sample = sample.expect("is sound");
            sample.at_ns -= back_ns;
            builder.push_sample(&sample).expect("fits");
        }),
        BlockKind::Notes => block.notes().for_each(|note| {
            let mut note = note.expect("is sound");
            note.at_ns -= back_ns;
            builder.push_note(&note).expect("fits");
        }),
        BlockKind::End => {}
    }
    builder.into_bytes(block.head().seq)
}

fn results(dir: &Path) -> Results {
    reporter::report::write(dir).expect("reports");
    let text = fs::read_to_string(dir.join("results.json")).expect("is there");
    parse(&text).expect("is version 1")
}

fn stage(results: &Results) -> StageResult {
    results.stages.iter().find(|stage| stage.name == "stress-500").expect("ran").clone()
}

/// The same stage from one host's log, then from two; gives what was put in, and both results.
fn merged(second_host: &str) -> (tempfile::TempDir, Vec<Made>, Results, Results) {
    let dir = tempfile::tempdir().expect("a folder");
    let made = report_support::write(dir.path(), &small());
    let one = results(dir.path());
    let logs = dir.path().join(LOGS);
    let whole = dir.path().join("whole");
    fs::rename(logs.join("gen-1.latlog"), &whole).expect("moves");
    take(&whole, &logs.join("bench-1.latlog"), "bench-1", 0, 0);
    take(&whole, &logs.join("bench-2.latlog"), second_host, 1, LATER_NS);
    let two = results(dir.path());
    (dir, made, one, two)
}

#[test]
fn two_hosts_logs_give_exactly_what_one_hosts_log_gives() {
    let (_dir, made, one, two) = merged("bench-2");
    let (before, after) = (stage(&one), stage(&two));
    assert!(before.requests.offered > 1_000, "there is something to count");
    assert_eq!(after.requests, before.requests);
    assert_eq!(after.response_ns, before.response_ns);
    assert_eq!(after.service_ns, before.service_ns);
    assert_eq!(after.slip_ns, before.slip_ns);
    assert_eq!((&after.errors, &after.losses), (&before.errors, &before.losses));
    assert_eq!(after.connections, before.connections);
    assert_eq!(after.targets, before.targets);
    assert_eq!(after.throughput_per_s, before.throughput_per_s);
    assert_eq!((after.hold_start_ns, after.hold_ns), (before.hold_start_ns, before.hold_ns));
    assert_eq!(after.timeline, before.timeline);
    let logged: u64 =
        two.logs.iter().filter(|log| log.stage == "stress-500").map(|log| log.requests).sum();
    assert_eq!(logged, made[2].requests.len() as u64);
}

#[test]
fn the_report_says_by_how_much_a_hosts_times_were_moved() {
    let (dir, _made, _one, two) = merged("bench-2");
    let of = |host: &str| {
        let mut logs = two.logs.iter().filter(|log| log.stage == "stress-500");
        logs.find(|log| log.host == host).expect("was read").clock_offset_ns
    };
    assert_eq!((of("bench-1"), of("bench-2")), (0, LATER_NS as i64));
    let report = fs::read_to_string(dir.path().join("FINAL_REPORT.md")).expect("is there");
    let line = |log: &str| {
        report.lines().find(|line| line.contains(log)).expect("is listed in the report").to_owned()
    };
    assert!(line("bench-2.latlog").contains("+1 h"), "{}", line("bench-2.latlog"));
    assert!(line("bench-1.latlog").contains("same clock"), "{}", line("bench-1.latlog"));
}

#[test]
fn a_clock_that_is_not_moved_would_lose_the_records() {
    // The same bytes under the driving host's own name are taken as they are: an hour off.
    let (_dir, _made, one, two) = merged("bench-1");
    assert_ne!(stage(&two).requests, stage(&one).requests);
}
