//! The `docker` command line as a trait: what is asked, what comes back, and what went wrong.
//!
//! Everything here ends: a call that the engine does not answer is killed at its deadline. It knows
//! nothing of stacks and replicas.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::trouble::Trouble;
use crate::clock::{self, SECOND_NS};

/// Deadline of a call that only asks or orders something.
pub const CALL_NS_MAX: u64 = 60 * SECOND_NS;

/// One call of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The arguments, without `docker` itself.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// When it is killed, after its start.
    pub ns_max: u64,
    /// Asks another engine than the default one, as `DOCKER_HOST` does.
    pub host: Option<String>,
}

impl Call {
    /// A call with the usual deadline.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            ns_max: CALL_NS_MAX,
            host: None,
        }
    }
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; 127 where there is no `docker`, as a shell says it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A Docker client.
pub trait Docker: Send + Sync {
    /// Makes a call and gives its end, whatever that was.
    fn answer(&self, call: &Call) -> Answer;

    /// Makes a call that has to end well.
    ///
    /// # Errors
    /// What the client or the engine said, recognised.
    fn run(&self, call: &Call) -> Result<String, Trouble> {
        let answer = self.answer(call);
        match answer.code {
            0 => Ok(answer.stdout),
            _ => Err(Trouble::read(&answer)),
        }
    }

    /// The same for a call with the usual deadline.
    ///
    /// # Errors
    /// See [`Docker::run`].
    fn ask(&self, args: &[&str]) -> Result<String, Trouble> {
        self.run(&Call::new(args.iter().copied()))
    }
}

/// The client on this host.
#[derive(Clone, Debug)]
pub struct CommandLine {
    program: String,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self { program: std::env::var("DOCKER").unwrap_or_else(|_| "docker".to_owned()) }
    }
}

/// How often a running client is looked at.
const LOOK_EVERY_NS: u64 = SECOND_NS / 200;

impl Docker for CommandLine {
    fn answer(&self, call: &Call) -> Answer {
        let mut command = Command::new(&self.program);
        if let Some(host) = &call.host {
            command.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
        }
        command
            .args(&call.args)
            .envs(call.env.iter().map(|(name, value)| (name, value)))
            // The classic builder needs no plugin, and every engine has it.
            .env("DOCKER_CLI_HINTS", "false")
            .stdin(if call.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => finish(child, call),
            Err(error) => Answer {
                code: 127,
                stderr: format!("{}: {error}", self.program),
                ..Answer::default()
            },
        }
    }
}

fn finish(mut child: Child, call: &Call) -> Answer {
    let deadline_ns = clock::mono_ns().saturating_add(call.ns_max);
    // Each pipe has its own reader, so that a full one never stops the other.
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        let bytes = call.stdin.clone();
        std::thread::spawn(move || {
            // A client that ends early closes its end; its exit code tells.
            let _ = stdin.write_all(&bytes);
        });
    }
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code().unwrap_or(-1),
            Ok(None) if clock::mono_ns() >= deadline_ns => {
                let _ = child.kill();
                let _ = child.wait();
                let waited = Duration::from_nanos(call.ns_max).as_secs();
                return Answer {
                    code: -1,
                    stdout: String::new(),
                    stderr: format!("no answer within {waited} s: docker {}", call.args.join(" ")),
                };
            }
            Ok(None) => clock::sleep_ns(LOOK_EVERY_NS),
            Err(error) => {
                return Answer { code: -1, stderr: error.to_string(), ..Answer::default() };
            }
        }
    };
    Answer {
        code,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    }
}

fn reader<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(program: &str) -> CommandLine {
        CommandLine { program: program.to_owned() }
    }

    #[test]
    fn both_outputs_and_the_code_come_back() {
        let call = Call { stdin: b"in".to_vec(), ..Call::new(["-c", "cat; echo err >&2; exit 3"]) };
        let answer = client("sh").answer(&call);
        assert_eq!(answer, Answer { code: 3, stdout: "in".to_owned(), stderr: "err\n".to_owned() });
    }

    #[test]
    fn no_client_is_127_as_in_a_shell() {
        let trouble = client("no-such-docker").run(&Call::new(["version"])).expect_err("is absent");
        assert!(matches!(trouble, Trouble::NoDocker), "{trouble:?}");
    }

    #[test]
    fn one_that_does_not_answer_is_ended() {
        let call = Call { ns_max: 1, ..Call::new(["600"]) };
        let trouble = client("sleep").run(&call).expect_err("is ended");
        assert!(trouble.to_string().contains("no answer"), "{trouble}");
    }
}
