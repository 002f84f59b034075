//! What was typed, and nothing about what it means on this host: that is `plan`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::curve::Stage;
use crate::schedule::Arrivals;
use crate::search::Threshold;

const EXAMPLES: &str = "\
Examples:
  loadgen -c 1000 -d 30s http://127.0.0.1:8080/mcp
      1,000 MCP sessions, each kept alive by its heartbeat, for 30 s
  loadgen -c 100000 --ramp 10000 -r 4000 -d 60s --log out http://127.0.0.{11..22}:8080/mcp
      100,000 sessions over 12 targets, 4,000 requests a second by schedule, every request logged
  loadgen -c 512 --closed --protocol http -d 10s http://127.0.0.1:8080/health
      as many plain HTTP requests as 512 connections carry (says nothing about latency under load)
  loadgen -c 100 -r 500 tcp://127.0.0.1:5555
      newline-delimited JSON-RPC over TCP
  loadgen -c 100 -r 500 http+unix:/run/mcp.sock:/mcp
      MCP over a socket of this host
  loadgen -c 10 --in-flight 32 --closed -d 10s ws://127.0.0.1:8080/ws
      10 WebSockets with 32 requests under way on each
  loadgen -c 1000 --ca ca.pem https://10.0.0.5:8443/mcp wss://10.0.0.5:8443/ws
      the same inside TLS, whose handshakes are counted and timed apart
  loadgen -c 1000 --stage 30s@500 --stage 60s@500..5000 --stage 60s@5000..8000/4 http://...
      30 s at 500 requests a second, a minute in which they become 5,000, and four steps to 8,000
  loadgen --scenario bench/scenarios/steps.toml -c 5000
      what the file says, with other connections
  loadgen -c 200 --sessions 20000 -r 1000 http://127.0.0.1:8080/mcp
      20,000 sessions of users behind a gateway that keeps 200 connections
  loadgen -c 1000 --streams -d 15m http://127.0.0.1:8080/mcp
      1,000 sessions, each with the server's event stream held open beside it: 2,000 connections
  loadgen -r 1000 --arrivals poisson --call echo=9 --call add --tool-args 'add={\"a\":1,\"b\":2}' ...
      nine calls of echo to one of add, at the moments at which independent users would call

TIME is a number with us, ms, s, m or h (500ms, 10s, 2m); without a unit, seconds.

Exit status: 0 the run took place; 2 bad usage or a target that cannot be loaded; 3 the run is \
spoiled (its log is incomplete); 4 this host lacks something; 130 interrupted, results kept.";

