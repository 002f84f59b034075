//! The closed lists of the format: outcomes, event kinds, block kinds, with their numbers and
//! names. Numbers are on disk and never change meaning; names are in reports and options.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnknownName;

macro_rules! named_bytes {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant = $number,)+
        }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in reports, options and JSON: lower case, words joined by `_`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value with this number on disk; `None` if this version knows none.
            #[inline]
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.name() == text)
                    .ok_or_else(|| UnknownName { what: $what, name: text.to_owned() })
            }
        }
    };
}

named_bytes! {
    /// How a request ended, or why a connection or session did.
    #[derive(Default)]
    pub enum Outcome ("outcome") {
        /// Answered as it should be.
        #[default]
        Ok = 0, "ok";
        /// The connection was refused (ECONNREFUSED).
        Refused = 1, "refused";
        /// The peer reset the connection (ECONNRESET, EPIPE).
        Reset = 2, "reset";
        /// The peer closed the connection before the answer was whole; `detail` is the code of a
        /// WebSocket close.
        Eof = 3, "eof";
        /// No whole answer within the request timeout.
        Timeout = 4, "timeout";
        /// The connection was not established within the timeout.
        ConnectTimeout = 5, "connect_timeout";
        /// An HTTP status that is no success; `detail` is the status.
        HttpStatus = 6, "http_status";
        /// The server no longer knows the session (HTTP 404).
        SessionGone = 7, "session_gone";
        /// The server takes no more sessions (HTTP 503).
        SessionLimit = 8, "session_limit";
        /// A JSON-RPC error; `detail` is its code.
        RpcError = 9, "rpc_error";
        /// A tool result with `isError`.
        ToolError = 10, "tool_error";
        /// The answer breaks the protocol.
        Violation = 11, "violation";
        /// Sent, and the run ended without an answer.
        Unanswered = 12, "unanswered";
        /// Was due and never sent.
        Dropped = 13, "dropped";
        /// No free source address and port (EADDRNOTAVAIL).
        NoAddress = 14, "no_address";
        /// The TLS handshake or record layer failed; `detail` is the alert that the peer sent, or
        /// from 256 on what was found wrong with it.
        Tls = 15, "tls";
        /// No route to the target (EHOSTUNREACH, ENETUNREACH).
        Unreachable = 16, "unreachable";
        /// Closed by the generator on purpose; in events only.
        Stopped = 17, "stopped";
        /// Anything else; `detail` is the errno.
        Other = 18, "other";
    }
}

named_bytes! {
    /// What happened to a connection, session or stream.
    pub enum EventKind ("event kind") {
        /// TCP is established; `value` is the time it took, ns.
        Connected = 0, "connected";
        /// The session is established; `value` is the time since the attempt began, ns.
        Alive = 1, "alive";
        /// The TCP connection is gone; outcome and detail say why.
        Lost = 2, "lost";
        /// The session has to be initialized again, or was given up.
        SessionLost = 3, "session_lost";
        /// Ended on purpose.
        Ended = 4, "ended";
        /// An SSE stream was opened.
        StreamOpen = 5, "stream_open";
        /// An SSE stream ended.
        StreamEnd = 6, "stream_end";
        /// An attempt to connect failed; outcome and detail say why.
        ConnectFailed = 7, "connect_failed";
        /// A TLS handshake has come to its end; `value` is the time that it took, ns. With outcome
        /// `ok`, `detail` is 1 if it resumed an earlier session, else 0; otherwise outcome and
        /// detail say why it failed. Since version 2.
        Handshake = 8, "handshake";
    }
}

named_bytes! {
    /// What a block holds. 0 is no kind, so that zeroed bytes are no block.
    pub enum BlockKind ("block kind") {
        /// [`Request`](crate::Request) records.
        Requests = 1, "requests";
        /// [`Event`](crate::Event) records.
        Events = 2, "events";
        /// [`Sample`](crate::Sample) records.
        Samples = 3, "samples";
        /// [`Note`](crate::Note) records.
        Notes = 4, "notes";
        /// The [`End`](crate::End) of a run that was not killed.
        End = 5, "end";
    }
}

impl Outcome {
    /// True for [`Outcome::Ok`].
    #[inline]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_the_value() {
        for (number, &outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome as usize, number);
            assert_eq!(Outcome::from_u8(number as u8), Some(outcome));
            assert_eq!(outcome.name().parse::<Outcome>(), Ok(outcome));
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(json, format!("\"{}\"", outcome.name()));
        }
        for (number, &kind) in EventKind::ALL.iter().enumerate() {
            assert_eq!(EventKind::from_u8(number as u8), Some(kind));
            assert_eq!(kind.name().parse::<EventKind>(), Ok(kind));
        }
        for &kind in BlockKind::ALL {
            assert_eq!(BlockKind::from_u8(kind as u8), Some(kind));
        }
        assert_eq!(Outcome::from_u8(19), None);
        assert_eq!(EventKind::from_u8(9), None);
        assert_eq!(BlockKind::from_u8(0), None);
    }

    #[test]
    fn an_unknown_name_is_refused_with_a_sentence() {
        let error = "lost".parse::<Outcome>().unwrap_err();
        assert_eq!(error.to_string(), "\"lost\" is no outcome");
    }
}
