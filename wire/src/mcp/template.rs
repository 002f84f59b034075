//! Client messages, built once and rendered per request without allocation.
//!
//! Owns the exact bytes of every client message of both eras. Must not know what they are sent on
//! or when.

use super::build::{Envelope, body, head};
use super::{Era, Revision};
use crate::client::{Expectation, Purpose};
use crate::jsonrpc::Method;

/// Where messages go and what every one of them carries.
#[derive(Debug, Clone)]
pub struct Target {
    /// Value of `Host`, such as `127.0.0.11:8080`.
    pub host: String,
    /// Request target, such as `/mcp`.
    pub path: String,
    /// The revision spoken: negotiated, or to be offered by `initialize`.
    pub revision: Revision,
    /// Further header fields, such as `Authorization`; a `Host` here replaces the one above.
    pub headers: Vec<(String, String)>,
    /// `clientInfo.name`.
    pub client_name: String,
    /// `clientInfo.version`.
    pub client_version: String,
}

impl Target {
    /// A target without further header fields, for a client that calls itself `loadgen`.
    pub fn new(host: &str, path: &str, revision: Revision) -> Self {
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            revision,
            headers: Vec::new(),
            client_name: "loadgen".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A message to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A plain HTTP GET of the target's path.
    PlainGet,
    /// A plain HTTP request of the target's path.
    Plain {
        /// Its method.
        method: &'a str,
        /// Its content; empty for none.
        body: &'a [u8],
    },
    /// `initialize` (sessions era).
    Initialize,
    /// `notifications/initialized` (sessions era).
    Initialized,
    /// `ping` (sessions era).
    Ping,
    /// `tools/list`
    ToolsList,
    /// `tools/call`
    ToolsCall {
        /// The tool.
        name: &'a str,
        /// Its arguments, the text of one JSON object.
        arguments: &'a str,
    },
    /// `resources/list`
    ResourcesList,
    /// `resources/read`
    ResourcesRead {
        /// The resource.
        uri: &'a str,
    },
    /// `prompts/list`
    PromptsList,
    /// `prompts/get`
    PromptsGet {
        /// The prompt.
        name: &'a str,
        /// Its arguments, the text of one JSON object.
        arguments: &'a str,
    },
    /// `server/discover` (stateless era).
    Discover,
    /// `subscriptions/listen` for the list-changed notifications (stateless era).
    Listen,
    /// GET of the session's event stream (sessions era), with `Last-Event-ID` if one is given.
    Stream,
    /// DELETE of the session (sessions era).
    Delete,
    /// The empty result that answers a server's `ping` (sessions era).
    AnswerPing,
    /// The error -32601 that answers any other server request (sessions era).
    AnswerUnknown,
}

impl Operation<'_> {
    /// The answer that a server request of this method gets.
    pub fn answer_to(method: Method) -> Self {
        if method == Method::Ping { Self::AnswerPing } else { Self::AnswerUnknown }
    }

    /// The JSON-RPC method, or a name for what has none.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PlainGet => "GET",
            Self::Plain { .. } => "plain request",
            Self::Initialize => "initialize",
            Self::Initialized => "notifications/initialized",
            Self::Ping => "ping",
            Self::ToolsList => "tools/list",
            Self::ToolsCall { .. } => "tools/call",
            Self::ResourcesList => "resources/list",
            Self::ResourcesRead { .. } => "resources/read",
            Self::PromptsList => "prompts/list",
            Self::PromptsGet { .. } => "prompts/get",
            Self::Discover => "server/discover",
            Self::Listen => "subscriptions/listen",
            Self::Stream => "GET stream",
            Self::Delete => "DELETE",
            Self::AnswerPing => "answer to a ping",
            Self::AnswerUnknown => "answer to an unknown request",
        }
    }

    /// What the request is for.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::PlainGet | Self::Plain { .. } => Purpose::Plain,
            Self::Initialize => Purpose::Initialize,
            Self::Initialized | Self::AnswerPing | Self::AnswerUnknown => Purpose::Notification,
            Self::Ping
            | Self::ToolsList
            | Self::ToolsCall { .. }
            | Self::ResourcesList
            | Self::ResourcesRead { .. }
            | Self::PromptsList
            | Self::PromptsGet { .. }
            | Self::Discover => Purpose::Request,
            Self::Listen => Purpose::Listen,
            Self::Stream => Purpose::Stream,
            Self::Delete => Purpose::Delete,
        }
    }

    /// Whether a revision has the operation.
    pub fn is_in(&self, revision: Revision) -> bool {
        match self {
            Self::PlainGet
            | Self::Plain { .. }
            | Self::ToolsList
            | Self::ToolsCall { .. }
            | Self::ResourcesList
            | Self::ResourcesRead { .. }
            | Self::PromptsList
            | Self::PromptsGet { .. } => true,
            Self::Discover | Self::Listen => revision.era() == Era::Stateless,
            Self::Initialize
            | Self::Initialized
            | Self::Ping
            | Self::Stream
            | Self::Delete
            | Self::AnswerPing
            | Self::AnswerUnknown => revision.era() == Era::Sessions,
        }
    }
}

