//! Damaged files: whatever happens to the bytes, the reader says so and reads the rest.

mod common;

use std::io;

use common::{blocks, header, log, read_all, read_indexed};
use latlog::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC, Damage, Error, LogReader, Malformed, PAYLOAD_BYTES_MAX, ReadAt,
};
use proptest::prelude::*;

fn open(bytes: &[u8]) -> LogReader<&[u8]> {
    LogReader::from_source(bytes).unwrap()
}

fn header_bytes() -> usize {
    header().to_bytes().unwrap().len()
}

fn all() -> Vec<String> {
    read_all(&mut open(&log()))
}

/// Where each block begins, and where the file ends.
fn boundaries() -> Vec<usize> {
    let mut at = header_bytes();
    let mut boundaries = vec![at];
    for block in blocks() {
        at += block.len();
        boundaries.push(at);
    }
    boundaries.push(log().len());
    boundaries
}

#[test]
fn a_file_cut_anywhere_loses_only_what_was_cut() {
    let (log, all, boundaries) = (log(), all(), boundaries());
    for cut in 0..log.len() {
        let bytes = &log[..cut];
        let Ok(mut reader) = LogReader::from_source(bytes) else {
            assert!(cut < header_bytes(), "a whole header is read");
            continue;
        };
        let whole = boundaries.iter().filter(|&&at| at <= cut).count() - 1;
        assert_eq!(read_all(&mut reader), all[..whole], "cut at {cut}");
        let damage = reader.damage().clone();
        assert_eq!(damage.torn_tail_bytes, (cut - boundaries[whole]) as u64, "cut at {cut}");
        assert!(damage.no_end_block);
        assert_eq!(damage.skipped_bytes, 0);
        assert_eq!(damage.missing_requests, None);
        // The header of the torn block, if it is whole, tells that the block existed.
        let known = cut - boundaries[whole] >= BLOCK_HEADER_BYTES && whole < blocks().len();
        assert_eq!(damage.missing_blocks, u64::from(known), "cut at {cut}");
        assert_eq!(read_indexed(&mut reader), (all[..whole].to_vec(), damage), "cut at {cut}");
    }
}

