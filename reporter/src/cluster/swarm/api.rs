//! A container's memory and CPU from its engine, where control groups cannot be read: another node's
//! container, or an engine with its own processes. The engine's API over its socket is exact; `docker
//! stats` is the last resort, slow and rounded.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::usage::Usage;
use crate::swarm::docker::{Call, Docker};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer with the figures of one container has a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How an engine is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its API over a socket of this host.
    Unix(PathBuf),
    /// Its API over TCP in clear.
    Tcp(String),
    /// `docker stats`, with this host if it is not the client's own.
    Stats(Option<String>),
}

impl Source {
    /// For an engine named as `DOCKER_HOST` names it; none is the client's own. `env` is the
    /// client's `DOCKER_HOST`, and `socket` whether the usual socket is there.
    pub fn of(host: Option<&str>, env: Option<&str>, socket: bool) -> Self {
        match (host.or(env), socket) {
            (Some(named), _) => match named.split_once("://") {
                Some(("unix", path)) => Self::Unix(PathBuf::from(path)),
                Some(("tcp", address)) if std::env::var_os("DOCKER_TLS_VERIFY").is_none() => {
                    Self::Tcp(address.to_owned())
                }
                _ => Self::Stats(host.map(str::to_owned)),
            },
            (None, true) => Self::Unix(PathBuf::from(DEFAULT_SOCKET)),
            (None, false) => Self::Stats(None),
        }
    }

    /// The same from this process' environment.
    pub fn here(host: Option<&str>) -> Self {
        let env = std::env::var("DOCKER_HOST").ok().filter(|env| !env.is_empty());
        Self::of(host, env.as_deref(), Path::new(DEFAULT_SOCKET).exists())
    }

    /// For a person: where the figures come from.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unix(_) | Self::Tcp(_) => "the engine's API",
            Self::Stats(_) => "`docker stats`, which rounds",
        }
    }

    /// What each of these containers uses now; those that are gone are left out. `docker stats` says
    /// no CPU time, but what share of a core is used: `share` adds it up.
    pub fn usage(&self, docker: &dyn Docker, containers: &[String]) -> Vec<(String, Reading)> {
        let ask = |container: &String| {
            let path = format!("/containers/{container}/stats?stream=false&one-shot=true");
            let body = match self {
                Self::Unix(socket) => get(UnixStream::connect(socket), &path),
                Self::Tcp(address) => get(TcpStream::connect(address), &path),
                Self::Stats(_) => return None,
            };
            Some((container.clone(), Reading::Exact(parse(&body.ok()?)?)))
        };
        match self {
            Self::Unix(_) | Self::Tcp(_) => containers.iter().filter_map(ask).collect(),
            Self::Stats(host) => {
                let head = ["stats", "--no-stream", "--no-trunc", "--format", "{{json .}}"];
                let words = head.iter().copied().chain(containers.iter().map(String::as_str));
                let answer = docker.answer(&Call { host: host.clone(), ..Call::new(words) });
                answer.stdout.lines().filter_map(parse_line).collect()
            }
        }
    }
}

/// What an engine says of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Bytes and nanoseconds.
    Exact(Usage),
    /// Bytes, rounded to three digits, and the share of a core that is used.
    Rounded {
        /// Memory.
        memory_bytes: u64,
        /// 1 is a whole core.
        cores: f64,
    },
}

/// HTTP/1.0, so that the answer is simply what comes until the end.
fn get<S: Read + Write + Deadline>(stream: io::Result<S>, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = stream?;
    stream.limit(TIMEOUT)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map(|at| answer.split_off(at + 4)).unwrap_or_default();
    let head = String::from_utf8_lossy(&answer);
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(body),
        other => Err(io::Error::other(format!("the engine says {}", other.unwrap_or("nothing")))),
    }
}

trait Deadline {
    fn limit(&self, timeout: Duration) -> io::Result<()>;
}

impl Deadline for UnixStream {
    fn limit(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout)).and_then(|()| self.set_write_timeout(Some(timeout)))
    }
}

impl Deadline for TcpStream {
    fn limit(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout)).and_then(|()| self.set_write_timeout(Some(timeout)))
    }
}

