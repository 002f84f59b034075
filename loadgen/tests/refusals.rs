//! Runs that cannot begin: the exit code and one line that says why.

mod support;

use std::net::TcpListener;

use support::generator::{Place, run};
use support::server::{Kind, Server};

#[test]
fn a_server_that_never_answers() {
    let server = Server::start(Kind::Silent);
    run(&["-c1", "-d1s", "--timeout=300ms", &server.url()])
        .refused(2, &["did not answer", &server.address.to_string()]);
}

#[test]
fn a_port_that_nobody_listens_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let url = format!("http://{address}/mcp");
    run(&["-c1", "-d1s", &url]).refused(2, &["connection refused", &address.to_string()]);
    run(&["-c1", "-d1s", &format!("tcp://{address}")]).refused(2, &["connection refused"]);
}

#[test]
fn a_host_that_is_unknown() {
    run(&["-c1", "-d1s", "http://no-such-host.invalid/mcp"])
        .refused(2, &["cannot resolve", "no-such-host.invalid"]);
}

#[test]
fn a_web_page_is_no_mcp_server() {
    let server = Server::start(Kind::Html);
    run(&["-c1", "-d1s", &server.url()]).refused(2, &["MCP", &server.address.to_string()]);
    let server = Server::start(Kind::NotFound);
    run(&["-c1", "-d1s", &server.url()]).refused(2, &["404", "path"]);
    // As plain HTTP, the page is a fine target, and the missing one is not.
    run(&["-c1", "-d1s", "--protocol=http", &server.url()]).refused(2, &["404"]);
}

#[test]
fn a_server_that_speaks_tls() {
    let server = Server::start(Kind::Tls);
    run(&["-c1", "-d1s", &server.url()]).refused(2, &["TLS"]);
    let inside = server.url().replace("http://", "https://");
    run(&["-c1", "-d1s", &inside]).refused(2, &["TLS handshake"]);
    let clear = Server::start(Kind::Html).url().replace("http://", "https://");
    run(&["-c1", "-d1s", &clear]).refused(2, &["TLS handshake"]);
}

#[test]
fn a_server_that_hangs_up() {
    let server = Server::start(Kind::Closing);
    run(&["-c1", "-d1s", &server.url()]).refused(2, &[&server.address.to_string()]);
}

#[test]
fn nonsense_on_the_command_line() {
    let url = "http://127.0.0.1:1/mcp";
    for (arguments, says) in [
        (&["-c0", url][..], "0"),
        (&["-c", "many", url], "many"),
        (&["-r", "fast", url], "fast"),
        (&["-r", "-5", url], "-5"),
        (&["-r", "0", url], "0"),
        (&["-d", "3 weeks", url], "3 weeks"),
        (&["--closed", "-r5", url], "--closed"),
        (&["--end", "never", url], "never"),
        (&[], "TARGET"),
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended}");
        assert!(ended.stderr.contains(says), "{arguments:?}: {ended}");
    }
    for target in ["127.0.0.1:1", "http://", "ftp://a", "http://a:99999/", "http://u:p@a/"] {
        run(&["-c1", target]).refused(2, &[target]);
    }
    run(&["-c1", "--mcp-revision=1999-01-01", url]).refused(2, &["--mcp-revision"]);
    run(&["-c1", "--sources=nowhere", url]).refused(2, &["--sources"]);
    run(&["-c1", "-H", "no colon", url]).refused(2, &["--header"]);
}

#[test]
fn more_sessions_than_connections_where_there_are_none() {
    let server = Server::start(Kind::Mcp);
    let url = server.url();
    let more = ["-c2", "--sessions=4", "-d1s"];
    let with = |words: &[&str]| run(&[&more[..], words].concat());
    with(&["--streams", &url]).refused(2, &["--sessions", "--streams"]);
    with(&["--new-connection-per-request", &url])
        .refused(2, &["--sessions", "no connection is held"]);
    let page = Server::start(Kind::Html).url();
    with(&["--protocol=http", &page]).refused(2, &["--sessions", "plain HTTP"]);
    run(&["-c5", "--sessions=4", "-d1s", &url]).refused(2, &["--sessions 4", "use -c 4"]);
}

#[test]
fn places_that_cannot_be_written() {
    let server = Server::start(Kind::Mcp);
    let place = Place::new();
    let file = place.path().join("file");
    std::fs::write(&file, "").expect("it can be written");
    let below = file.join("logs");
    let below = below.to_str().expect("a path");
    run(&["-c1", "-d1s", "--log", below, &server.url()]).refused(2, &["cannot write", "--log"]);
    run(&["-c1", "-d1s", "--json", below, &server.url()]).refused(2, &["cannot write", "--json"]);
}

#[test]
fn a_driving_program_is_told_on_standard_output_too() {
    let ended = run(&["-c1", "--control", "http://no-such-host.invalid/mcp"]);
    assert_eq!(ended.code, Some(2), "{ended}");
    let line = ended.stdout.lines().next().expect("a line");
    let message: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(message["type"], "error");
    assert!(message["message"].as_str().is_some_and(|m| m.contains("no-such-host")), "{line}");
}

#[test]
fn several_requests_at_a_time_where_a_connection_carries_one() {
    let url = Server::start(Kind::Mcp).url();
    run(&["-c1", "-d1s", "--in-flight=8", &url])
        .refused(2, &["--in-flight 8", "one request at a time", "more connections (-c)"]);
}
