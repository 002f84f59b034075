//! Whole folders: what the report says of a good run, a damaged one, an interrupted one.

mod report_support;

use std::fs;
use std::path::{Path, PathBuf};

use report_support::{Recipe, small};
use reporter::report::Outcome;
use reporter::results::{Results, Severity, Verdict, parse};

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new(recipe: &Recipe) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        report_support::write(dir.path(), recipe);
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn report(&self) -> (Outcome, Results) {
        let outcome = reporter::report::write(self.path()).expect("reports");
        let results = parse(&self.read("results.json")).expect("is version 1");
        (outcome, results)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect(name)
    }

    fn log(&self, stage: &str) -> PathBuf {
        let logs = fs::read_dir(self.path().join("logs")).expect("logs");
        let mut folders = logs.map(|entry| entry.expect("entry").path());
        let ends = |path: &PathBuf| path.to_string_lossy().ends_with(stage);
        folders.find(ends).expect(stage).join("gen-1.latlog")
    }

    fn change_run(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut run: serde_json::Value =
            serde_json::from_str(&self.read("run.json")).expect("json");
        change(&mut run);
        fs::write(self.path().join("run.json"), run.to_string()).expect("writes");
    }
}

/// The default thresholds with limits that the small made-up run can meet.
fn modest() -> Recipe {
    Recipe { thresholds: vec!["throughput>300/s"], ..small() }
}

fn rules(results: &Results) -> Vec<(&str, Severity)> {
    results.findings.iter().map(|it| (it.rule.as_str(), it.severity)).collect()
}

#[test]
fn a_good_run_passes_and_says_what_it_did_not_judge() {
    let folder = Folder::new(&modest());
    let (outcome, results) = folder.report();
    let expected = Outcome { verdict: Verdict::Pass, valid: true, interrupted: false };
    assert_eq!(outcome, expected, "{:#?}", results.thresholds);
    assert_eq!(rules(&results), []);
    let growth = results.thresholds.iter().find(|it| it.name == "rss_growth").expect("judged");
    assert_eq!(growth.pass, None, "20 s are too short for a trend");
    let report = folder.read("FINAL_REPORT.md");
    assert!(report.contains("**Not judged:** rss\\_growth (the longest hold phase"), "{report}");
}

#[test]
fn the_text_and_the_markdown_read_as_approved() {
    let folder = Folder::new(&modest());
    folder.report();
    insta::assert_snapshot!("results_txt", folder.read("results.txt"));
    insta::assert_snapshot!("final_report_md", folder.read("FINAL_REPORT.md"));
}

#[test]
fn a_slow_run_fails_and_points_at_the_measurement() {
    let folder = Folder::new(&Recipe { thresholds: vec!["p99<1ms"], ..small() });
    let (outcome, results) = folder.report();
    assert_eq!(outcome.verdict, Verdict::Fail);
    let p99 = results.thresholds.iter().find(|it| it.name == "p99").expect("judged");
    assert_eq!((p99.pass, p99.stage.as_deref()), (Some(false), Some("stress-500")));
    assert!(p99.next.as_ref().expect("points somewhere").contains("service p99 is"));
    let throughput = results.thresholds.iter().find(|it| it.name == "throughput").expect("judged");
    assert!(
        throughput.next.as_ref().expect("points somewhere").contains("it never asked for more")
    );
}

#[test]
fn a_percentile_of_too_few_samples_is_neither_judged_nor_stated() {
    let judged = |thresholds: &[&'static str]| {
        let mut recipe = Recipe { thresholds: thresholds.to_vec(), ..modest() };
        recipe.stages[2].rate_per_s = 49.0;
        let folder = Folder::new(&recipe);
        let (_, results) = folder.report();
        let p99 = results.thresholds.into_iter().find(|it| it.name == "p99").expect("judged");
        (p99, folder)
    };
    let (p99, folder) = judged(&["throughput>30/s"]);
    assert_eq!((p99.pass, p99.value), (None, None));
    let because = p99.because.as_deref().expect("a reason");
    assert!(because.ends_with("samples in stage stress-500, and p99 needs 1,000"), "{because}");
    let text = folder.read("results.txt");
    let stage = text.split("\n\n").find(|it| it.starts_with("stress-500")).expect("is there");
    assert!(stage.contains("p99 -") && !stage.contains("p95 -"), "{stage}");
    let (given, _) = judged(&["throughput>30/s", "p99<1s"]);
    assert_eq!(given.pass, Some(false), "whoever gave it wants it judged");
}

#[test]
fn a_threshold_of_the_user_that_cannot_be_judged_fails() {
    let user = vec!["throughput>300/s", "rss_growth<5%/h", "stage:nowhere:p99<1s"];
    let (outcome, results) = Folder::new(&Recipe { thresholds: user, ..small() }).report();
    assert_eq!(outcome.verdict, Verdict::Fail);
    let failed: Vec<&str> = results
        .thresholds
        .iter()
        .filter(|it| it.pass == Some(false))
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(failed, ["rss_growth", "stage:nowhere:p99"]);
}

