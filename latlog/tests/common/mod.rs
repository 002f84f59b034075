//! What several tests share: sinks in memory and a small log with all kinds of block.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod traffic;

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use latlog::{
    Anchor, Block, BlockBuilder, BlockKind, End, Event, EventKind, FileHeader, LogReader,
    LogWriter, Outcome, RUN_WORKER, Request, Sink, WorkerTotals,
};

/// A sink that never fails.
pub struct Memory(pub Cursor<Vec<u8>>);

impl Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Memory {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.0.seek(pos)
    }
}

impl Sink for Memory {
    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.0.get_mut().truncate(len_bytes as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn header() -> FileHeader {
    FileHeader {
        host: "h".into(),
        pid: 1,
        start: Anchor { mono_ns: 1, real_ns: 2 },
        plan: serde_json::json!({}),
    }
}

/// Sealed blocks of two workers and of the run: small ones of all kinds but end.
pub fn blocks() -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let traffic: Vec<Request> = traffic::Traffic::new(3, 25_000.0).take(12).collect();
    for (index, requests) in traffic.chunks(3).enumerate() {
        let (worker, seq) = ((index % 2) as u16, (index / 2) as u32);
        let mut builder = BlockBuilder::new(worker, BlockKind::Requests, 4096);
        requests.iter().for_each(|request| builder.push_request(request).unwrap());
        blocks.push(builder.into_bytes(seq));
    }
    let mut events = BlockBuilder::new(0, BlockKind::Events, 4096);
    let event = Event {
        at_ns: 9,
        kind: EventKind::Lost,
        session: 1,
        target: 2,
        outcome: Outcome::Other,
        detail: -5,
        value: 1 << 40,
    };
    events.push_event(&event).unwrap();
    events.push_event(&Event { at_ns: 3, ..event }).unwrap();
    blocks.push(events.into_bytes(2));
    let mut samples = BlockBuilder::new(1, BlockKind::Samples, 4096);
    samples.push_values(9, &[1, 2, 3]).unwrap();
    blocks.push(samples.into_bytes(2));
    let mut notes = BlockBuilder::new(RUN_WORKER, BlockKind::Notes, 4096);
    notes.push_text(9, "phase", "hold").unwrap();
    blocks.push(notes.into_bytes(0));
    blocks
}

/// The end of the run that [`blocks`] are of.
pub fn end() -> End {
    let totals =
        |worker, blocks, requests, events| WorkerTotals { worker, blocks, requests, events };
    End {
        anchor: Anchor { mono_ns: 11, real_ns: 12 },
        totals: vec![totals(0, 3, 6, 2), totals(1, 3, 6, 0), totals(RUN_WORKER, 1, 0, 0)],
    }
}

/// The log of [`blocks`] and [`end`].
pub fn log() -> Vec<u8> {
    let sink = Memory(Cursor::new(Vec::new()));
    let mut writer = LogWriter::from_sink(sink, &header()).unwrap();
    blocks().iter().for_each(|block| writer.append(block).unwrap());
    writer.finish(&end()).unwrap();
    writer.into_sink().0.into_inner()
}

/// What identifies a block and all that its records say.
pub fn describe(block: &Block<'_>) -> String {
    let head = block.head();
    let records = match head.kind {
        BlockKind::Requests => format!("{:?}", block.requests().collect::<Vec<_>>()),
        BlockKind::Events => format!("{:?}", block.events().collect::<Vec<_>>()),
        BlockKind::Samples => format!("{:?}", block.samples().collect::<Vec<_>>()),
        BlockKind::Notes => format!("{:?}", block.notes().collect::<Vec<_>>()),
        BlockKind::End => format!("{:?}", block.end()),
    };
    format!("{} {} {} {records}", head.kind, head.worker, head.seq)
}

/// All that a sequential pass yields.
pub fn read_all(reader: &mut LogReader<&[u8]>) -> Vec<String> {
    reader.blocks().map(|block| describe(&block.unwrap())).collect()
}

/// All that an index and `read_block` yield, with the bad blocks added to the damage.
pub fn read_indexed(reader: &mut LogReader<&[u8]>) -> (Vec<String>, latlog::Damage) {
    let index = reader.index().unwrap();
    let mut damage = reader.damage().clone();
    let mut payload = Vec::new();
    let mut read = Vec::new();
    for block in &index {
        match reader.read_block(block, &mut payload) {
            Ok(block) => read.push(describe(&block)),
            Err(latlog::Error::BadBlock { .. }) => damage.count_bad(block),
            Err(error) => panic!("{error}"),
        }
    }
    (read, damage)
}
