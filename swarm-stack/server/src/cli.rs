//! The command line and its environment equivalents: what was typed, nothing resolved.
//!
//! Owns names, defaults and help texts. It must not touch sockets, limits or the runtime.

use std::{net::IpAddr, time::Duration};

use clap::{Parser, ValueEnum};

/// Serve MCP over streamable HTTP (both eras) and over newline-delimited TCP.
///
/// HTTP:    POST/GET/DELETE http://BIND:PORT/mcp     GET http://BIND:PORT/health
/// TCP:     one JSON-RPC object a line on BIND:TCP_PORT
/// Metrics: GET http://BIND:METRICS_PORT/metrics     (OpenMetrics text)
///
/// Tools: echo(text), add(a, b), slow(ms), payload(bytes).
///
/// SIGTERM or SIGINT starts an orderly end: /health answers 503, listeners close, requests in
/// flight may finish within --grace, sessions are closed, exit code 0. A second signal skips
/// the waiting.
#[derive(Debug, Clone, Parser)]
#[command(version, verbatim_doc_comment, after_help = EXAMPLES)]
pub struct Options {
    /// Address that all three listeners bind to; 0.0.0.0 or :: in a container
    #[arg(long, env = "BIND", default_value = "127.0.0.1", value_name = "IP")]
    pub bind: IpAddr,

    /// Port of /mcp and /health; 0 takes a free one (see the start line)
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// Port of newline-delimited JSON-RPC over TCP; 0 takes a free one
    #[arg(long, env = "TCP_PORT", default_value_t = 5555, value_name = "PORT")]
    pub tcp_port: u16,

    /// Port of /metrics; 0 takes a free one
    #[arg(long, env = "METRICS_PORT", default_value_t = 9100, value_name = "PORT")]
    pub metrics_port: u16,

    /// Threads that run the server. One suits the stack, which scales by replicas: 12 replicas
    /// outnumber the cores of most hosts, and one thread needs no cross-thread wake-ups. Raise it
    /// where one replica has several cores to itself
    #[arg(long, env = "WORKERS", default_value_t = 1, value_name = "N", verbatim_doc_comment,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,

    /// Seconds without a message after which a session ends; 0 never. Keep it well above the
    /// clients' heartbeat interval. An open GET stream keeps a lean session alive, not an sdk one
    #[arg(
        long,
        env = "SESSION_TTL",
        default_value_t = 3600,
        value_name = "SECONDS",
        verbatim_doc_comment
    )]
    pub session_ttl: u64,

    /// Open sessions beyond which initialize answers 503; 0 is unlimited
    #[arg(long, env = "MAX_SESSIONS", default_value_t = 0, value_name = "N")]
    pub max_sessions: usize,

    /// Who keeps the sessions
    #[arg(long, env = "SESSIONS", default_value = "lean", value_name = "KIND")]
    pub sessions: SessionKind,

    /// Answer POSTs with application/json where one message is the whole answer, rather than SSE
    #[arg(long, env = "JSON_RESPONSE")]
    pub json_response: bool,

    /// Keep no sessions: initialize works, but gives no Mcp-Session-Id; GET and DELETE answer 405
    #[arg(long, env = "STATELESS")]
    pub stateless: bool,

    /// Seconds that requests in flight may take to finish after SIGTERM
    #[arg(long, env = "GRACE", default_value_t = 5, value_name = "SECONDS")]
    pub grace: u64,

    /// Seconds between SIGTERM and the closing of the listeners, with /health at 503, so that a
    /// balancer can notice
    #[arg(long, env = "DRAIN", default_value_t = 0, value_name = "SECONDS")]
    pub drain: u64,

    /// Pending connections the kernel may queue a listener; bounded by net.core.somaxconn
    #[arg(long, env = "BACKLOG", default_value_t = 65_535, value_name = "N",
          value_parser = clap::value_parser!(i32).range(1..=65_535))]
    pub backlog: i32,

    /// What is written to standard error
    #[arg(long, env = "LOG", default_value = "info", value_name = "LEVEL")]
    pub log: LogLevel,
}

const EXAMPLES: &str = "\
Examples:
  erlmcp-server                                   all defaults on 127.0.0.1
  erlmcp-server --bind 0.0.0.0 --session-ttl 600  in a container, sessions end after 10 idle minutes
  PORT=18080 erlmcp-server --json-response        environment and options mix; options win";

/// Who keeps the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SessionKind {
    /// Sessions without resumption: least memory, one SSE event an answer
    Lean,
    /// The SDK's own manager: event ids, priming events, resumption by Last-Event-ID
    Sdk,
}

/// How much is logged. The SDK's own lines appear from `debug` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures only
    Error,
    /// Also what an operator should look at
    Warn,
    /// Also start and stop
    Info,
    /// Also the SDK's session messages
    Debug,
    /// Everything
    Trace,
}

impl Options {
    /// Idle time after which a session ends, `None` for never.
    pub fn session_ttl(&self) -> Option<Duration> {
        (self.session_ttl > 0).then(|| Duration::from_secs(self.session_ttl))
    }
}
