//! The results folder: its name, its layout, and `run.json` in it. It knows no measurement.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::run::record::{RUN_FILE, RUN_VERSION, RunRecord};

/// One run's folder, with all its sub-folders in place.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes `<out>/full-<count>-<time>/` with `logs/` and `metrics/`; `full` whatever the profile, as
    /// all stages are in it.
    ///
    /// # Errors
    /// A usage failure with the fix in it if `out` cannot be written to.
    pub fn create(out: &Path, connections: u64, real_ns: u64) -> Result<Self, Failure> {
        check_writable(out)?;
        let name = format!("full-{}-{}", count_label(connections), time_label(real_ns));
        let unusable = |path: &Path, error: &io::Error| {
            Failure::usage(format!("cannot write results to {}: {error}; {FIX}", path.display()))
        };
        for attempt in 1..=MAX_SAME_SECOND {
            let path = match attempt {
                1 => out.join(&name),
                more => out.join(format!("{name}-{more}")),
            };
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self { path };
                    for sub in ["logs", "metrics"] {
                        let sub = folder.join(sub);
                        fs::create_dir(&sub).map_err(|error| unusable(&sub, &error))?;
                    }
                    return Ok(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&path, &error)),
            }
        }
        Err(Failure::usage(format!(
            "{} holds {MAX_SAME_SECOND} runs of this second",
            out.display()
        )))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.path.join(inside)
    }

    /// Replaces `run.json`: a reader sees the old one or the new one, never half of one.
    ///
    /// # Errors
    /// The I/O error of the write or of the rename.
    pub fn write_record(&self, record: &RunRecord) -> io::Result<()> {
        let next = self.join("run.json.next");
        let mut file = fs::File::create(&next)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        fs::rename(&next, self.join(RUN_FILE))
    }
}

/// Runs that may start within one second in one `--out`.
const MAX_SAME_SECOND: u32 = 100;

const FIX: &str = "give a folder that you may write to with --out DIR";

/// Reads a folder's `run.json`.
///
/// # Errors
/// A usage failure if there is none, or if it is not one that this program can read.
pub fn read_record(dir: &Path) -> Result<RunRecord, Failure> {
    let path = dir.join(RUN_FILE);
    let text = fs::read(&path).map_err(|error| {
        Failure::usage(format!(
            "{} is not a results folder: cannot read {RUN_FILE}: {error}",
            dir.display()
        ))
    })?;
    let record: RunRecord = serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    if record.version > RUN_VERSION {
        return Err(Failure::usage(format!(
            "{} has version {}, this program reads up to {RUN_VERSION}: use a newer one",
            path.display(),
            record.version
        )));
    }
    Ok(record)
}

/// Tries `out` by writing to it, since permission bits do not tell of read-only mounts or quotas.
///
/// # Errors
/// A usage failure in one line, with the fix.
pub fn check_writable(out: &Path) -> Result<(), Failure> {
    let probe = out.join(format!(".reporter-probe-{}", std::process::id()));
    let tried = fs::create_dir_all(out).and_then(|()| fs::write(&probe, b"probe"));
    let cleaned = if tried.is_ok() { fs::remove_file(&probe) } else { Ok(()) };
    tried.and(cleaned).map_err(|error| {
        Failure::usage(format!("cannot write results to {}: {error}; {FIX}", out.display()))
    })
}

/// `100000` -> `100k`, `1000000` -> `1m`, `1234` -> `1234`.
pub fn count_label(count: u64) -> String {
    match count {
        0 => "0".to_owned(),
        millions if millions % 1_000_000 == 0 => format!("{}m", millions / 1_000_000),
        thousands if thousands % 1_000 == 0 => format!("{}k", thousands / 1_000),
        other => other.to_string(),
    }
}

/// `20261124T054112Z`: sorts by time and is a valid file name everywhere.
fn time_label(real_ns: u64) -> String {
    let second = i64::try_from(real_ns / crate::clock::SECOND_NS).unwrap_or(0);
    jiff::Timestamp::from_second(second)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn labels() {
        assert_eq!(count_label(100_000), "100k");
        assert_eq!(count_label(2_000_000), "2m");
        assert_eq!(count_label(1_234), "1234");
        assert_eq!(time_label(1_795_498_872 * 1_000_000_000), "20261124T054112Z");
    }

    #[test]
    fn two_runs_of_one_second_have_two_folders() {
        let out = tempfile::tempdir().expect("a folder");
        let first = Folder::create(out.path(), 1_000, 0).expect("first");
        let second = Folder::create(out.path(), 1_000, 0).expect("second");
        assert_ne!(first.path(), second.path());
        assert!(second.join("logs").is_dir() && second.join("metrics").is_dir());
    }

    #[test]
    fn an_out_that_is_a_file_is_a_usage_failure_with_the_fix() {
        let out = tempfile::tempdir().expect("a folder");
        let file = out.path().join("file");
        fs::write(&file, b"x").expect("writes");
        let failure = check_writable(&file).expect_err("a file is no folder");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("--out"), "{failure}");
        assert!(!failure.message.contains('\n'), "{failure}");
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let out = tempfile::tempdir().expect("a folder");
        check_writable(out.path()).expect("writable");
        assert_eq!(fs::read_dir(out.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_folder_without_a_record_is_named() {
        let out = tempfile::tempdir().expect("a folder");
        let failure = read_record(out.path()).expect_err("no run.json");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("run.json"), "{failure}");
    }
}
