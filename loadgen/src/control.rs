//! The machine's side: commands on standard input, one JSON object a line.

use std::io::BufRead;

use crossbeam::channel::{Receiver, unbounded};
use serde::Deserialize;

/// What a driving program may ask for.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// The whole list of targets that are wanted from now on.
    Targets {
        /// As on the command line.
        urls: Vec<String>,
        /// Whether sessions are spread evenly over them.
        #[serde(default)]
        rebalance: bool,
    },
    /// A remark for the log.
    Mark {
        /// Its name.
        name: String,
        /// The remark.
        #[serde(default)]
        text: String,
    },
    /// End the load now.
    End,
}

/// Reads commands on a thread of its own; a line that is none comes as an error with its cause.
pub fn read_commands() -> Receiver<Result<Command, String>> {
    let (send, receive) = unbounded();
    let reader = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            if send.send(parse(&line)).is_err() {
                return;
            }
        }
    };
    // Not joined: it may wait for a line for ever, and ends with the process.
    let _ = std::thread::Builder::new().name("control".into()).spawn(reader);
    receive
}

fn parse(line: &str) -> Result<Command, String> {
    serde_json::from_str(line).map_err(|e| format!("not a command: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        assert_eq!(parse(r#"{"cmd":"end"}"#), Ok(Command::End));
        let targets = parse(r#"{"cmd":"targets","urls":["http://a"],"rebalance":true}"#);
        assert_eq!(
            targets,
            Ok(Command::Targets { urls: vec!["http://a".into()], rebalance: true })
        );
        let mark = Command::Mark { name: "kill".into(), text: String::new() };
        assert_eq!(parse(r#"{"cmd":"mark","name":"kill"}"#), Ok(mark));
        assert!(parse("end").is_err() && parse(r#"{"cmd":"fly"}"#).is_err());
    }
}
