//! A target as typed: scheme, host, port, path.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::str::FromStr;

use crate::ring::{Address, UNIX_PATH_MAX};

/// How messages are told apart on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1.
    Http,
    /// Newline-delimited JSON-RPC.
    Lines,
    /// A WebSocket text message for each message of JSON-RPC.
    WebSocket,
}

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// How messages are told apart.
    pub framing: Framing,
    /// Whether all of it is inside TLS.
    pub tls: bool,
}

/// The schemes by name, each with its port.
const SCHEMES: [(&str, Framing, bool, Option<u16>); 6] = [
    ("http", Framing::Http, false, Some(80)),
    ("https", Framing::Http, true, Some(443)),
    ("tcp", Framing::Lines, false, None),
    ("tls", Framing::Lines, true, None),
    ("ws", Framing::WebSocket, false, Some(80)),
    ("wss", Framing::WebSocket, true, Some(443)),
];

/// The schemes of sockets in the file system.
const UNIX_SCHEMES: [(&str, Framing); 2] = [("http+unix", Framing::Http), ("unix", Framing::Lines)];

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        let (_, framing, tls, _) = SCHEMES.iter().find(|(known, ..)| *known == name)?;
        Some(Self { framing: *framing, tls: *tls })
    }

    fn entry(self) -> &'static (&'static str, Framing, bool, Option<u16>) {
        let same = |(_, framing, tls, _): &&_| (*framing, *tls) == (self.framing, self.tls);
        SCHEMES.iter().find(same).expect("every framing is listed with and without TLS")
    }

    /// The name in an address.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// The port of an address without one, where there is one.
    pub fn port(self) -> Option<u16> {
        self.entry().3
    }

    /// Whether the address has a path.
    pub fn has_path(self) -> bool {
        self.framing != Framing::Lines
    }
}

/// A target's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    /// What is spoken.
    pub scheme: Scheme,
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port, by default that of the scheme.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The socket in the file system that is connected to instead of host and port.
    pub socket: Option<PathBuf>,
}

/// Why a text is no target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{text}' is not a target: {reason}; write http://host:port/path (https, ws, wss) or \
     tcp://host:port (tls); http+unix:/run/mcp.sock:/path or unix:/run/mcp.sock"
)]
pub struct BadTarget {
    text: String,
    reason: &'static str,
}

impl FromStr for TargetUrl {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = |reason| BadTarget { text: text.to_owned(), reason };
        if text.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(bad("it contains a space or a control character"));
        }
        for (name, framing) in UNIX_SCHEMES {
            if let Some(rest) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')) {
                return Self::unix(framing, rest).map_err(bad);
            }
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let scheme = Scheme::named(scheme).ok_or_else(|| bad("its scheme is unknown"))?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(bad("credentials do not belong into an address (use --header @FILE)"));
        }
        let (host, port) = split_port(authority).map_err(bad)?;
        let port =
            port.or(scheme.port()).ok_or_else(|| bad("a tcp:// or tls:// target needs a port"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, host: host.to_owned(), port, path, socket: None })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
        (host, after.strip_prefix(':'))
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("its port is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

impl TargetUrl {
    /// A socket of this host, and for HTTP the path behind a further colon.
    fn unix(framing: Framing, rest: &str) -> Result<Self, &'static str> {
        let (socket, path) = match (framing, rest.split_once(":/")) {
            (Framing::Http, Some((socket, path))) => (socket, format!("/{path}")),
            (Framing::Http | Framing::Lines | Framing::WebSocket, _) => (rest, "/".to_owned()),
        };
        if !socket.starts_with('/') {
            return Err("a socket is named by its whole path, as unix:/run/mcp.sock");
        }
        if socket.len() > UNIX_PATH_MAX {
            return Err("the path of a socket has 107 bytes at most");
        }
        let scheme = Scheme { framing, tls: false };
        let (host, socket) = ("localhost".to_owned(), Some(PathBuf::from(socket)));
        Ok(Self { scheme, host, port: 80, path, socket })
    }

    /// The addresses that the host has.
    ///
    /// # Errors
    /// Those of the resolver.
    pub fn resolve(&self) -> std::io::Result<Vec<Address>> {
        if let Some(path) = &self.socket {
            return Ok(vec![Address::Unix(path.clone())]);
        }
        let addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        Ok(addresses.map(Address::from).collect())
    }

    /// The same with an address in place of the name.
    pub fn at(&self, address: &Address) -> Self {
        let host = address.ip().map_or_else(|| self.host.clone(), |a| a.ip().to_string());
        Self { host, ..self.clone() }
    }

    /// `host:port` as the Host header wants it (RFC 9110 7.2).
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.socket.is_some() || Some(self.port) == self.scheme.port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl std::fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(socket) = &self.socket {
            let (socket, framing) = (socket.display(), self.scheme.framing);
            return match UNIX_SCHEMES.iter().find(|(_, known)| *known == framing) {
                Some((name, Framing::Http)) => write!(f, "{name}:{socket}:{}", self.path),
                Some((name, _)) => write!(f, "{name}:{socket}"),
                None => write!(f, "{socket}"),
            };
        }
        let path = if self.scheme.has_path() { self.path.as_str() } else { "" };
        write!(f, "{}://{}{path}", self.scheme.name(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_parse_and_print() {
        for (text, port, path, printed) in [
            ("http://a", 80, "/", "http://a/"),
            ("http://a:8080/mcp", 8080, "/mcp", "http://a:8080/mcp"),
            ("http://[::1]:81?x=1", 81, "/?x=1", "http://[::1]:81/?x=1"),
            ("tcp://127.0.0.1:5555", 5555, "/", "tcp://127.0.0.1:5555"),
            ("tls://[::1]:5556", 5556, "/", "tls://[::1]:5556"),
            ("https://a/mcp", 443, "/mcp", "https://a/mcp"),
            ("https://a:80/mcp", 80, "/mcp", "https://a:80/mcp"),
            ("ws://a/ws", 80, "/ws", "ws://a/ws"),
            ("wss://a:8443", 8443, "/", "wss://a:8443/"),
            ("http+unix:/run/a.sock", 80, "/", "http+unix:/run/a.sock:/"),
            (
                "http+unix:/run/a:b.sock:/mcp?x=1",
                80,
                "/mcp?x=1",
                "http+unix:/run/a:b.sock:/mcp?x=1",
            ),
            ("unix:/run/a.sock", 80, "/", "unix:/run/a.sock"),
        ] {
            let target: TargetUrl = text.parse().expect(text);
            assert_eq!((target.port, target.path.as_str()), (port, path));
            assert_eq!(target.to_string(), printed);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in [
            "a:80",
            "http://",
            "http://a:0/",
            "http://a:99999",
            "ftp://a",
            "tcp://a",
            "tls://a",
            "http://[::1",
            "unix:a.sock",
            "http+unix:a.sock:/mcp",
            &format!("unix:/{}", "x".repeat(107)),
        ] {
            assert!(text.parse::<TargetUrl>().is_err(), "{text}");
        }
        let socket: TargetUrl = "http+unix:/run/a.sock:/mcp".parse().expect("is a target");
        assert_eq!(socket.authority(), "localhost");
        assert_eq!(socket.resolve().expect("is one"), [Address::Unix("/run/a.sock".into())]);
        let error = "http://u:p@h/".parse::<TargetUrl>().expect_err("credentials");
        assert!(error.to_string().contains("--header"));
    }
}
