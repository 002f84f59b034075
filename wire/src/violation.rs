//! What a peer did that its protocol forbids, as one flat list with a sentence each.
//!
//! Must not know what a violation costs: whether a connection survives one is decided by
//! [`client`](crate::client).

/// One breach of protocol by the peer. `as u8` is stable within a build and dense from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
#[error("{}", self.describe())]
pub enum Violation {
    /// RFC 8259 grammar is broken, or the text is not UTF-8.
    MalformedJson,
    /// More JSON after the end of the message.
    TrailingJson,
    /// The message ends inside a value.
    TruncatedJson,
    /// Nested deeper than [`Limits::depth`](crate::Limits::depth).
    JsonTooDeep,
    /// Longer than [`Limits::message_bytes`](crate::Limits::message_bytes).
    MessageTooLong,
    /// A JSON-RPC batch (an array), which MCP has had in no revision but 2025-03-26.
    Batch,
    /// Valid JSON that is no JSON-RPC 2.0 message.
    NotJsonRpc,
    /// The answer carries another id than the request.
    WrongId,
    /// An answer, or any byte at all, that nobody asked for.
    Unsolicited,
    /// A success status with no JSON-RPC answer in it.
    AnswerMissing,
    /// An SSE answer ended before the response was sent.
    AnswerCutShort,
    /// More messages than [`Limits::messages_per_answer`](crate::Limits::messages_per_answer)
    /// before the answer.
    TooManyMessages,
    /// A result that asks the client for input (`resultType: "input_required"`).
    InputRequired,
    /// A `resultType` that is neither `complete` nor `input_required`.
    UnknownResultType,
    /// A listen stream whose first message is no acknowledgement.
    NotAcknowledged,
    /// Not HTTP/1.x, or a head that breaks RFC 9112.
    MalformedHttp,
    /// A head longer than [`Limits::head_bytes`](crate::Limits::head_bytes).
    HeadTooLong,
    /// More header fields than [`Limits::headers`](crate::Limits::headers).
    TooManyHeaders,
    /// Content-Length is no number, or several that differ (RFC 9112 section 6.3).
    BadContentLength,
    /// A Transfer-Encoding other than `chunked`, which the client never asked for.
    BadTransferEncoding,
    /// A chunk header, chunk end or trailer that breaks RFC 9112 section 7.1.
    MalformedChunk,
    /// A chunk header or trailer section beyond its limit.
    ChunkHeaderTooLong,
    /// More interim responses than
    /// [`Limits::interim_responses`](crate::Limits::interim_responses).
    TooManyInterim,
    /// 101 Switching Protocols to a request that offered no upgrade.
    UnexpectedUpgrade,
    /// Neither `application/json` nor `text/event-stream`.
    WrongContentType,
    /// A Content-Encoding that the client never offered.
    ContentEncoded,
    /// An `Mcp-Session-Id` that is empty, too long, or not visible ASCII.
    BadSessionId,
    /// An `endpoint` event whose address is empty, too long, or not visible ASCII.
    BadEndpoint,
    /// A 101 that does not accept the WebSocket offered (RFC 6455 section 4.1).
    BadHandshake,
    /// A WebSocket frame that RFC 6455 section 5 forbids, or a binary message.
    BadFrame,
}

impl Violation {
    /// All of them, in order of their `u8` value.
    pub const ALL: [Self; 30] = [
        Self::MalformedJson,
        Self::TrailingJson,
        Self::TruncatedJson,
        Self::JsonTooDeep,
        Self::MessageTooLong,
        Self::Batch,
        Self::NotJsonRpc,
        Self::WrongId,
        Self::Unsolicited,
        Self::AnswerMissing,
        Self::AnswerCutShort,
        Self::TooManyMessages,
        Self::InputRequired,
        Self::UnknownResultType,
        Self::NotAcknowledged,
        Self::MalformedHttp,
        Self::HeadTooLong,
        Self::TooManyHeaders,
        Self::BadContentLength,
        Self::BadTransferEncoding,
        Self::MalformedChunk,
        Self::ChunkHeaderTooLong,
        Self::TooManyInterim,
        Self::UnexpectedUpgrade,
        Self::WrongContentType,
        Self::ContentEncoded,
        Self::BadSessionId,
        Self::BadEndpoint,
        Self::BadHandshake,
        Self::BadFrame,
    ];

    /// One short phrase for a report, lower case, without a full stop.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed JSON",
            Self::TrailingJson => "more text after the JSON message",
            Self::TruncatedJson => "JSON message ends in the middle",
            Self::JsonTooDeep => "JSON nested too deep",
            Self::MessageTooLong => "message longer than the limit",
            Self::Batch => "JSON-RPC batch",
            Self::NotJsonRpc => "not a JSON-RPC 2.0 message",
            Self::WrongId => "answer with a wrong id",
            Self::Unsolicited => "answer nobody asked for",
            Self::AnswerMissing => "success status without a JSON-RPC answer",
            Self::AnswerCutShort => "event stream ended before the answer",
            Self::TooManyMessages => "too many messages before the answer",
            Self::InputRequired => "result asks for client input",
            Self::UnknownResultType => "unknown resultType",
            Self::NotAcknowledged => "listen stream not acknowledged first",
            Self::MalformedHttp => "malformed HTTP",
            Self::HeadTooLong => "HTTP head too long",
            Self::TooManyHeaders => "too many HTTP header fields",
            Self::BadContentLength => "invalid Content-Length",
            Self::BadTransferEncoding => "Transfer-Encoding other than chunked",
            Self::MalformedChunk => "malformed chunked body",
            Self::ChunkHeaderTooLong => "chunk header or trailer too long",
            Self::TooManyInterim => "too many interim responses",
            Self::UnexpectedUpgrade => "101 without an upgrade request",
            Self::WrongContentType => "wrong content type",
            Self::ContentEncoded => "content encoding that was not offered",
            Self::BadSessionId => "invalid Mcp-Session-Id",
            Self::BadEndpoint => "invalid endpoint event",
            Self::BadHandshake => "WebSocket handshake not accepted",
            Self::BadFrame => "malformed WebSocket frame",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_listed_once_with_its_own_words() {
        for (index, violation) in Violation::ALL.iter().enumerate() {
            assert_eq!(*violation as usize, index);
            assert_eq!(violation.to_string(), violation.describe());
            let same = Violation::ALL.iter().filter(|v| v.describe() == violation.describe());
            assert_eq!(same.count(), 1, "{violation:?}");
        }
    }
}
