//! What must hold for the reader whatever a file holds. Shared by the test beside it and by the
//! fuzz target `latlog`.
//!
//! An input is a file; a mutation would nearly always be stopped by a checksum, so that each input
//! is read a second time with all checksums made right.

use std::collections::HashSet;

use latlog::{Block, BlockKind, BlockRef, Error, LogReader, PAYLOAD_BYTES_MAX};

const BLOCK_MAGIC: [u8; 4] = latlog::BLOCK_MAGIC;
const HEADER_BYTES: usize = latlog::BLOCK_HEADER_BYTES;
/// See FORMAT.md, block header.
const PAYLOAD_LEN_AT: usize = 24;
const PAYLOAD_CRC_AT: usize = 28;

/// Panics if an input breaks a rule.
pub fn check(input: &[u8]) {
    read(input, true);
    read(&with_checksums(input), false);
}

/// Reads all there is. `honest` tells that no checksum was forged.
fn read(bytes: &[u8], honest: bool) {
    let reader = LogReader::from_source(bytes);
    if let Ok(mut reader) = reader {
        read_through(&mut reader, bytes.len(), honest);
        // Without its header it has at least the same blocks.
        let header = reader.header().clone();
        let mut salvaged = LogReader::salvage(bytes, header).expect("memory can be read");
        read_through(&mut salvaged, bytes.len(), honest);
    }
}

fn read_through(reader: &mut LogReader<&[u8]>, len: usize, honest: bool) {
    let mut read = Vec::new();
    let (mut sound_bytes, mut end_before) = (0, 0);
    for block in reader.blocks() {
        let block = block.expect("memory can be read");
        let head = *block.head();
        assert!(head.offset >= end_before, "blocks do not overlap");
        end_before = head.offset + head.len_bytes();
        assert!(end_before <= len as u64, "a block lies in the file");
        assert!(head.payload_bytes as usize <= PAYLOAD_BYTES_MAX);
        sound_bytes += head.len_bytes();
        read.push((head, records(&block)));
    }
    let damage = reader.damage().clone();
    let all = sound_bytes + damage.skipped_bytes + damage.torn_tail_bytes;
    assert!(all <= len as u64, "no byte is counted twice: {damage:?}");
    let by_worker: u64 = damage.missing_blocks_by_worker.values().sum();
    assert_eq!(by_worker, damage.missing_blocks);
    let _ = (damage.to_string(), damage.is_none());
    let _ = reader.real_ns(u64::MAX);
    let index = reader.index().expect("memory can be read");
    let mut payload = Vec::new();
    let mut indexed = Vec::new();
    for head in &index {
        match reader.read_block(head, &mut payload) {
            Ok(block) => indexed.push((*head, records(&block))),
            Err(Error::BadBlock { .. }) => {}
            Err(other) => panic!("memory can be read: {other}"),
        }
    }
    assert!(payload.capacity() <= 2 * PAYLOAD_BYTES_MAX);
    // The sequence may find more: what lies in a stump that the index takes for a block. Forged
    // blocks may lie across each other, and an index that looks at headers takes others of them.
    let name = |head: &BlockRef| (head.worker, head.seq);
    let known: HashSet<_> = read.iter().map(|(head, _)| name(head)).collect();
    assert!(
        !honest || indexed.iter().all(|(head, _)| known.contains(&name(head))),
        "{indexed:?} {read:?}"
    );
}

/// How many records a block yields before it ends or is malformed; never more than it says.
fn records(block: &Block<'_>) -> usize {
    let records = match block.kind() {
        BlockKind::Requests => block.requests().map_while(Result::ok).count(),
        BlockKind::Events => block.events().map_while(Result::ok).count(),
        BlockKind::Samples => block.samples().map_while(Result::ok).count(),
        BlockKind::Notes => block.notes().map_while(Result::ok).count(),
        // Its records are the totals of the workers; a run may have had none.
        BlockKind::End => block.end().map_or(0, |end| end.totals.len()),
    };
    assert!(records <= block.count() as usize, "{records} records of {}", block.count());
    records
}

/// The same file as somebody would write it who knows how: checksums of all that looks like a
/// block.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|window| window == BLOCK_MAGIC) {
        let start = at + found;
        at = start + 4;
        let Some(head) = bytes.get(start..start + HEADER_BYTES) else { break };
        let word = |from: usize| u32::from_le_bytes(head[from..from + 4].try_into().expect("four"));
        let payload_bytes = word(PAYLOAD_LEN_AT) as usize;
        let body = start + HEADER_BYTES;
        if let Some(payload) = bytes.get(body..body.saturating_add(payload_bytes)) {
            let crc = crc32fast::hash(payload);
            bytes[start + PAYLOAD_CRC_AT..start + PAYLOAD_CRC_AT + 4]
                .copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[start..start + HEADER_BYTES - 4]);
        bytes[start + HEADER_BYTES - 4..body].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}
