//! A disk that fills up: at every byte, the log stays whole, the writer goes on once there is room,
//! and the reader counts what was given up.

mod common;

use std::cell::RefCell;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::rc::Rc;

use common::{blocks, end, header, log, read_all};
use latlog::{LogReader, LogWriter, Sink};

/// Takes `room_bytes` and then fails; short writes before that, as a real disk has them.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    at: usize,
    room_bytes: usize,
    truncate_failures: u32,
}

impl Disk {
    fn with_room(room_bytes: usize) -> Self {
        Self { room_bytes, ..Self::default() }
    }
}

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(self.room_bytes.saturating_sub(self.at)).min(50);
        if taken == 0 && !buf.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        self.bytes.resize(self.bytes.len().max(self.at + taken), 0);
        self.bytes[self.at..self.at + taken].copy_from_slice(&buf[..taken]);
        self.at += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        match pos {
            SeekFrom::Start(at) => self.at = at as usize,
            SeekFrom::End(_) | SeekFrom::Current(_) => return Err(ErrorKind::Unsupported.into()),
        }
        Ok(self.at as u64)
    }
}

impl Sink for Disk {
    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        if self.truncate_failures > 0 {
            self.truncate_failures -= 1;
            return Err(ErrorKind::Other.into());
        }
        self.bytes.truncate(len_bytes as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer whose header is written; `None` if there was no room for it.
fn started(room_bytes: usize) -> Option<LogWriter<Disk>> {
    LogWriter::from_sink(Disk::with_room(room_bytes), &header()).ok()
}

fn header_bytes() -> usize {
    header().to_bytes().unwrap().len()
}

#[test]
fn a_header_that_does_not_fit_is_an_error() {
    for room_bytes in 0..header_bytes() {
        assert!(started(room_bytes).is_none());
    }
    assert!(started(header_bytes()).is_some());
}

#[test]
fn a_disk_that_fills_at_any_byte_keeps_whole_blocks_only() {
    let whole = log();
    let all = read_all(&mut LogReader::from_source(&whole[..]).unwrap());
    for room_bytes in header_bytes()..whole.len() {
        let mut writer = started(room_bytes).unwrap();
        let mut failures = 0;
        for block in blocks() {
            if let Err(error) = writer.append(&block) {
                assert_eq!(error.io_kind(), Some(ErrorKind::StorageFull));
                failures += 1;
            }
        }
        let ended = writer.finish(&end()).is_ok();
        let good_bytes = writer.len_bytes();
        let disk = writer.into_sink();
        assert_eq!(disk.bytes.len() as u64, good_bytes, "room for {room_bytes}");
        assert!(failures > 0 || !ended);

        let mut reader = LogReader::from_source(&disk.bytes[..]).unwrap();
        let read = read_all(&mut reader);
        assert!(read.iter().all(|block| all.contains(block)));
        let damage = reader.damage();
        assert_eq!((damage.torn_tail_bytes, damage.skipped_bytes, damage.bad_blocks), (0, 0, 0));
        assert_eq!(damage.no_end_block, !ended);
        if ended {
            assert_eq!(damage.missing_blocks, failures);
        }
    }
}

#[test]
fn room_that_comes_back_is_used_and_the_gap_is_counted() {
    let (whole, blocks) = (log(), blocks());
    for given_up in 0..blocks.len() {
        for short_bytes in 1..=blocks[given_up].len() {
            let before: usize = blocks[..=given_up].iter().map(Vec::len).sum();
            let room_bytes = header_bytes() + before - short_bytes;
            let mut writer = Room::new(room_bytes);
            for (index, block) in blocks.iter().enumerate() {
                assert_eq!(writer.append(block).is_err(), index == given_up);
                if index == given_up {
                    writer.make_room();
                }
            }
            let bytes = writer.finish();
            assert_eq!(bytes.len() + blocks[given_up].len(), whole.len());
            let mut reader = LogReader::from_source(&bytes[..]).unwrap();
            assert_eq!(read_all(&mut reader).len(), blocks.len());
            let damage = reader.damage();
            assert_eq!((damage.missing_blocks, damage.no_end_block), (1, false));
            assert_eq!((damage.torn_tail_bytes, damage.skipped_bytes), (0, 0));
            let requests = if given_up < 4 { 3 } else { 0 };
            assert_eq!(damage.missing_requests, Some(requests));
        }
    }
}

#[test]
fn a_retry_writes_the_block_as_if_nothing_had_happened() {
    let (whole, blocks) = (log(), blocks());
    for truncate_failures in 0..3 {
        for room_bytes in header_bytes()..whole.len() {
            let mut writer = Room::new(room_bytes);
            writer.fail_truncates(truncate_failures);
            for block in &blocks {
                while writer.append(block).is_err() {
                    writer.make_room();
                }
            }
            assert_eq!(writer.finish(), whole, "room for {room_bytes} at first");
        }
    }
}

#[test]
fn a_torn_block_that_cannot_be_cut_off_is_a_torn_tail() {
    let blocks = blocks();
    let mut writer = Room::new(header_bytes() + blocks[0].len() + 40);
    writer.fail_truncates(1);
    writer.append(&blocks[0]).unwrap();
    writer.append(&blocks[1]).unwrap_err();
    let bytes = writer.disk.borrow().bytes.clone();
    let mut reader = LogReader::from_source(&bytes[..]).unwrap();
    assert_eq!(read_all(&mut reader).len(), 1);
    assert_eq!(reader.damage().torn_tail_bytes, 40);
    assert_eq!(reader.damage().missing_blocks, 1, "its header is whole");
}

#[test]
fn what_is_no_sealed_block_is_not_written() {
    let mut writer = started(10_000).unwrap();
    let block = &blocks()[0];
    let longer = [&block[..], &[0]].concat();
    for bytes in [&block[1..], &block[..block.len() - 1], &longer, &[]] {
        let error = writer.append(bytes).unwrap_err();
        assert!(matches!(error, latlog::Error::NotSealed { found } if found == bytes.len()));
    }
    assert_eq!(writer.len_bytes(), header_bytes() as u64);
}

#[test]
fn a_file_is_created_once_and_holds_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h-1.latlog");
    let mut writer = LogWriter::create(&path, &header()).unwrap();
    blocks().iter().for_each(|block| writer.append(block).unwrap());
    writer.finish(&end()).unwrap();
    let again = LogWriter::create(&path, &header()).unwrap_err();
    assert_eq!(again.io_kind(), Some(ErrorKind::AlreadyExists));
    assert_eq!(std::fs::read(&path).unwrap(), log());
    let mut reader = LogReader::open(&path).unwrap();
    assert_eq!(reader.blocks().count(), blocks().len() + 1);
    assert!(reader.damage().is_none());
}

/// A writer on a disk whose room the test changes on the way.
struct Room {
    writer: LogWriter<Shared>,
    disk: Rc<RefCell<Disk>>,
}

struct Shared(Rc<RefCell<Disk>>);

impl Room {
    fn new(room_bytes: usize) -> Self {
        let disk = Rc::new(RefCell::new(Disk::with_room(room_bytes)));
        let writer = LogWriter::from_sink(Shared(disk.clone()), &header()).unwrap();
        Self { writer, disk }
    }

    fn make_room(&mut self) {
        self.disk.borrow_mut().room_bytes = usize::MAX;
    }

    fn fail_truncates(&mut self, count: u32) {
        self.disk.borrow_mut().truncate_failures = count;
    }

    fn append(&mut self, block: &[u8]) -> Result<(), latlog::Error> {
        self.writer.append(block)
    }

    fn finish(mut self) -> Vec<u8> {
        while self.writer.finish(&end()).is_err() {
            self.make_room();
        }
        self.disk.borrow().bytes.clone()
    }
}

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

impl Seek for Shared {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.0.borrow_mut().seek(pos)
    }
}

impl Sink for Shared {
    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.0.borrow_mut().truncate(len_bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.borrow_mut().sync()
    }
}