#[test]
fn a_truncated_log_is_counted_and_makes_the_judged_stage_invalid() {
    let folder = Folder::new(&modest());
    let log = folder.log("stress-500");
    let bytes = fs::read(&log).expect("reads");
    fs::write(&log, &bytes[..bytes.len() * 2 / 3]).expect("writes");
    let (outcome, results) = folder.report();
    assert!(!outcome.valid);
    assert!(rules(&results).contains(&("log_damage", Severity::Invalid)));
    assert!(folder.read("FINAL_REPORT.html").contains("THE RUN IS NOT VALID"));
}

#[test]
fn a_flipped_bit_elsewhere_makes_that_stage_suspect() {
    let folder = Folder::new(&modest());
    let log = folder.log("baseline");
    let mut bytes = fs::read(&log).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&log, bytes).expect("writes");
    let (outcome, results) = folder.report();
    assert!(outcome.valid, "{:?}", results.invalid_because);
    assert_eq!(rules(&results), [("log_damage", Severity::Suspect)]);
    assert_eq!(results.stages[0].suspect_because.len(), 1);
    assert!(folder.read("FINAL_REPORT.md").contains("**Suspect.** The figures of baseline"));
}

#[test]
fn a_stage_without_a_log_or_with_nonsense_is_no_crash() {
    let folder = Folder::new(&modest());
    fs::write(folder.log("scaling"), b"nonsense").expect("writes");
    fs::remove_file(folder.log("stress-100")).expect("removes");
    let (outcome, results) = folder.report();
    assert!(!outcome.valid);
    let because = results.invalid_because.join("\n");
    assert!(because.contains("stress-100: the stage ran and left no latency log"), "{because}");
    assert!(results.logs.iter().any(|log| log.error.is_some()));
}

#[test]
fn an_interrupted_run_says_so_on_top() {
    let mut recipe = Recipe { interrupted: true, ..modest() };
    recipe.stages[3].skipped = Some("interrupted");
    recipe.stages[4].skipped = Some("interrupted");
    let folder = Folder::new(&recipe);
    let (outcome, results) = folder.report();
    assert!(outcome.interrupted && outcome.verdict == Verdict::Fail);
    let recovery = results.thresholds.iter().find(|it| it.name == "recovery").expect("judged");
    assert_eq!((recovery.pass, recovery.value), (Some(false), None));
    let report = folder.read("FINAL_REPORT.md");
    let top: String = report.lines().take(6).collect();
    assert!(top.contains("**Interrupted.** A signal ended this run early: 3 of 5"), "{top}");
}

/// As a killed run leaves a stage that it did not come to record.
fn cut_off(folder: &Folder, stage: usize) {
    folder.change_run(|run| {
        let stage = &mut run["stages"][stage];
        (stage["start_ns"], stage["end_ns"], stage["exit_code"]) =
            (0.into(), 0.into(), None::<i32>.into());
    });
}

#[test]
fn a_run_that_was_cut_off_before_a_stage_that_no_threshold_needs_is_not_valid() {
    let folder = Folder::new(&modest());
    cut_off(&folder, 4);
    let (outcome, results) = folder.report();
    assert!(!outcome.valid);
    assert_eq!(rules(&results), [("unfinished", Severity::Invalid)]);
    assert_eq!(results.findings[0].stage.as_deref(), Some("scaling"));
    let report = folder.read("FINAL_REPORT.md");
    assert!(report.contains("| scaling | scaling | 240 | 200 | — | no: not recorded"), "{report}");
}

#[test]
fn a_threshold_whose_stage_was_cut_off_says_so() {
    let folder =
        Folder::new(&Recipe { thresholds: vec!["throughput>300/s", "converge<30s"], ..modest() });
    (2..5).for_each(|stage| cut_off(&folder, stage));
    let (_, results) = folder.report();
    for (name, stage) in [
        ("p99", "stress-500"),
        ("recovery", "failover"),
        ("converge", "scaling"),
        ("rss_growth", "stress-500"),
    ] {
        let threshold = results.thresholds.iter().find(|it| it.name == name).expect(name);
        let because = threshold.because.as_ref().expect("a reason");
        let expected = format!("stage {stage} did not run as planned: not recorded");
        assert!(because.starts_with(&expected), "{name}: {because}");
        assert_eq!(threshold.pass, Some(false), "{name}");
    }
}

#[test]
fn sessions_that_stay_away_mean_never() {
    let folder = Folder::new(&modest());
    folder.change_run(|run| {
        let events = run["events"].as_array_mut().expect("events");
        events.retain(|it| it["stage"] != "failover" || it["kind"] != "replica_healthy");
    });
    let (outcome, results) = folder.report();
    assert_eq!(outcome.verdict, Verdict::Fail);
    assert_eq!(results.failover.expect("a kill").recovery_ns, None);
    let recovery = results.thresholds.iter().find(|it| it.name == "recovery").expect("judged");
    let because = recovery.because.as_ref().expect("a reason");
    assert!(because.starts_with("never: 127.0.0.15 was started again after"), "{because}");
    assert!(folder.read("FINAL_REPORT.md").contains("**never**"));
}

