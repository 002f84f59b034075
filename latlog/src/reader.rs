//! Reading a log: its header, its blocks in order or by an index, and afterwards what it lacks.
//! The reader takes any bytes without a panic and never holds more than one payload. Bytes forged
//! to look like blocks cost time, one checksum of at most a payload for each sound header.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::block::{BLOCK_HEADER_BYTES, Block, BlockRef, PAYLOAD_BYTES_MAX};
use crate::damage::Damage;
use crate::error::Error;
use crate::header::{self, FILE_PREFIX_BYTES, FileHeader};
use crate::record::End;
use crate::scan::{Pass, Scan};

/// Bytes that can be read at any place, by several threads at once.
pub trait ReadAt {
    /// Fills `buf` from `offset` on, or fails.
    ///
    /// # Errors
    /// `UnexpectedEof` if the bytes end before, and whatever the system says.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// How many bytes there are.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len_bytes(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..)?.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        (**self).len_bytes()
    }
}

/// A log being read. What is appended after it was opened is not seen.
#[derive(Debug)]
pub struct LogReader<S: ReadAt = File> {
    source: S,
    header: FileHeader,
    blocks_at: u64,
    len: u64,
    damage: Damage,
    end: Option<End>,
}

impl LogReader<File> {
    /// Opens a log and reads its header.
    ///
    /// # Errors
    /// Those of [`Self::from_source`], and the system's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_source(File::open(path).map_err(Error::io("open"))?)
    }
}

impl<S: ReadAt> LogReader<S> {
    /// Reads the header of a log that lies in a file or in memory.
    ///
    /// # Errors
    /// [`Error::NotALog`], [`Error::UnknownVersion`], [`Error::HeaderTorn`],
    /// [`Error::HeaderTooLarge`], [`Error::HeaderDamaged`], [`Error::HeaderJson`].
    pub fn from_source(source: S) -> Result<Self, Error> {
        let len = source.len_bytes().map_err(Error::io("read"))?;
        let mut prefix = [0; FILE_PREFIX_BYTES];
        let prefix = &mut prefix[..len.min(FILE_PREFIX_BYTES as u64) as usize];
        source.read_exact_at(prefix, 0).map_err(Error::io("read"))?;
        let (json_bytes, crc) = header::parse_prefix(prefix)?;
        let blocks_at = (FILE_PREFIX_BYTES + json_bytes) as u64;
        if len < blocks_at {
            return Err(Error::HeaderTorn);
        }
        let mut json = vec![0; json_bytes];
        source.read_exact_at(&mut json, FILE_PREFIX_BYTES as u64).map_err(Error::io("read"))?;
        let header = header::parse_json(prefix, &json, crc)?;
        Ok(Self { source, header, blocks_at, len, damage: Damage::default(), end: None })
    }

    /// Reads the blocks of a log whose header is damaged, with a header from elsewhere (another
    /// host's log of the same run). All bytes from the first on are searched for blocks.
    ///
    /// # Errors
    /// Only the system's.
    pub fn salvage(source: S, header: FileHeader) -> Result<Self, Error> {
        let len = source.len_bytes().map_err(Error::io("read"))?;
        Ok(Self { source, header, blocks_at: 0, len, damage: Damage::default(), end: None })
    }

    /// Who wrote the log, and the plan.
    pub const fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Bytes of the log.
    pub const fn len_bytes(&self) -> u64 {
        self.len
    }

    /// All sound blocks, in the order of the file, each with its payload. Damage is no error: it is
    /// counted, and known from [`Self::damage`] once the iterator has ended.
    pub fn blocks(&mut self) -> Blocks<'_, S> {
        let scan = Scan::new(self.blocks_at, self.len, Pass::Payloads);
        Blocks { reader: self, scan: Some(scan) }
    }

    /// The headers of all blocks, in the order of the file, for several threads to read with
    /// [`Self::read_block`]. Payloads are read only where the next header is not in its place, so
    /// [`Self::damage`] lacks those that turn out damaged: add them with [`Damage::count_bad`].
    ///
    /// # Errors
    /// Only the system's.
    pub fn index(&mut self) -> Result<Vec<BlockRef>, Error> {
        let mut scan = Scan::new(self.blocks_at, self.len, Pass::Headers);
        let mut blocks = Vec::new();
        let mut payload = Vec::new();
        while let Some(block) = scan.next(&self.source, &mut payload).map_err(Error::io("read"))? {
            blocks.push(block);
        }
        (self.damage, self.end) = scan.finish();
        Ok(blocks)
    }

    /// Reads one block of the index; its payload lies in `payload`, to be reused.
    ///
    /// # Errors
    /// [`Error::BadBlock`] if it is damaged, and the system's.
    pub fn read_block<'p>(
        &self,
        block: &BlockRef,
        payload: &'p mut Vec<u8>,
    ) -> Result<Block<'p>, Error> {
        payload.resize((block.payload_bytes as usize).min(PAYLOAD_BYTES_MAX), 0);
        let at = block.offset.saturating_add(BLOCK_HEADER_BYTES as u64);
        self.source.read_exact_at(payload, at).map_err(Error::io("read"))?;
        if crc32fast::hash(payload) != block.payload_crc {
            let BlockRef { offset, worker, seq, .. } = *block;
            return Err(Error::BadBlock { offset, worker, seq });
        }
        Ok(Block::new(*block, Cow::Borrowed(payload)))
    }

    /// What the log lacks; all zero before [`Self::blocks`] has ended or [`Self::index`] returned.
    pub const fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The end of the run, once [`Self::blocks`] has ended or [`Self::index`] returned.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// A monotonic instant as `CLOCK_REALTIME`; see [`FileHeader::real_ns`] for its error. It uses
    /// the anchor at the end once [`Self::end`] is known.
    pub fn real_ns(&self, mono_ns: u64) -> u64 {
        self.header.real_ns(mono_ns, self.end.as_ref().map(|end| end.anchor))
    }
}

/// The blocks of a log, one after the other. An `Err` is the system's and ends it.
#[derive(Debug)]
pub struct Blocks<'r, S: ReadAt> {
    reader: &'r mut LogReader<S>,
    scan: Option<Scan>,
}

impl<S: ReadAt> Iterator for Blocks<'_, S> {
    type Item = Result<Block<'static>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let scan = self.scan.as_mut()?;
        let mut payload = Vec::new();
        let read = scan.next(&self.reader.source, &mut payload);
        if let Ok(Some(block)) = read {
            return Some(Ok(Block::new(block, Cow::Owned(payload))));
        }
        // The damage is known for what was read, even if the system refuses the rest.
        if let Some(scan) = self.scan.take() {
            (self.reader.damage, self.reader.end) = scan.finish();
        }
        read.err().map(|error| Err(Error::io("read")(error)))
    }
}