/// The id of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdField<'a> {
    /// The client's own.
    Number(u64),
    /// The raw JSON token of a server's id that is repeated.
    Raw(&'a [u8]),
}

/// What differs between two renderings of one template.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// The JSON-RPC id; ignored by a template without one.
    pub id: IdField<'a>,
    /// The `Mcp-Session-Id`, without header if empty; ignored where none belongs. For
    /// [`Template::http_sse`], the path that POSTs of the session go to.
    pub session: &'a [u8],
    /// The `Last-Event-ID`, without header if empty; used by [`Operation::Stream`] only.
    pub last_event: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A request of the client on a session (empty: none).
    pub const fn request(id: u64, session: &'a [u8]) -> Self {
        Self { id: IdField::Number(id), session, last_event: &[] }
    }
}

/// A template that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A header field name, value, host or path that would break the request apart.
    #[error("{what} holds a byte that HTTP does not allow there: {text:?}")]
    BadHeader {
        /// Which part it is.
        what: &'static str,
        /// The offending text.
        text: String,
    },
    /// Arguments that are no JSON object.
    #[error("the arguments of {name} are no JSON object: {reason}")]
    BadArguments {
        /// The tool or prompt.
        name: String,
        /// What the JSON parser says.
        reason: String,
    },
    /// A message that the revision does not have.
    #[error("MCP {revision} has no {what}")]
    NotInRevision {
        /// The message.
        what: &'static str,
        /// The revision.
        revision: Revision,
    },
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An HTTP request with a body.
    Post,
    /// An HTTP request without one.
    Bare,
    /// An HTTP request with a body, to the address that the session's stream named.
    Endpoint,
    /// A line.
    Line,
}

/// One prepared client message: constant text with gaps.
///
/// Over HTTP the order is head, `Content-Length`, `Mcp-Session-Id`, `Last-Event-ID`, empty line,
/// body up to the id, id, rest of the body.
#[derive(Debug, Clone)]
pub struct Template {
    text: Box<[u8]>,
    /// Where the head ends and the body begins.
    body_at: usize,
    /// Where the id belongs, if the message has one; at most the text's length.
    id_at: Option<usize>,
    form: Form,
    takes_session: bool,
    takes_last_event: bool,
    purpose: Purpose,
    stateless: bool,
    /// Whether the method is HEAD, whose answer has no body.
    head: bool,
}

impl Template {
    /// Prepares an HTTP request.
    ///
    /// # Errors
    /// [`BuildError`] if a part is no valid HTTP or JSON, or the revision lacks the operation.
    pub fn http(target: &Target, operation: Operation<'_>) -> Result<Self, BuildError> {
        let envelope = body(target, operation)?;
        let form = if envelope.is_some() { Form::Post } else { Form::Bare };
        let head = head(target, operation)?;
        Ok(Self::assemble(target, operation, form, head, envelope))
    }

    /// Prepares an HTTP request of 2024-11-05 (HTTP+SSE): a POST goes to the address that the
    /// stream's `endpoint` event named, given as [`Fields::session`] of every rendering, and is
    /// only accepted there: its answer comes on the stream.
    ///
    /// # Errors
    /// As [`Template::http`].
    pub fn http_sse(target: &Target, operation: Operation<'_>) -> Result<Self, BuildError> {
        let template = Self::http(target, operation)?;
        if template.form != Form::Post {
            return Ok(Self { takes_session: false, ..template });
        }
        let start = format!("POST {}", target.path).len();
        let text = &template.text[start..];
        let cut = |at: usize| at - start;
        Ok(Self {
            text: text.into(),
            body_at: cut(template.body_at),
            id_at: template.id_at.map(cut),
            form: Form::Endpoint,
            takes_session: false,
            purpose: Purpose::Notification,
            ..template
        })
    }

