//! One block: its header, its limits, its checksums, and the records in its payload. It knows
//! nothing of files.

use std::borrow::Cow;

use crate::codec::{self, EVENT_BYTES_MIN, REQUEST_BYTES_MIN, WINDOW_BYTES};
use crate::error::Malformed;
use crate::names::BlockKind;
use crate::record::{Anchor, End, Event, Note, Request, Sample, WorkerTotals};

/// The first bytes of every block. They are no UTF-8 and do not occur in zeroed space.
pub const BLOCK_MAGIC: [u8; 4] = *b"\xA7LB\xF1";

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 36;

/// Limit of a block's payload, bytes. A reader allocates no more than this for one block.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Bytes of the header that its own checksum covers.
const CHECKED_HEADER_BYTES: usize = 32;

/// Bytes of the end block before the totals, and of each worker's totals.
const END_FIXED_BYTES: usize = 16;
const TOTALS_BYTES: usize = 22;

/// Bytes of a sample before its values, and of a note before its texts.
pub(crate) const SAMPLE_FIXED_BYTES: usize = 10;
pub(crate) const NOTE_FIXED_BYTES: usize = 14;

/// Where a block lies in the file and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// Where its header begins in the file, bytes.
    pub offset: u64,
    /// What it holds.
    pub kind: BlockKind,
    /// Who filled it; [`RUN_WORKER`](crate::RUN_WORKER) for the run itself.
    pub worker: u16,
    /// Its number among that worker's blocks, from 0, without gaps.
    pub seq: u32,
    /// Records in it.
    pub count: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Time of the first record (`done_ns` for requests), ns; 0 in an empty block.
    pub base_ns: u64,
    pub(crate) payload_crc: u32,
}

impl BlockRef {
    /// Bytes of the whole block, header included.
    pub const fn len_bytes(&self) -> u64 {
        BLOCK_HEADER_BYTES as u64 + self.payload_bytes as u64
    }
}

/// A header as it stands in the file; its kind may be one that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawHeader {
    pub kind: u8,
    pub worker: u16,
    pub seq: u32,
    pub count: u32,
    pub base_ns: u64,
    pub payload_bytes: u32,
    pub payload_crc: u32,
}

impl RawHeader {
    pub(crate) fn to_bytes(self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&BLOCK_MAGIC);
        bytes[4] = self.kind;
        bytes[6..8].copy_from_slice(&self.worker.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.seq.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base_ns.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CHECKED_HEADER_BYTES]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` unless magic, checksum and limits all hold.
    pub(crate) fn parse(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Option<Self> {
        if bytes[..4] != BLOCK_MAGIC {
            return None;
        }
        let mut fields = Cursor { bytes: &bytes[4..] };
        let header = Self {
            kind: (fields.u16()? & 0xFF) as u8,
            worker: fields.u16()?,
            seq: fields.u32()?,
            count: fields.u32()?,
            base_ns: fields.u64()?,
            payload_bytes: fields.u32()?,
            payload_crc: fields.u32()?,
        };
        let whole = crc32fast::hash(&bytes[..CHECKED_HEADER_BYTES]) == fields.u32()?;
        // Every record has at least one byte, so that `count` bounds what a reader reserves.
        let bounded = header.payload_bytes as usize <= PAYLOAD_BYTES_MAX
            && header.count <= header.payload_bytes;
        (whole && bounded).then_some(header)
    }

    pub(crate) const fn block_bytes(&self) -> u64 {
        BLOCK_HEADER_BYTES as u64 + self.payload_bytes as u64
    }

    /// `None` if this version does not know the kind.
    pub(crate) fn at(self, offset: u64) -> Option<BlockRef> {
        Some(BlockRef {
            offset,
            kind: BlockKind::from_u8(self.kind)?,
            worker: self.worker,
            seq: self.seq,
            count: self.count,
            payload_bytes: self.payload_bytes,
            base_ns: self.base_ns,
            payload_crc: self.payload_crc,
        })
    }
}

/// A block whose checksums hold. `'static` if it owns its payload.
#[derive(Debug, Clone)]
pub struct Block<'a> {
    head: BlockRef,
    payload: Cow<'a, [u8]>,
}

impl<'a> Block<'a> {
    pub(crate) fn new(head: BlockRef, payload: Cow<'a, [u8]>) -> Self {
        Self { head, payload }
    }

