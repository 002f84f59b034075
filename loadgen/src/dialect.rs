//! What is spoken to a target, and the requests prepared for it.

use wire::mcp::{BuildError, Era, Fields, Operation, Revision, Template};

use crate::cli::Protocol;
use crate::layer::{BadTls, Wrapping, WsPeer};
use crate::ops::Op;
use crate::plan::Work;
use crate::plan::target::{Framing, TargetUrl};

/// Ids of this many digits are allowed for when a send buffer is sized.
const LONGEST_ID: u64 = u32::MAX as u64;
/// Session ids of this many bytes are allowed for; what servers give has 32 to 36. Over HTTP+SSE it
/// is the address that a session's messages go to.
pub const SESSION_ID_BYTES: usize = 128;
/// Ids of events of this many bytes are allowed for; longer ones are not kept.
const EVENT_ID_BYTES: usize = 256;

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Plain HTTP requests.
    Http,
    /// MCP over streamable HTTP.
    Mcp(Revision),
    /// MCP over HTTP+SSE, as 2024-11-05 has it: answers come on an event stream.
    HttpSse(Revision),
    /// MCP as lines over TCP, or as text messages over WebSocket.
    Lines(Revision),
}

impl Dialect {
    /// The name in the log's header.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Http => "http",
            Dialect::Mcp(revision) | Dialect::Lines(revision) => revision.as_str(),
            Dialect::HttpSse(revision) => match revision {
                Revision::V2024_11_05 => "2024-11-05 over HTTP+SSE",
                Revision::V2025_03_26 => "2025-03-26 over HTTP+SSE",
                Revision::V2025_06_18 => "2025-06-18 over HTTP+SSE",
                Revision::V2025_11_25 => "2025-11-25 over HTTP+SSE",
                Revision::V2026_07_28 => "2026-07-28 over HTTP+SSE",
            },
        }
    }

    /// Whether a session's answers come on an event stream that is a connection of its own.
    pub fn answers_on_stream(self) -> bool {
        match self {
            Dialect::HttpSse(_) => true,
            Dialect::Http | Dialect::Mcp(_) | Dialect::Lines(_) => false,
        }
    }

    /// Whether a request of the server is answered over a connection of its own: that of the
    /// session may be waiting for just that answer.
    pub fn answers_apart(self) -> bool {
        match self {
            Dialect::Mcp(revision) | Dialect::HttpSse(revision) => revision.era() == Era::Sessions,
            Dialect::Http | Dialect::Lines(_) => false,
        }
    }

    /// Whether answers are read as HTTP.
    pub fn is_http(self) -> bool {
        !matches!(self, Dialect::Lines(_))
    }

    /// What opens a session, if anything does.
    pub fn opening(self) -> Option<Op> {
        match self {
            Dialect::Http => None,
            Dialect::Mcp(r) | Dialect::HttpSse(r) | Dialect::Lines(r) => Some(match r.era() {
                Era::Sessions => Op::Initialize,
                Era::Stateless => Op::Discover,
            }),
        }
    }
}

/// What the scheduled requests ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// A tool call with the text of its arguments.
    Tool {
        /// The tool.
        name: String,
        /// A JSON object.
        arguments: String,
    },
    /// `tools/list`, which every server answers.
    ToolsList,
}

/// The requests of one target, ready to be rendered.
#[derive(Clone, Debug)]
pub struct Requests(Vec<Option<Template>>);

impl Requests {
    /// Prepares all that the dialect has.
    ///
    /// # Errors
    /// [`BuildError`] names the header or argument that cannot be sent.
    pub fn prepare(url: &TargetUrl, dialect: Dialect, work: &Work) -> Result<Self, BuildError> {
        let target = wire_target(url, dialect, work);
        let build = |operation| match url.scheme.framing {
            Framing::Http if dialect.answers_on_stream() => Template::http_sse(&target, operation),
            Framing::Http => Template::http(&target, operation),
            Framing::Lines | Framing::WebSocket => Template::line(&target, operation),
        };
        let mut all: Vec<Option<Template>> = Op::all(work.mix.count()).map(|_| None).collect();
        let mut set = |op: Op, operation| -> Result<(), BuildError> {
            all[usize::from(op.number())] = Some(build(operation)?);
            Ok(())
        };
        for (number, load) in (0..).zip(work.mix.loads()) {
            set(Op::Call(number), operation(work, url.scheme.framing, load))?;
        }
        match dialect {
            Dialect::Http => set(Op::Ping, work.plain.operation())?,
            Dialect::Mcp(r) | Dialect::HttpSse(r) | Dialect::Lines(r) => match r.era() {
                Era::Stateless => {
                    set(Op::Discover, Operation::Discover)?;
                    set(Op::Ping, Operation::Discover)?;
                    if dialect.is_http() {
                        set(Op::Stream, Operation::Listen)?;
                    }
                }
                Era::Sessions => {
                    set(Op::Initialize, Operation::Initialize)?;
                    set(Op::Initialized, Operation::Initialized)?;
                    set(Op::Ping, Operation::Ping)?;
                    set(Op::Verify, Operation::Ping)?;
                    set(Op::Pong, Operation::AnswerPing)?;
                    set(Op::Decline, Operation::AnswerUnknown)?;
                    if dialect.is_http() {
                        set(Op::Stream, Operation::Stream)?;
                    }
                    if matches!(dialect, Dialect::Mcp(_)) {
                        set(Op::Delete, Operation::Delete)?;
                    }
                }
            },
        }
        Ok(Self(all))
    }

