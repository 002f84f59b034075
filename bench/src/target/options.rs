//! What was typed: every option of the fast target.
//!
//! No decision is taken here; [`super::faults`] and [`super::server`] read it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, ValueEnum};

use super::hostile::Kind;
use crate::units::{self, Stall};

/// What is spoken on the HTTP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HttpProtocol {
    /// MCP on `--path`, and a short text on every other path.
    Mcp,
    /// A short text for any request.
    Http,
}

/// The MCP revisions' two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Era {
    /// 2025-03-26 to 2025-11-25: initialize gives a session that later requests must name.
    Sessions,
    /// The same revisions, and initialize gives no session.
    Sessionless,
    /// 2026-07-28: no initialize, no session.
    Stateless,
}

/// Answers HTTP, MCP over HTTP and JSON-RPC lines over TCP as fast as it can, with faults to order.
///
/// It measures a load generator and is no product. Prints one line starting with `ready` on
/// standard output when it listens. SIGTERM or SIGINT ends it.
#[derive(Clone, Debug, Parser)]
#[command(name = "fast-target", version)]
pub struct Options {
    /// Address for HTTP; may be repeated [default: 127.0.0.1:8080, unless only --tcp is given]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Address for newline-delimited JSON-RPC; may be repeated
    #[arg(long, value_name = "IP:PORT")]
    pub tcp: Vec<SocketAddr>,
    /// What is spoken on the --listen addresses
    #[arg(long, value_enum, default_value = "mcp")]
    pub protocol: HttpProtocol,
    /// Which MCP era
    #[arg(long, value_enum, default_value = "sessions")]
    pub era: Era,
    /// Path of the MCP endpoint
    #[arg(long, default_value = "/mcp")]
    pub path: String,
    /// Threads, each with its own ring and its own SO_REUSEPORT listener on every address
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Processes, each on its own loopback address: process K adds K-1 to the last octets of every
    /// address [default addresses: from 127.0.1.1:8080]
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub processes: u16,
    /// Number of this child among --processes
    #[arg(long, hide = true)]
    pub child: Option<u16>,
    /// Answer requests as an event stream instead of JSON
    #[arg(long)]
    pub sse: bool,
    /// Hold GET streams open instead of answering 405
    #[arg(long)]
    pub streams: bool,
    /// Send a comment on every open stream this often
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub stream_ping: Option<Duration>,
    /// End every open stream after this time, and its connection
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub stream_cut: Option<Duration>,
    /// Length of the text in an answer
    #[arg(long, value_name = "BYTES", default_value_t = 2)]
    pub payload_bytes: usize,
    /// Buffer of an idle connection; the rest of a longer request takes one more system call
    /// [default: 384, or 64 with --processes]
    #[arg(long, value_name = "BYTES",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..=32768))]
    pub read_bytes: Option<usize>,
    /// Print counters as one JSON object on exit
    #[arg(long)]
    pub json_stats: bool,
    /// The faults to order
    #[command(flatten)]
    pub faults: FaultOptions,
}