/// Holds many MCP connections and sends requests by schedule, with one io_uring a core.
#[derive(Parser, Debug, Clone)]
#[command(name = "loadgen", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Addresses under test: http://host:port/path or tcp://host:port (JSON-RPC, one message a
    /// line); ws:// for WebSocket; https://, wss:// and tls:// are the same inside TLS.
    /// http+unix:/run/mcp.sock:/path and unix:/run/mcp.sock are HTTP and lines over a socket in the file
    /// system (Host: localhost); what is said of TCP connections then counts these
    #[arg(required_unless_present_any = ["probe", "scenario", "relay"], value_name = "TARGET")]
    pub targets: Vec<String>,

    /// Connections to hold, each with one session
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Sessions to hold over these connections, where they are more: as behind a gateway, a connection
    /// carries a request of one session and then one of another. Of MCP over HTTP with sessions
    /// (2025-03-26 to 2025-11-25); elsewhere the session is the connection
    /// [default: as many as connections]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "SESSIONS")]
    pub sessions: Option<u32>,

    /// Requests that may be in flight on a session at one time, told apart by their ids: over lines (tcp,
    /// tls, unix) and WebSocket. Over HTTP/1.1 a connection carries one at a time: there, more
    /// connections are the way
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    #[arg(value_name = "REQUESTS")]
    pub in_flight: u32,

    /// New connections a second while the load builds up (with --sessions: new sessions), and for
    /// reconnects
    #[arg(long, default_value_t = 5000.0, value_parser = positive, value_name = "CONNS/S")]
    pub ramp: f64,

    /// Let the connections come in so many equal steps, with --ramp-pause between them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(value_name = "STEPS", requires = "ramp_pause")]
    pub ramp_steps: u32,

    /// Time between two steps of the ramp, in which sessions only stand
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub ramp_pause: Duration,

    /// Sessions that may be in the course of being opened at one time: where the server is slower
    /// than the ramp, it sets the pace
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(value_name = "SESSIONS")]
    pub opening: u32,

    /// Requests a second over all connections, due by schedule whatever the answers do
    /// [default: one a session per heartbeat]
    #[arg(short, long, value_parser = positive, value_name = "REQ/S")]
    pub rate: Option<f64>,

    /// How long to hold the load once every connection stands; 0 until told to end
    #[arg(short, long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,

    /// Time under load before the counted part begins
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub warmup: Duration,

    /// A part of the load and its rate, instead of --rate and --duration; several follow each other:
    /// 30s@1000 is constant, 60s@1000..5000 a line, 60s@1000..4000/4 four even steps
    #[arg(long, value_name = "TIME@RATE", conflicts_with_all = ["closed", "rate", "duration"])]
    #[arg(conflicts_with = "find_limit")]
    pub stage: Vec<Stage>,

    /// Read options from a TOML file (see bench/scenarios/); what is typed beside it takes precedence
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,

    /// Search for the rate up to which this holds, such as 'p99<500ms,success>=99%': avg, max, p50,
    /// p90, p95, p99 or p999 of the response time with `<`, success with `>=`, and all of a list have
    /// to hold. The rate doubles from --rate on until it breaks, and is then bisected; every step is
    /// a short hold on the same sessions
    #[arg(long, value_name = "THRESHOLD", conflicts_with_all = ["closed", "duration", "warmup"])]
    pub find_limit: Option<Threshold>,

    /// Length of a step of --find-limit
    #[arg(long, default_value = "10s", value_parser = step, value_name = "TIME")]
    pub step: Duration,

    /// Closed loop: each connection sends as soon as it is answered. Hides the waiting that a slow
    /// answer imposes on later users, and the report says so
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,

    /// What is spoken on http:// and https:// targets (all others speak MCP)
    #[arg(long, value_enum, default_value_t = Protocol::Mcp)]
    pub protocol: Protocol,

    /// Method of plain HTTP requests (--protocol http)
    #[arg(long, default_value = "GET", value_name = "METHOD")]
    pub method: String,

    /// Content of plain HTTP requests, or the file that holds it; its type is for --header to say
    #[arg(long, value_name = "TEXT|@FILE")]
    pub body: Option<String>,

    /// MCP revision; `auto` finds out for each target, the newest first; `sessions` takes the
    /// newest with sessions that the target agrees to (2025-11-25 or older)
    #[arg(long, default_value = "auto", value_name = "auto|sessions|DATE")]
    pub mcp_revision: String,

    /// How requests follow each other
    #[arg(long, value_enum, default_value_t = Arrivals::Constant, conflicts_with = "closed")]
    pub arrivals: Arrivals,

    /// Decides what is left to chance, so that a run can be made again; generators that run side by
    /// side need different ones [default: drawn, and printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Tool to call; several times, with weights, for a mix
    /// [default: echo, and tools/list where a target has no such tool]
    #[arg(long, value_name = "TOOL[=WEIGHT]")]
    pub call: Vec<String>,

    /// Arguments of the tool, a JSON object; with several tools, for each that needs some
    #[arg(long, value_name = "[TOOL=]JSON", requires = "call")]
    pub tool_args: Vec<String>,

    /// Header to add to every HTTP request, `Name: value`; `@FILE` reads lines from a file. One that
    /// carries a token, a key or a cookie is taken from a file only: a command line can be read by
    /// everyone on this host
    #[arg(short = 'H', long = "header", value_name = "HEADER|@FILE")]
    pub headers: Vec<String>,

    /// Headers that the scenario has; no output shows their values.
    #[arg(skip)]
    pub scenario_headers: Vec<String>,

    /// Environment variable with a token, sent as `Authorization: Bearer ...`: it stays out of the
    /// process list, and no output shows it
    #[arg(long, value_name = "VARIABLE")]
    pub bearer_env: Option<String>,

    /// End each WebSocket message with a newline, for servers that split their input into lines
    #[arg(long)]
    pub ws_newline: bool,

    /// A session counts as alive while a request on it was answered within this time; a session
    /// with nothing to do is pinged in time. `off`: nothing is sent but the load, so that it shows
    /// when a server lets silent sessions go; whether they are alive is then not asked, and without
    /// --rate there is no load either
    #[arg(long, default_value = "30s", value_parser = heartbeat, value_name = "TIME|off")]
    pub heartbeat: Duration,

    /// Each session holds the server's event stream as well, over a connection of its own: a GET, or
    /// subscriptions/listen where there are no sessions (2026-07-28). Streams that end are opened
    /// again, from the last event on where the server numbers them
    #[arg(long)]
    pub streams: bool,

    /// Every request over a new connection, as from clients without keep-alive; the session goes
    /// on. A request is then sent when its connect is, and its service time counts both
    #[arg(long)]
    pub new_connection_per_request: bool,

    /// How often a session whose server has forgotten it (404) is opened anew before it is given up;
    /// several times in a row wait longer and longer [default: without end]
    #[arg(long, value_name = "TIMES")]
    pub reinit_max: Option<u16>,

    /// Longest wait for a connection or an answer
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,

    /// Worker threads, each with a ring of its own
    /// [default: one a core, more where RLIMIT_NOFILE bounds a ring's table]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// What carries the connections; auto is io_uring, and epoll where that is not allowed
    #[arg(long, value_enum, default_value_t = EngineWish::Auto)]
    pub engine: EngineWish,

    /// Local addresses to connect from (list or a.b.c.d-e) [default: the route's; on loopback as
    /// many of 127.0.0.0/8 as are needed]
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    pub sources: Vec<String>,

    /// How sessions end after the run
    #[arg(long, value_enum, default_value_t = End::Delete)]
    pub end: End,

    /// Directory for the latency log, one file a process
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,

    /// Write the summary as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Poll shortly before a request is due instead of sleeping: exact, at the price of a core for each
    /// worker; wants no more workers than cores
    #[arg(long)]
    pub spin: bool,

    /// Start although the plan does not fit this host
    #[arg(long)]
    pub force: bool,

    /// Show a dashboard while the run goes on: rates, the three counts, latency, errors by reason, the
    /// workers' load. `q` ends the run and keeps the results; without a terminal, plain lines
    #[arg(long, conflicts_with = "control")]
    pub tui: bool,

    /// Be driven by another program: commands on standard input, status on standard output, both
    /// one JSON object a line
    #[arg(long)]
    pub control: bool,

    /// The same over the one connection that comes to this address, such as 0.0.0.0:9465: one of
    /// several generators, which begins when it is told to and hands its log over at the end
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["control", "find_limit", "tui"])]
    pub control_listen: Option<SocketAddr>,

    /// Load every address that a target's name has, as tasks.NAME has in an overlay network of
    /// Docker Swarm, each as a target of its own (Host is the address), and follow the name while the
    /// run lasts
    #[arg(long)]
    pub all_addresses: bool,

    /// Look the targets' names up again so often: sessions move to addresses that join, and leave those
    /// that vanish; Host and certificate stay those of the name. Without it a name is looked up once,
    /// before the run, and each of its addresses is loaded
    /// [default: 1s with --all-addresses, else never]
    #[arg(long, value_parser = period, value_name = "TIME")]
    pub resolve_every: Option<Duration>,

    /// Serve counts and latencies to Prometheus at this address, such as 0.0.0.0:9464, on /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,

    /// Join standard input and output to a generator that listens at this address
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub relay: Option<SocketAddr>,

    /// Say what this host's io_uring can do, as JSON, and exit
    #[arg(long, hide = true)]
    pub probe: bool,

    /// Last, since all that follows would stand under its heading in the help.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// How https://, wss:// and tls:// targets are trusted, and what they are told.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Certificates (PEM) that a target's certificate has to lead to
    /// [default: those that this host trusts]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,

    /// Certificate chain of the client (PEM), for targets that want one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// Private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,

    /// Name to ask for (SNI) and to find in the certificate, instead of the address's host
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,

    /// Protocols to offer by ALPN [default: http/1.1 on https:// and wss://, none on tls://]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = alpn)]
    pub alpn: Vec<String>,

    /// Believe any certificate: the run then says nothing about who answered, and the report says so
    #[arg(long)]
    pub insecure: bool,

    /// Let connections resume a TLS session that the same worker had with the target, as one client
    /// that reconnects does [default: each shakes hands in full, as separate users do]
    #[arg(long)]
    pub tls_resume: bool,
}