    /// The request of an operation, where the dialect has it.
    pub fn get(&self, op: Op) -> Option<&Template> {
        self.0.get(usize::from(op.number()))?.as_ref()
    }

    /// Bytes of the longest request.
    pub fn longest(&self) -> usize {
        let (session, last_event) = ([b'x'; SESSION_ID_BYTES], [b'x'; EVENT_ID_BYTES]);
        let last_event = &last_event;
        let fields = Fields { last_event, ..Fields::request(LONGEST_ID, &session) };
        self.0.iter().flatten().map(|t| t.rendered_len(&fields)).max().unwrap_or(0)
    }
}

/// What a scheduled request asks for.
fn operation<'a>(work: &'a Work, framing: Framing, load: &'a Load) -> Operation<'a> {
    match (work.protocol, framing, load) {
        (Protocol::Http, Framing::Http, _) => work.plain.operation(),
        (_, _, Load::Tool { name, arguments }) => Operation::ToolsCall { name, arguments },
        (_, _, Load::ToolsList) => Operation::ToolsList,
    }
}

/// Why a target cannot be wrapped as its address says.
#[derive(Debug, thiserror::Error)]
pub enum Unwrappable {
    /// See [`BadTls`].
    #[error(transparent)]
    Tls(#[from] BadTls),
    /// A header or path that cannot be sent.
    #[error(transparent)]
    Request(#[from] BuildError),
}

/// What lies between a connection to this target and its messages; nothing over TCP in clear.
///
/// # Errors
/// [`Unwrappable`].
pub fn wrapping(url: &TargetUrl, work: &Work) -> Result<Option<Wrapping>, Unwrappable> {
    let framing = url.scheme.framing;
    // What is spoken inside HTTP, and so offered by ALPN, is HTTP/1.1 and nothing else.
    let usual = (framing != Framing::Lines).then_some("http/1.1");
    let tls = match url.scheme.tls {
        true => Some(work.transport.tls(&url.host, usual)?),
        false => None,
    };
    let ws = match framing {
        Framing::WebSocket => {
            let target = wire_target(url, Dialect::Http, work);
            // Refuses what would break the handshake apart.
            Template::http(&target, Operation::PlainGet)?;
            Some(WsPeer::new(target, work.transport.ws_newline))
        }
        Framing::Http | Framing::Lines => None,
    };
    let plain = tls.is_none() && ws.is_none();
    Ok((!plain).then_some(Wrapping { tls, ws }))
}

/// The target as the protocol crate wants it.
fn wire_target(url: &TargetUrl, dialect: Dialect, work: &Work) -> wire::mcp::Target {
    let revision = match dialect {
        Dialect::Http => Revision::V2025_11_25,
        Dialect::Mcp(revision) | Dialect::HttpSse(revision) | Dialect::Lines(revision) => revision,
    };
    wire::mcp::Target {
        host: url.authority(),
        path: url.path.clone(),
        revision,
        headers: work.headers.clone(),
        client_name: env!("CARGO_PKG_NAME").into(),
        client_version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// The path of an `endpoint` event: it may be a whole address, which has to be of the same origin.
pub fn endpoint_path<'a>(text: &'a [u8], authority: &str) -> Option<&'a [u8]> {
    if text.starts_with(b"/") {
        return Some(text);
    }
    let rest = match text.iter().position(|&b| b == b':') {
        Some(at) if text[at..].starts_with(b"://") => {
            text[at + 3..].strip_prefix(authority.as_bytes())?
        }
        _ => text,
    };
    rest.starts_with(b"/").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::endpoint_path;

    #[test]
    fn an_endpoint_is_a_path_or_an_address_of_the_same_origin() {
        let path = |text: &'static str| endpoint_path(text.as_bytes(), "a:81");
        assert_eq!(path("/messages/?id=1"), Some(&b"/messages/?id=1"[..]));
        assert_eq!(path("http://a:81/m?u=http://b/"), Some(&b"/m?u=http://b/"[..]));
        assert_eq!(path("http://b:81/m"), None);
        assert_eq!(path("http://a:811/m"), None);
        assert_eq!(path("messages"), None);
    }
}
