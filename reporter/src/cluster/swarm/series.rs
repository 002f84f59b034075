//! What the stack's Prometheus saw during the run, saved as it answers: one file a query.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::clock::SECOND_NS;

/// Where the stack publishes Prometheus on its manager.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_091);
const TIMEOUT: Duration = Duration::from_secs(20);
/// Points that Prometheus gives of one series at most are 11,000.
const POINTS_MAX: u64 = 10_000;
const STEP_S_MIN: u64 = 2;

/// File name and query. What the dashboards show, without the rates' smoothing where a counter will
/// do.
pub const QUERIES: [(&str, &str); 16] = [
    ("up", "up"),
    ("connections", "erlmcp_connections_open"),
    ("sessions", "erlmcp_sessions_open"),
    ("requests", "sum by (instance, outcome) (erlmcp_requests_total)"),
    ("memory", "process_resident_memory_bytes{job=\"erlmcp-server\"}"),
    ("cpu", "process_cpu_seconds_total{job=\"erlmcp-server\"}"),
    ("descriptors", "process_open_fds{job=\"erlmcp-server\"}"),
    ("node_memory", "node_memory_MemAvailable_bytes"),
    ("node_cpu", "sum by (instance, mode) (node_cpu_seconds_total)"),
    ("alerts", "ALERTS"),
    ("client_connections", "loadgen_connections_open"),
    ("client_sessions", "loadgen_sessions_alive"),
    ("client_requests", "sum by (instance, outcome) (loadgen_requests_total)"),
    ("client_failures", "sum by (reason) (loadgen_failures_total)"),
    ("client_response", "sum by (le) (loadgen_response_seconds_bucket)"),
    ("client_cpu", "loadgen_worker_cpu_seconds_total"),
];

/// Saves every query's answer for the window as `<dir>/<name>.json`; gives how many there are.
///
/// # Errors
/// The first query that was not answered, or a file that could not be written.
pub fn save(dir: &Path, from_real_ns: u64, to_real_ns: u64) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    let (from_s, to_s) = (from_real_ns / SECOND_NS, to_real_ns / SECOND_NS + 1);
    let step_s = (to_s.saturating_sub(from_s) / POINTS_MAX).max(STEP_S_MIN);
    for (name, query) in QUERIES {
        let path = format!(
            "/api/v1/query_range?query={}&start={from_s}&end={to_s}&step={step_s}",
            escape(query)
        );
        fs::write(dir.join(format!("{name}.json")), get(ADDRESS, &path)?)?;
    }
    Ok(QUERIES.len())
}

/// A GET by HTTP/1.0, so that the answer is simply what comes until the end.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // In one write: a server that answers the first part of a request may close on the rest.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map(|at| answer.split_off(at + 4)).unwrap_or_default();
    let head = String::from_utf8_lossy(&answer);
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(body),
        other => Err(io::Error::other(format!("Prometheus says {}", other.unwrap_or("nothing")))),
    }
}

/// Percent-encoding of everything but letters and digits (RFC 3986 section 2.1).
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte.is_ascii_alphanumeric() {
            true => all.push(char::from(byte)),
            false => all += &format!("%{byte:02X}"),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_body_comes_back_and_another_status_is_an_error() {
        for (status, expected) in [("200 OK", Some("{}")), ("503 Busy", None)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
            let address = listener.local_addr().expect("has an address");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accepts");
                let mut request = [0_u8; 512];
                let _ = stream.read(&mut request).expect("reads");
                write!(stream, "HTTP/1.0 {status}\r\nA: b\r\n\r\n{{}}").expect("writes");
            });
            let body = get(address, "/x").ok();
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{status}");
            server.join().expect("ends");
        }
    }

    #[test]
    fn a_query_is_one_word_of_the_request_line() {
        assert_eq!(escape("up{a=\"b\"}"), "up%7Ba%3D%22b%22%7D");
        assert!(QUERIES.iter().all(|(_, query)| !escape(query).contains(' ')));
    }
}
