//! Filling a block in memory. This is the generator's hot path: after `new` nothing allocates and
//! nothing fails but for want of room. It knows nothing of files.

use crate::block::{
    BLOCK_HEADER_BYTES, NOTE_FIXED_BYTES, PAYLOAD_BYTES_MAX, RawHeader, SAMPLE_FIXED_BYTES,
};
use crate::codec::{self, WINDOW_BYTES};
use crate::error::Full;
use crate::names::BlockKind;
use crate::record::{Event, Note, Request, Sample};

/// Room that a request or event asks for; [`BlockBuilder::is_full`] is true below it. A record
/// takes at most 42 bytes, but is stored in whole words.
pub const RECORD_ROOM_BYTES: usize = WINDOW_BYTES;

/// Largest buffer of a builder, bytes.
pub const BLOCK_BYTES_MAX: usize = BLOCK_HEADER_BYTES + PAYLOAD_BYTES_MAX;

/// Smallest buffer of a builder, bytes: a header and room for one record.
pub const BLOCK_BYTES_MIN: usize = BLOCK_HEADER_BYTES + RECORD_ROOM_BYTES;

/// One block being filled by one worker, with records of one kind.
///
/// Several builders of one worker (requests, events, samples) share one sequence: number the blocks
/// in the order in which they are sealed, from 0, without gaps.
#[derive(Debug)]
pub struct BlockBuilder {
    /// As long as the capacity at all times; what lies beyond `len` is of no meaning.
    buffer: Vec<u8>,
    len: usize,
    count: u32,
    base_ns: u64,
    previous_ns: u64,
    worker: u16,
    kind: BlockKind,
}

impl BlockBuilder {
    /// A builder that owns `capacity_bytes`, header included; the number is brought into
    /// [`BLOCK_BYTES_MIN`]..=[`BLOCK_BYTES_MAX`].
    pub fn new(worker: u16, kind: BlockKind, capacity_bytes: usize) -> Self {
        let capacity_bytes = capacity_bytes.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        Self::with_buffer(worker, kind, Vec::with_capacity(capacity_bytes))
    }

    /// A builder that fills `buffer`, whose content is lost and whose capacity is the limit.
    /// Allocates only if that is below [`BLOCK_BYTES_MIN`].
    pub fn with_buffer(worker: u16, kind: BlockKind, buffer: Vec<u8>) -> Self {
        let mut builder =
            Self { buffer, len: 0, count: 0, base_ns: 0, previous_ns: 0, worker, kind };
        builder.stretch();
        builder.clear();
        builder
    }