    /// Prepares a line of newline-delimited JSON-RPC; of the target, only the revision and the
    /// client's name count.
    ///
    /// # Errors
    /// As [`Template::http`]; operations that are no JSON-RPC message are in no revision's lines.
    pub fn line(target: &Target, operation: Operation<'_>) -> Result<Self, BuildError> {
        let Some(mut envelope) = body(target, operation)? else {
            let what = operation.name();
            return Err(BuildError::NotInRevision { what, revision: target.revision });
        };
        envelope.text.push(b'\n');
        Ok(Self::assemble(target, operation, Form::Line, Vec::new(), Some(envelope)))
    }

    fn assemble(
        target: &Target,
        operation: Operation<'_>,
        form: Form,
        head: Vec<u8>,
        envelope: Option<Envelope>,
    ) -> Self {
        let stateless = target.revision.era() == Era::Stateless;
        let body_at = head.len();
        let mut text = head;
        let mut id_at = None;
        if let Some(envelope) = envelope {
            id_at = envelope.id_at.map(|at| body_at + at);
            text.extend_from_slice(&envelope.text);
        }
        let plain = operation.purpose() == Purpose::Plain;
        let in_session = !plain && operation != Operation::Initialize;
        Self {
            text: text.into_boxed_slice(),
            body_at,
            id_at,
            form,
            takes_session: in_session && !stateless && form != Form::Line,
            takes_last_event: operation == Operation::Stream,
            purpose: operation.purpose(),
            stateless,
            head: matches!(operation, Operation::Plain { method: "HEAD", .. }),
        }
    }

    /// Appends the message to `out`. Allocates only if `out` lacks room.
    pub fn render(&self, out: &mut Vec<u8>, fields: &Fields<'_>) {
        self.write(fields, |part| out.extend_from_slice(part));
    }

    /// Writes the message to the front of `out` and returns its length; `None` if `out` is
    /// shorter than [`Template::rendered_len`].
    pub fn render_to(&self, out: &mut [u8], fields: &Fields<'_>) -> Option<usize> {
        let mut len = 0;
        let mut fits = true;
        self.write(fields, |part| match out.get_mut(len..len + part.len()) {
            Some(place) => {
                place.copy_from_slice(part);
                len += part.len();
            }
            None => fits = false,
        });
        fits.then_some(len)
    }

    /// The length in bytes of the message with these fields.
    pub fn rendered_len(&self, fields: &Fields<'_>) -> usize {
        let mut len = 0;
        self.write(fields, |part| len += part.len());
        len
    }

    /// What to announce to [`Exchange::expect`](crate::client::Exchange::expect) before sending
    /// the message with these fields. `None` for a message that gets no answer (a notification
    /// over lines).
    pub fn expectation(&self, fields: &Fields<'_>) -> Option<Expectation> {
        if self.form == Form::Line && self.purpose == Purpose::Notification {
            return None;
        }
        let id = match (self.id_at, fields.id) {
            (Some(_), IdField::Number(id)) => id,
            (None, IdField::Number(id)) if self.purpose == Purpose::Stream => id,
            _ => Expectation::NO_ID,
        };
        Some(Expectation {
            purpose: self.purpose,
            carried_session: (self.takes_session && !fields.session.is_empty())
                || self.form == Form::Endpoint,
            stateless: self.stateless,
            head: self.head,
            id,
        })
    }

    /// Hands the parts of the message to `put`, in order.
    fn write(&self, fields: &Fields<'_>, mut put: impl FnMut(&[u8])) {
        let mut digits = [0; DIGITS];
        let id: &[u8] = match fields.id {
            _ if self.id_at.is_none() => b"",
            IdField::Number(number) => decimal(number, &mut digits),
            IdField::Raw(token) => token,
        };
        let (head, body) = self.text.split_at(self.body_at);
        if self.form == Form::Endpoint {
            put(b"POST ");
            put(fields.session);
        }
        put(head);
        if matches!(self.form, Form::Post | Form::Endpoint) {
            put(b"Content-Length: ");
            put(decimal((body.len() + id.len()) as u64, &mut [0; DIGITS]));
            put(b"\r\n");
        }
        if self.takes_session && !fields.session.is_empty() {
            put(b"Mcp-Session-Id: ");
            put(fields.session);
            put(b"\r\n");
        }
        if self.takes_last_event && !fields.last_event.is_empty() {
            put(b"Last-Event-ID: ");
            put(fields.last_event);
            put(b"\r\n");
        }
        if self.form != Form::Line {
            put(b"\r\n");
        }
        match self.id_at {
            Some(at) => {
                let (before, after) = body.split_at(at - self.body_at);
                put(before);
                put(id);
                put(after);
            }
            None => put(body),
        }
    }
}

/// Digits of the largest u64.
const DIGITS: usize = 20;

/// Writes a number to the end of `digits` and returns it.
fn decimal(mut number: u64, digits: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
