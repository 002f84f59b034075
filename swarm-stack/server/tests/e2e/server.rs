//! One server process a test: started, found by its log line, ended by its pid.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use nix::{sys::signal, unistd::Pid};

/// A running server.
pub struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// Address of /mcp and /health.
    pub http: String,
    /// Address of newline-delimited JSON-RPC.
    pub tcp: String,
    /// Address of /metrics.
    pub metrics: String,
}

impl Server {
    /// Starts the binary with `args` on free ports and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        let mut child = command(&["--port", "0", "--tcp-port", "0", "--metrics-port", "0"])
            .args(args)
            .spawn()
            .expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let line = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the server ended at once");
            if line.contains("listening:") {
                break line;
            }
        };
        let find = |before: &str, after: &str| {
            let rest = line.split(before).nth(1).unwrap_or_else(|| panic!("{before} in {line}"));
            rest.split(after).next().unwrap().trim().to_owned()
        };
        Self {
            http: find("http://", "/mcp"),
            tcp: find("tcp://", " "),
            metrics: find(&format!("tcp://{} http://", find("tcp://", " ")), "/metrics"),
            child,
            stderr,
        }
    }

    /// The address of the MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.http)
    }

    /// The server's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: signal::Signal) {
        signal::kill(self.pid(), signal).expect("the server is alive");
    }

    /// Waits for the end; returns the exit status and what was logged since the start.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with `args`, its standard error piped.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_erlmcp-server"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}
