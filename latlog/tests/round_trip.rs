//! Any records, in blocks of any size, come back as they were.

mod common;

use std::io::Cursor;

use common::{Memory, header};
use latlog::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BlockBuilder, BlockKind, Event, EventKind, Full, LogReader,
    LogWriter, Note, Outcome, RECORD_ROOM_BYTES, Request, Sample,
};
use proptest::prelude::*;

/// Integers of every length alike; uniform ones would nearly all have 8 bytes.
fn integer() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Ok), proptest::sample::select(Outcome::ALL)]
}

prop_compose! {
    fn request()(
        times in [integer(), integer(), integer(), integer()],
        outcome in outcome(),
        detail: i32,
        target: u16,
        op: u8,
    ) -> Request {
        let [intended_ns, sent_ns, first_byte_ns, done_ns] = times;
        let detail = if outcome.is_ok() { 0 } else { detail };
        Request { intended_ns, sent_ns, first_byte_ns, done_ns, outcome, detail, target, op }
    }
}

prop_compose! {
    fn event()(
        at_ns in integer(),
        kind in proptest::sample::select(EventKind::ALL),
        session: u32,
        target: u16,
        outcome in outcome(),
        detail: i32,
        value in integer(),
    ) -> Event {
        Event { at_ns, kind, session, target, outcome, detail, value }
    }
}

prop_compose! {
    fn sample()(at_ns: u64, values in proptest::collection::vec(integer(), 0..8)) -> Sample {
        Sample { at_ns, values }
    }
}

prop_compose! {
    fn note()(at_ns: u64, name in ".{0,10}", text in ".{0,20}") -> Note {
        Note { at_ns, name, text }
    }
}

/// Writes the records in blocks of the given size; buffers travel as between worker and writer.
fn written<T>(
    kind: BlockKind,
    capacity_bytes: usize,
    records: &[T],
    push: impl Fn(&mut BlockBuilder, &T) -> Result<(), Full>,
) -> Vec<u8> {
    let mut writer = LogWriter::from_sink(Memory(Cursor::new(Vec::new())), &header()).unwrap();
    let mut builder = BlockBuilder::new(5, kind, capacity_bytes);
    let mut spare = Vec::with_capacity(builder.capacity());
    let mut seq = 0;
    for record in records {
        if push(&mut builder, record).is_err() {
            assert!(!builder.is_empty(), "the record fits into no block of {capacity_bytes}");
            spare = builder.swap(seq, spare);
            writer.append(&spare).unwrap();
            seq += 1;
            push(&mut builder, record).unwrap();
        }
        assert!(builder.len() <= builder.capacity());
    }
    writer.append(&builder.into_bytes(seq)).unwrap();
    writer.into_sink().0.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn requests(
        records in proptest::collection::vec(request(), 0..200),
        capacity_bytes in 0_usize..5_000,
    ) {
        let log =
            written(BlockKind::Requests, capacity_bytes, &records, BlockBuilder::push_request);
        let mut reader = LogReader::from_source(log).unwrap();
        let mut read = Vec::new();
        let mut one_by_one = Vec::new();
        for block in reader.blocks() {
            let block = block.unwrap();
            prop_assert_eq!(block.worker(), 5);
            block.read_requests(&mut read).unwrap();
            one_by_one.extend(block.requests().map(Result::unwrap));
            prop_assert_eq!(block.events().count(), 0);
        }
        prop_assert_eq!(&read, &records);
        prop_assert_eq!(&one_by_one, &records);
        prop_assert_eq!(reader.damage().missing_blocks, 0);
    }

    #[test]
    fn events(
        records in proptest::collection::vec(event(), 0..200),
        capacity_bytes in 0_usize..5_000,
    ) {
        let log = written(BlockKind::Events, capacity_bytes, &records, BlockBuilder::push_event);
        let mut reader = LogReader::from_source(log).unwrap();
        let blocks: Vec<_> = reader.blocks().map(Result::unwrap).collect();
        let read: Vec<Event> =
            blocks.iter().flat_map(|block| block.events().map(Result::unwrap)).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn samples_and_notes(
        samples in proptest::collection::vec(sample(), 0..40),
        notes in proptest::collection::vec(note(), 0..40),
        capacity_bytes in 200_usize..5_000,
    ) {
        let log =
            written(BlockKind::Samples, capacity_bytes, &samples, BlockBuilder::push_sample);
        let mut reader = LogReader::from_source(log).unwrap();
        let blocks: Vec<_> = reader.blocks().map(Result::unwrap).collect();
        let read: Vec<Sample> =
            blocks.iter().flat_map(|block| block.samples().map(Result::unwrap)).collect();
        prop_assert_eq!(read, samples);

        let log = written(BlockKind::Notes, capacity_bytes, &notes, BlockBuilder::push_note);
        let mut reader = LogReader::from_source(log).unwrap();
        let blocks: Vec<_> = reader.blocks().map(Result::unwrap).collect();
        let read: Vec<Note> =
            blocks.iter().flat_map(|block| block.notes().map(Result::unwrap)).collect();
        prop_assert_eq!(read, notes);
    }
}

#[test]
fn the_detail_of_a_success_is_not_kept() {
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, 4096);
    let request = common::traffic::Traffic::new(1, 1.0).next().unwrap();
    assert_eq!(request.outcome, Outcome::Ok);
    builder.push_request(&Request { detail: 200, ..request }).unwrap();
    let log = [header().to_bytes().unwrap(), builder.into_bytes(0)].concat();
    let mut reader = LogReader::from_source(log).unwrap();
    let block = reader.blocks().next().unwrap().unwrap();
    assert!(block.requests().map(Result::unwrap).eq([request]));
}