#[test]
fn a_leak_fails_and_names_the_replica() {
    let mut recipe = modest();
    recipe.stages[2].hold_s = 310;
    recipe.leak_bytes_per_s = 30_000.0;
    let (outcome, results) = Folder::new(&recipe).report();
    assert_eq!(outcome.verdict, Verdict::Fail);
    let growth = results.thresholds.iter().find(|it| it.name == "rss_growth").expect("judged");
    assert_eq!(growth.pass, Some(false));
    assert!(growth.value.expect("measured") > 50.0, "{growth:?}");
    assert!(growth.next.as_ref().expect("points somewhere").starts_with("127.0.0."));
}

#[test]
fn figures_beside_each_other_are_of_one_stage_and_kind() {
    let mut recipe = modest();
    recipe.stages[0].rate_per_s = 900.0;
    let folder = Folder::new(&recipe);
    folder.change_run(|run| {
        let update = serde_json::json!({"at_ns": run["stages"][3]["end_ns"].as_u64().expect("an end") - 1,
            "kind": "update_command", "stage": "failover", "replica": "service"});
        run["events"].as_array_mut().expect("events").push(update);
    });
    let (_, results) = folder.report();
    assert_ne!(results.generator.stage.as_deref(), Some("stress-500"), "another one is busier");
    let share = 100.0 * results.stages[2].generator.cpu_share.expect("was sampled");
    let report = folder.read("FINAL_REPORT.md");
    let told = format!("the busiest worker used {share:.0} % of its core there");
    assert!(report.contains(&told), "{told}: {report}");
    assert_eq!(results.failovers.len(), 2, "the kill and the update");
    let recovery = report.lines().find(|line| line.starts_with("| recovery ")).expect("a row");
    assert_eq!(recovery.split('|').nth(4).map(str::trim), Some("1"), "{recovery}");
}

#[test]
fn a_replica_that_was_started_anew_hides_no_leak() {
    let thresholds = vec!["throughput>300/s", "rss_growth<50%/h"];
    let mut recipe = Recipe { thresholds, ..small() };
    recipe.stages[2].hold_s = 310;
    let folder = Folder::new(&recipe);
    let mut died_ns = 0;
    folder.change_run(|run| {
        died_ns = run["stages"][2]["end_ns"].as_u64().expect("an end") - 100_000_000_000;
        let event = serde_json::json!({"at_ns": died_ns, "kind": "replica_exit",
            "stage": "stress-500", "replica": "127.0.0.13", "text": "ended by SIGKILL"});
        run["events"].as_array_mut().expect("events").push(event);
    });
    let anew = |line: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        if cells[1] == "127.0.0.13" && cells[0].parse().is_ok_and(|at_ns: u64| at_ns > died_ns) {
            cells[3] = "2";
        }
        cells.join(",")
    };
    let table: Vec<String> = folder.read("metrics/replicas.csv").lines().map(anew).collect();
    fs::write(folder.path().join("metrics/replicas.csv"), table.join("\n")).expect("writes");
    let (outcome, results) = folder.report();
    assert_eq!((outcome.verdict, outcome.valid), (Verdict::Fail, true));
    let growth = results.thresholds.iter().find(|it| it.name == "rss_growth").expect("judged");
    assert_eq!((growth.pass, growth.value), (Some(false), None));
    let because = growth.because.as_deref().expect("a reason");
    assert_eq!(because, "127.0.0.13: its process was started anew in the window");
    assert_eq!(rules(&results), [("replica_died", Severity::Suspect)]);
}

#[test]
fn another_version_of_the_run_is_refused_with_a_sentence() {
    let folder = Folder::new(&modest());
    folder.change_run(|run| run["version"] = 2.into());
    let error = reporter::report::write(folder.path()).expect_err("version 2 is unknown");
    assert!(error.to_string().contains("has version 2, this reporter reads version 1"), "{error}");
    let empty = tempfile::tempdir().expect("a folder");
    let error = reporter::report::write(empty.path()).expect_err("nothing is there");
    assert!(error.to_string().contains("is not a results folder"), "{error}");
}

#[test]
fn what_a_server_wrote_cannot_become_markup() {
    let folder = Folder::new(&modest());
    folder.change_run(|run| run["server"]["version"] = "<script>alert(1)</script>|*x*".into());
    folder.report();
    let html = folder.read("FINAL_REPORT.html");
    assert!(!html.contains("<script>alert") && html.contains("&#60;script&#62;alert(1)"));
    assert!(folder.read("FINAL_REPORT.md").contains("\\<script>alert(1)"));
}

#[test]
fn the_page_needs_no_network() {
    let folder = Folder::new(&modest());
    folder.report();
    let html = folder.read("FINAL_REPORT.html");
    for reference in [" src=", "href=", "url(", "@import", "<link"] {
        assert!(!html.contains(reference), "the page refers to something: {reference}");
    }
    for chart in fs::read_dir(folder.path().join("charts")).expect("charts") {
        let name = chart.expect("entry").path();
        let svg = fs::read_to_string(&name).expect("reads");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"));
        let id = format!("id=\"chart-{}\"", name.file_stem().expect("a name").to_string_lossy());
        assert!(html.contains(&id), "{id} is not in the page");
    }
}
