//! What a log lacks, counted. Pure bookkeeping: it reads nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::block::{BlockRef, RawHeader};
use crate::names::BlockKind;
use crate::record::End;

/// What is missing from a log, or could not be read. All zero and `no_end_block` false: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Bytes at the end of the file that are no whole block: a write was cut short there.
    pub torn_tail_bytes: u64,
    /// Bytes before the end of the file that belong to no sound block.
    pub skipped_bytes: u64,
    /// Blocks with a sound header and a damaged payload.
    pub bad_blocks: u64,
    /// Blocks that the sequence numbers (and the end block) prove and that could not be read,
    /// `bad_blocks` included.
    pub missing_blocks: u64,
    /// The same by worker; workers that miss nothing are absent.
    pub missing_blocks_by_worker: BTreeMap<u16, u64>,
    /// Requests that the workers recorded and that could not be read. Known exactly from the end
    /// block; without one, `None`.
    pub missing_requests: Option<u64>,
    /// Blocks that occur a second time; they are left out.
    pub repeated_blocks: u64,
    /// Sound blocks of a kind that this version does not know; they are left out.
    pub unknown_blocks: u64,
    /// The run did not finish its log: the generator was killed, or its disk was full. What the
    /// workers had in open blocks is lost, and nobody knows how much that was.
    pub no_end_block: bool,
}

impl Damage {
    /// True if the log has everything that the run recorded.
    pub fn is_none(&self) -> bool {
        self.torn_tail_bytes == 0
            && self.skipped_bytes == 0
            && self.bad_blocks == 0
            && self.missing_blocks == 0
            && self.missing_requests.unwrap_or(0) == 0
            && self.repeated_blocks == 0
            && self.unknown_blocks == 0
            && !self.no_end_block
    }

    /// Counts a block that an index lists and that [`LogReader::read_block`] then refused, or whose
    /// records are [`Malformed`](crate::Malformed).
    ///
    /// [`LogReader::read_block`]: crate::LogReader::read_block
    pub fn count_bad(&mut self, block: &BlockRef) {
        self.bad_blocks += 1;
        self.skipped_bytes += block.len_bytes();
        self.missing_blocks += 1;
        *self.missing_blocks_by_worker.entry(block.worker).or_default() += 1;
        if block.kind == BlockKind::Requests
            && let Some(missing) = &mut self.missing_requests
        {
            *missing += u64::from(block.count);
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        say(self.missing_blocks, "blocks missing");
        say(self.bad_blocks, "of them damaged in place");
        say(self.missing_requests.unwrap_or(0), "requests missing");
        say(self.torn_tail_bytes, "torn bytes at the end");
        say(self.skipped_bytes, "bytes skipped");
        say(self.repeated_blocks, "blocks repeated");
        say(self.unknown_blocks, "blocks of an unknown kind");
        if self.no_end_block {
            parts.push("no end block (killed, or disk full)".to_owned());
        }
        if parts.is_empty() {
            return f.write_str("complete");
        }
        f.write_str(&parts.join(", "))
    }
}

/// What a pass over the file has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    workers: BTreeMap<u16, Worker>,
    end: Option<End>,
}

#[derive(Debug, Default)]
struct Worker {
    seen: Ranges,
    /// One more than the highest number known to have been written.
    expected: u64,
    requests: u64,
}

impl Tally {
    /// A block exists, whether or not it can be read.
    pub(crate) fn exists(&mut self, header: &RawHeader) {
        if header.kind != BlockKind::End as u8 {
            let worker = self.workers.entry(header.worker).or_default();
            worker.expected = worker.expected.max(u64::from(header.seq) + 1);
        }
    }

    /// A block was read; false if the same one was read before.
    pub(crate) fn read(&mut self, header: &RawHeader) -> bool {
        if header.kind == BlockKind::End as u8 {
            return true;
        }
        self.exists(header);
        let worker = self.workers.entry(header.worker).or_default();
        let new = worker.seen.insert(header.seq);
        if new && header.kind == BlockKind::Requests as u8 {
            worker.requests += u64::from(header.count);
        }
        new
    }

    /// The end block was read; the last one counts.
    pub(crate) fn ended(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Fills in what follows from the whole pass.
    pub(crate) fn finish(mut self, damage: &mut Damage) -> Option<End> {
        let mut promised = 0;
        for totals in self.end.iter().flat_map(|end| &end.totals) {
            let worker = self.workers.entry(totals.worker).or_default();
            worker.expected = worker.expected.max(u64::from(totals.blocks));
            // Any number may stand in a file.
            promised =
                u64::saturating_add(promised, totals.requests.saturating_sub(worker.requests));
        }
        for (&number, worker) in &self.workers {
            let missing = worker.expected - worker.seen.len();
            if missing > 0 {
                damage.missing_blocks += missing;
                damage.missing_blocks_by_worker.insert(number, missing);
            }
        }
        damage.no_end_block = self.end.is_none();
        damage.missing_requests = self.end.is_some().then_some(promised);
        self.end
    }
}

/// A set of numbers as ranges: one for a file without gaps, so that memory follows the damage.
#[derive(Debug, Default)]
struct Ranges {
    /// First number of a range -> one past its last.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// False if the number is there already.
    fn insert(&mut self, number: u32) -> bool {
        let number = u64::from(number);
        let before = self.ranges.range(..=number).next_back().map(|(&start, &end)| (start, end));
        if before.is_some_and(|(_, end)| number < end) {
            return false;
        }
        let start = match before {
            Some((start, end)) if end == number => start,
            Some(_) | None => number,
        };
        let end = self.ranges.remove(&(number + 1)).unwrap_or(number + 1);
        self.ranges.insert(start, end);
        true
    }

    fn len(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_know_repeats() {
        let mut ranges = Ranges::default();
        for number in [0, 1, 5, 3, 4, u32::MAX] {
            assert!(ranges.insert(number));
            assert!(!ranges.insert(number));
        }
        assert_eq!(ranges.len(), 6);
        assert_eq!(ranges.ranges.len(), 3);
        assert!(ranges.insert(2));
        assert_eq!(ranges.ranges.len(), 2);
        assert_eq!(ranges.ranges[&0], 6);
    }
}