#[test]
fn a_block_that_is_not_full_takes_a_record() {
    let request = common::traffic::Traffic::new(1, 1.0).next().unwrap();
    for capacity_bytes in BLOCK_BYTES_MIN..BLOCK_BYTES_MIN + 2 * RECORD_ROOM_BYTES {
        let mut builder = BlockBuilder::new(0, BlockKind::Requests, capacity_bytes);
        while !builder.is_full() {
            builder.push_request(&request).unwrap();
        }
        let (count, len) = (builder.count(), builder.len());
        assert!(count > 0);
        assert_eq!(builder.push_request(&request), Err(Full));
        assert_eq!((builder.count(), builder.len()), (count, len));
    }
}

#[test]
fn a_travelling_buffer_keeps_its_memory() {
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, 1000);
    let spare = Vec::with_capacity(1000);
    let request = common::traffic::Traffic::new(1, 1.0).next().unwrap();
    builder.push_request(&request).unwrap();
    let expected = builder.seal(7).to_vec();
    let home = expected.as_ptr();
    let address = spare.as_ptr();
    let first = builder.swap(7, spare);
    assert_eq!(first, expected);
    assert!(builder.is_empty());
    let second = builder.swap(8, first);
    assert_eq!(second.as_ptr(), address, "the spare became the block, and no other memory");
    assert_ne!(second.as_ptr(), home);
    assert_eq!(builder.capacity(), 1000);
}

#[test]
fn limits_hold_for_what_is_too_large() {
    let mut builder = BlockBuilder::new(0, BlockKind::Samples, usize::MAX);
    assert_eq!(builder.capacity(), BLOCK_BYTES_MAX);
    assert_eq!(builder.push_values(0, &[0; 65_536]), Err(Full));
    assert_eq!(builder.push_values(0, &[0; 65_535]), Ok(()));
    let mut builder = BlockBuilder::new(0, BlockKind::Notes, usize::MAX);
    assert_eq!(builder.push_text(0, "", &"x".repeat(BLOCK_BYTES_MAX)), Err(Full));
    assert_eq!(builder.push_text(0, &"x".repeat(65_536), ""), Err(Full));
    assert!(builder.is_empty());
    assert_eq!(builder.seal(0).len(), latlog::BLOCK_HEADER_BYTES);
}

#[test]
#[should_panic(expected = "a request in a block of events")]
fn a_record_of_another_kind_is_a_fault_of_the_caller() {
    let request = common::traffic::Traffic::new(1, 1.0).next().unwrap();
    let _ = BlockBuilder::new(0, BlockKind::Events, 4096).push_request(&request);
}
