//! The binary latency log: what a generator writes while it runs and what a reporter reads later.
//!
//! The crate owns the bytes on disk (`FORMAT.md` is the contract), the writer that survives a full
//! disk, and the reader that survives a damaged file. It has no clock, opens no socket, and does
//! not know what the plan in the header means.
//!
//! A worker fills a [`BlockBuilder`]; a writer thread hands sealed blocks to a [`LogWriter`]; a
//! [`LogReader`] yields [`Block`]s, in order or through an index for several threads, and then says
//! in [`Damage`] what the file lacks.
//!
//! ```
//! use std::sync::mpsc;
//!
//! use latlog::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("host-1.latlog");
//! # let start = Anchor { mono_ns: 0, real_ns: 0 };
//! # let anchor = Anchor { mono_ns: 9_000_000_000, real_ns: 9_000_000_000 };
//! let plan = serde_json::json!({ "version": 1 });
//! let header = FileHeader { host: "host".into(), pid: 1, start, plan };
//! let mut writer = LogWriter::create(&path, &header)?;
//!
//! // A worker fills blocks; buffers travel to the writer thread and back.
//! let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(4);
//! let (spares, spare) = mpsc::sync_channel(4);
//! for _ in 0..4 {
//!     spares.send(Vec::with_capacity(64 << 10))?;
//! }
//! let worker = std::thread::spawn(move || {
//!     let mut log = BlockBuilder::new(0, BlockKind::Requests, 64 << 10);
//!     let mut totals = WorkerTotals { worker: 0, blocks: 0, requests: 0, events: 0 };
//!     for n in 0..100_000_u64 {
//!         if log.is_full() {
//!             // A generator would not wait here: without a spare it clears the block, and the gap
//!             // in the sequence tells the reader.
//!             let block = log.swap(totals.blocks, spare.recv().unwrap());
//!             totals.blocks += 1;
//!             full.send(block).unwrap();
//!         }
//!         let request = Request {
//!             intended_ns: n * 10_000,
//!             sent_ns: n * 10_000 + 500,
//!             first_byte_ns: n * 10_000 + 700_000,
//!             done_ns: n * 10_000 + 700_000,
//!             outcome: Outcome::Ok,
//!             detail: 0,
//!             target: 3,
//!             op: 0,
//!         };
//!         log.push_request(&request).unwrap();
//!         totals.requests += 1;
//!     }
//!     full.send(log.into_bytes(totals.blocks)).unwrap();
//!     totals.blocks += 1;
//!     totals
//! });
//! for block in to_write {
//!     writer.append(&block)?; // after an error: try again, or give the block up
//!     let _ = spares.send(block); // the worker may have ended
//! }
//! writer.finish(&End { anchor, totals: vec![worker.join().unwrap()] })?;
//!
//! let mut reader = LogReader::open(&path)?;
//! let mut requests = Vec::new();
//! for block in reader.blocks() {
//!     block?.read_requests(&mut requests)?;
//! }
//! assert!(reader.damage().is_none());
//! assert_eq!(requests.len(), 100_000);
//! assert_eq!(requests[99].response_ns(), 700_000);
//! # Ok(())
//! # }
//! ```
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
pub use header::{FILE_MAGIC, FileHeader, HEADER_JSON_BYTES_MAX, VERSION, VERSION_MIN};
pub use names::{BlockKind, EventKind, Outcome};
pub use reader::{Blocks, LogReader, ReadAt};
pub use record::{Anchor, End, Event, Note, Request, Sample, WorkerTotals};
pub use writer::{LogWriter, Sink};

/// The worker number of blocks that belong to the run and not to one worker: marks, phases.
pub const RUN_WORKER: u16 = u16::MAX;