    /// What it is filled with.
    pub const fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Records since the last clear.
    #[inline]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// True while it has no record.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the block has so far, header included.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it can have.
    pub const fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// True when another request or event might not fit: seal it.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.buffer.len() - self.len < RECORD_ROOM_BYTES
    }

    /// Records a request.
    ///
    /// # Errors
    /// [`Full`]; the block is as it was.
    ///
    /// # Panics
    /// If the kind is not [`BlockKind::Requests`]. The other `push_*` have theirs.
    #[inline]
    pub fn push_request(&mut self, request: &Request) -> Result<(), Full> {
        assert!(self.kind == BlockKind::Requests, "a request in a block of {}", self.kind);
        self.first(request.done_ns);
        let window = window(&mut self.buffer, self.len)?;
        self.len += codec::put_request(window, request, self.previous_ns);
        self.count += 1;
        self.previous_ns = request.done_ns;
        Ok(())
    }

    /// Records an event.
    ///
    /// # Errors
    /// [`Full`]; the block is as it was.
    #[inline]
    pub fn push_event(&mut self, event: &Event) -> Result<(), Full> {
        assert!(self.kind == BlockKind::Events, "an event in a block of {}", self.kind);
        self.first(event.at_ns);
        let window = window(&mut self.buffer, self.len)?;
        self.len += codec::put_event(window, event, self.previous_ns);
        self.count += 1;
        self.previous_ns = event.at_ns;
        Ok(())
    }

    /// Records a sample; see [`Self::push_values`].
    ///
    /// # Errors
    /// [`Full`]; the block is as it was.
    pub fn push_sample(&mut self, sample: &Sample) -> Result<(), Full> {
        self.push_values(sample.at_ns, &sample.values)
    }

    /// Records a sample from borrowed values. It takes 10 bytes and 8 for each value.
    ///
    /// # Errors
    /// [`Full`]; the block is as it was. In an empty block it means that the sample never fits, or
    /// has more than 65,535 values.
    pub fn push_values(&mut self, at_ns: u64, values: &[u64]) -> Result<(), Full> {
        assert!(self.kind == BlockKind::Samples, "a sample in a block of {}", self.kind);
        let count = u16::try_from(values.len()).map_err(|_| Full)?;
        let room = self.room(SAMPLE_FIXED_BYTES + values.len() * 8)?;
        let (at, rest) = room.split_at_mut(8);
        let (counted, rest) = rest.split_at_mut(2);
        at.copy_from_slice(&at_ns.to_le_bytes());
        counted.copy_from_slice(&count.to_le_bytes());
        for (bytes, value) in rest.chunks_exact_mut(8).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        self.grown(at_ns, SAMPLE_FIXED_BYTES + values.len() * 8);
        Ok(())
    }

    /// Records a note; see [`Self::push_text`].
    ///
    /// # Errors
    /// [`Full`]; the block is as it was.
    pub fn push_note(&mut self, note: &Note) -> Result<(), Full> {
        self.push_text(note.at_ns, &note.name, &note.text)
    }

    /// Records a note from borrowed texts. It takes 14 bytes and those of the texts.
    ///
    /// # Errors
    /// [`Full`]; the block is as it was. In an empty block it means that the note never fits, or
    /// that its name has more than 65,535 bytes.
    pub fn push_text(&mut self, at_ns: u64, name: &str, text: &str) -> Result<(), Full> {
        assert!(self.kind == BlockKind::Notes, "a note in a block of {}", self.kind);
        let name_bytes = u16::try_from(name.len()).map_err(|_| Full)?;
        let text_bytes = u32::try_from(text.len()).map_err(|_| Full)?;
        let bytes = NOTE_FIXED_BYTES.saturating_add(name.len()).saturating_add(text.len());
        let room = self.room(bytes)?;
        room[..8].copy_from_slice(&at_ns.to_le_bytes());
        room[8..10].copy_from_slice(&name_bytes.to_le_bytes());
        room[10..14].copy_from_slice(&text_bytes.to_le_bytes());
        let (named, texted) = room[NOTE_FIXED_BYTES..].split_at_mut(name.len());
        named.copy_from_slice(name.as_bytes());
        texted.copy_from_slice(text.as_bytes());
        self.grown(at_ns, bytes);
        Ok(())
    }

    /// Writes header and checksums and returns the whole block, ready for
    /// [`LogWriter::append`](crate::LogWriter::append). The builder keeps its records until
    /// [`Self::clear`].
    pub fn seal(&mut self, seq: u32) -> &[u8] {
        let (header, rest) = self.buffer.split_at_mut(BLOCK_HEADER_BYTES);
        let payload = &rest[..self.len - BLOCK_HEADER_BYTES];
        let sealed = RawHeader {
            kind: self.kind as u8,
            worker: self.worker,
            seq,
            count: self.count,
            base_ns: self.base_ns,
            payload_bytes: payload.len() as u32,
            payload_crc: crc32fast::hash(payload),
        };
        header.copy_from_slice(&sealed.to_bytes());
        &self.buffer[..self.len]
    }

    /// Forgets the records.
    pub fn clear(&mut self) {
        self.len = BLOCK_HEADER_BYTES;
        self.count = 0;
        self.base_ns = 0;
        self.previous_ns = 0;
    }

    /// Seals the block, takes it out, and goes on empty with `spare`. This is how buffers travel
    /// between a worker and the writer thread. What `spare` holds is lost; nothing is allocated if
    /// its capacity is at least [`BLOCK_BYTES_MIN`], and its capacity is the new limit.
    pub fn swap(&mut self, seq: u32, spare: Vec<u8>) -> Vec<u8> {
        self.seal(seq);
        let mut block = std::mem::replace(&mut self.buffer, spare);
        block.truncate(self.len);
        self.stretch();
        self.clear();
        block
    }

    /// The sealed block as a buffer that can travel.
    pub fn into_bytes(mut self, seq: u32) -> Vec<u8> {
        self.seal(seq);
        self.buffer.truncate(self.len);
        self.buffer
    }

    /// The first record gives the block its base.
    #[inline(always)]
    fn first(&mut self, at_ns: u64) {
        if self.count == 0 {
            self.base_ns = at_ns;
            self.previous_ns = at_ns;
        }
    }

    fn room(&mut self, bytes: usize) -> Result<&mut [u8], Full> {
        self.buffer[self.len..].get_mut(..bytes).ok_or(Full)
    }

    fn grown(&mut self, at_ns: u64, bytes: usize) {
        self.first(at_ns);
        self.len += bytes;
        self.count += 1;
    }

    /// Makes the buffer as long as its capacity, which is zeroing what a returned block lacks.
    fn stretch(&mut self) {
        let bytes = self.buffer.capacity().clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        self.buffer.resize(bytes, 0);
    }
}

#[inline(always)]
fn window(buffer: &mut [u8], at: usize) -> Result<&mut codec::Window, Full> {
    buffer.get_mut(at..).and_then(|rest| rest.first_chunk_mut()).ok_or(Full)
}
