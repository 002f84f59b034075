//! TLS handshakes: from a generator's log into results and report, apart from connects.

mod report_support;

use std::fs;

use latlog::{
    BlockBuilder, BlockKind, End, Event, EventKind, FileHeader, LogReader, LogWriter, Outcome,
    WorkerTotals,
};
use report_support::{MS, small};
use reporter::results::parse;

const LOGS: &str = "logs/03-stress-500";

fn handshake(at_ns: u64, outcome: Outcome, detail: i32, value: u64) -> Event {
    let kind = EventKind::Handshake;
    Event { at_ns, kind, session: 1, target: 0, outcome, detail, value }
}

#[test]
fn handshakes_are_counted_and_timed_apart_and_a_run_without_trust_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = report_support::write(dir.path(), &small());
    let at_ns = made[2].hold.0;
    let logs = dir.path().join(LOGS);
    let beside = LogReader::open(logs.join("gen-1.latlog")).expect("a log");
    let mut plan = beside.header().plan.clone();
    plan["tls"] = serde_json::json!({"insecure": true, "terms": ["TLSv1_3 X", "TLSv1_3 X", null]});
    let header = FileHeader { pid: 7, plan, ..beside.header().clone() };
    let mut writer = LogWriter::create(logs.join("gen-7.latlog"), &header).expect("creates");
    let mut builder = BlockBuilder::new(0, BlockKind::Events, 64 << 10);
    let events = [
        handshake(at_ns, Outcome::Ok, 0, 3 * MS),
        handshake(at_ns + 1, Outcome::Ok, 0, 5 * MS),
        handshake(at_ns + 2, Outcome::Ok, 1, MS),
        handshake(at_ns + 3, Outcome::Tls, 257, 2 * MS),
        handshake(at_ns + 4, Outcome::Timeout, 0, 900 * MS),
    ];
    events.iter().for_each(|event| builder.push_event(event).expect("fits"));
    writer.append(&builder.into_bytes(0)).expect("appends");
    let totals = vec![WorkerTotals { worker: 0, blocks: 1, requests: 0, events: 5 }];
    writer.finish(&End { anchor: header.start, totals }).expect("finishes");

    reporter::report::write(dir.path()).expect("reports");
    let text = fs::read_to_string(dir.path().join("results.json")).expect("is there");
    let results = parse(&text).expect("is readable");
    let stage = |name: &str| results.stages.iter().find(|stage| stage.name == name).expect("ran");
    let tls = stage("stress-500").tls.as_ref().expect("there were handshakes");
    assert_eq!((tls.full, tls.resumed, tls.insecure), (2, 1, true));
    assert_eq!(tls.terms, ["TLSv1_3 X"]);
    let failures: Vec<_> = tls.failures.iter().map(|(why, n)| (why.as_str(), *n)).collect();
    assert_eq!(failures, [("timeout", 1), ("tls", 1)]);
    let times = tls.handshake_ns.as_ref().expect("some came through");
    assert_eq!((times.count, times.min, times.max), (3, MS, 5 * MS));
    assert!(results.stages.iter().filter(|stage| stage.tls.is_some()).count() == 1);
    let found = results.findings.iter().find(|finding| finding.rule == "insecure_tls");
    assert!(found.is_some_and(|finding| finding.because.contains("--insecure")));
    let report = fs::read_to_string(dir.path().join("FINAL_REPORT.md")).expect("is there");
    for said in ["TLS handshakes", "`tls` 1", "Agreed upon: TLSv1", "cannot tell who answered"] {
        assert!(report.contains(said), "{said}");
    }
}
