//! The receive side of one connection, composed from the parsers of this crate.
//!
//! Owns which request is waiting and which event its bytes amount to. Knows no socket and no
//! clock: bytes come from whatever the caller has (a socket, a TLS layer), and the caller stamps
//! the events. Sending is [`mcp::Template`](crate::mcp::Template)'s.
//!
//! ```
//! use wire::{Limits, client::{Event, Exchange, Expectation, Purpose, Side}, mcp::Reply};
//!
//! let limits = Limits::default();
//! let (mut session, mut spill) = (Vec::new(), Vec::new());
//! let mut exchange = Exchange::http();
//! exchange.expect(Expectation::new(Purpose::Request, 7)).unwrap();
//! let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
//!     Content-Length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}";
//! let mut events = Vec::new();
//! loop {
//!     let side = Side::new(&limits, &mut session, &mut spill);
//!     let (consumed, event) = exchange.feed(input, side);
//!     input = &input[consumed..];
//!     match event {
//!         Some(event) => events.push(event),
//!         None => break,
//!     }
//! }
//! assert!(matches!(events[0], Event::Answer(answer) if answer.reply == Reply::Ok));
//! assert_eq!(events[1], Event::Idle);
//! ```

mod events;
mod exchange;
mod http;
#[cfg(test)]
mod tests;

pub use exchange::Exchange;

use crate::Limits;
use crate::jsonrpc::{Id, Method};
use crate::mcp::{Reply, Revision};

/// What a request is for, which decides how its answer is read and judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Any HTTP request; any 2xx is success and the body is skipped.
    Plain,
    /// An MCP request: answered by JSON or by an event stream, or by a line.
    Request,
    /// `initialize`: as [`Purpose::Request`], and a session id in its answer is kept.
    Initialize,
    /// An MCP notification, or the client's answer to a server request: 202 without a body. Also
    /// the POST of a 2024-11-05 request, whose answer arrives on the event stream.
    Notification,
    /// GET of the session's event stream (2025-03-26 to 2025-11-25), of a resumed one, or of the
    /// 2024-11-05 stream.
    Stream,
    /// POST of `subscriptions/listen` (2026-07-28).
    Listen,
    /// DELETE of the session; 405 says that the server does not offer it.
    Delete,
}

/// The request that the next answer on a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// What the request is for.
    pub purpose: Purpose,
    /// Whether the request carried an `Mcp-Session-Id`: 404 then means a lost session.
    pub carried_session: bool,
    /// Whether the request was of the stateless era.
    pub stateless: bool,
    /// Whether the method was HEAD, whose answer has no body (RFC 9112 section 6.3).
    pub head: bool,
    /// The JSON-RPC id of the request. For [`Purpose::Stream`], the id of the request whose
    /// answer is awaited on a resumed stream, or [`Expectation::NO_ID`].
    pub id: u64,
}

impl Expectation {
    /// An id that no request carries.
    pub const NO_ID: u64 = u64::MAX;

    /// An expectation of the sessions era without a session.
    pub const fn new(purpose: Purpose, id: u64) -> Self {
        Self { purpose, carried_session: false, stateless: false, head: false, id }
    }
}

/// What the caller lends to one call of [`Exchange::feed`].
///
/// `spill` is empty whenever the exchange holds no split head or split field, which is nearly
/// always: one `Vec` can serve all connections of a worker, provided that it is taken out and kept
/// with the connection (`mem::take`) when a call leaves it non-empty, and lent again to the next
/// call for that connection. No buffer grows beyond its field of [`Limits`] (`spill`: the largest
/// of `head_bytes`, `event_id_bytes` and `endpoint_bytes`).
#[derive(Debug)]
pub struct Side<'a> {
    /// The bounds of this run.
    pub limits: &'a Limits,
    /// Takes the `Mcp-Session-Id` of a successful `initialize`, and is emptied by one that
    /// carries none. Belongs to the session.
    pub session: &'a mut Vec<u8>,
    /// Takes the id of the last SSE event, for `Last-Event-ID`; `None` if ids do not matter.
    pub last_event: Option<&'a mut Vec<u8>>,
    /// Takes a head or field that is split over calls. Belongs to the connection while non-empty.
    pub spill: &'a mut Vec<u8>,
}

impl<'a> Side<'a> {
    /// Buffers for a connection whose event ids do not matter.
    pub fn new(limits: &'a Limits, session: &'a mut Vec<u8>, spill: &'a mut Vec<u8>) -> Self {
        Self { limits, session, last_event: None, spill }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Success, or the reason why not.
    pub reply: Reply,
    /// The HTTP status; 0 where there is none.
    pub status: u16,
    /// The code of a JSON-RPC error in the body, whatever [`Answer::reply`] made of it; the
    /// prober tells the era of a server by it. 0 if there was none.
    pub rpc_code: i32,
    /// Whether it came as an event stream.
    pub streamed: bool,
    /// The revision in `result.protocolVersion`, if there was one that is known. The text itself
    /// is [`Exchange::text`] until the next message.
    pub revision: Option<Revision>,
}

/// What the bytes fed to an [`Exchange`] amount to.
///
/// An exchange over HTTP yields any number of the others, at most one `Answer` (or `Interrupted`),
/// and ends with `Idle` or `Closed`; a framing violation is an `Answer` and then `Closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The request is answered: its time is that of the bytes just fed. The connection is not
    /// free before `Idle`.
    Answer(Answer),
    /// The exchange is over and the connection may be used again.
    Idle,
    /// The exchange is over and the connection must be closed. All further input is ignored.
    Closed,
    /// The event stream is open: for [`Purpose::Stream`] its head was read, for
    /// [`Purpose::Listen`] it was acknowledged. This is the answer to that request.
    StreamOpen,
    /// The open event stream has ended by the server's will.
    StreamEnd,
    /// An event without a message on a stream: a priming event, or a foreign one.
    StreamEvent,
    /// A server request, to be answered by a message of its own, if the era allows requests. The
    /// raw token of a text id is [`Exchange::text`] until the next call.
    ServerRequest {
        /// Its id, to be repeated in the answer.
        id: Id,
        /// Its method.
        method: Method,
    },
    /// A notification from the server.
    Notification(Method),
    /// The `endpoint` event of 2024-11-05. Its address is [`Side::spill`], which the caller
    /// empties (it is cleared by the next call otherwise).
    Endpoint,
    /// A response that does not belong to the awaited request: a late one, one on the 2024-11-05
    /// stream, or one nobody asked for. `reply` is its worth if `id` is that of a request that
    /// the caller knows; bytes that are no message at all have no id.
    Unsolicited {
        /// The id of the response, if it is one of ours by form.
        id: Option<u64>,
        /// What it would be worth to the request of that id.
        reply: Reply,
    },
    /// The event stream that carried the answer ended before it. A sessions-era client may resume
    /// it by a GET with `Last-Event-ID` if an event id was seen, else it is a violation
    /// ([`Violation::AnswerCutShort`](crate::Violation::AnswerCutShort)).
    Interrupted,
    /// Only from [`Exchange::eof`]: the peer closed in the middle of an exchange.
    Truncated {
        /// Whether any byte of the answer had come. Without one, an idle connection was probably
        /// closed while the request was under way.
        any_bytes: bool,
    },
}

/// [`Exchange::expect`] was called while an exchange over HTTP was still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is still busy with the exchange before")]
pub struct Busy;