/// What is spoken on an http:// or https:// target.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain requests (--method, --body); any 2xx answer is a success
    Http,
    /// Model Context Protocol
    Mcp,
}

/// What shall carry the connections.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineWish {
    /// io_uring, or epoll where that is not allowed
    Auto,
    /// io_uring or nothing
    Uring,
    /// epoll: a descriptor for each connection
    Epoll,
}

/// How sessions end after the run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// DELETE each session, then reset the connection
    Delete,
    /// Close each connection with FIN; leaves TIME_WAIT behind
    Close,
    /// Reset each connection
    Reset,
    /// Exit with all of them open
    Abandon,
}

impl End {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            End::Delete => "delete",
            End::Close => "close",
            End::Reset => "reset",
            End::Abandon => "abandon",
        }
    }
}

fn alpn(text: &str) -> Result<String, String> {
    match text {
        "h2" | "h3" => Err(format!("{text} is not spoken by this version, only http/1.1 is")),
        _ if text.is_empty() || text.len() > 255 => Err("1 to 255 bytes".into()),
        _ => Ok(text.to_owned()),
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    if period < Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(period) }
}

fn step(text: &str) -> Result<Duration, String> {
    let step = duration(text)?;
    if step < Duration::from_secs(1) { Err("at least 1s".into()) } else { Ok(step) }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
    if value.is_finite() && value > 0.0 && value <= 1e9 {
        Ok(value)
    } else {
        Err("must be more than 0 and at most 1000000000 a second".into())
    }
}

