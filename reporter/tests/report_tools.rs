//! The commands on finished runs, on made-up logs and results.

mod report_support;
#[path = "../../loadgen/tests/support/venv.rs"]
mod venv;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use report_support::{Made, Recipe, small};
use reporter::results::{Results, parse};
use reporter::run::from_logs;
use reporter::tools::compare::{FailOn, Metric, compare, differences, page};
use reporter::tools::{dump, export, verify};

struct Run {
    dir: tempfile::TempDir,
    made: Vec<Made>,
}

fn run(recipe: &Recipe) -> Run {
    let dir = tempfile::tempdir().expect("a folder");
    let made = report_support::write(dir.path(), recipe);
    Run { dir, made }
}

impl Run {
    fn log(&self) -> PathBuf {
        self.dir.path().join("logs/03-stress-500/gen-1.latlog")
    }

    fn made(&self) -> &Made {
        &self.made[2]
    }

    fn results(&self) -> Results {
        reporter::report::write(self.dir.path()).expect("reports");
        let text = std::fs::read_to_string(self.dir.path().join("results.json")).expect("is there");
        parse(&text).expect("is version 1")
    }
}

fn dumped(log: &Path, format: dump::Format) -> String {
    let mut out = Vec::new();
    let damage = dump::dump(log, format, &mut out).expect("dumps");
    assert!(damage.is_none(), "{damage}");
    String::from_utf8(out).expect("is text")
}

#[test]
fn every_format_has_every_request() {
    let run = run(&small());
    let requests = run.made().requests.len();
    let csv = dumped(&run.log(), dump::Format::Csv);
    assert_eq!(csv.lines().count(), requests + 1);
    assert!(csv.starts_with("worker,intended_ns,sent_ns"));
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&dumped(&run.log(), dump::Format::Json)).expect("is JSON");
    assert_eq!(json.len(), requests);
    let sum: u64 = json.iter().map(|it| it["done_ns"].as_u64().expect("a number")).sum();
    assert_eq!(sum, run.made().requests.iter().map(|request| request.done_ns).sum::<u64>());
    let lines = dumped(&run.log(), dump::Format::Ndjson);
    let of = |kind: &str| lines.lines().filter(|line| line.contains(kind)).count();
    assert_eq!(of("\"type\":\"request\""), requests);
    assert_eq!(of("\"type\":\"event\""), run.made().events.len());
    assert!(of("\"type\":\"sample\"") > 0 && of("\"type\":\"note\"") > 0);
}

#[test]
fn the_interval_log_is_read_by_the_library_and_has_every_answer() {
    let run = run(&small());
    let text = dumped(&run.log(), dump::Format::Hlog);
    let mut deserializer = Deserializer::new();
    let mut all = Histogram::<u64>::new(2).expect("digits");
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        if let LogEntry::Interval(interval) = entry.expect("an entry") {
            let bytes = base64(interval.encoded_histogram());
            let part: Histogram<u64> =
                deserializer.deserialize(&mut bytes.as_slice()).expect("a histogram");
            all.add(&part).expect("fits");
        }
    }
    let answered = run.made().requests.iter().filter(|request| request.outcome.is_ok()).count();
    assert_eq!(all.len(), answered as u64);
}

