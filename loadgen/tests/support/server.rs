//! A small MCP server with one thread a connection, and servers that are none. Written on `std`
//! alone: it shares no code with what it tests.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sessions, `ping`, `tools/call`, DELETE.
    Mcp,
    /// The same, and every 50th answer on a connection is its last.
    Restless,
    /// JSON-RPC, one message a line.
    Lines,
    /// The same, and calls that came together are answered in reverse.
    Backwards,
    /// Accepts, reads, and says nothing.
    Silent,
    /// A web page for every request.
    Html,
    /// 404 for every request.
    NotFound,
    /// The alert that a TLS server sends to who speaks in clear.
    Tls,
    /// Accepts and closes.
    Closing,
    /// Plain HTTP: success for the first request of all, then 500 with the request in it.
    Mirror,
}

/// What it has counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub opened: AtomicU64,
    pub deleted: AtomicU64,
    pub calls: AtomicU64,
    pub connections: AtomicU64,
    /// Most calls that waited on one connection ([`Kind::Backwards`]).
    pub pending_max: AtomicU64,
    sessions: Mutex<HashSet<u64>>,
}

/// A server on a port of its own, until the process ends.
pub struct Server {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        Self::start_at(kind, "127.0.0.1:0".parse().expect("an address"))
    }

    pub fn start_at(kind: Kind, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        std::thread::spawn(move || accept(&listener, kind, &shared));
        Self { address, counts }
    }

    /// A server at a socket in the file system; its counts.
    pub fn start_socket(kind: Kind, path: &Path) -> Arc<Counts> {
        let listener = UnixListener::bind(path).expect("a free path");
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reader = stream.try_clone().expect("a descriptor");
                serve_apart(reader, stream, kind, &shared);
            }
        });
        counts
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

fn accept(listener: &TcpListener, kind: Kind, counts: &Arc<Counts>) {
    for stream in listener.incoming().flatten() {
        let reader = stream.set_nodelay(true).and_then(|()| stream.try_clone());
        if kind == Kind::Backwards {
            // What has come by then is answered.
            stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
        }
        serve_apart(reader.expect("a descriptor"), stream, kind, counts);
    }
}

/// Serves a connection on a thread of its own.
fn serve_apart<S: Read + Write + Send + 'static>(
    reader: S,
    writer: S,
    kind: Kind,
    counts: &Arc<Counts>,
) {
    let counts = counts.clone();
    let body = move || {
        // An error is the end of a connection.
        let _ = match kind {
            Kind::Lines | Kind::Backwards => serve_lines(reader, writer, kind, &counts),
            _ => serve(reader, writer, kind, &counts),
        };
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(body).expect("a thread");
}

/// JSON-RPC, one message a line.
fn serve_lines(
    reader: impl Read,
    mut writer: impl Write,
    kind: Kind,
    counts: &Counts,
) -> std::io::Result<()> {
    counts.connections.fetch_add(1, Ordering::Relaxed);
    let (mut reader, mut line, mut pending) = (BufReader::new(reader), String::new(), Vec::new());
    loop {
        match reader.read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                counts.pending_max.fetch_max(pending.len() as u64, Ordering::Relaxed);
                while let Some(answer) = pending.pop() {
                    writer.write_all(String::as_bytes(&answer))?;
                }
                continue;
            }
            Err(e) => return Err(e),
        }
        if let Some(answer) = answer_line(&line, counts) {
            if kind == Kind::Backwards && line.contains("\"tools/call\"") {
                pending.push(answer);
            } else {
                writer.write_all(answer.as_bytes())?;
            }
        }
        line.clear();
    }
}

fn answer_line(line: &str, counts: &Counts) -> Option<String> {
    let id = line.split("\"id\":").nth(1)?.split([',', '}']).next()?;
    let result = if line.contains("\"initialize\"") {
        counts.opened.fetch_add(1, Ordering::Relaxed);
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"test","version":"1"}}"#
    } else if line.contains("\"tools/call\"") {
        counts.calls.fetch_add(1, Ordering::Relaxed);
        r#"{"content":[{"type":"text","text":"hello"}]}"#
    } else if line.contains("\"ping\"") {
        "{}"
    } else {
        return Some(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32601,\"message\":\"no\"}}}}\n"
        ));
    };
    Some(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n"))
}

