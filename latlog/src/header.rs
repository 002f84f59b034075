//! The file header: magic, version, and one JSON object with a checksum. It knows nothing of
//! blocks.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::record::Anchor;

/// The first bytes of every log. The high bit and the line end give a text-mode transfer away.
pub const FILE_MAGIC: [u8; 8] = *b"\x89LATLG\r\n";

/// The format version that this crate writes.
pub const VERSION: u32 = 2;
/// The oldest version that this crate reads.
pub const VERSION_MIN: u32 = 1;

/// Limit of the header's JSON, bytes.
pub const HEADER_JSON_BYTES_MAX: usize = 4 << 20;

/// Magic, version, JSON length, checksum.
pub(crate) const FILE_PREFIX_BYTES: usize = 20;

/// Bytes that the checksum covers before the JSON.
const CHECKED_PREFIX_BYTES: usize = 16;

/// Who wrote the log, when it began, and the plan of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The host's name.
    pub host: String,
    /// The process on that host.
    pub pid: u32,
    /// The clocks at the start.
    pub start: Anchor,
    /// The resolved plan; the format does not look into it.
    pub plan: serde_json::Value,
}

impl FileHeader {
    /// The header as it begins a file.
    ///
    /// # Errors
    /// [`Error::HeaderTooLarge`] if the plan exceeds [`HEADER_JSON_BYTES_MAX`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self)?;
        if json.len() > HEADER_JSON_BYTES_MAX {
            return Err(Error::HeaderTooLarge { found: json.len() as u64 });
        }
        let mut bytes = Vec::with_capacity(FILE_PREFIX_BYTES + json.len());
        bytes.extend_from_slice(&FILE_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        let crc = checksum(&bytes, &json);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// A monotonic instant of this host as `CLOCK_REALTIME`, ns since the Unix epoch.
    ///
    /// With `end` known, the offset between the clocks is interpolated linearly between the two
    /// anchors and held constant outside them; without it, the offset at the start holds.
    ///
    /// Error against the host's own realtime clock: at an anchor, the time between its two clock
    /// reads (well below 1 us unless the thread was preempted there). Between anchors, at most the
    /// whole change of offset between them, and near zero while NTP slews at a steady rate; a step
    /// of the clock is smeared over the run. Without `end`, NTP may slew up to 500 ppm: 0.5 ms for
    /// each second since the start. The host's distance from true time comes on top of all this.
    ///
    /// The result saturates at 0 and `u64::MAX`.
    pub fn real_ns(&self, mono_ns: u64, end: Option<Anchor>) -> u64 {
        let offset = |anchor: Anchor| i128::from(anchor.real_ns) - i128::from(anchor.mono_ns);
        let start = self.start;
        let offset_ns = match end {
            Some(end) if end.mono_ns > start.mono_ns => {
                let span = u128::from(end.mono_ns - start.mono_ns);
                let at = u128::from(mono_ns.clamp(start.mono_ns, end.mono_ns) - start.mono_ns);
                let whole = offset(end) - offset(start);
                let size = whole.unsigned_abs();
                // In two parts, so that no anchors overflow: both products are below 2^128.
                let part = (size / span) * at + (size % span) * at / span;
                offset(start) + whole.signum() * part as i128
            }
            Some(_) | None => offset(start),
        };
        let real_ns = i128::from(mono_ns) + offset_ns;
        u64::try_from(real_ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// The length of the JSON and its checksum, once magic, version and limit are right.
pub(crate) fn parse_prefix(prefix: &[u8]) -> Result<(usize, u32), Error> {
    if prefix.len() < FILE_MAGIC.len() || !prefix.starts_with(&FILE_MAGIC) {
        return Err(Error::NotALog);
    }
    let u32_at = |at: usize| {
        let bytes = prefix.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Error::HeaderTorn)
    };
    let version = u32_at(8)?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Error::UnknownVersion { found: version });
    }
    let json_bytes = u32_at(12)?;
    if json_bytes as usize > HEADER_JSON_BYTES_MAX {
        return Err(Error::HeaderTooLarge { found: u64::from(json_bytes) });
    }
    Ok((json_bytes as usize, u32_at(16)?))
}

/// The header behind a prefix that [`parse_prefix`] accepted.
pub(crate) fn parse_json(prefix: &[u8], json: &[u8], crc: u32) -> Result<FileHeader, Error> {
    if checksum(&prefix[..CHECKED_PREFIX_BYTES.min(prefix.len())], json) != crc {
        return Err(Error::HeaderDamaged);
    }
    Ok(serde_json::from_slice(json)?)
}

fn checksum(prefix: &[u8], json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(json);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            host: "h".into(),
            pid: 1,
            start: Anchor { mono_ns: 1_000, real_ns: 1_000_000 },
            plan: serde_json::json!({}),
        }
    }

    #[test]
    fn real_time_is_linear_between_the_anchors() {
        let header = header();
        let end = Some(Anchor { mono_ns: 2_000, real_ns: 1_001_100 });
        assert_eq!(header.real_ns(1_000, end), 1_000_000);
        assert_eq!(header.real_ns(1_500, end), 1_000_550);
        assert_eq!(header.real_ns(2_000, end), 1_001_100);
        assert_eq!(header.real_ns(3_000, end), 1_002_100, "the last offset holds after the end");
        assert_eq!(header.real_ns(500, end), 999_500, "the first one holds before the start");
        assert_eq!(header.real_ns(1_500, None), 1_000_500);
    }

    #[test]
    fn absurd_anchors_saturate() {
        let mut header = header();
        header.start = Anchor { mono_ns: u64::MAX, real_ns: 0 };
        assert_eq!(header.real_ns(5, None), 0);
        header.start = Anchor { mono_ns: 0, real_ns: u64::MAX };
        let end = Some(Anchor { mono_ns: u64::MAX, real_ns: 0 });
        assert_eq!(header.real_ns(u64::MAX, end), 0);
        assert_eq!(header.real_ns(0, None), u64::MAX);
        assert_eq!(header.real_ns(9, Some(header.start)), u64::MAX);
    }

    #[test]
    fn a_foreign_or_newer_file_is_refused_with_a_sentence() {
        assert!(matches!(parse_prefix(b"PK\x03\x04"), Err(Error::NotALog)));
        let mut bytes = header().to_bytes().unwrap();
        for read in VERSION_MIN..=VERSION {
            bytes[8] = read as u8;
            assert!(parse_prefix(&bytes[..FILE_PREFIX_BYTES]).is_ok(), "version {read}");
        }
        bytes[8] = VERSION as u8 + 1;
        let error = parse_prefix(&bytes[..FILE_PREFIX_BYTES]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the log has format version 3, and this reader knows versions 1 to 2; \
             read it with the release that wrote it"
        );
    }

    #[test]
    fn an_oversized_plan_is_refused_on_both_sides() {
        let mut header = header();
        header.plan = serde_json::Value::String("x".repeat(HEADER_JSON_BYTES_MAX));
        assert!(matches!(header.to_bytes(), Err(Error::HeaderTooLarge { .. })));
        let mut prefix = [0_u8; FILE_PREFIX_BYTES];
        prefix[..8].copy_from_slice(&FILE_MAGIC);
        prefix[8] = 1;
        prefix[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(parse_prefix(&prefix), Err(Error::HeaderTooLarge { .. })));
    }
}