#[test]
fn the_interval_log_is_read_by_another_language_with_the_same_figures() {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv-hdrhistogram");
    let python = match venv::environment(&peers.join("requirements.txt"), &venv) {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true and {why}");
            return eprintln!("SKIPPED, NOT TESTED: HdrHistogram_py reads our logs: {why}");
        }
    };
    let run = run(&small());
    let file = run.dir.path().join("response.hlog");
    std::fs::write(&file, dumped(&run.log(), dump::Format::Hlog)).expect("writes");
    let read = Command::new(python).arg(peers.join("read_hlog.py")).arg(&file).output();
    let read = read.expect("python runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let read: serde_json::Value = serde_json::from_slice(&read.stdout).expect("is JSON");

    let log = latlog::LogReader::open(run.log()).expect("is a log");
    let start = log.header().start;
    let start_s = read["start_s"].as_f64().expect("a number");
    assert!((start_s - start.real_ns as f64 / 1e9).abs() < 1e-3, "{start_s}");
    let mut all = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 2).expect("bounds");
    let mut by_second: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for request in run.made().requests.iter().filter(|request| request.outcome.is_ok()) {
        let response_us = request.response_ns() / 1_000;
        all.record(response_us).expect("fits");
        let second = (request.done_ns - start.mono_ns) / 1_000_000_000;
        let (count, max) = by_second.entry(second).or_default();
        (*count, *max) = (*count + 1, response_us.max(*max));
    }
    assert_eq!(read["count"], all.len());
    for (percentile, quantile) in
        [("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999), ("100", 1.0)]
    {
        // They round the rank to the nearest one, our library up: the value of their rank.
        let rank = (quantile * all.len() as f64 + 0.5).floor();
        let own = all.value_at_quantile((rank - 0.5) / all.len() as f64);
        assert_eq!(read["percentiles"][percentile], own, "p{percentile}");
    }
    let intervals = read["intervals"].as_array().expect("a list");
    assert_eq!(intervals.len(), by_second.len());
    for (interval, (second, (count, max))) in intervals.iter().zip(by_second) {
        assert_eq!(interval["count"], count, "second {second}");
        let read_max = interval["max"].as_u64().expect("a number");
        assert!(all.equivalent(read_max, max), "second {second}: {read_max} and {max}");
        let width_ms = interval["end_ms"].as_f64().expect("end")
            - interval["start_ms"].as_f64().expect("start");
        assert_eq!(width_ms, 1_000.0, "second {second}");
    }
}

/// Decodes base64, so that the test needs no crate for it.
fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = alphabet.iter().position(|it| *it == byte).expect("in the alphabet") as u32;
        bits = bits << 6 | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

#[test]
fn a_log_is_verified_and_a_damaged_one_is_not_whole() {
    let run = run(&small());
    let verified = verify::verify(&run.log()).expect("is a log");
    assert!(verified.is_whole(), "{verified}");
    assert_eq!(verified.requests, run.made().requests.len() as u64);
    assert_eq!(verified.events, run.made().events.len() as u64);
    let bytes = std::fs::read(run.log()).expect("reads");
    std::fs::write(run.log(), &bytes[..bytes.len() - 10]).expect("writes");
    let verified = verify::verify(&run.log()).expect("is a log");
    assert!(!verified.is_whole() && verified.to_string().contains("no end block"), "{verified}");
    std::fs::write(run.log(), "x").expect("writes");
    assert!(verify::verify(&run.log()).is_err());
}

#[test]
fn a_run_with_another_seed_is_no_certain_change() {
    let base = run(&small()).results();
    let new = run(&Recipe { seed: 1_234, ..small() }).results();
    let changes = compare(&base, &new);
    assert!(changes.len() >= 5 * 5, "{}", changes.len());
    let condition: FailOn = "p99>+25%".parse().expect("parses");
    assert!(!changes.iter().any(|change| condition.broken_by(change)), "{changes:#?}");
    assert_eq!(differences(&base, &new), Vec::<String>::new());
}

#[test]
fn a_slower_run_is_a_certain_change() {
    let base = run(&small()).results();
    let mut slower = small();
    // More connections make the made-up server slower.
    slower.stages[2].connections = 4_000;
    slower.stages[2].ramp_s = 16;
    let new = run(&slower).results();
    let changes = compare(&base, &new);
    let p50 = changes
        .iter()
        .find(|change| change.stage == "stress-500" && change.metric == Metric::P50)
        .expect("is compared");
    assert!(p50.percent > 50.0 && p50.is_certain(), "{p50:?}");
    let condition: FailOn = "p50>+10%".parse().expect("parses");
    assert!(condition.broken_by(p50));
}

#[test]
fn a_verdict_is_exported_for_ci() {
    let results = run(&Recipe { thresholds: vec!["p99<1ms"], ..small() }).results();
    let xml = export::junit(&results);
    assert!(xml.contains("<testsuite name=\"load test\" tests=\"8\" failures=\"2\" skipped=\"1\""));
    assert!(xml.contains("name=\"p99 &lt; 1 ms\"><failure message="), "{xml}");
    let summary = export::github_summary(&results);
    assert!(summary.starts_with("## Load test: FAIL (run valid)"));
    assert!(summary.contains("| **FAIL** | p99 | \\< 1 ms |"), "{summary}");
}

#[test]
fn bare_logs_of_several_runs_become_a_report() {
    let run = run(&small());
    let driven = run.results();
    let out = tempfile::tempdir().expect("a folder");
    let out = out.path().join("merged");
    let thresholds = ["throughput>1/s".to_owned(), "stage:load-3:p99<1h".to_owned()];
    from_logs::make(&[run.dir.path().join("logs")], &out, &thresholds).expect("makes");
    reporter::report::write(&out).expect("reports");
    let text = std::fs::read_to_string(out.join("results.json")).expect("is there");
    let results = parse(&text).expect("is version 1");
    let names: Vec<&str> = results.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["load-1", "load-2", "load-3", "load-4", "load-5"]);
    for (bare, stage) in results.stages.iter().zip(&driven.stages) {
        assert_eq!((&bare.requests, &bare.response_ns), (&stage.requests, &stage.response_ns));
    }
    let judged = results.thresholds.iter().find(|it| it.name == "stage:load-3:p99");
    assert_eq!(judged.expect("is judged").pass, Some(true));
    assert!(results.invalid_because.is_empty(), "{:?}", results.invalid_because);
    let again = from_logs::make(&[run.log()], &out, &[]).expect_err("it is one already");
    assert!(again.to_string().contains("is a results folder already"), "{again}");
    let none = tempfile::tempdir().expect("a folder");
    let paths = [none.path().to_owned()];
    let empty = from_logs::make(&paths, &out.join("x"), &[]).expect_err("no log");
    assert!(empty.to_string().contains("there is no *.latlog"), "{empty}");
}

#[test]
fn a_comparison_is_written_with_its_pictures() {
    let (base, new) = (run(&small()).results(), run(&Recipe { seed: 8, ..small() }).results());
    let out = tempfile::tempdir().expect("a folder");
    page::write(out.path(), &base, &new, &[]).expect("writes");
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect(name);
    let text = read(page::MARKDOWN_FILE);
    for name in ["compare-changes", "compare-spectrum", "compare-seconds"] {
        assert!(text.contains(&format!("charts/{name}.svg")), "{text}");
        assert!(read(&format!("charts/{name}.svg")).ends_with("</svg>"));
    }
    assert!(text.contains(": EQUAL — both runs are valid"), "{text}");
    assert!(!read(page::HTML_FILE).contains("http-equiv"));
    let condition: FailOn = "p99>-99%".parse().expect("parses");
    page::write(out.path(), &base, &base, &[condition]).expect("writes");
    assert!(read(page::MARKDOWN_FILE).contains(": PASS"), "no change is not certain");
}
