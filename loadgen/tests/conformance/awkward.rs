//! Lawful HTTP that servers and proxies in the field write, and plain HTTP/1.0.

use std::process::Command;

use latlog::{EventKind, Outcome};

use crate::checks::Held;
use crate::harness::{Server, each, insist, place, python3, script, tmp};
use crate::run::Run;

#[test]
fn answers_written_in_awkward_ways_are_read() {
    let ways = [
        ("split", "chunks split over segments, with extensions and trailers"),
        ("cr", "CR line ends, comment, notification and server request before the answer"),
        ("close", "Connection: close with every answer"),
        ("http10", "HTTP/1.0, body until the end of the connection"),
    ];
    each(&ways, |&(way, mode)| {
        let Some(server) = script("awkward.py", &["--way", way]) else { return };
        let url = server.url("http");
        let (revision, speaks) = ("auto", "2025-11-25");
        let run = Held { server: "awkward.py", mode, url, revision, speaks }.check();
        let count = server.count();
        let found = format!("{} unknown, {} open", count["unknown"], count["sessions_open"]);
        let mode = format!("{mode}: sessions");
        insist("awkward.py", &mode, "0 unknown, 0 open", &found, &run.context());
    });
}

#[test]
fn the_http_server_of_python_is_loaded_over_http_1_0() {
    let _place = place();
    let Some(python) = python3() else { return };
    let dir = tmp().join("served");
    std::fs::create_dir_all(&dir).expect("writable");
    std::fs::write(dir.join("index.html"), "hello").expect("writable");
    let mut command = Command::new(python);
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(&dir);
    let server = Server::start(&mut command, "Serving HTTP on", true);
    let url = server.url("http").trim_matches(|c| c == '(' || c == ')').to_owned();
    let run = Run::load(&format!("-c 20 -r 100 -d 2s --heartbeat 60s --protocol http {url}"));
    let found = format!("{}; a connection a request", run.ended("call"));
    insist(
        "python -m http.server",
        "HTTP/1.0",
        "200 ok; a connection a request",
        &found,
        &run.context(),
    );
    assert_eq!(run.requests("call", Outcome::Ok), 200);
    assert!(run.events(EventKind::Connected) >= 200, "{}", run.context());
}
