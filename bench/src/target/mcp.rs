//! What is answered: MCP over HTTP in both eras, JSON-RPC lines, and a short text for the rest.
//!
//! Content only. How it is delivered is decided by [`super::faults`], and sent by
//! [`super::serve`].

use super::faults::Fate;
use super::options::{Era, HttpProtocol, Options};
use super::reply::{self, Framing};
use super::request::{Method, Request};
use super::rpc::{self, Message};
use super::sessions::Removal;
use super::stats::Count;
use super::steps::Step;
use super::worker::Worker;
use crate::clock;

/// The stateless revision (2026-07-28 has neither initialize nor sessions).
const STATELESS_REVISION: &str = "2026-07-28";
/// Revisions with sessions; the last is offered to a client that asks for another.
const SESSION_REVISIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// The answer, if any, stands at the end of the output buffer.
    Written,
    /// The answer is to be performed.
    Steps(Vec<Step>),
    /// The head of a stream stands at the end of the output buffer; the connection is its own.
    Stream,
}

/// Results that are the same for every request.
#[derive(Debug)]
pub struct Texts {
    plain: Vec<u8>,
    tool: String,
    tool_error: String,
    tools: &'static str,
    empty: &'static str,
}

impl Texts {
    /// Composes them for the options.
    pub fn new(options: &Options) -> Self {
        let stateless = options.era == Era::Stateless;
        let text: String = "ok".chars().cycle().take(options.payload_bytes).collect();
        let kind = if stateless { r#""resultType":"complete","# } else { "" };
        let tool = |is_error| {
            format!(
                r#"{{{kind}"content":[{{"type":"text","text":"{text}"}}],"isError":{is_error}}}"#
            )
        };
        let mut plain = Vec::new();
        reply::text(&mut plain, 200, text.as_bytes());
        Self {
            plain,
            tool: tool(false),
            tool_error: tool(true),
            tools: if stateless { STATELESS_TOOLS } else { SESSION_TOOLS },
            empty: if stateless { r#"{"resultType":"complete"}"# } else { "{}" },
        }
    }
}

const SESSION_TOOLS: &str = concat!(
    r#"{"tools":[{"name":"echo","description":"Answers ok.","#,
    r#""inputSchema":{"type":"object"}}]}"#
);
const STATELESS_TOOLS: &str = concat!(
    r#"{"resultType":"complete","tools":[{"name":"echo","description":"Answers ok.","#,
    r#""inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"public"}"#
);
const DISCOVERED: &str = concat!(
    r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"#,
    r#""capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public","#,
    r#""_meta":{"io.modelcontextprotocol/serverInfo":"#,
    r#"{"name":"fast-target","version":"0.1.0"}}}"#
);

/// Answers one HTTP request into `out`; `arrived_ns` is 0 where no fault asks for it.
pub fn http(
    worker: &Worker,
    request: &Request<'_>,
    arrived_ns: u64,
    out: &mut Vec<u8>,
) -> Answered {
    let options = &worker.shared.options;
    let path = request.path.split('?').next().unwrap_or_default();
    let start = out.len();
    if options.protocol == HttpProtocol::Http || path != options.path {
        worker.counters().add(Count::Requests, 1);
        plain(worker, request, out);
        return deliver(worker, Framing::Json, None, arrived_ns, out, start);
    }
    match request.method {
        Method::Post => post(worker, request, arrived_ns, out),
        Method::Get => {
            worker.counters().add(Count::Requests, 1);
            get(worker, request, out)
        }
        Method::Delete if options.era != Era::Stateless => {
            worker.counters().add(Count::Requests, 1);
            delete(worker, request, out);
            if worker.faults.spares_handshake() {
                return Answered::Written;
            }
            deliver(worker, Framing::Json, None, arrived_ns, out, start)
        }
        Method::Delete | Method::Head | Method::Other => {
            worker.counters().add(Count::Requests, 1);
            reply::empty(out, 405);
            Answered::Written
        }
    }
}

/// Answers one line into `out`; `arrived_ns` as for [`http`].
pub fn line(worker: &Worker, line: &[u8], arrived_ns: u64, out: &mut Vec<u8>) -> Answered {
    let start = out.len();
    let Some(message) = rpc::scan(line) else {
        worker.counters().add(Count::BadRequests, 1);
        rpc_error(out, Framing::Line, 200, b"null", -32700, "Parse error");
        return Answered::Written;
    };
    if !message.is_request() {
        worker.counters().add(Count::Notifications, 1);
        return Answered::Written;
    }
    worker.counters().add(Count::Requests, 1);
    let spared = spared(worker, &message);
    let fate = if spared { Fate::Normal } else { worker.faults.fate(worker) };
    result(worker, &message, line, fate, Framing::Line, None, out);
    if spared {
        return Answered::Written;
    }
    deliver(worker, Framing::Line, message.id, arrived_ns, out, start)
}

fn deliver(
    worker: &Worker,
    framing: Framing,
    id: Option<&[u8]>,
    arrived_ns: u64,
    out: &mut Vec<u8>,
    start: usize,
) -> Answered {
    match worker.faults.deliver(worker, framing, id, arrived_ns, out, start) {
        Some(steps) => Answered::Steps(steps),
        None => Answered::Written,
    }
}

fn plain(worker: &Worker, request: &Request<'_>, out: &mut Vec<u8>) {
    if worker.faults.fate(worker) == Fate::Error {
        worker.counters().add(Count::Errors, 1);
        reply::text(out, 500, b"ordered fault");
        return;
    }
    let start = out.len();
    out.extend_from_slice(&worker.texts.plain);
    if request.method == Method::Head {
        // A HEAD answer is the GET answer without its body (RFC 9110 section 9.3.2).
        out.truncate(start + out[start..].len() - worker.shared.options.payload_bytes);
    }
}

fn post(worker: &Worker, request: &Request<'_>, arrived_ns: u64, out: &mut Vec<u8>) -> Answered {
    let start = out.len();
    let era = worker.shared.options.era;
    let Some(message) = rpc::scan(request.body) else {
        worker.counters().add(Count::BadRequests, 1);
        rpc_error(out, Framing::Json, 400, b"null", -32700, "Parse error");
        return Answered::Written;
    };
    let count = if message.is_request() { Count::Requests } else { Count::Notifications };
    worker.counters().add(count, 1);
    let spared = spared(worker, &message);
    let fate = if spared { Fate::Normal } else { worker.faults.fate(worker) };
    let framing = if worker.shared.options.sse { Framing::Sse } else { Framing::Json };
    if fate == Fate::Error {
        worker.counters().add(Count::Errors, 1);
        reply::text(out, 500, b"ordered fault");
    } else if era == Era::Stateless {
        if stateless(worker, request, &message, fate, framing, out) {
            return Answered::Stream;
        }
    } else {
        with_sessions(worker, request, &message, fate, framing, out);
    }
    if spared {
        return Answered::Written;
    }
    deliver(worker, framing, message.id, arrived_ns, out, start)
}

/// The sessions era: initialize gives a session, everything else must name it.
fn with_sessions(
    worker: &Worker,
    request: &Request<'_>,
    message: &Message<'_>,
    fate: Fate,
    framing: Framing,
    out: &mut Vec<u8>,
) {
    let sessions_wanted = worker.shared.options.era == Era::Sessions;
    let id = message.id.unwrap_or(b"null");
    let mut given = None;
    if message.is_request() && message.method == Some("initialize") {
        if sessions_wanted {
            given = worker.shared.sessions().create(clock::now_ns());
            if given.is_none() {
                rpc_error(out, Framing::Json, 503, id, -32000, "Session limit reached");
                return;
            }
        }
    } else if sessions_wanted && !session_is_known(worker, request, fate, id, out) {
        return;
    }
    if message.is_request() {
        result(worker, message, request.body, fate, framing, given.as_deref(), out);
    } else {
        reply::empty(out, 202);
    }
}

/// Looks the named session up; writes the refusal if there is none.
fn session_is_known(
    worker: &Worker,
    request: &Request<'_>,
    fate: Fate,
    id: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let Some(name) = request.session else {
        rpc_error(out, Framing::Json, 400, id, -32600, "Mcp-Session-Id is missing");
        return false;
    };
    let mut sessions = worker.shared.sessions();
    if fate == Fate::Forgotten {
        sessions.remove(name, Removal::Forgotten);
    }
    let now_ns = if sessions.needs_time() { clock::now_ns() } else { 0 };
    if sessions.touch(name, now_ns) {
        return true;
    }
    rpc_error(out, Framing::Json, 404, id, -32001, "Session not found");
    false
}

/// The stateless era; true if the answer is a stream that stays open.
fn stateless(
    worker: &Worker,
    request: &Request<'_>,
    message: &Message<'_>,
    fate: Fate,
    framing: Framing,
    out: &mut Vec<u8>,
) -> bool {
    let id = message.id.unwrap_or(b"null");
    if request.version != Some(STATELESS_REVISION.as_bytes()) {
        let data = r#","data":{"supported":["2026-07-28"]}"#;
        let code = b",\"error\":{\"code\":-32022,\"message\":\"Unsupported protocol version\"";
        let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, code, data.as_bytes(), b"}}"];
        reply::framed(out, Framing::Json, 400, None, &parts);
        return false;
    }
    let Some(method) = message.method else {
        reply::empty(out, 202);
        return false;
    };
    if request.mcp_method != Some(method.as_bytes()) {
        rpc_error(out, Framing::Json, 400, id, -32020, "Mcp-Method differs from the body");
        return false;
    }
    if message.id.is_none() {
        reply::empty(out, 202);
        return false;
    }
    if method == "initialize" || method == "ping" {
        rpc_error(out, Framing::Json, 404, id, -32601, "Method not found");
        return false;
    }
    if method == "subscriptions/listen" {
        worker.counters().add(Count::Streams, 1);
        out.extend_from_slice(reply::STREAM_HEAD);
        let before = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","#,
            r#""params":{"notifications":{},"#,
            r#""_meta":{"io.modelcontextprotocol/subscriptionId":"#
        );
        reply::event(out, &[before.as_bytes(), id, b"}}}"]);
        return true;
    }
    result(worker, message, request.body, fate, framing, None, out);
    false
}

