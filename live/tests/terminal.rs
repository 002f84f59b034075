//! The terminal is given back in every way that a program ends by itself. The program is this file:
//! it starts itself anew with a pseudo-terminal. Ends by signals are tested with the real programs.

mod support {
    pub mod pty;
}

use std::process::{Command, ExitStatus};

use live::{Board, Screen, screen};
use support::pty::Pty;

/// Says to [`as_a_child`] how to end.
const HOW: &str = "LIVE_TEST_ENDS_BY";

/// Does nothing among the other tests.
#[test]
fn as_a_child() {
    let Ok(how) = std::env::var(HOW) else { return };
    let taken = Screen::take(Board::new("a test", 0));
    if how == "no terminal" {
        return println!("{}", taken.err().expect("there is no dashboard"));
    }
    let screen = taken.expect("it is a terminal");
    match how.as_str() {
        "drop" => drop(screen),
        "panic" => panic!("on purpose"),
        "another thread's panic" => {
            let died = std::thread::spawn(|| panic!("on purpose")).join();
            assert!(died.is_err() && !screen::is_taken());
            // A program ends anyhow after that; here without a destructor.
            std::process::exit(3);
        }
        "exit" => {
            screen::restore();
            std::process::exit(3);
        }
        "error" => {
            let fails = || -> Result<(), String> {
                let _screen = screen;
                Err("an error on purpose".to_owned())
            };
            eprintln!("{}", fails().expect_err("it fails"));
        }
        other => unreachable!("{other}"),
    }
}

fn child(how: &str, term: &str) -> (Pty, ExitStatus) {
    let pty = Pty::open();
    let mut command = Command::new(std::env::current_exe().expect("known"));
    command.args(["as_a_child", "--exact", "--nocapture", "--color=never"]);
    let mut child = pty.spawn(command.env(HOW, how).env("TERM", term));
    let ended = child.wait();
    (pty, ended)
}

#[test]
fn the_terminal_comes_back_however_the_program_ends() {
    for (how, well, after) in [
        ("drop", true, ""),
        ("error", true, "an error on purpose"),
        ("exit", false, ""),
        ("panic", false, "on purpose"),
        ("another thread's panic", false, "on purpose"),
    ] {
        let (pty, ended) = child(how, "xterm");
        let said = pty.given_back();
        assert_eq!(ended.success(), well, "{how}: {ended} {said:?}");
        assert!(said.contains(after), "{how}: its last words can be read: {said:?}");
    }
}

#[test]
fn a_terminal_that_can_do_nothing_is_left_alone() {
    let (pty, ended) = child("no terminal", "dumb");
    let said = pty.left_alone();
    assert!(ended.success() && said.contains("TERM=dumb"), "{said:?}");
}
