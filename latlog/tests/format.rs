//! The worked example of FORMAT.md, held against the writer and the reader byte for byte; and the
//! size of a record in ordinary runs.

mod common;

use common::traffic::Traffic;
use latlog::{
    Anchor, BlockBuilder, BlockKind, Damage, End, Event, EventKind, FileHeader, LogReader,
    LogWriter, Note, Outcome, RUN_WORKER, Request, Sample, WorkerTotals,
};

fn documented_bytes() -> Vec<u8> {
    let (_, rest) = include_str!("../FORMAT.md").split_once("```hex\n").expect("a hex example");
    let (example, _) = rest.split_once("```").expect("an end of the example");
    let hex = example.lines().map(|line| line.split('|').next().unwrap_or_default());
    hex.flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

fn header() -> FileHeader {
    FileHeader {
        host: "lg1".into(),
        pid: 7,
        start: Anchor { mono_ns: 5_000_000_000, real_ns: 1_767_225_600_000_000_000 },
        plan: serde_json::json!({ "version": 1 }),
    }
}

fn requests() -> [Request; 2] {
    [
        Request {
            intended_ns: 6_000_000_000,
            sent_ns: 6_000_010_000,
            first_byte_ns: 6_001_010_000,
            done_ns: 6_001_010_000,
            outcome: Outcome::Ok,
            detail: 0,
            target: 5,
            op: 3,
        },
        Request {
            intended_ns: 6_000_500_000,
            sent_ns: 6_000_500_200,
            first_byte_ns: 6_001_100_200,
            done_ns: 6_001_100_300,
            outcome: Outcome::HttpStatus,
            detail: 503,
            target: 2049,
            op: 4,
        },
    ]
}

const EVENT: Event = Event {
    at_ns: 6_001_200_000,
    kind: EventKind::Lost,
    session: 300,
    target: 5,
    outcome: Outcome::Reset,
    detail: 104,
    value: 0,
};

fn sample() -> Sample {
    Sample { at_ns: 7_000_000_000, values: vec![1, 2] }
}

fn note() -> Note {
    Note { at_ns: 7_500_000_000, name: "mark".into(), text: "kill".into() }
}

fn end() -> End {
    End {
        anchor: Anchor { mono_ns: 8_000_000_000, real_ns: 1_767_225_603_000_001_000 },
        totals: vec![WorkerTotals { worker: 2, blocks: 3, requests: 2, events: 1 }],
    }
}

#[test]
fn the_writer_writes_the_documented_bytes() {
    let sink = std::io::Cursor::new(Vec::new());
    let mut writer = LogWriter::from_sink(common::Memory(sink), &header()).unwrap();
    let mut builder = BlockBuilder::new(2, BlockKind::Requests, 4096);
    requests().iter().for_each(|request| builder.push_request(request).unwrap());
    writer.append(builder.seal(0)).unwrap();
    let mut builder = BlockBuilder::new(2, BlockKind::Events, 4096);
    builder.push_event(&EVENT).unwrap();
    writer.append(builder.seal(1)).unwrap();
    let mut builder = BlockBuilder::new(2, BlockKind::Samples, 4096);
    builder.push_sample(&sample()).unwrap();
    writer.append(builder.seal(2)).unwrap();
    let mut builder = BlockBuilder::new(RUN_WORKER, BlockKind::Notes, 4096);
    builder.push_note(&note()).unwrap();
    writer.append(builder.seal(0)).unwrap();
    writer.finish(&end()).unwrap();
    let written = writer.into_sink().0.into_inner();
    assert_eq!(written, documented_bytes(), "FORMAT.md and the writer disagree");
}

#[test]
fn the_reader_reads_the_documented_bytes() {
    let mut reader = LogReader::from_source(documented_bytes()).unwrap();
    assert_eq!(*reader.header(), header());
    let blocks: Vec<_> = reader.blocks().map(Result::unwrap).collect();
    let kinds: Vec<_> = blocks.iter().map(latlog::Block::kind).collect();
    assert_eq!(kinds, BlockKind::ALL);
    assert!(blocks[0].requests().map(Result::unwrap).eq(requests()));
    assert!(blocks[1].events().map(Result::unwrap).eq([EVENT]));
    assert!(blocks[2].samples().map(Result::unwrap).eq([sample()]));
    assert!(blocks[3].notes().map(Result::unwrap).eq([note()]));
    assert_eq!(blocks[4].end(), Some(end()));
    assert_eq!(reader.end(), Some(&end()));
    let complete = Damage { missing_requests: Some(0), ..Damage::default() };
    assert_eq!(*reader.damage(), complete);
    assert_eq!(reader.damage().to_string(), "complete");
    // The realtime clock gained 1 us in 3 s.
    assert_eq!(reader.real_ns(6_500_000_000), 1_767_225_601_500_000_500);
}

#[test]
fn a_request_takes_no_more_than_16_bytes_in_ordinary_runs() {
    for rate_per_s in [100.0, 5_000.0, 25_000.0, 100_000.0] {
        let mut builder = BlockBuilder::new(0, BlockKind::Requests, 64 << 10);
        let (mut bytes, mut records) = (0, 0);
        for request in Traffic::new(7, rate_per_s).take(100_000) {
            if builder.is_full() {
                bytes += builder.seal(0).len();
                records += builder.count();
                builder.clear();
            }
            builder.push_request(&request).unwrap();
        }
        let average = bytes as f64 / f64::from(records);
        println!("{rate_per_s:8} requests/s a worker: {average:.2} bytes a request");
        assert!(average <= 14.0, "{average} bytes a request at {rate_per_s}/s");
    }
}
