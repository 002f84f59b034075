//! The binary latency log: what a generator writes while it runs and what a reporter reads later.
//!
//! The crate owns the bytes on disk (`FORMAT.md` is the contract), the writer that survives a full
//! disk, and the reader that survives a damaged file. It has no clock, opens no socket, and does
//! not know what the plan in the header means.
//!
//! A worker fills a [`BlockBuilder`]; a writer thread hands sealed blocks to a [`LogWriter`]; a
//! [`LogReader`] yields [`Block`]s, in order or through an index for several threads, and then says
//! in [`Damage`] what the file lacks.
#![forbid(unsafe_code)]

mod block;
mod builder;
mod codec;
mod damage;
mod error;
mod header;
mod names;
mod reader;
mod record;
mod scan;
mod writer;

pub use block::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC, Block, BlockRef, Events, Notes, PAYLOAD_BYTES_MAX, Requests,
    Samples,
};
pub use builder::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BlockBuilder, RECORD_ROOM_BYTES};
pub use damage::Damage;
pub use error::{Error, Full, Malformed, UnknownName};
pub use header::{FILE_MAGIC, FileHeader, HEADER_JSON_BYTES_MAX, VERSION};
pub use names::{BlockKind, EventKind, Outcome};
pub use reader::{Blocks, LogReader, ReadAt};
pub use record::{Anchor, End, Event, Note, Request, Sample, WorkerTotals};
pub use writer::{LogWriter, Sink};

/// The worker number of blocks that belong to the run and not to one worker: marks, phases.
pub const RUN_WORKER: u16 = u16::MAX;
