//! Finding the blocks of a file, whatever lies between them. It trusts a header only with its
//! checksum, and looks for the next magic where trust ends.

use std::io;

use crate::block::{BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockRef, RawHeader};
use crate::damage::{Damage, Tally};
use crate::names::BlockKind;
use crate::reader::ReadAt;

/// Bytes read at once while looking for a magic.
const SEARCH_BYTES: usize = 64 << 10;

/// What a pass does with payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Read and check every payload.
    Payloads,
    /// Read headers only, and a payload only where the next header is not in its place.
    Headers,
}

/// One pass over a file from `pos` on.
#[derive(Debug)]
pub(crate) struct Scan {
    pos: u64,
    len: u64,
    pass: Pass,
    /// Where the bytes begin that belong to no block, while such bytes are being passed.
    lost_from: Option<u64>,
    /// Where the last of the damaged blocks ends.
    bad_until: u64,
    tally: Tally,
    damage: Damage,
    search: Vec<u8>,
}

impl Scan {
    pub(crate) fn new(pos: u64, len: u64, pass: Pass) -> Self {
        Self {
            pos,
            len,
            pass,
            lost_from: None,
            bad_until: 0,
            tally: Tally::default(),
            damage: Damage::default(),
            search: Vec::new(),
        }
    }

    /// The next sound block, with its payload in `payload` if the pass reads payloads or the block
    /// is an end; `None` at the end of the file.
    pub(crate) fn next(
        &mut self,
        source: &impl ReadAt,
        payload: &mut Vec<u8>,
    ) -> io::Result<Option<BlockRef>> {
        while self.pos < self.len {
            let Some(header) = self.header_at(source, self.pos)? else {
                self.lost_from.get_or_insert(self.pos);
                self.search_from(source, self.pos + 1)?;
                continue;
            };
            let offset = self.pos;
            let Some(next) = self.whole(&header) else {
                // The file ends inside this block, or its neighbours were overwritten.
                self.tally.exists(&header);
                self.lost_from.get_or_insert(offset);
                self.search_from(source, offset + BLOCK_MAGIC.len() as u64)?;
                continue;
            };
            if self.reads_payload(source, &header, next)? {
                read_payload(source, offset, &header, payload)?;
                if crc32fast::hash(payload) != header.payload_crc {
                    self.bad(source, &header, next)?;
                    continue;
                }
            }
            self.leave_lost(offset);
            self.pos = next;
            if let Some(block) = self.accept(&header, offset, payload) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// What the pass found missing, and the end block.
    pub(crate) fn finish(mut self) -> (Damage, Option<crate::record::End>) {
        if let Some(from) = self.lost_from.take() {
            // A damaged block that ends where the file does was written whole.
            let torn = self.bad_until < self.len;
            let counter = if torn {
                &mut self.damage.torn_tail_bytes
            } else {
                &mut self.damage.skipped_bytes
            };
            *counter += self.len - from;
        }
        let end = self.tally.finish(&mut self.damage);
        (self.damage, end)
    }

    /// Takes a sound block into the books; `None` if the caller is not to see it.
    fn accept(&mut self, header: &RawHeader, offset: u64, payload: &[u8]) -> Option<BlockRef> {
        let Some(block) = header.at(offset) else {
            self.tally.read(header);
            self.damage.unknown_blocks += 1;
            return None;
        };
        if block.kind == BlockKind::End {
            let Some(end) = crate::block::Block::new(block, payload.into()).end() else {
                self.damage.bad_blocks += 1;
                self.damage.skipped_bytes += block.len_bytes();
                return None;
            };
            self.tally.ended(end);
        } else if !self.tally.read(header) {
            self.damage.repeated_blocks += 1;
            return None;
        }
        Some(block)
    }

    /// Whether this pass has to look at the payload of a block that ends at `next`.
    fn reads_payload(
        &self,
        source: &impl ReadAt,
        header: &RawHeader,
        next: u64,
    ) -> io::Result<bool> {
        Ok(self.pass == Pass::Payloads
            || header.kind == BlockKind::End as u8
            || (next != self.len && self.header_at(source, next)?.is_none()))
    }

    /// A sound header with a damaged payload, in which another block may begin: it may be the stump
    /// of a block, and not a whole one.
    fn bad(&mut self, source: &impl ReadAt, header: &RawHeader, next: u64) -> io::Result<()> {
        self.tally.exists(header);
        self.damage.bad_blocks += 1;
        self.bad_until = self.bad_until.max(next);
        self.lost_from.get_or_insert(self.pos);
        self.search_from(source, self.pos + BLOCK_MAGIC.len() as u64)
    }

    fn leave_lost(&mut self, at: u64) {
        if let Some(from) = self.lost_from.take() {
            self.damage.skipped_bytes += at - from;
        }
    }

    /// Where the block ends, if the file reaches that far.
    fn whole(&self, header: &RawHeader) -> Option<u64> {
        let next = self.pos + header.block_bytes();
        (next <= self.len).then_some(next)
    }

    fn header_at(&self, source: &impl ReadAt, at: u64) -> io::Result<Option<RawHeader>> {
        if self.len - at < BLOCK_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        source.read_exact_at(&mut bytes, at)?;
        Ok(RawHeader::parse(&bytes))
    }

    /// Moves to the next magic from `from` on, or to the end of the file.
    fn search_from(&mut self, source: &impl ReadAt, from: u64) -> io::Result<()> {
        let mut at = from;
        while self.len.saturating_sub(at) >= BLOCK_HEADER_BYTES as u64 {
            let bytes = (self.len - at).min(SEARCH_BYTES as u64) as usize;
            self.search.resize(bytes, 0);
            source.read_exact_at(&mut self.search, at)?;
            let found = self.search.windows(BLOCK_MAGIC.len()).position(|four| four == BLOCK_MAGIC);
            if let Some(found) = found {
                self.pos = at + found as u64;
                return Ok(());
            }
            // A magic may straddle two reads.
            at += (bytes - (BLOCK_MAGIC.len() - 1)) as u64;
        }
        self.pos = self.len;
        Ok(())
    }
}

/// Reads the payload behind a header whose limits hold.
pub(crate) fn read_payload(
    source: &impl ReadAt,
    offset: u64,
    header: &RawHeader,
    payload: &mut Vec<u8>,
) -> io::Result<()> {
    payload.resize(header.payload_bytes as usize, 0);
    source.read_exact_at(payload, offset + BLOCK_HEADER_BYTES as u64)
}