/// Memory as the control groups' files are read: without pages that can be dropped at once. Version
/// 1 calls them `total_inactive_file`, version 2 `inactive_file`.
fn parse(body: &[u8]) -> Option<Usage> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let memory = &value["memory_stats"];
    let stats = &memory["stats"];
    let droppable = stats["total_inactive_file"].as_u64().or(stats["inactive_file"].as_u64());
    Some(Usage {
        memory_bytes: memory["usage"].as_u64()?.saturating_sub(droppable.unwrap_or(0)),
        cpu_ns: value["cpu_stats"]["cpu_usage"]["total_usage"].as_u64()?,
    })
}

/// One line of `docker stats`: `{"ID":"...","CPUPerc":"1.50%","MemUsage":"12.4MiB / 2GiB"}`.
fn parse_line(line: &str) -> Option<(String, Reading)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let cores = value["CPUPerc"].as_str()?.trim_end_matches('%').parse::<f64>().ok()? / 100.0;
    let used = value["MemUsage"].as_str()?.split(" / ").next()?;
    let memory_bytes = bytes(used)?;
    Some((value["ID"].as_str()?.to_owned(), Reading::Rounded { memory_bytes, cores }))
}

fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| (number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::fake::Recorded;

    #[test]
    fn an_engine_is_asked_over_its_socket_where_there_is_one() {
        let unix = |path: &str| Source::Unix(PathBuf::from(path));
        assert_eq!(Source::of(None, None, true), unix("/var/run/docker.sock"));
        assert_eq!(Source::of(None, Some("unix:///a.sock"), true), unix("/a.sock"));
        assert_eq!(
            Source::of(Some("unix:///b.sock"), Some("unix:///a.sock"), true),
            unix("/b.sock")
        );
        assert_eq!(Source::of(Some("tcp://h:2375"), None, true), Source::Tcp("h:2375".to_owned()));
        let ssh = Some("ssh://root@h");
        assert_eq!(Source::of(ssh, None, true), Source::Stats(ssh.map(str::to_owned)));
        assert_eq!(Source::of(None, ssh, true), Source::Stats(None), "the client knows its own");
        assert_eq!(Source::of(None, None, false), Source::Stats(None));
    }

    #[test]
    fn both_versions_of_control_groups_are_read_and_a_container_that_is_gone_is_none() {
        let answer = |name: &str| {
            format!(
                r#"{{"cpu_stats":{{"cpu_usage":{{"total_usage":77}}}},
                    "memory_stats":{{"usage":1000,"stats":{{"{name}":300,"active_file":9}}}}}}"#
            )
        };
        for name in ["total_inactive_file", "inactive_file"] {
            let expected = Usage { memory_bytes: 700, cpu_ns: 77 };
            assert_eq!(parse(answer(name).as_bytes()), Some(expected), "{name}");
        }
        // What an engine says of a container that has ended.
        assert_eq!(parse(br#"{"cpu_stats":{"cpu_usage":{}},"memory_stats":{}}"#), None);
    }

    #[test]
    fn the_api_is_http_over_the_socket() {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = dir.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let server = std::thread::spawn(move || {
            for status in ["200 OK", "404 Not Found"] {
                let (mut stream, _) = listener.accept().expect("accepts");
                let mut request = [0_u8; 512];
                let count = stream.read(&mut request).expect("reads");
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                assert!(request.contains("one-shot=true HTTP/1.0\r\n"), "{request}");
                let body =
                    r#"{"cpu_stats":{"cpu_usage":{"total_usage":5}},"memory_stats":{"usage":6}}"#;
                write!(stream, "HTTP/1.0 {status}\r\n\r\n{body}").expect("writes");
            }
        });
        let source = Source::Unix(socket);
        let containers = ["c1".to_owned(), "gone".to_owned()];
        let seen = source.usage(&Recorded::default(), &containers);
        let expected = Reading::Exact(Usage { memory_bytes: 6, cpu_ns: 5 });
        assert_eq!(seen, [("c1".to_owned(), expected)]);
        server.join().expect("ends");
    }

    #[test]
    fn the_last_resort_is_rounded_text() {
        let fake = Recorded::default();
        fake.says(
            &["stats", "*"],
            "{\"CPUPerc\":\"150.25%\",\"ID\":\"c1\",\"MemUsage\":\"12.5MiB / 2GiB\"}\n\
             {\"CPUPerc\":\"--\",\"ID\":\"c2\",\"MemUsage\":\"-- / --\"}\n",
        );
        let seen = Source::Stats(None).usage(&fake, &["c1".to_owned(), "c2".to_owned()]);
        let expected = Reading::Rounded { memory_bytes: 13_107_200, cores: 1.5025 };
        assert_eq!(seen, [("c1".to_owned(), expected)]);
    }
}