    /// What the header says.
    pub const fn head(&self) -> &BlockRef {
        &self.head
    }

    /// What it holds.
    pub const fn kind(&self) -> BlockKind {
        self.head.kind
    }

    /// Who filled it.
    pub const fn worker(&self) -> u16 {
        self.head.worker
    }

    /// Records in it.
    pub const fn count(&self) -> u32 {
        self.head.count
    }

    /// Its requests; none unless the kind is [`BlockKind::Requests`].
    pub fn requests(&self) -> Requests<'_> {
        Requests(self.records(BlockKind::Requests))
    }

    /// Appends all its requests to `out`, which is the fast way to read a block: reuse the vector.
    ///
    /// # Errors
    /// [`Malformed`] after the records that could be read.
    pub fn read_requests(&self, out: &mut Vec<Request>) -> Result<(), Malformed> {
        if self.head.kind == BlockKind::Requests {
            // A record has at least a head, so `reserve` is bounded by the bytes at hand.
            out.reserve((self.head.count as usize).min(self.payload.len() / REQUEST_BYTES_MIN));
        }
        for request in self.requests() {
            out.push(request?);
        }
        Ok(())
    }

    /// Its events; none unless the kind is [`BlockKind::Events`].
    pub fn events(&self) -> Events<'_> {
        Events(self.records(BlockKind::Events))
    }

    /// Its samples; none unless the kind is [`BlockKind::Samples`].
    pub fn samples(&self) -> Samples<'_> {
        Samples(self.records(BlockKind::Samples))
    }

    /// Its notes; none unless the kind is [`BlockKind::Notes`].
    pub fn notes(&self) -> Notes<'_> {
        Notes(self.records(BlockKind::Notes))
    }

    /// The end of the run, if the kind is [`BlockKind::End`] and the payload is sound.
    pub fn end(&self) -> Option<End> {
        if self.head.kind != BlockKind::End {
            return None;
        }
        let mut fields = Cursor { bytes: &self.payload };
        let anchor = Anchor { mono_ns: fields.u64()?, real_ns: fields.u64()? };
        let count = self.head.count as usize;
        if fields.bytes.len() != count.checked_mul(TOTALS_BYTES)? {
            return None;
        }
        let totals = (0..count).map(|_| {
            Some(WorkerTotals {
                worker: fields.u16()?,
                blocks: fields.u32()?,
                requests: fields.u64()?,
                events: fields.u64()?,
            })
        });
        Some(End { anchor, totals: totals.collect::<Option<Vec<_>>>()? })
    }

    fn records(&self, kind: BlockKind) -> Records<'_> {
        let (payload, left) = if self.head.kind == kind {
            (self.payload.as_ref(), self.head.count)
        } else {
            (&[][..], 0)
        };
        Records { rest: payload, previous_ns: self.head.base_ns, done: 0, left }
    }
}

/// A whole end block; its own sequence number is 0 and counts for nothing. `None` if the totals
/// exceed the payload limit.
pub(crate) fn end_block(end: &End) -> Option<Vec<u8>> {
    let payload_bytes = END_FIXED_BYTES + end.totals.len().checked_mul(TOTALS_BYTES)?;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut block = vec![0; BLOCK_HEADER_BYTES];
    block.extend_from_slice(&end.anchor.mono_ns.to_le_bytes());
    block.extend_from_slice(&end.anchor.real_ns.to_le_bytes());
    for totals in &end.totals {
        block.extend_from_slice(&totals.worker.to_le_bytes());
        block.extend_from_slice(&totals.blocks.to_le_bytes());
        block.extend_from_slice(&totals.requests.to_le_bytes());
        block.extend_from_slice(&totals.events.to_le_bytes());
    }
    let header = RawHeader {
        kind: BlockKind::End as u8,
        worker: crate::RUN_WORKER,
        seq: 0,
        count: end.totals.len() as u32,
        base_ns: end.anchor.mono_ns,
        payload_bytes: payload_bytes as u32,
        payload_crc: crc32fast::hash(&block[BLOCK_HEADER_BYTES..]),
    };
    block[..BLOCK_HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Some(block)
}

/// What is left of a payload.
#[derive(Debug, Clone)]
struct Records<'a> {
    rest: &'a [u8],
    previous_ns: u64,
    done: u32,
    left: u32,
}

