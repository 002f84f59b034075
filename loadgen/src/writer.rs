//! The thread that owns the log file. Workers never wait for it.

use std::path::PathBuf;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use latlog::{BlockBuilder, BlockKind, End, FileHeader, LogWriter, RUN_WORKER};

use crate::setup::SetupError;
use crate::worker::{BLOCK_BYTES, LogLink, SPARE_BLOCKS, Sealed};

/// The log of a run, seen from the coordinator.
pub struct Log {
    full: Sender<Sealed>,
    thread: JoinHandle<Written>,
    notes: BlockBuilder,
    notes_seq: u32,
    /// Where it is written.
    pub path: PathBuf,
}

/// What became of the log.
pub struct Written {
    writer: LogWriter,
    /// The first error, if there was one.
    pub error: Option<String>,
    /// Blocks that were given up.
    pub lost_blocks: u64,
}

impl Log {
    /// Creates the file and the links of `workers` workers, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn start(
        path: PathBuf,
        header: &FileHeader,
        workers: u32,
    ) -> Result<(Self, Vec<LogLink>), SetupError> {
        let writer = LogWriter::create(&path, header)
            .map_err(|e| SetupError::Option(format!("--log {}: {e}", path.display())))?;
        let (full, blocks) = bounded(workers as usize * SPARE_BLOCKS + SPARE_BLOCKS);
        let mut links = Vec::new();
        let mut back = Vec::new();
        for _ in 0..workers {
            let (give, empty) = bounded(SPARE_BLOCKS);
            for _ in 0..SPARE_BLOCKS {
                give.send(Vec::with_capacity(BLOCK_BYTES)).expect("the channel has this room");
            }
            back.push(give);
            links.push(LogLink { full: full.clone(), empty });
        }
        let shown = path.display().to_string();
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || write(writer, &blocks, &back, &shown))
            .map_err(|e| SetupError::Host(format!("cannot start a thread: {e}")))?;
        let notes = BlockBuilder::new(RUN_WORKER, BlockKind::Notes, BLOCK_BYTES);
        Ok((Self { full, thread, notes, notes_seq: 0, path }, links))
    }

    /// Writes a note about the run.
    pub fn note(&mut self, at_ns: u64, name: &str, text: &str) {
        let mut end = text.len().min(BLOCK_BYTES / 2);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if self.notes.push_text(at_ns, name, &text[..end]).is_err() {
            return;
        }
        let bytes = self.notes.swap(self.notes_seq, Vec::with_capacity(BLOCK_BYTES));
        self.notes_seq += 1;
        let _ = self.full.send(Sealed { worker: RUN_WORKER, bytes });
    }

    /// Waits for the last block and ends the file.
    pub fn finish(self, mut end: End) -> Written {
        drop(self.full);
        let mut written = self.thread.join().expect("the log thread does not panic");
        end.totals.push(latlog::WorkerTotals {
            worker: RUN_WORKER,
            blocks: self.notes_seq,
            requests: 0,
            events: 0,
        });
        if let Err(e) = written.writer.finish(&end) {
            written.error.get_or_insert(e.to_string());
        }
        written
    }
}

fn write(
    writer: LogWriter,
    blocks: &Receiver<Sealed>,
    back: &[Sender<Vec<u8>>],
    path: &str,
) -> Written {
    let mut written = Written { writer, error: None, lost_blocks: 0 };
    for Sealed { worker, mut bytes } in blocks {
        if let Err(e) = written.writer.append(&bytes) {
            written.lost_blocks += 1;
            if written.error.is_none() {
                eprintln!("loadgen: {path}: {e}: the run goes on, its log has a gap");
                written.error = Some(e.to_string());
            }
        }
        bytes.clear();
        if let Some(give) = back.get(usize::from(worker)) {
            let _ = give.try_send(bytes);
        }
    }
    written
}
