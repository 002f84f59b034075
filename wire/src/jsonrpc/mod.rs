//! One JSON-RPC 2.0 message: what is learnt from it, and in which of its parts.
//!
//! Owns the vocabulary ([`Message`], [`Id`], [`Method`]); [`Scanner`] reads it from bytes. Knows
//! nothing of HTTP, of lines, or of which request is waiting for an answer.

mod facts;
mod scanner;
#[cfg(test)]
mod tests;
mod utf8;

pub use scanner::{Scanner, scan};

use crate::matcher::Table;

/// Bytes of a message's own text that are kept: a revision, or the raw token of a string id.
pub const TEXT_BYTES: usize = 39;

/// The `id` of a message, as far as it matters to a client whose own ids are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// A non-negative integer of at most 64 bits, the only form this client sends.
    Number(u64),
    /// A string; its raw JSON token is [`Scanner::text`] if it is at most [`TEXT_BYTES`] long.
    Text,
    /// `null`: the peer could not read the id of what it answers (JSON-RPC 2.0, section 5).
    Null,
    /// Any other value: negative, fractional, or no scalar at all.
    Other,
}

/// What sort of message it is, and the one fact that decides an answer's worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `result` without `isError: true`.
    Result,
    /// A `result` with `isError: true`: the tool failed.
    ToolError,
    /// An `error` with this `code`, saturated to 32 bits; 0 where it is absent or no integer.
    Error(i32),
    /// `method` and `id`: the server asks the client.
    Request(Method),
    /// `method` without `id`.
    Notification(Method),
}

/// `result.resultType` (revision 2026-07-28, "ResultType").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultType {
    /// Not there; to be read as complete.
    Absent,
    /// `"complete"`.
    Complete,
    /// `"input_required"`.
    InputRequired,
    /// Any other value.
    Other,
}

/// The words of `resultType`, sorted.
const TYPE_WORDS: Table = &["complete", "input_required"];

impl ResultType {
    fn from_index(index: Option<u8>) -> Self {
        match index {
            Some(0) => Self::Complete,
            Some(1) => Self::InputRequired,
            _ => Self::Other,
        }
    }
}

/// What is learnt from one whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// `None` if there is no `id`.
    pub id: Option<Id>,
    /// What sort of message it is.
    pub kind: Kind,
    /// `result.resultType`.
    pub result_type: ResultType,
    /// Whether [`Scanner::text`] holds `result.protocolVersion`.
    pub has_version: bool,
    /// Length of the JSON text, white space around it included.
    pub len_bytes: u32,
}

/// The methods that a server may send and a client treats apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// `elicitation/create`
    Elicit,
    /// `notifications/cancelled`
    Cancelled,
    /// `notifications/initialized`
    Initialized,
    /// `notifications/message`: a log line.
    LogMessage,
    /// `notifications/progress`
    Progress,
    /// `notifications/prompts/list_changed`
    PromptsChanged,
    /// `notifications/resources/list_changed`
    ResourcesChanged,
    /// `notifications/resources/updated`
    ResourceUpdated,
    /// `notifications/subscriptions/acknowledged`
    SubscriptionsAcknowledged,
    /// `notifications/tools/list_changed`
    ToolsChanged,
    /// `ping`
    Ping,
    /// `roots/list`
    RootsList,
    /// `sampling/createMessage`
    Sampling,
    /// Anything else.
    Other,
}

impl Method {
    /// The names, sorted, at the index of their variant.
    pub(crate) const NAMES: Table = &[
        "elicitation/create",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/message",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/subscriptions/acknowledged",
        "notifications/tools/list_changed",
        "ping",
        "roots/list",
        "sampling/createMessage",
    ];
    const ALL: [Self; 14] = [
        Self::Elicit,
        Self::Cancelled,
        Self::Initialized,
        Self::LogMessage,
        Self::Progress,
        Self::PromptsChanged,
        Self::ResourcesChanged,
        Self::ResourceUpdated,
        Self::SubscriptionsAcknowledged,
        Self::ToolsChanged,
        Self::Ping,
        Self::RootsList,
        Self::Sampling,
        Self::Other,
    ];

    pub(crate) fn from_index(index: Option<u8>) -> Self {
        index.map_or(Self::Other, |index| Self::ALL[usize::from(index)])
    }

    /// The name on the wire; `"(other)"` for [`Method::Other`].
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or("(other)")
    }
}
