//! HTTP by hand: what is on the wire, without a library's view of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

/// The `initialize` request of a sessions-era client.
pub fn initialize(revision: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": revision,
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }})
}

/// A request with `params`.
pub fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A `tools/call` request.
pub fn call(id: u64, tool: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

/// A whole HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// The one JSON-RPC message of the body, be it JSON or an event stream.
    pub fn message(&self) -> Value {
        if self.header("content-type") == Some("application/json") {
            return serde_json::from_str(&self.body).unwrap();
        }
        assert_eq!(self.header("content-type"), Some("text/event-stream"), "{self:?}");
        let data = |line: &str| line.strip_prefix("data:").map(|data| data.trim().to_owned());
        let mut messages =
            self.body.lines().filter_map(data).filter(|data| !data.is_empty()).collect::<Vec<_>>();
        assert_eq!(messages.len(), 1, "{self:?}");
        serde_json::from_str(&messages.remove(0)).unwrap()
    }
}

/// Sends a request on a connection of its own and reads the whole response.
pub fn send(at: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut stream = open(at, method, path, headers, body, "close");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the response ends with its connection");
    parse(&bytes)
}

/// Sends a request and returns its connection, with nothing read.
pub fn open(
    at: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    connection: &str,
) -> TcpStream {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: {connection}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            text += "Accept: application/json, text/event-stream\r\n";
        }
    }
    let mut stream = TcpStream::connect(at).expect("the server accepts");
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

/// Reads up to and including the first `mark`, byte by byte.
pub fn read_until(stream: &mut TcpStream, mark: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(mark.as_bytes()) {
        let count = stream.read(&mut byte).unwrap();
        assert_ne!(count, 0, "ended before {mark:?}: {}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

fn parse(bytes: &[u8]) -> Response {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header line"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let body = if chunked { dechunk(body) } else { body.to_owned() };
    Response { status, headers, body }
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal size");
        if size == 0 {
            assert_eq!(after, "\r\n", "nothing follows the last chunk");
            return body;
        }
        body += &after[..size];
        rest = after[size..].strip_prefix("\r\n").expect("a chunk ends");
    }
}

/// A session of the sessions era, spoken by hand.
pub struct Session {
    at: String,
    revision: &'static str,
    id: String,
}

impl Session {
    /// Initializes; the session id must be there.
    pub fn new(at: &str, revision: &'static str) -> Self {
        let response = send(at, "POST", "/mcp", &[], &initialize(revision).to_string());
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.message()["result"]["protocolVersion"], revision);
        let id = response.header("mcp-session-id").expect("a session id").to_owned();
        let session = Self { at: at.to_owned(), revision, id };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let response = session.post(&initialized);
        assert_eq!((response.status, response.body.as_str()), (202, ""));
        session
    }

    /// The headers of every request after initialize.
    pub fn headers(&self) -> [(&str, &str); 2] {
        [("Mcp-Session-Id", &self.id), ("MCP-Protocol-Version", self.revision)]
    }

    /// Posts a message.
    pub fn post(&self, message: &Value) -> Response {
        send(&self.at, "POST", "/mcp", &self.headers(), &message.to_string())
    }

    /// Ends the session.
    pub fn delete(&self) -> Response {
        send(&self.at, "DELETE", "/mcp", &self.headers(), "")
    }

    /// Opens the session's stream; returns the connection after the head.
    pub fn stream(&self) -> TcpStream {
        let mut headers = self.headers().to_vec();
        headers.push(("Accept", "text/event-stream"));
        let mut stream = open(&self.at, "GET", "/mcp", &headers, "", "keep-alive");
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        stream
    }
}

/// The value of the sample whose line begins with `series`; 0 if there is none.
pub fn metric(at: &str, series: &str) -> f64 {
    let text = send(at, "GET", "/metrics", &[], "").body;
    let line = text
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Asks again until `done`; a server that never gets there hangs the test, which says so by name.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
