//! `reporter trend` on made-up results: order, marks, gaps, and a run that cannot be read.

mod report_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use report_support::small;
use reporter::tools::trend;
use serde_json::{Value, json};

/// One real `results.json`; the runs of the tests differ from it in what is asked for.
fn base() -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    report_support::write(dir.path(), &small());
    reporter::report::write(dir.path()).expect("reports");
    let text = fs::read_to_string(dir.path().join("results.json")).expect("is there");
    serde_json::from_str(&text).expect("is JSON")
}

fn put(dir: &Path, name: &str, results: &Value) {
    fs::create_dir(dir.join(name)).expect("creates");
    fs::write(dir.join(name).join("results.json"), results.to_string()).expect("writes");
}

/// Three runs whose names are not in the order of their starts, one that is no longer readable,
/// and a folder that is no run.
fn several() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = base();
    let day_ns = 86_400_000_000_000u64;
    let start_ns = run["started_real_ns"].as_u64().expect("a time");
    run["verdict"] = json!("PASS");
    run["valid"] = json!(true);
    put(dir.path(), "c-first", &run);
    run["started_real_ns"] = json!(start_ns + day_ns);
    run["verdict"] = json!("FAIL");
    let top = run["stages"].as_array_mut().expect("stages");
    let top = top.iter_mut().find(|stage| stage["name"] == "stress-500").expect("is there");
    top["response_ns"]["p99"] = json!(750_000_000);
    put(dir.path(), "a-second", &run);
    run["started_real_ns"] = json!(start_ns + 2 * day_ns);
    run["valid"] = json!(false);
    run["replicas"] = json!([]);
    put(dir.path(), "b-third", &run);
    put(dir.path(), "other-version", &json!({"version": 99}));
    fs::create_dir(dir.path().join("no-run")).expect("creates");
    dir
}

#[test]
fn runs_stand_in_the_order_of_their_starts_with_their_marks() {
    let dir = several();
    let trend = trend::read(dir.path()).expect("reads");
    let seen: Vec<(&str, &str)> =
        trend.runs.iter().map(|run| (run.folder.as_str(), run.mark())).collect();
    assert_eq!(seen, [("c-first", "PASS"), ("a-second", "FAIL"), ("b-third", "not valid")]);
    assert_eq!(trend.runs[1].p99_ns, Some(750e6));
    assert!(trend.runs.iter().all(|run| run.stage == "stress-500"));
    assert!(trend.runs[0].memory_per_session_bytes.is_some_and(|bytes| bytes > 0.0));
    assert_eq!(trend.runs[2].memory_per_session_bytes, None, "no replica was sampled");
    let unread: Vec<&str> = trend.unread.iter().map(|unread| unread.folder.as_str()).collect();
    assert_eq!(unread, ["other-version"]);

    let table = trend.table();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[2].contains("FAIL") && lines[2].contains("750 ms"), "{table}");
    assert!(lines[3].ends_with('—'), "a figure that was not measured is no 0: {table}");
    assert!(lines[4].contains("other-version") && lines[4].contains("version 99"), "{table}");
}

#[test]
fn the_picture_has_every_run_in_every_panel() {
    let dir = several();
    let trend = trend::read(dir.path()).expect("reads");
    let svg = trend.svg();
    for panel in ["p99", "average", "throughput", "success", "sessions", "memory/session"] {
        assert!(svg.contains(&format!("{panel}</text>")), "{panel}");
    }
    // Two circles make the ring of a run that is not valid; one more pair is in the key.
    assert_eq!(svg.matches("<circle").count(), 6 + 1 + 2 * (5 + 1));
    let html = trend.html().expect("renders");
    assert!(html.contains("<svg") && html.contains("Trend of 3 runs") && html.contains("750 ms"));
    assert!(
        !html.contains("http://") || html.matches("http://").count() == 1,
        "only the namespace"
    );
}

#[test]
fn the_command_ends_with_0_whatever_the_verdicts_are() {
    let dir = several();
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_reporter");
        Command::new(program).args(arguments).output().expect("starts")
    };
    let path = dir.path().to_str().expect("is text");
    let output = run(&["trend", path, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(json["runs"][1]["verdict"], "FAIL");
    assert_eq!(json["runs"][2]["memory_per_session_bytes"], Value::Null);
    assert!(dir.path().join("trend.svg").is_file() && dir.path().join("trend.html").is_file());

    let empty = tempfile::tempdir().expect("a folder");
    let output = run(&["trend", empty.path().to_str().expect("is text")]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("has no run"), "{error}");
}
