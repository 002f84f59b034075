//! Writing a log: whole blocks only, also on a disk that fills up. It knows nothing of records.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::block::{BLOCK_HEADER_BYTES, RawHeader, end_block};
use crate::error::Error;
use crate::header::FileHeader;
use crate::record::End;

/// Where a log goes: a file, or a test's stand-in.
pub trait Sink: Write + Seek {
    /// Cuts the sink to `len_bytes` (`ftruncate`).
    ///
    /// # Errors
    /// Whatever the system says.
    fn truncate(&mut self, len_bytes: u64) -> io::Result<()>;

    /// Waits until the bytes are stored (`fdatasync`); a network file system may report its full
    /// disk only here.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.set_len(len_bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A log being written.
///
/// After an error the file ends with its last whole block, and the same call can be made again. If
/// even cutting it back fails, the next call tries that first. A block that the caller gives up is
/// a gap in its worker's sequence, which the reader counts.
#[derive(Debug)]
pub struct LogWriter<W: Sink = File> {
    sink: W,
    /// Bytes of the header and whole blocks.
    good_bytes: u64,
    /// The sink may hold more than `good_bytes`.
    torn: bool,
}

impl LogWriter<File> {
    /// Creates the file, which must not exist: a log is evidence and is never overwritten.
    ///
    /// # Errors
    /// The system's, and [`Error::HeaderTooLarge`]; no file is left behind.
    pub fn create(path: impl AsRef<Path>, header: &FileHeader) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = header.to_bytes()?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(Error::io("create"))?;
        Self::start(file, &bytes).inspect_err(|_| {
            // Best effort: the error that is returned says what happened.
            let _ = std::fs::remove_file(path);
        })
    }
}

impl<W: Sink> LogWriter<W> {
    /// Writes the header to an empty sink.
    ///
    /// # Errors
    /// The sink's, and [`Error::HeaderTooLarge`].
    pub fn from_sink(sink: W, header: &FileHeader) -> Result<Self, Error> {
        Self::start(sink, &header.to_bytes()?)
    }

    /// Appends one block that a [`BlockBuilder`](crate::BlockBuilder) sealed.
    ///
    /// # Errors
    /// [`Error::NotSealed`], or the sink's: [`Error::io_kind`] is `StorageFull` on a full disk.
    /// The log then ends with the block before.
    pub fn append(&mut self, block: &[u8]) -> Result<(), Error> {
        let header = block.first_chunk::<BLOCK_HEADER_BYTES>().and_then(RawHeader::parse);
        if header.is_none_or(|header| header.block_bytes() != block.len() as u64) {
            return Err(Error::NotSealed { found: block.len() });
        }
        self.put(block)
    }

    /// Appends the end block and waits until everything is stored. After an error it can be called
    /// again; the file may then hold two end blocks, and the last one counts.
    ///
    /// # Errors
    /// The sink's, and [`Error::TooManyWorkers`].
    pub fn finish(&mut self, end: &End) -> Result<(), Error> {
        let block = end_block(end).ok_or(Error::TooManyWorkers { found: end.totals.len() })?;
        self.put(&block)?;
        self.sink.sync().map_err(Error::io("store"))
    }

    /// Bytes of the header and the whole blocks so far.
    pub const fn len_bytes(&self) -> u64 {
        self.good_bytes
    }

    /// The sink, as it is.
    pub fn into_sink(self) -> W {
        self.sink
    }

    fn start(sink: W, header: &[u8]) -> Result<Self, Error> {
        let mut writer = Self { sink, good_bytes: 0, torn: false };
        writer.put(header)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.torn {
            self.cut_back().map_err(Error::io("cut back"))?;
        }
        let written = self.sink.write_all(bytes).and_then(|()| self.sink.flush());
        if let Err(error) = written {
            self.torn = true;
            // If this fails too, the next call tries it first; the first error is the telling one.
            let _ = self.cut_back();
            return Err(Error::io("write")(error));
        }
        self.good_bytes += bytes.len() as u64;
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        self.sink.truncate(self.good_bytes)?;
        self.sink.seek(SeekFrom::Start(self.good_bytes))?;
        self.torn = false;
        Ok(())
    }
}
