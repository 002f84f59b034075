//! What a latency log contains and what it lacks.

use std::fmt::{self, Write};
use std::path::Path;

use latlog::{BlockKind, Damage, LogReader};

/// The state of a log after every block was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The generator's host and process.
    pub writer: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Records by kind, those that could be read.
    pub requests: u64,
    /// Events.
    pub events: u64,
    /// Samples.
    pub samples: u64,
    /// Notes.
    pub notes: u64,
    /// Blocks whose checksum holds and whose content breaks the format.
    pub malformed: u64,
    /// What it lacks.
    pub damage: Damage,
}

/// Reads a whole log.
///
/// # Errors
/// It is no log, or the system refuses to read it. Damage is no error.
pub fn verify(path: &Path) -> Result<Verified, latlog::Error> {
    let mut reader = LogReader::open(path)?;
    let header = reader.header();
    let mut verified = Verified {
        writer: format!("{} pid {}", header.host, header.pid),
        bytes: reader.len_bytes(),
        requests: 0,
        events: 0,
        samples: 0,
        notes: 0,
        malformed: 0,
        damage: Damage::default(),
    };
    for block in reader.blocks() {
        let block = block?;
        let (count, read) = match block.kind() {
            BlockKind::Requests => (&mut verified.requests, sound(block.requests())),
            BlockKind::Events => (&mut verified.events, sound(block.events())),
            BlockKind::Samples => (&mut verified.samples, sound(block.samples())),
            BlockKind::Notes => (&mut verified.notes, sound(block.notes())),
            BlockKind::End => continue,
        };
        *count += read;
        verified.malformed += u64::from(read != u64::from(block.count()));
    }
    verified.damage = reader.damage().clone();
    Ok(verified)
}

/// Records until the first that is none.
fn sound<T>(records: impl Iterator<Item = Result<T, latlog::Malformed>>) -> u64 {
    records.take_while(Result::is_ok).count() as u64
}

impl Verified {
    /// The log has everything that was recorded.
    pub fn is_whole(&self) -> bool {
        self.malformed == 0 && self.damage.is_none()
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let _ = write!(
            text,
            "{}, {} bytes: {} requests, {} events, {} samples, {} notes; {}",
            self.writer,
            self.bytes,
            self.requests,
            self.events,
            self.samples,
            self.notes,
            self.damage
        );
        if self.malformed > 0 {
            let _ = write!(text, ", {} blocks malformed", self.malformed);
        }
        f.write_str(&text)
    }
}
