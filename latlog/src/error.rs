//! What can go wrong, each with a sentence that a user can act on.

use std::io;

use thiserror::Error;

use crate::header::{HEADER_JSON_BYTES_MAX, VERSION, VERSION_MIN};

/// Why a log could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system said no; the source names the errno.
    #[error("cannot {action} the log: {source}")]
    Io {
        /// What was being done: "create", "write", "read"...
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The file does not begin with [`FILE_MAGIC`](crate::FILE_MAGIC).
    #[error("not a latency log: the file does not begin with the magic of the format")]
    NotALog,
    /// Written by a version of the format that this reader does not know.
    #[error(
        "the log has format version {found}, and this reader knows versions {VERSION_MIN} to {VERSION}; \
         read it with the release that wrote it"
    )]
    UnknownVersion {
        /// The version that the file names.
        found: u32,
    },
    /// The header is larger than the format allows.
    #[error(
        "the header of the log has {found} bytes of JSON, more than the {HEADER_JSON_BYTES_MAX} \
         that the format allows"
    )]
    HeaderTooLarge {
        /// Bytes of JSON.
        found: u64,
    },
    /// The file ends inside its header: the generator was killed as it started.
    #[error("the log ends inside its header; it holds no records")]
    HeaderTorn,
    /// The header fails its checksum.
    #[error("the header of the log is damaged (checksum mismatch); only a salvage can read on")]
    HeaderDamaged,
    /// The header's JSON is not what the format says.
    #[error("the header of the log is not the JSON that the format asks for: {0}")]
    HeaderJson(#[from] serde_json::Error),
    /// Bytes were handed to the writer that are not one sealed block.
    #[error("these {found} bytes are not one sealed block; nothing was written")]
    NotSealed {
        /// How many bytes were handed in.
        found: usize,
    },
    /// The `End` has too many workers for one block.
    #[error("an end block cannot hold the totals of {found} workers")]
    TooManyWorkers {
        /// How many totals were handed in.
        found: usize,
    },
    /// The payload of a block fails its checksum.
    #[error("block {seq} of worker {worker} at byte {offset} is damaged (checksum mismatch)")]
    BadBlock {
        /// Where the block begins in the file.
        offset: u64,
        /// Whose block it is.
        worker: u16,
        /// Its number.
        seq: u32,
    },
}

impl Error {
    /// A wrapper for `map_err` that names the action.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// The system's error behind this one, if there is one; `StorageFull` is a full disk.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// The record does not fit into the block: seal it, then push again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the block has no room for the record")]
pub struct Full;

/// A block whose checksum holds and whose payload breaks the format: a fault of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the block breaks the format after {records} records, though its checksum holds")]
pub struct Malformed {
    /// Records that were read before the fault.
    pub records: u32,
}

/// A text that names no value of a list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is no {what}")]
pub struct UnknownName {
    /// The list: "outcome", "event kind", "block kind".
    pub what: &'static str,
    /// The text.
    pub name: String,
}
