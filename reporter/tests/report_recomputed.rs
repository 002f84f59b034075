//! The report's figures against a computation that shares nothing with it: all records in memory,
//! sorted and counted in a few naive lines.

mod report_support;

use latlog::{EventKind, Outcome, Request};
use report_support::Made;
use reporter::results::{Percentiles, Results, StageResult};

fn results_of(recipe: &report_support::Recipe) -> (Results, Vec<Made>) {
    let dir = tempfile::tempdir().expect("a folder");
    let made = report_support::write(dir.path(), recipe);
    reporter::report::write(dir.path()).expect("reports");
    let text = std::fs::read_to_string(dir.path().join("results.json")).expect("is there");
    (reporter::results::parse(&text).expect("is version 1"), made)
}

fn due_in_hold(made: &Made) -> Vec<&Request> {
    let (start, end) = made.hold;
    let load = |r: &&Request| r.op >= 2 && start <= r.intended_ns && r.intended_ns < end;
    made.requests.iter().filter(load).collect()
}

/// The value that `share` of the sorted values do not exceed.
fn rank(sorted: &[u64], share: f64) -> u64 {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

fn same_distribution(name: &str, found: Option<&Percentiles>, mut values: Vec<u64>) {
    values.sort_unstable();
    let Some(found) = found else {
        assert!(values.is_empty(), "{name}: {} values and no figures", values.len());
        return;
    };
    assert_eq!(found.count, values.len() as u64, "{name} count");
    assert_eq!((found.min, found.max), (values[0], values[values.len() - 1]), "{name} range");
    let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
    assert!((found.mean - mean).abs() <= mean * 1e-9 + 1e-6, "{name} mean {} {mean}", found.mean);
    for (figure, share, least) in [
        (Some(found.p50), 0.5, 1),
        (found.p90, 0.9, 100),
        (found.p95, 0.95, 200),
        (found.p99, 0.99, 1_000),
    ] {
        assert_eq!(figure.is_some(), values.len() >= least, "{name} {share}");
        let Some(figure) = figure else { continue };
        let exact = rank(&values, share) as f64;
        let off = (figure as f64 - exact).abs();
        assert!(off <= exact * 0.001 + 1.0, "{name} {share}: {figure} beside {exact}");
    }
    assert_eq!(found.p999.is_some(), values.len() >= 10_000, "{name} p99.9");
}

fn check_stage(stage: &StageResult, made: &Made) {
    let due = due_in_hold(made);
    let with = |outcome: fn(&Outcome) -> bool| due.iter().filter(move |r| outcome(&r.outcome));
    let ok = |outcome: &Outcome| *outcome == Outcome::Ok;
    let sent = |outcome: &Outcome| *outcome != Outcome::Dropped;
    assert_eq!(stage.requests.offered, due.len() as u64);
    assert_eq!(stage.requests.ok, with(ok).count() as u64);
    assert_eq!(stage.requests.sent, with(sent).count() as u64);
    assert_eq!(stage.requests.dropped, stage.requests.offered - stage.requests.sent);
    assert_eq!(stage.requests.failed, stage.requests.sent - stage.requests.ok);
    let errors: u64 = stage.errors.values().sum();
    assert_eq!(errors, stage.requests.failed + stage.requests.dropped);

    let response: Vec<u64> = with(ok).map(|r| r.done_ns - r.intended_ns).collect();
    let service: Vec<u64> = with(ok).map(|r| r.done_ns - r.sent_ns).collect();
    let slip: Vec<u64> = with(sent).map(|r| r.sent_ns - r.intended_ns).collect();
    same_distribution("response", stage.response_ns.as_ref(), response);
    same_distribution("service", stage.service_ns.as_ref(), service);
    same_distribution("slip", stage.slip_ns.as_ref(), slip);

    let (start, end) = made.hold;
    let done = made
        .requests
        .iter()
        .filter(|r| r.op >= 2 && r.outcome == Outcome::Ok && start <= r.done_ns && r.done_ns < end);
    let throughput = done.count() as f64 / ((end - start) as f64 / 1e9);
    assert!((stage.throughput_per_s.expect("held") - throughput).abs() < 1e-9);

    for (index, target) in stage.targets.iter().enumerate() {
        let own = due.iter().filter(|r| usize::from(r.target) == index && sent(&r.outcome));
        assert_eq!(target.sent, own.count() as u64, "target {index}");
    }
    let line = &stage.timeline;
    let inside = |at_ns: u64| {
        at_ns >= line.start_ns && at_ns < line.start_ns + line.bucket_ns * line.ok.len() as u64
    };
    let answered = made.requests.iter().filter(|r| r.outcome == Outcome::Ok && inside(r.done_ns));
    assert_eq!(line.ok.iter().sum::<u64>(), answered.count() as u64, "the timeline loses nothing");
}

#[test]
fn every_stage_agrees_with_sorting_and_counting() {
    let (results, made) = results_of(&report_support::small());
    assert_eq!(results.stages.len(), made.len());
    for (stage, made) in results.stages.iter().zip(&made) {
        assert_eq!(stage.name, made.name);
        check_stage(stage, made);
    }
}

#[test]
fn the_failover_agrees_with_the_raw_events() {
    let (results, made) = results_of(&report_support::small());
    let made = made.iter().find(|made| made.kill.is_some()).expect("a kill");
    let (killed, target, healthy) = made.kill.expect("a kill");
    let lost: Vec<(u16, u32)> = made
        .events
        .iter()
        .filter(|(_, e)| e.kind == EventKind::Lost && e.target == target && e.at_ns >= killed)
        .map(|(worker, e)| (*worker, e.session))
        .collect();
    let back = |key: &(u16, u32)| {
        let alive = |(worker, e): &&(u16, latlog::Event)| {
            (*worker, e.session) == *key && e.kind == EventKind::Alive && e.at_ns > killed
        };
        made.events.iter().find(alive).map(|(_, e)| e.at_ns)
    };
    let last = lost.iter().map(|key| back(key).expect("all come back")).max().expect("some");
    let kill = results.failover.expect("a failover");
    assert_eq!(kill.sessions_lost, lost.len() as u64);
    assert_eq!(kill.sessions_reestablished, lost.len() as u64);
    assert_eq!(kill.sessions_recovered_ns, Some(last - killed));
    assert_eq!(kill.replica_healthy_ns, Some(healthy - killed));
    assert_eq!(kill.recovery_ns, Some(last.max(healthy) - killed));
    let window = killed..=last.max(healthy);
    let failed = made
        .requests
        .iter()
        .filter(|r| r.outcome != Outcome::Ok)
        .filter(|r| {
            window.contains(&r.intended_ns) || (r.target == target && window.contains(&r.done_ns))
        })
        .count();
    assert!(failed > 0, "the made-up failover fails some requests");
    assert_eq!(kill.lost_requests, failed as u64);
}

#[test]
fn the_same_folder_gives_the_same_report() {
    let dir = tempfile::tempdir().expect("a folder");
    report_support::write(dir.path(), &report_support::small());
    let mut before = None;
    for _ in 0..2 {
        reporter::report::write(dir.path()).expect("reports");
        let files = ["FINAL_REPORT.md", "FINAL_REPORT.html", "results.json", "results.txt"];
        let texts = files.map(|file| std::fs::read_to_string(dir.path().join(file)).expect(file));
        assert!(before.replace(texts.clone()).is_none_or(|before| before == texts));
    }
}
