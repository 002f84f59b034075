//! `--tui` on a pseudo-terminal: the terminal comes back on every signal that ends a run, and where
//! there can be no dashboard there are plain lines.

#[path = "../../live/tests/support/pty.rs"]
mod pty;
mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use pty::Pty;
use support::generator::wait_until;
use support::server::{Kind, Server};

fn loadgen(server: &Server, duration: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let url = server.url();
    command.args(["-c", "5", "-r", "20", "-d", duration, "--workers", "1", "--tui", &url]);
    command
}

/// The same program with a SIGHUP that ends it, also where these tests run under `nohup`.
fn with_hangups(command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP").arg(command.get_program()).args(command.get_args());
    env
}

#[test]
fn the_terminal_comes_back_on_every_signal() {
    let server = Server::start(Kind::Mcp);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let pty = Pty::open();
        let mut child = pty.spawn(&mut with_hangups(&loadgen(&server, "60s")));
        pty.wait_until_taken();
        child.signal(signal);
        let ended = child.wait();
        let said = pty.given_back();
        assert_eq!(ended.code(), Some(130), "{signal}: {said:?}");
        assert!(said.contains("FINAL TEST REPORT"), "{signal}: results are kept: {said:?}");
    }
}

#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let server = Server::start(Kind::Mcp);
    let pty = Pty::open();
    let own = loadgen(&server, "2s");
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(own.get_program());
    let mut child = pty.spawn(nohup.args(own.get_args()));
    pty.wait_until_taken();
    child.signal(Signal::SIGHUP);
    let ended = child.wait();
    assert_eq!(ended.code(), Some(0), "{:?}", pty.given_back());
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let server = Server::start(Kind::Mcp);
    let pty = Pty::open();
    let mut child = pty.spawn(loadgen(&server, "1s").env("TERM", "dumb"));
    let ended = child.wait();
    let said = pty.left_alone();
    assert_eq!(ended.code(), Some(0), "{said:?}");
    assert!(said.contains("TERM=dumb") && said.contains("Connections: 5"), "{said:?}");
}

#[test]
fn a_terminal_that_takes_nothing_costs_no_results_and_holds_nobody() {
    let server = Server::start(Kind::Mcp);
    let dir = tempfile::tempdir().expect("a folder");
    let json = dir.path().join("results.json");
    let pty = Pty::open();
    let mut child = pty.spawn(loadgen(&server, "60s").arg("--json").arg(&json));
    pty.wait_until_taken();
    pty.stop();
    child.signal(Signal::SIGTERM);
    wait_until("the results are written", || json.exists());
    // It waits to print its report, as any program would; a signal ends that.
    wait_until("it ends", || {
        let ended = child.has_ended();
        if !ended {
            child.signal(Signal::SIGTERM);
        }
        ended
    });
}
