//! Questions to a replica's address from outside: does it answer, and who holds its port.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How a replica shows that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// `GET /health` is answered with a status below 500: servers without that path say 404, which
    /// shows as well that they serve.
    Http(SocketAddr),
    /// A connection is accepted.
    Connect(SocketAddr),
}

/// One health check; neither the connection nor the answer may take longer than `timeout`.
pub fn healthy(health: Health, timeout: Duration) -> bool {
    match health {
        Health::Http(address) => matches!(http_status(address, "/health", timeout), Ok(100..=499)),
        Health::Connect(address) => TcpStream::connect_timeout(&address, timeout).is_ok(),
    }
}

/// The status code of a GET.
fn http_status(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // "HTTP/1.1 200" is all that matters and may come in pieces. Reading more than that where it is
    // there spares the server a reset.
    let mut answer = [0_u8; 1_024];
    let mut length = 0;
    while length < STATUS_BYTES {
        match stream.read(&mut answer[length..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            // A read with a time limit is not restarted by the kernel (man 7 signal).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    parse_status(&answer[..STATUS_BYTES])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not HTTP"))
}

/// Length of `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

fn parse_status(head: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    let (version, status) = text.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| status.parse().ok()).flatten()
}

/// Says who holds a port of an address; none if it is free.
pub fn holder(address: Ipv4Addr, port: u16) -> Option<String> {
    // std sets SO_REUSEADDR, so that only a listener stands in the way, not TIME_WAIT.
    match TcpListener::bind((address, port)) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Some(
            listening_inode(address, port)
                .and_then(owner)
                .unwrap_or_else(|| "a process of another user or namespace".to_owned()),
        ),
        Err(error) => Some(format!("nobody, but it cannot be bound: {error}")),
    }
}

/// The socket inode that listens on the port, on this address or on all of them.
fn listening_inode(address: Ipv4Addr, port: u16) -> Option<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let listener = parse_listener(line)?;
            let covers = listener.address.is_unspecified()
                || listener.address == IpAddr::V4(address)
                || listener.address == IpAddr::V6(address.to_ipv6_mapped());
            (covers && listener.port == port).then_some(listener.inode)
        })
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// A line of `/proc/net/tcp` or `tcp6` (man 5 proc_net); none unless it is in state LISTEN (0A).
/// Addresses are 32-bit words in the host's byte order, in hexadecimal.
fn parse_listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != "0A" {
        return None;
    }
    let (host, port) = local.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(host.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address = match host.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0_u8; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some(Listener {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Finds the process that has a socket open, as `name (pid 12)`.
fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()));
        if holds {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_nothing_else_is() {
        assert_eq!(parse_status(b"HTTP/1.1 200"), Some(200));
        assert_eq!(parse_status(b"HTTP/1.0 404"), Some(404));
        assert_eq!(parse_status(b"HTTP/1.1 2x0"), None);
        assert_eq!(parse_status(b"SSH-2.0-Open"), None);
    }

    #[test]
    fn a_listener_line_is_read_and_an_established_one_is_not() {
        let words = u32::from_ne_bytes([127, 0, 0, 11]);
        let line = |state: &str| {
            format!(
                "  0: {words:08X}:1F90 00000000:0000 {state} 00000000:00000000 00:0 0 0 0 4711 1"
            )
        };
        assert_eq!(
            parse_listener(&line("0A")),
            Some(Listener { address: IpAddr::from([127, 0, 0, 11]), port: 8080, inode: 4711 })
        );
        assert_eq!(parse_listener(&line("01")), None);
        assert_eq!(parse_listener("garbage"), None);
    }

    #[test]
    fn the_holder_of_a_port_is_named_with_its_pid() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let holder_text = holder(Ipv4Addr::LOCALHOST, port).expect("held by this process");
        assert!(holder_text.contains(&format!("pid {}", std::process::id())), "{holder_text}");
        drop(listener);
        assert_eq!(holder(Ipv4Addr::LOCALHOST, port), None);
    }

    #[test]
    fn health_is_any_answer_that_is_no_server_error() {
        for (answer, expected) in [("200 OK", true), ("404 Not Found", true), ("503 Busy", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
            let address = listener.local_addr().expect("has an address");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accepts");
                let mut request = [0_u8; 1_024];
                let _ = stream.read(&mut request).expect("reads");
                let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("writes");
            });
            let patient = Duration::from_secs(600);
            let status = http_status(address, "/health", patient);
            assert_eq!(status.as_ref().is_ok_and(|s| *s < 500), expected, "{answer}: {status:?}");
            server.join().expect("ends");
        }
    }
}