/// Faults to order; all can be combined. A share is the probability of each answer to be hit.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Faults to order (a share is 0..1 or 1%)")]
pub struct FaultOptions {
    /// Seed of all dice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Let initialize, server/discover, notifications/initialized and DELETE pass unharmed
    #[arg(long)]
    pub spare_handshake: bool,
    /// Answer this long after the request arrived (rounded up to milliseconds)
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub delay: Option<Duration>,
    /// Add up to this much to each delay, uniformly
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub delay_jitter: Option<Duration>,
    /// Answer nothing for LENGTH, starting START after the first request; may be repeated
    #[arg(long, value_name = "LENGTH@START", value_parser = units::stall)]
    pub stall: Vec<Stall>,
    /// HTTP 500
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    pub error_share: f64,
    /// JSON-RPC error -32603 in an HTTP 200
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    pub rpc_error_share: f64,
    /// A tools/call result with isError
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    pub tool_error_share: f64,
    /// RST instead of the answer
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    pub reset_share: f64,
    /// Drop the session that the request names: 404
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    pub forget_sessions_share: f64,
    /// Read requests and answer none
    #[arg(long)]
    pub never_answer: bool,
    /// Close the connection after this many requests, without saying so beforehand
    #[arg(long, value_name = "REQUESTS")]
    pub close_after: Option<u32>,
    /// Close a connection on which nothing arrived for this long
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub idle_close: Option<Duration>,
    /// Accept at most so many connections a second, in each thread
    #[arg(long, value_name = "RATE", value_parser = units::rate_per_s)]
    pub slow_accept: Option<f64>,
    /// Listen and never accept
    #[arg(long)]
    pub accept_never: bool,
    /// Send an answer in pieces of this size
    #[arg(long, value_name = "BYTES",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub short_writes: Option<usize>,
    /// Pause between two pieces
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = units::duration)]
    pub short_write_gap: Duration,
    /// Refuse further sessions: 503
    #[arg(long, value_name = "SESSIONS")]
    pub session_limit: Option<usize>,
    /// A session unused for this long is gone: 404
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub session_ttl: Option<Duration>,
    /// Answer with garbage of this kind; may be repeated, each answer then draws one
    #[arg(long, value_enum, value_name = "KIND")]
    pub hostile: Vec<Kind>,
    /// Share of answers that are hostile
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = units::share)]
    pub hostile_share: f64,
}

impl Options {
    /// Fills in the default addresses and, in a child, moves all addresses to the child's own.
    ///
    /// # Errors
    /// Several processes on an IPv6 address, or with ports chosen by the kernel.
    pub fn resolved(mut self) -> Result<Self> {
        if self.listen.is_empty() && self.tcp.is_empty() {
            let third = u8::from(self.processes > 1);
            self.listen.push(SocketAddr::from(([127, 0, third, 1], 8080)));
        }
        if let Some(number) = self.child {
            for addr in self.listen.iter_mut().chain(&mut self.tcp) {
                *addr = moved(*addr, u32::from(number - 1))?;
            }
        }
        Ok(self)
    }

    /// Bytes of an idle connection's buffer.
    ///
    /// One process is measured for speed: a request fits, and is read by one ring operation.
    /// Several are there for many connections: a longer request costs one more system call.
    pub fn idle_bytes(&self) -> usize {
        self.read_bytes.unwrap_or(if self.processes > 1 { 64 } else { 384 })
    }
}

/// The same port on the address `by` further on.
fn moved(addr: SocketAddr, by: u32) -> Result<SocketAddr> {
    match addr {
        SocketAddr::V4(addr) => {
            let Some(ip) = u32::from(*addr.ip()).checked_add(by) else {
                bail!("{addr} leaves no room for so many processes");
            };
            Ok(SocketAddr::from((Ipv4Addr::from(ip), addr.port())))
        }
        SocketAddr::V6(addr) => bail!("--processes needs IPv4 addresses, not {addr}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(arguments: &[&str]) -> Result<Options> {
        Options::parse_from([&["fast-target"], arguments].concat()).resolved()
    }

    fn listens(options: &Options) -> Vec<String> {
        options.listen.iter().chain(&options.tcp).map(SocketAddr::to_string).collect()
    }

    #[test]
    fn defaults_depend_on_the_number_of_processes() {
        assert_eq!(listens(&resolved(&[]).unwrap()), ["127.0.0.1:8080"]);
        assert_eq!(listens(&resolved(&["--processes=2"]).unwrap()), ["127.0.1.1:8080"]);
        assert_eq!(listens(&resolved(&["--tcp=127.0.0.1:1"]).unwrap()), ["127.0.0.1:1"]);
    }

    #[test]
    fn a_child_has_its_own_addresses_across_the_last_octet() {
        let child = resolved(&[
            "--processes=300",
            "--child=257",
            "--tcp=127.0.1.1:5",
            "--listen=127.0.1.1:6",
        ]);
        assert_eq!(listens(&child.unwrap()), ["127.0.2.1:6", "127.0.2.1:5"]);
        assert!(resolved(&["--processes=2", "--child=2", "--listen=[::1]:6"]).is_err());
    }
}