fn get(worker: &Worker, request: &Request<'_>, out: &mut Vec<u8>) -> Answered {
    let options = &worker.shared.options;
    if !options.streams || options.era == Era::Stateless || !request.accepts_stream {
        reply::empty(out, 405);
        return Answered::Written;
    }
    let fate = worker.faults.fate(worker);
    if options.era == Era::Sessions && !session_is_known(worker, request, fate, b"null", out) {
        return Answered::Written;
    }
    worker.counters().add(Count::Streams, 1);
    out.extend_from_slice(reply::STREAM_HEAD);
    Answered::Stream
}

fn delete(worker: &Worker, request: &Request<'_>, out: &mut Vec<u8>) {
    let status = match request.session {
        None => 400,
        Some(name) if worker.shared.sessions().remove(name, Removal::Deleted) => 200,
        Some(_) => 404,
    };
    reply::empty(out, status);
}

fn spared(worker: &Worker, message: &Message<'_>) -> bool {
    let handshake = ["initialize", "notifications/initialized", "server/discover"];
    worker.faults.spares_handshake()
        && message.method.is_some_and(|method| handshake.contains(&method))
}

/// Writes the answer to a request, or the error that its fate is.
fn result(
    worker: &Worker,
    message: &Message<'_>,
    body: &[u8],
    fate: Fate,
    framing: Framing,
    session: Option<&str>,
    out: &mut Vec<u8>,
) {
    let id = message.id.unwrap_or(b"null");
    let texts = &worker.texts;
    if fate == Fate::RpcError {
        worker.counters().add(Count::RpcErrors, 1);
        rpc_error(out, framing, 200, id, -32603, "Ordered fault");
        return;
    }
    let initialized;
    let result = match message.method.unwrap_or_default() {
        "tools/call" if fate == Fate::ToolError => {
            worker.counters().add(Count::ToolErrors, 1);
            &texts.tool_error
        }
        "tools/call" => &texts.tool,
        "tools/list" => texts.tools,
        "initialize" => {
            initialized = initialize_result(body);
            &initialized
        }
        "server/discover" => DISCOVERED,
        _ => texts.empty,
    };
    let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":", result.as_bytes(), b"}"];
    reply::framed(out, framing, 200, session, &parts);
}

fn initialize_result(body: &[u8]) -> String {
    let asked = rpc::find_text(body, "protocolVersion").unwrap_or_default();
    let newest = SESSION_REVISIONS[SESSION_REVISIONS.len() - 1];
    let revision = SESSION_REVISIONS.into_iter().find(|&known| known == asked).unwrap_or(newest);
    format!(
        concat!(
            r#"{{"protocolVersion":"{}","capabilities":{{"tools":{{}}}},"#,
            r#""serverInfo":{{"name":"fast-target","version":"0.1.0"}}}}"#
        ),
        revision
    )
}

fn rpc_error(
    out: &mut Vec<u8>,
    framing: Framing,
    status: u16,
    id: &[u8],
    code: i32,
    message: &str,
) {
    let error = format!(r#","error":{{"code":{code},"message":"{message}"}}}}"#);
    reply::framed(
        out,
        framing,
        status,
        None,
        &[b"{\"jsonrpc\":\"2.0\",\"id\":", id, error.as_bytes()],
    );
}
