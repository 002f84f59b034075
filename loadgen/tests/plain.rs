//! Plain HTTP with any method and content; and secrets, which no output shows.

mod support;

use std::path::Path;

use support::generator::{Place, command, end, run};
use support::server::{Kind, Server};

const TOKEN: &str = "s3cret-7d1f0c55aa-token";

fn load<'a>(url: &'a str, place: &'a Path, json: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["-c5", "-r50", "-d1s", "--protocol=http", "--log"];
    args.push(place.to_str().expect("a path"));
    args.extend(["--json", json]);
    args.extend(more);
    args.push(url);
    args
}

#[test]
fn any_method_and_content_is_sent_and_any_2xx_is_success() {
    let server = Server::start(Kind::Html);
    for more in [
        &["--method=PUT", "--body=hello"][..],
        &["--method=POST"],
        &["--method=HEAD"],
        &["--method=DELETE", "--header=X-Why: because"],
    ] {
        let mut args = vec!["-c5", "-r50", "-d1s", "--protocol=http"];
        let place = Place::new();
        let json = place.json();
        args.extend(["--json", json.to_str().expect("a path")]);
        args.extend(more);
        let url = server.url();
        args.push(&url);
        let ended = run(&args);
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!(place.summary()["requests"]["ok"], 50, "{more:?} {ended}");
    }
    let mirror = Server::start(Kind::Mirror);
    let place = Place::new();
    let json = place.json();
    let more = ["--method=PATCH", "--body=the content", "--header=X-Why: because"];
    let url = mirror.url();
    let ended = run(&load(&url, place.path(), json.to_str().expect("a path"), &more));
    assert_eq!(ended.code, Some(0), "{ended}");
    let bytes = place.summary()["examples"][0]["bytes"].as_str().expect("what came").to_owned();
    for sent in ["PATCH /mcp HTTP/1.1", "X-Why: because", "Content-Length: 11", "the content"] {
        assert!(bytes.contains(sent), "{sent} in {bytes}");
    }
    run(&["-c1", "-d1s", "--method=PUT", &url]).refused(2, &["--protocol http"]);
}

#[test]
fn a_secret_is_sent_and_never_shown() {
    let server = Server::start(Kind::Mirror);
    let (place, files) = (Place::new(), Place::new());
    let (json, file) = (place.json(), files.path().join("headers"));
    std::fs::write(&file, format!("X-Key: file-{TOKEN}\n")).expect("written");
    let at_file = format!("--header=@{}", file.display());
    let more = ["--bearer-env=TOKEN_OF_THE_TEST", at_file.as_str()];
    let url = server.url();
    let mut started = command(&load(&url, place.path(), json.to_str().expect("a path"), &more));
    let child = started.env("TOKEN_OF_THE_TEST", TOKEN).spawn().expect("it starts");
    let words = std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("it runs");
    let ended = end(child);
    assert_eq!(ended.code, Some(0), "{ended}");
    // The server has repeated both, so that they were sent.
    let summary = place.summary();
    let bytes = summary["examples"][0]["bytes"].as_str().expect("what came").to_owned();
    assert!(bytes.contains("Authorization: [hidden]"), "{bytes}");
    assert!(bytes.contains("X-Key: [hidden]"), "{bytes}");
    let log = std::fs::read(place.log()).expect("a log");
    let json = std::fs::read(place.json()).expect("a summary");
    for (what, output) in [
        ("standard output", ended.stdout.as_bytes()),
        ("standard error", ended.stderr.as_bytes()),
        ("the log", &log),
        ("the summary", &json),
        ("the process list", &words),
    ] {
        let shown = output.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes());
        assert!(!shown, "{what} shows the secret");
    }
    // What cannot be kept out of the process list is not taken.
    let typed = format!("--header=Authorization: Bearer {TOKEN}");
    let inline = run(&["-c1", "-d1s", &typed, &url]);
    inline.refused(2, &["--header @FILE", "--bearer-env VARIABLE"]);
    assert!(!inline.stderr.contains(TOKEN) && !inline.stdout.contains(TOKEN), "{inline}");
    let missing = run(&["-c1", "-d1s", "--bearer-env=NO_SUCH_VARIABLE_HERE", &url]);
    missing.refused(2, &["NO_SUCH_VARIABLE_HERE", "not set"]);
    let mut broken = command(&["-c1", "-d1s", "--bearer-env=TOKEN_OF_THE_TEST", &url]);
    let broken =
        end(broken.env("TOKEN_OF_THE_TEST", format!("{TOKEN}\u{1}x")).spawn().expect("starts"));
    broken.refused(2, &["Authorization"]);
    assert!(!broken.stderr.contains(TOKEN), "{broken}");
}
