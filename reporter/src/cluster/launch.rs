//! How a child process is started: what it is called, where its program lies, and that it dies with
//! this one.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::exit::Failure;

/// The hidden first argument with which this program becomes a child's first moments.
pub const CHILD_MODE: &str = "--as-child";

/// Starts programs so that they end when the thread that started them ends, however it ends.
///
/// The kernel's parent-death signal (man 2 prctl, `PR_SET_PDEATHSIG`) is asked for by the child,
/// which is therefore this very program for a moment: it asks, then becomes the wanted
/// program by exec, with the same pid. Without a launcher the program is started as it is.
#[derive(Clone, Debug, Default)]
pub struct Launcher {
    own_program: Option<PathBuf>,
}

/// What a child gets when its parent has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnParentDeath {
    /// SIGTERM: it may save what it has.
    Terminate,
    /// SIGKILL.
    Kill,
}

impl Launcher {
    /// Uses `own_program` (this one) to start children; it must pass on to [`become_child`].
    pub fn with(own_program: PathBuf) -> Self {
        Self { own_program: Some(own_program) }
    }

    /// A command for `program` in a process group of its own, so that the terminal's Ctrl-C
    /// reaches this program only.
    pub fn command(&self, program: &Path, on_death: OnParentDeath) -> Command {
        let mut command = match &self.own_program {
            None => Command::new(program),
            Some(own) => {
                let mut command = Command::new(own);
                let signal = match on_death {
                    OnParentDeath::Terminate => "term",
                    OnParentDeath::Kill => "kill",
                };
                let parent = std::process::id().to_string();
                command.args([CHILD_MODE, signal, &parent]).arg(program);
                command
            }
        };
        command.process_group(0).stdin(Stdio::null());
        command
    }
}

/// The child's side of [`Launcher`]: `arguments` are those after [`CHILD_MODE`]. Returns only if
/// the program cannot be started.
pub fn become_child(arguments: &[OsString]) -> ExitCode {
    let [signal, parent, program, rest @ ..] = arguments else {
        eprintln!("{CHILD_MODE} is for this program's own use");
        return ExitCode::from(2);
    };
    let signal = if signal == "term" { Signal::SIGTERM } else { Signal::SIGKILL };
    if let Err(error) = set_pdeathsig(signal) {
        eprintln!("cannot ask for the parent-death signal: {error}");
    }
    // The parent may have died before the question was asked.
    if getppid().to_string().as_str() != parent {
        return ExitCode::from(1);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("cannot start {}: {error}", program.display());
    ExitCode::from(127)
}

/// A replica's addresses, put in place of `{ip}`, `{port}` and so on in a server's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `{ip}`
    pub ip: Ipv4Addr,
    /// `{port}`: MCP over HTTP, and the health check.
    pub port: u16,
    /// `{tcp_port}`: MCP over plain TCP.
    pub tcp_port: u16,
    /// `{metrics_port}`
    pub metrics_port: u16,
}

/// Puts the addresses into one word of a command line.
pub fn fill_in(word: &str, addresses: &Addresses) -> String {
    word.replace("{ip}", &addresses.ip.to_string())
        .replace("{port}", &addresses.port.to_string())
        .replace("{tcp_port}", &addresses.tcp_port.to_string())
        .replace("{metrics_port}", &addresses.metrics_port.to_string())
}

/// Finds a program of this workspace: the environment's word first, then beside this program.
///
/// # Errors
/// A sentence with the command that builds it.
pub fn own_binary(name: &str, variable: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        return Err(Failure::host(format!("{variable}={} is no file", path.display())));
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new(".")).join(name);
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Failure::host(format!(
        "{name} is not at {}: build it with `cargo build --release`, or set {variable} to its path",
        beside.display()
    )))
}

/// Finds a program that the user named, as a shell would.
///
/// # Errors
/// A usage failure if there is none.
pub fn user_program(name: &str) -> Result<PathBuf, Failure> {
    let missing = || Failure::usage(format!("--server: there is no program '{name}'"));
    if name.contains('/') {
        // The replica starts in the same folder, but the launcher wants a path that holds anywhere.
        return std::fs::canonicalize(name).map_err(|_| missing());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(missing)
}

/// Lines and bytes of a log's end that an error shows.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8_192;

/// The last lines of a file; empty if it cannot be read.
pub fn tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes))
}

/// The last lines of a text.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn addresses_are_filled_in_wherever_they_stand() {
        let addresses = Addresses {
            ip: Ipv4Addr::new(127, 0, 0, 12),
            port: 8080,
            tcp_port: 5555,
            metrics_port: 9100,
        };
        assert_eq!(fill_in("http://{ip}:{port}/", &addresses), "http://127.0.0.12:8080/");
        assert_eq!(fill_in("--tcp={tcp_port}", &addresses), "--tcp=5555");
        assert_eq!(fill_in("{other}", &addresses), "{other}");
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_get_it() {
        let failure = own_binary("no-such-program", "NO_SUCH_VARIABLE").expect_err("is not there");
        assert_eq!(failure.exit, Exit::HostLacks);
        assert!(failure.message.contains("cargo build --release"), "{failure}");
        let failure = user_program("no-such-program").expect_err("is not there");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(user_program("sh").is_ok());
    }

    #[test]
    fn a_tail_is_the_last_lines_only() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let tail = last_lines(&text);
        assert!(tail.starts_with("line 88") && tail.ends_with("line 99"), "{tail}");
        assert_eq!(last_lines(""), "");
    }
}