impl<'a> Records<'a> {
    /// The next record as `get` reads it through a window; `Err` ends the iteration.
    #[inline(always)]
    fn next_windowed<T>(
        &mut self,
        get: impl Fn(&codec::Window, u64) -> Option<(T, usize)>,
        time: impl Fn(&T) -> u64,
    ) -> Option<Result<T, Malformed>> {
        if self.left == 0 {
            return if self.rest.is_empty() { None } else { self.malformed() };
        }
        let read = match self.rest.first_chunk::<WINDOW_BYTES>() {
            Some(window) => get(window, self.previous_ns),
            None => self.next_near_the_end(get),
        };
        let Some((record, bytes)) = read else { return self.malformed() };
        self.previous_ns = time(&record);
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        self.step();
        Some(Ok(record))
    }

    /// The last bytes of a payload are fewer than a window: read them from a padded copy.
    #[inline(never)]
    fn next_near_the_end<T>(
        &self,
        get: impl Fn(&codec::Window, u64) -> Option<(T, usize)>,
    ) -> Option<(T, usize)> {
        let mut window = [0; WINDOW_BYTES];
        window.get_mut(..self.rest.len())?.copy_from_slice(self.rest);
        get(&window, self.previous_ns).filter(|(_, bytes)| *bytes <= self.rest.len())
    }

    /// The next record as `get` reads it from a cursor; `Err` ends the iteration.
    fn next_from_cursor<T>(
        &mut self,
        get: impl FnOnce(&mut Cursor<'a>) -> Option<T>,
    ) -> Option<Result<T, Malformed>> {
        if self.left == 0 {
            return if self.rest.is_empty() { None } else { self.malformed() };
        }
        let mut cursor = Cursor { bytes: self.rest };
        let Some(record) = get(&mut cursor) else { return self.malformed() };
        self.rest = cursor.bytes;
        self.step();
        Some(Ok(record))
    }

    #[inline(always)]
    fn step(&mut self) {
        self.done += 1;
        self.left -= 1;
    }

    #[cold]
    fn malformed<T>(&mut self) -> Option<Result<T, Malformed>> {
        self.rest = &[];
        self.left = 0;
        Some(Err(Malformed { records: self.done }))
    }

    fn size_hint(&self, record_bytes_min: usize) -> (usize, Option<usize>) {
        (0, Some((self.left as usize).min(self.rest.len() / record_bytes_min) + 1))
    }
}

/// The requests of a block, in the order of their completion.
#[derive(Debug, Clone)]
pub struct Requests<'a>(Records<'a>);

impl Iterator for Requests<'_> {
    type Item = Result<Request, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_windowed(codec::get_request, |request| request.done_ns)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint(REQUEST_BYTES_MIN)
    }
}

/// The events of a block.
#[derive(Debug, Clone)]
pub struct Events<'a>(Records<'a>);

impl Iterator for Events<'_> {
    type Item = Result<Event, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_windowed(codec::get_event, |event| event.at_ns)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint(EVENT_BYTES_MIN)
    }
}

/// The samples of a block.
#[derive(Debug, Clone)]
pub struct Samples<'a>(Records<'a>);

impl Iterator for Samples<'_> {
    type Item = Result<Sample, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_from_cursor(|cursor| {
            let at_ns = cursor.u64()?;
            let count = usize::from(cursor.u16()?);
            let values = cursor.take(count * 8)?.chunks_exact(8);
            let values = values.map(|value| Cursor { bytes: value }.u64());
            Some(Sample { at_ns, values: values.collect::<Option<_>>()? })
        })
    }
}

/// The notes of a block.
#[derive(Debug, Clone)]
pub struct Notes<'a>(Records<'a>);

impl Iterator for Notes<'_> {
    type Item = Result<Note, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_from_cursor(|cursor| {
            let at_ns = cursor.u64()?;
            let name_bytes = usize::from(cursor.u16()?);
            let text_bytes = cursor.u32()? as usize;
            let name = std::str::from_utf8(cursor.take(name_bytes)?).ok()?.to_owned();
            let text = std::str::from_utf8(cursor.take(text_bytes)?).ok()?.to_owned();
            Some(Note { at_ns, name, text })
        })
    }
}

/// Little-endian integers one after the other; `None` where the bytes end.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*chunk)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }
}