#[test]
fn a_file_cut_in_its_header_is_refused_with_a_sentence() {
    let log = log();
    for cut in 0..header_bytes() {
        match LogReader::from_source(&log[..cut]) {
            Err(Error::NotALog) => assert!(cut < 8),
            Err(Error::HeaderTorn) => assert!(cut >= 8),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_costs_one_block() {
    let (log, all) = (log(), all());
    let mut flipped = log.clone();
    for bit in 0..log.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 < header_bytes() {
            assert!(LogReader::from_source(&flipped[..]).is_err(), "bit {bit}");
        } else {
            let mut reader = open(&flipped);
            let read = read_all(&mut reader);
            let damage = reader.damage().clone();
            assert!(!damage.is_none(), "bit {bit}");
            assert_eq!(read.len() + 1, all.len(), "bit {bit}");
            assert!(read.iter().all(|block| all.contains(block)), "bit {bit}");
            let end_hit = bit / 8 >= boundaries()[blocks().len()];
            assert_eq!(damage.no_end_block, end_hit, "bit {bit}");
            assert_eq!(damage.missing_blocks, u64::from(!end_hit), "bit {bit}");
            let (indexed, indexed_damage) = read_indexed(&mut reader);
            assert_eq!(indexed, read, "bit {bit}");
            assert_eq!(indexed_damage, damage, "bit {bit}");
        }
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn the_requests_of_a_damaged_block_are_counted() {
    let mut log = log();
    log[header_bytes() + BLOCK_HEADER_BYTES + 3] ^= 0x10;
    let mut reader = open(&log);
    read_all(&mut reader);
    let damage = reader.damage();
    assert_eq!((damage.bad_blocks, damage.missing_requests), (1, Some(3)));
    assert_eq!(damage.missing_blocks_by_worker.iter().collect::<Vec<_>>(), [(&0, &1)]);
    assert_eq!(damage.skipped_bytes, blocks()[0].len() as u64);
    let sentence = damage.to_string();
    assert!(sentence.starts_with("1 blocks missing, 1 of them damaged in place, 3 requests"));
}

#[test]
fn a_lost_block_is_counted_for_its_worker_also_at_the_end() {
    for lost in 0..blocks().len() {
        let kept = blocks().into_iter().enumerate().filter(|(index, _)| *index != lost);
        let mut log_bytes = header().to_bytes().unwrap();
        kept.for_each(|(_, block)| log_bytes.extend(block));
        log_bytes.extend(&log()[boundaries()[blocks().len()]..]);
        let mut reader = open(&log_bytes);
        assert_eq!(read_all(&mut reader).len(), blocks().len());
        let damage = reader.damage();
        assert_eq!(damage.missing_blocks, 1);
        let requests = if lost < 4 { 3 } else { 0 };
        assert_eq!(damage.missing_requests, Some(requests));
        assert_eq!((damage.skipped_bytes, damage.torn_tail_bytes), (0, 0));
    }
}

#[test]
fn a_tail_of_zeros_is_torn() {
    let mut log = log();
    log.resize(log.len() + 200_000, 0);
    let mut reader = open(&log);
    assert_eq!(read_all(&mut reader), all());
    assert_eq!(reader.damage().torn_tail_bytes, 200_000);
}

#[test]
fn a_block_is_found_wherever_the_search_reads_on() {
    let (log, boundaries) = (log(), boundaries());
    for garbage_bytes in (64 << 10) - 40..(64 << 10) + 10 {
        let garbage = vec![BLOCK_MAGIC[0]; garbage_bytes];
        let bytes = [&log[..boundaries[1]], &garbage, &log[boundaries[1]..]].concat();
        let mut reader = open(&bytes);
        assert_eq!(read_all(&mut reader), all(), "{garbage_bytes} bytes of garbage");
        assert_eq!(reader.damage().skipped_bytes, garbage_bytes as u64);
    }
}

/// A disk with a sector that cannot be read.
struct BadSector<'a> {
    bytes: &'a [u8],
    bad: usize,
}

impl ReadAt for BadSector<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (start, end) = (offset as usize, offset as usize + buf.len());
        if (start..end).contains(&self.bad) {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_exact_at(buf, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.bytes.len_bytes()
    }
}

#[test]
fn a_read_error_ends_the_pass_with_what_was_read() {
    let (log, boundaries) = (log(), boundaries());
    for bad in 0..log.len() {
        let source = BadSector { bytes: &log, bad };
        let Ok(mut reader) = LogReader::from_source(source) else {
            assert!(bad < header_bytes());
            continue;
        };
        let mut read: Vec<_> = reader.blocks().collect();
        let error = read.pop().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "cannot read the log: bad sector");
        assert_eq!(read.len(), boundaries.iter().filter(|&&at| at <= bad).count() - 1);
        assert!(read.iter().all(Result::is_ok));
        assert!(reader.damage().no_end_block);
    }
}

#[test]
fn a_file_appended_to_itself_is_read_once() {
    let log = log();
    let twice = [&log[..], &log[..]].concat();
    let mut reader = open(&twice);
    let read = read_all(&mut reader);
    assert_eq!(read[..all().len()], all());
    assert_eq!(read.len(), all().len() + 1, "only the end block comes twice");
    let damage = reader.damage();
    assert_eq!(damage.repeated_blocks, blocks().len() as u64);
    assert_eq!(damage.skipped_bytes, header_bytes() as u64);
    assert_eq!(damage.missing_requests, Some(0));
}

#[test]
fn a_block_inside_a_torn_one_is_found() {
    let (blocks, log) = (blocks(), log());
    for kept in BLOCK_HEADER_BYTES..blocks[0].len() {
        let cut = blocks[0].len() - kept;
        let mut bytes = log.clone();
        bytes.drain(header_bytes() + kept..header_bytes() + blocks[0].len());
        let mut reader = open(&bytes);
        assert_eq!(read_all(&mut reader), all()[1..], "{cut} bytes missing");
        assert_eq!(reader.damage().missing_blocks, 1);
        assert_eq!(reader.damage().skipped_bytes, kept as u64);
        assert_eq!(read_indexed(&mut reader).0, all()[1..], "{cut} bytes missing");
    }
}

#[test]
fn a_block_of_an_unknown_kind_is_skipped_and_counted() {
    let mut log = log();
    let at = header_bytes();
    log[at + 4] = 99;
    let crc = crc32fast::hash(&log[at..at + 32]);
    log[at + 32..at + 36].copy_from_slice(&crc.to_le_bytes());
    let mut reader = open(&log);
    assert_eq!(read_all(&mut reader), all()[1..]);
    assert_eq!(reader.damage().unknown_blocks, 1);
    assert_eq!(reader.damage().missing_blocks, 0);
}

#[test]
fn a_log_with_a_damaged_header_can_be_salvaged() {
    let mut log = log();
    log[header_bytes() - 1] ^= 1;
    assert!(matches!(LogReader::from_source(&log[..]), Err(Error::HeaderDamaged)));
    let mut reader = LogReader::salvage(&log[..], header()).unwrap();
    assert_eq!(read_all(&mut reader), all());
    let expected = Damage {
        skipped_bytes: header_bytes() as u64,
        missing_requests: Some(0),
        ..Damage::default()
    };
    assert_eq!(*reader.damage(), expected);
}

#[test]
fn a_damaged_last_block_is_bad_and_not_torn() {
    let (mut log, boundaries) = (log(), boundaries());
    log.truncate(boundaries[4]);
    *log.last_mut().unwrap() ^= 1;
    let mut reader = open(&log);
    assert_eq!(read_all(&mut reader), all()[..3]);
    let damage = reader.damage().clone();
    assert_eq!((damage.bad_blocks, damage.missing_blocks), (1, 1));
    assert_eq!(damage.skipped_bytes, blocks()[3].len() as u64);
    assert_eq!(damage.torn_tail_bytes, 0);
    assert_eq!(read_indexed(&mut reader), (all()[..3].to_vec(), damage));
}

/// A log of one block whose checksums hold, whatever else its numbers say.
fn forged(kind: u8, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut block = blocks()[0][..BLOCK_HEADER_BYTES].to_vec();
    block[4] = kind;
    block[12..16].copy_from_slice(&count.to_le_bytes());
    block[24..28].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    block[28..32].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&block[..32]);
    block[32..36].copy_from_slice(&crc.to_le_bytes());
    [&header().to_bytes().unwrap(), &block[..], payload].concat()
}

#[test]
fn a_block_beyond_the_limits_is_none() {
    let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
    let blocks = |bytes: &[u8]| read_all(&mut open(bytes)).len();
    assert_eq!(blocks(&forged(1, 1, &payload)), 0);
    assert_eq!(blocks(&forged(1, 1, &payload[1..])), 1);
    assert_eq!(blocks(&forged(1, 9, &payload[..8])), 0, "more records than bytes");
}

#[test]
fn a_payload_that_its_records_do_not_fill_exactly_is_malformed() {
    let requests = &blocks()[0][BLOCK_HEADER_BYTES..];
    let samples = &blocks()[5][BLOCK_HEADER_BYTES..];
    let read = |log: Vec<u8>| {
        let block = open(&log).blocks().next().unwrap().unwrap();
        let requests: Vec<_> = block.requests().map(|request| request.map(drop)).collect();
        let samples: Vec<_> = block.samples().map(|sample| sample.map(drop)).collect();
        [requests, samples].concat()
    };
    let malformed = |records| Err(Malformed { records });
    let cut = &requests[..requests.len() - 1];
    let longer = [requests, &[0]].concat();
    assert_eq!(read(forged(1, 3, requests)), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(read(forged(1, 3, cut)), [Ok(()), Ok(()), malformed(2)]);
    assert_eq!(read(forged(1, 3, &longer)), [Ok(()), Ok(()), Ok(()), malformed(3)]);
    assert_eq!(read(forged(1, 2, requests)), [Ok(()), Ok(()), malformed(2)]);
    assert_eq!(read(forged(1, 4, requests)), [Ok(()), Ok(()), Ok(()), malformed(3)]);
    assert_eq!(read(forged(3, 1, samples)), [Ok(())]);
    assert_eq!(read(forged(3, 1, &samples[..samples.len() - 1])), [malformed(0)]);
    assert_eq!(read(forged(3, 2, samples)), [Ok(()), malformed(1)]);
    assert_eq!(read(forged(3, 0, samples)), [malformed(0)]);
    let unknown_outcome = [0, 0, 0, 0x80, 19, 0, 0, 0, 0, 0];
    assert_eq!(read(forged(1, 1, &unknown_outcome)), [malformed(0)]);
}

/// Garbage that looks like blocks more often than chance would have it.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        Just(BLOCK_MAGIC.to_vec()),
        Just(vec![BLOCK_MAGIC[0]; 3]),
        (0..blocks().len(), 1..60_usize).prop_map(|(index, bytes)| {
            let block = &blocks()[index];
            block[..bytes.min(block.len() - 1)].to_vec()
        }),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn garbage_between_blocks_costs_no_block(pieces in proptest::collection::vec(garbage(), 9)) {
        let (log, boundaries) = (log(), boundaries());
        let mut bytes = log[..boundaries[0]].to_vec();
        for (span, piece) in boundaries.windows(2).zip(&pieces) {
            bytes.extend(piece);
            bytes.extend(&log[span[0]..span[1]]);
        }
        bytes.extend(&pieces[8]);
        let mut reader = open(&bytes);
        prop_assert_eq!(read_all(&mut reader), all());
        let damage = reader.damage().clone();
        let garbage_bytes: usize = pieces.iter().map(Vec::len).sum();
        prop_assert_eq!(damage.skipped_bytes + damage.torn_tail_bytes, garbage_bytes as u64);
        prop_assert_eq!(damage.missing_requests, Some(0));
        prop_assert_eq!(damage.missing_blocks, 0);
        // An index may take a stump for a whole block, where the next header fits by chance.
        let (indexed, indexed_damage) = read_indexed(&mut reader);
        prop_assert!(indexed == all() || !indexed_damage.is_none());
        prop_assert!(indexed.iter().all(|block| all().contains(block)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in garbage(), tail in garbage()) {
        let _ = LogReader::from_source(&bytes[..]);
        let mut log = header().to_bytes().unwrap();
        log.extend(&bytes);
        let mut reader = open(&log);
        read_all(&mut reader);
        read_indexed(&mut reader);
        log.extend(&tail);
        let mut reader = LogReader::salvage(&log[..], header()).unwrap();
        read_all(&mut reader);
    }

    /// The checksum holds and the payload is nonsense: a fault of the writer.
    #[test]
    fn any_payload_is_decoded_without_a_panic(
        kind in 1_u8..=5,
        count in 0_u32..200,
        payload in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let count = count.min(payload.len() as u32);
        let bytes = forged(kind, count, &payload);
        let mut reader = open(&bytes);
        for block in reader.blocks() {
            let block = block.unwrap();
            let mut requests = Vec::new();
            let whole = block.read_requests(&mut requests).is_ok();
            prop_assert!(requests.len() <= count as usize);
            prop_assert_eq!(whole, block.requests().all(|request| request.is_ok()));
            common::describe(&block);
        }
    }
}
