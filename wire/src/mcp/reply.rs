//! The worth of an answer: success, or the one reason why not.
//!
//! Pure functions of what was scanned; knows no parser state. The variants stand one to one for
//! the outcomes that a load test records.

use crate::Violation;
use crate::client::{Expectation, Purpose};
use crate::jsonrpc::{Id, Kind, Message, ResultType};

/// How a request ended, as far as bytes from the peer can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Success: what was asked for was done.
    Ok,
    /// An HTTP status that is no success for this request.
    HttpStatus(u16),
    /// 404 to a request that carried an `Mcp-Session-Id`: the client must initialize again.
    SessionGone,
    /// 503 to an `initialize`: the server takes no more sessions.
    SessionLimit,
    /// A JSON-RPC error with this code, under whatever HTTP status.
    RpcError(i32),
    /// A result with `isError: true`.
    ToolError,
    /// The peer broke the protocol.
    Violation(Violation),
}

impl Reply {
    /// Whether the request succeeded.
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }

    /// The number that goes with the reason: HTTP status, JSON-RPC code, or violation; else 0.
    pub const fn detail(self) -> i32 {
        match self {
            Self::HttpStatus(status) => status as i32,
            Self::RpcError(code) => code,
            Self::Violation(violation) => violation as i32,
            Self::SessionGone => 404,
            Self::SessionLimit => 503,
            Self::Ok | Self::ToolError => 0,
        }
    }
}

/// Judges a JSON-RPC message as the answer to `expected`, leaving HTTP aside.
///
/// An error without an id, or with a null one, is taken as the answer: the peer could not read
/// the id (JSON-RPC 2.0 section 5), and on this connection nothing else was asked.
pub fn judge_message(expected: &Expectation, message: &Message) -> Reply {
    let ours = message.id == Some(Id::Number(expected.id));
    match message.kind {
        Kind::Error(code) if ours || matches!(message.id, None | Some(Id::Null)) => {
            Reply::RpcError(code)
        }
        Kind::Request(_) | Kind::Notification(_) => Reply::Violation(Violation::AnswerMissing),
        Kind::Result | Kind::ToolError | Kind::Error(_) if !ours => {
            Reply::Violation(Violation::WrongId)
        }
        Kind::Error(code) => Reply::RpcError(code),
        Kind::ToolError => Reply::ToolError,
        // What was asked for is a stream, which begins with its acknowledgement.
        Kind::Result if expected.purpose == Purpose::Listen => {
            Reply::Violation(Violation::NotAcknowledged)
        }
        Kind::Result => match message.result_type {
            ResultType::Absent | ResultType::Complete => Reply::Ok,
            ResultType::InputRequired => Reply::Violation(Violation::InputRequired),
            ResultType::Other => Reply::Violation(Violation::UnknownResultType),
        },
    }
}

/// Judges an HTTP status together with the message of its body, if one was scanned.
///
/// Under an error status a JSON-RPC error speaks only in the stateless era, where the status
/// follows from the code (2026-07-28, "Server Validation"); before it, the status is the reason.
pub fn judge_http(expected: &Expectation, status: u16, message: Option<&Message>) -> Reply {
    let success = (200..300).contains(&status);
    match expected.purpose {
        Purpose::Plain | Purpose::Notification if success => return Reply::Ok,
        Purpose::Delete if matches!(status, 200 | 202 | 204 | 405) => return Reply::Ok,
        Purpose::Plain => return Reply::HttpStatus(status),
        Purpose::Notification
        | Purpose::Delete
        | Purpose::Request
        | Purpose::Initialize
        | Purpose::Stream
        | Purpose::Listen => {}
    }
    if success {
        return match message {
            Some(message) => judge_message(expected, message),
            None => Reply::Violation(Violation::AnswerMissing),
        };
    }
    if expected.stateless
        && let Some(Message { kind: Kind::Error(code), .. }) = message
    {
        return Reply::RpcError(*code);
    }
    match status {
        404 if expected.carried_session => Reply::SessionGone,
        503 if expected.purpose == Purpose::Initialize => Reply::SessionLimit,
        _ => Reply::HttpStatus(status),
    }
}
