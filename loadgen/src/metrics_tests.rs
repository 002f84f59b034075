//! The page against the rules that Prometheus' own checker has: each family declared once, names and
//! labels as they may be, counters that end in `_total`, buckets that only grow and end at the count.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::worker::latencies;

const FACTS: Facts<'static> = Facts {
    version: "1.2.3",
    engine: "epoll",
    phase: "hold",
    planned: 9,
    sessions: 90,
    rate_per_s: 2.5,
};

fn windows() -> Vec<Arc<Window>> {
    let windows: Vec<Arc<Window>> = (0..2).map(|_| Arc::default()).collect();
    let mut interval = latencies();
    for ns in [200_000, 3_000_000, 3_100_000, 20_000_000_000] {
        interval.saturating_record(ns);
    }
    for (index, window) in windows.iter().enumerate() {
        let sample = Sample { sent: 10, ok: 7, failed: 3, cpu_ns: 5_000_000, ..Sample::default() };
        window.sample.publish(&sample);
        (0..=index).for_each(|_| window.counts.add(&interval));
        window.failures[Outcome::Timeout as usize].store(3, Ordering::Relaxed);
    }
    windows
}

/// Name, labels, value of every sample; panics where the format is broken.
fn check(page: &str) -> Vec<(String, String, f64)> {
    let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut family = String::new();
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(!help.is_empty() && !kinds.contains_key(name), "{line}");
                family = name.to_owned();
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(name, family, "TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                kinds.insert(name.to_owned(), kind.to_owned());
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let valid = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(valid), "{line}");
                let base = match kinds[&family].as_str() {
                    "histogram" => name
                        .trim_end_matches("_bucket")
                        .trim_end_matches("_sum")
                        .trim_end_matches("_count"),
                    _ => name,
                };
                assert_eq!(base, family, "samples stand below their family: {line}");
                assert!(seen.insert(series.to_owned()), "twice: {line}");
                assert!(labels.is_empty() || labels.ends_with("\"}"), "{line}");
                let value = value.parse().expect("is a number");
                samples.push((name.to_owned(), labels.to_owned(), value));
            }
        }
    }
    samples
}

#[test]
fn the_page_keeps_the_rules_and_adds_the_workers_up() {
    let mut marks = VecDeque::new();
    marks.push_back(("kill".to_owned(), "10.0.1.5 \"x\"\n".to_owned(), 1_500_000_000));
    let samples = check(&page(&FACTS, &windows(), &marks));
    let value = |name: &str, label: &str| {
        let found = samples.iter().find(|(n, l, _)| n == name && l.contains(label));
        found.unwrap_or_else(|| panic!("{name} {label} is missing")).2
    };
    assert_eq!(value("loadgen_connections_planned", ""), 9.0);
    assert_eq!(value("loadgen_sessions_planned", ""), 90.0);
    assert_eq!(value("loadgen_phase", "hold"), 1.0);
    assert_eq!(value("loadgen_phase", "ramp"), 0.0);
    assert_eq!(value("loadgen_requests_total", "ok"), 14.0);
    assert_eq!(value("loadgen_failures_total", "\"timeout"), 6.0);
    assert_eq!(value("loadgen_worker_cpu_seconds_total", "1"), 0.005);
    assert_eq!(value("loadgen_mark_timestamp_seconds", r#"text="10.0.1.5 \"x\"\n""#), 1.5);

    let buckets: Vec<f64> =
        samples.iter().filter(|(n, ..)| n.ends_with("_bucket")).map(|(.., v)| *v).collect();
    assert_eq!(buckets.len(), BOUNDS_NS.len() + 1);
    assert!(buckets.windows(2).all(|two| two[0] <= two[1]), "{buckets:?}");
    assert_eq!(buckets[0], 3.0, "one in 0.25 ms, once and twice");
    assert_eq!(value("loadgen_response_seconds_bucket", "0.005"), 9.0);
    assert_eq!(value("loadgen_response_seconds_bucket", "\"10\""), 9.0);
    assert_eq!(value("loadgen_response_seconds_bucket", "+Inf"), 12.0);
    assert_eq!(value("loadgen_response_seconds_count", ""), 12.0);
    let sum_s = value("loadgen_response_seconds_sum", "");
    assert!((60.0..60.2).contains(&sum_s), "{sum_s}");
}

#[test]
fn one_who_asks_is_answered_and_one_who_is_silent_holds_nobody_up() {
    let mut metrics = Metrics::listen("127.0.0.1:0".parse().expect("parses")).expect("binds");
    let address = metrics.listener.local_addr().expect("has one");
    let windows = windows();
    let silent = TcpStream::connect(address).expect("connects");
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        let mut peer = TcpStream::connect(address).expect("connects");
        let (first, rest) = request.split_at(9);
        peer.write_all(first.as_bytes()).expect("writes");
        metrics.look(&FACTS, &windows);
        peer.write_all(rest.as_bytes()).expect("writes");
        let mut answer = String::new();
        let reader = std::thread::spawn(move || {
            peer.read_to_string(&mut answer).expect("reads");
            answer
        });
        while !reader.is_finished() {
            metrics.look(&FACTS, &windows);
            std::thread::yield_now();
        }
        let answer = reader.join().expect("ends");
        let (head, body) = answer.split_once("\r\n\r\n").expect("has a head");
        assert!(head.starts_with(status), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        if status.ends_with("OK") {
            assert!(check(body).len() > 40, "{body}");
        }
    }
    for _ in 0..=LOOKS_MAX {
        metrics.look(&FACTS, &windows);
    }
    assert!(metrics.peers.is_empty(), "the silent one was let go");
    drop(silent);
}

#[test]
fn remarks_are_bounded_and_a_repeated_one_is_the_latest() {
    let mut metrics = Metrics::listen("127.0.0.1:0".parse().expect("parses")).expect("binds");
    (0..40).for_each(|n| metrics.mark("kill", &n.to_string()));
    metrics.mark("kill", "39");
    assert_eq!(metrics.marks.len(), MARKS_MAX);
    let last = metrics.marks.iter().filter(|(_, text, _)| text == "39").count();
    assert_eq!(last, 1);
}
