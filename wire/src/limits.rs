//! Every bound that a parser of this crate enforces, with its name and default.
//!
//! Must not know who enforces what: a parser reads its own field and nothing else.

/// The bounds of one run, shared by all of its connections.
///
/// A peer that passes a bound gets a [`Violation`](crate::Violation) for that connection only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one HTTP response head, status line to blank line. Default 16 KiB.
    pub head_bytes: usize,
    /// Header fields in one head, at most [`Limits::HEADERS_MAX`]. Default 64.
    pub headers: usize,
    /// Interim (1xx) responses before the final one. Default 8.
    pub interim_responses: u16,
    /// Bytes of one chunk-size line with its extensions. Default 256.
    pub chunk_line_bytes: u16,
    /// Bytes of the whole trailer section of a chunked body. Default 8 KiB.
    pub trailer_bytes: u16,
    /// Bytes of an `Mcp-Session-Id`. Default 256.
    pub session_id_bytes: usize,
    /// Bytes of an SSE `id:` that is kept for `Last-Event-ID`; a longer one is dropped, and the
    /// stream is then not resumable from it. Default 256.
    pub event_id_bytes: usize,
    /// Bytes of the address in a 2024-11-05 `endpoint` event. Default 1 KiB.
    pub endpoint_bytes: usize,
    /// Nesting of JSON objects and arrays, at most [`Limits::DEPTH_MAX`]. Default 64.
    pub depth: u8,
    /// Bytes of one JSON-RPC message, whatever carries it, and of one event of a stream with all its
    /// lines. Default 16 MiB.
    pub message_bytes: u32,
    /// Notifications and server requests before the answer to one request. Default 10,000.
    pub messages_per_answer: u16,
}

impl Limits {
    /// The largest useful value of [`Limits::headers`]; heads are parsed on the stack.
    pub const HEADERS_MAX: usize = 128;
    /// The largest useful value of [`Limits::depth`]; nesting is kept in one word.
    pub const DEPTH_MAX: u8 = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            headers: 64,
            interim_responses: 8,
            chunk_line_bytes: 256,
            trailer_bytes: 8 * 1024,
            session_id_bytes: 256,
            event_id_bytes: 256,
            endpoint_bytes: 1024,
            depth: Self::DEPTH_MAX,
            message_bytes: 16 * 1024 * 1024,
            messages_per_answer: 10_000,
        }
    }
}
