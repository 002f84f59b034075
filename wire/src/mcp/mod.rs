//! What MCP puts on the wire: revisions, prepared client messages, and the worth of an answer.
//!
//! Owns the text of every message the client sends ([`Template`]) and the judgement of every
//! answer ([`Reply`]). Knows nothing of connections, schedules or how bytes travel.

mod build;
mod reply;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use build::base64;
pub use reply::{Reply, judge_http, judge_message};
pub use template::{BuildError, Fields, IdField, Operation, Target, Template};

/// A revision of the MCP specification, in order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05: HTTP+SSE with two endpoints (deprecated), and stdio.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP.
    V2025_03_26,
    /// 2025-06-18: `MCP-Protocol-Version` on every request after `initialize`.
    V2025_06_18,
    /// 2025-11-25: the last revision with sessions.
    V2025_11_25,
    /// 2026-07-28: no sessions; version, client and capabilities travel in every request.
    V2026_07_28,
}

/// Whether a revision has sessions, which decides what a held connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize` first; up to 2025-11-25 ("legacy" in the specification).
    Sessions,
    /// Every request stands alone; from 2026-07-28 on ("modern").
    Stateless,
}

impl Revision {
    /// All revisions, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];

    /// The name on the wire, such as `2025-11-25`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that name.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.as_str().as_bytes() == name)
    }

    /// Whether this revision has sessions.
    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => {
                Era::Sessions
            }
            Self::V2026_07_28 => Era::Stateless,
        }
    }

    /// Whether HTTP requests after the handshake carry `MCP-Protocol-Version`.
    pub const fn has_version_header(self) -> bool {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 => false,
            Self::V2025_06_18 | Self::V2025_11_25 | Self::V2026_07_28 => true,
        }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Revision {
    type Err = UnknownRevision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name.as_bytes()).ok_or(UnknownRevision)
    }
}

/// A revision name that this crate does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown MCP revision; known are 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25, 2026-07-28"
)]
pub struct UnknownRevision;

/// JSON-RPC error codes that the client acts on.
pub mod code {
    /// JSON-RPC 2.0: the text was no JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// JSON-RPC 2.0: the method does not exist.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// 2026-07-28: a header differs from the body.
    pub const HEADER_MISMATCH: i32 = -32020;
    /// 2026-07-28: the client lacks a capability that the request needs.
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// 2026-07-28: the server does not speak the requested revision.
    pub const UNSUPPORTED_VERSION: i32 = -32022;

    /// Whether a code is one that only a 2026-07-28 server sends, which tells its era
    /// (specification, "Backward Compatibility").
    pub const fn is_modern(code: i32) -> bool {
        matches!(code, HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION)
    }
}