fn serve(
    reader: impl Read,
    mut stream: impl Write,
    kind: Kind,
    counts: &Counts,
) -> std::io::Result<()> {
    if kind == Kind::Closing {
        return Ok(());
    }
    counts.connections.fetch_add(1, Ordering::Relaxed);
    let (mut reader, mut answers) = (BufReader::new(reader), 0);
    while let Some(request) = read_request(&mut reader)? {
        let head_only = request.method == "HEAD";
        let mut answer = match kind {
            Kind::Mcp => answer(&request, counts),
            Kind::Restless if answers % 50 == 49 => {
                answer(&request, counts).replacen("\r\n", "\r\nConnection: close\r\n", 1)
            }
            Kind::Restless => answer(&request, counts),
            Kind::Silent => continue,
            Kind::Mirror if counts.calls.fetch_add(1, Ordering::Relaxed) == 0 => {
                reply("200 OK", "text/plain", "", "fine")
            }
            Kind::Mirror => {
                let said = format!("{}\n{}", request.head, request.body);
                reply("500 Server Error", "text/plain", "", &said)
            }
            Kind::Html => reply("200 OK", "text/html", "", "<html><body>Welcome</body></html>"),
            Kind::NotFound => reply("404 Not Found", "text/plain", "", "no such page"),
            Kind::Tls | Kind::Closing | Kind::Lines | Kind::Backwards => {
                "\x15\x03\x01\0\x02\x02\x46".into()
            }
        };
        if head_only {
            // RFC 9110 section 9.3.2: the fields of the answer to GET, and no content.
            answer.truncate(answer.find("\r\n\r\n").map_or(answer.len(), |end| end + 4));
        }
        stream.write_all(answer.as_bytes())?;
        answers += 1;
        if kind == Kind::Tls || (kind == Kind::Restless && answers % 50 == 0) {
            return Ok(());
        }
    }
    Ok(())
}

/// What a client asked for.
pub struct Request {
    pub method: String,
    pub head: String,
    pub session: Option<u64>,
    pub body: String,
}

/// The next request; `None` at the end.
pub fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let (mut length, mut session) = (0, None);
    let mut head = line.clone();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        head += &line;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "mcp-session-id" => session = value.trim().strip_prefix("s-").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let session = session.and_then(|id| id.parse().ok());
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, head, session, body }))
}

/// What an MCP server with sessions says to it.
pub fn answer(request: &Request, counts: &Counts) -> String {
    let body = &request.body;
    let id = body.split("\"id\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    let id = id.unwrap_or("null");
    let result = |session: &str, result: &str| {
        let json = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        reply("200 OK", "application/json", session, &json)
    };
    let mut sessions = counts.sessions.lock().expect("no holder panics");
    if body.contains("\"initialize\"") {
        let number = counts.opened.fetch_add(1, Ordering::Relaxed) + 1;
        sessions.insert(number);
        let info = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},
            "serverInfo":{"name":"test","version":"1"}}"#;
        return result(&format!("Mcp-Session-Id: s-{number}\r\n"), info);
    }
    match request.session {
        None => return reply("400 Bad Request", "text/plain", "", "no session"),
        Some(number) if !sessions.contains(&number) => {
            return reply("404 Not Found", "text/plain", "", "no such session");
        }
        Some(number) if request.method == "DELETE" => {
            sessions.remove(&number);
            counts.deleted.fetch_add(1, Ordering::Relaxed);
            return reply("200 OK", "text/plain", "", "");
        }
        Some(_) => {}
    }
    if body.contains("\"notifications/initialized\"") {
        return "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".into();
    }
    if body.contains("\"tools/call\"") {
        counts.calls.fetch_add(1, Ordering::Relaxed);
        return result("", r#"{"content":[{"type":"text","text":"hello"}]}"#);
    }
    result("", "{}")
}

/// An answer in HTTP.
pub fn reply(status: &str, kind: &str, more: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len}\r\n\r\n{body}"
    )
}