/// A time, or `off`, which is zero.
fn heartbeat(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::ZERO);
    }
    let time = duration(text)?;
    if time.is_zero() { Err("write `off` for none".into()) } else { Ok(time) }
}

/// `10s`, `500ms`, `2m`, `1h`, or seconds without a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit '{unit}': use us, ms, s, m or h")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("'{text}' is not a time such as 500ms, 10s or 2m"))?;
    let total = number * seconds;
    if total > 366.0 * 86_400.0 {
        return Err("longer than a year".into());
    }
    Ok(Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("3h"), Ok(Duration::from_secs(10_800)));
        for bad in ["", "s", "-1s", "5 s", "1d", "1e9h", "9999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_tls_options_stand_under_their_heading() {
        use clap::CommandFactory;
        let command = Cli::command();
        let under = |heading: Option<&str>| {
            let all = command.get_arguments().filter(|it| !it.is_hide_set());
            all.filter(|it| it.get_help_heading() == heading).count()
        };
        let of_tls = TlsArgs::augment_args(clap::Command::new("tls")).get_arguments().count();
        assert_eq!(under(Some("TLS")), of_tls);
        assert!(under(None) > of_tls);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["loadgen", "-c", "0", "http://a"][..],
            &["loadgen", "-r", "nan", "http://a"],
            &["loadgen", "-r", "-3", "http://a"],
            &["loadgen", "-r", "0", "http://a"],
            &["loadgen", "--closed", "-r", "5", "http://a"],
            &["loadgen"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
