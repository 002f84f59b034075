//! Client messages, built once and rendered per request without allocation.
//!
//! Owns the exact bytes of every client message of both eras. Must not know what they are sent on
//! or when.

use super::Revision;
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

/// A message to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A plain HTTP GET of the target's path.
    PlainGet,
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
    /// The `Mcp-Session-Id`, without header if empty; ignored where none belongs.
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

/// One prepared client message.
#[derive(Debug, Clone)]
pub struct Template {
    purpose: Purpose,
}

impl Template {
    /// Prepares an HTTP request.
    ///
    /// # Errors
    /// [`BuildError`] if a part is no valid HTTP or JSON, or the revision lacks the operation.
    pub fn http(target: &Target, operation: Operation<'_>) -> Result<Self, BuildError> {
        let _ = (target, operation);
        Ok(Self { purpose: Purpose::Plain })
    }

    /// Prepares a line of newline-delimited JSON-RPC; of the target, only the revision and the
    /// client's name count.
    ///
    /// # Errors
    /// As [`Template::http`].
    pub fn line(target: &Target, operation: Operation<'_>) -> Result<Self, BuildError> {
        let _ = (target, operation);
        Ok(Self { purpose: Purpose::Plain })
    }

    /// Appends the message to `out`. Allocates only if `out` lacks room.
    pub fn render(&self, out: &mut Vec<u8>, fields: &Fields<'_>) {
        let _ = (out, fields);
    }

    /// Writes the message to the front of `out` and returns its length; `None` if `out` is
    /// shorter than [`Template::len`].
    pub fn render_to(&self, out: &mut [u8], fields: &Fields<'_>) -> Option<usize> {
        let _ = (out, fields);
        None
    }

    /// The length in bytes of the message with these fields.
    pub fn len(&self, fields: &Fields<'_>) -> usize {
        let _ = fields;
        0
    }

    /// What to announce to [`Exchange::expect`](crate::client::Exchange::expect) before sending
    /// the message with these fields. `None` for a message that gets no answer (a notification
    /// over lines).
    pub fn expectation(&self, fields: &Fields<'_>) -> Option<Expectation> {
        let _ = fields;
        Some(Expectation::new(self.purpose, 0))
    }
}
