//! From the command line to a plan: targets asked, host read, output places tried.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use wire::mcp::Revision;

use crate::chance::fresh_seed;
use crate::cli::{Cli, Protocol};
use crate::dialect::Requests;
use crate::discover::{Unusable, Wanted, discover};
use crate::layer::{TlsOptions, Transport};
use crate::mix::Mix;
use crate::plan::host::Host;
use crate::plan::target::{BadTarget, TargetUrl};
use crate::plan::{Plan, PlanError, Target, Work, engine, sources};

/// Everything that a run needs.
pub struct Setup {
    /// The plan.
    pub plan: Plan,
    /// The host that it was made for.
    pub host: Host,
    /// The revision that the user asked for.
    pub wanted: Wanted,
}

/// Why a run does not begin: one line with the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// See [`BadTarget`].
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// See [`Unusable`].
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An option whose value makes no sense.
    #[error("{0}")]
    Option(String),
    /// A place that cannot be written.
    #[error("cannot write {path}: {cause}: choose another place for {option}")]
    Unwritable {
        /// The place.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A request that cannot be built.
    #[error(transparent)]
    Request(#[from] wire::mcp::BuildError),
    /// The host does not let the generator work.
    #[error("{0}")]
    Host(String),
    /// No session could be opened in the time of the ramp.
    #[error("no session could be established: {0}")]
    NothingStands(String),
}

impl SetupError {
    /// The process's exit code: 2 for usage and targets, 4 for the host.
    pub fn exit_code(&self) -> u8 {
        match self {
            SetupError::Target(_)
            | SetupError::Unusable(_)
            | SetupError::Option(_)
            | SetupError::Unwritable { .. }
            | SetupError::Request(_)
            | SetupError::NothingStands(_) => 2,
            SetupError::Plan(_) | SetupError::Host(_) => 4,
        }
    }
}

impl Setup {
    /// Resolves the command line; asks every target once.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn prepare(cli: &Cli) -> Result<Self, SetupError> {
        let host = Host::read();
        let engine = engine::choose(cli.engine, crate::ring::try_io_uring)?;
        let urls: Vec<TargetUrl> =
            cli.targets.iter().map(|t| t.parse()).collect::<Result<_, _>>()?;
        for source in &cli.sources {
            sources::parse_addresses(source)
                .map_err(|e| SetupError::Option(format!("--sources: {e}")))?;
        }
        try_outputs(cli)?;
        let wanted = wanted(&cli.mcp_revision)?;
        let mut work = work(cli)?;
        let mut targets = Vec::new();
        for url in &urls {
            targets.push(ask(cli, url, wanted, &mut work)?);
        }
        let mut longest = 0;
        for target in &targets {
            let requests = Requests::prepare(&target.url, target.dialect, &work)?;
            longest = longest.max(sealed_len(target, requests.longest()));
        }
        let mut plan = Plan::resolve(cli, &host, engine, targets, work, longest)?;
        plan.command = command_line();
        Ok(Self { plan, host, wanted })
    }
}

/// Bytes of a send buffer for requests of this length.
fn sealed_len(target: &Target, len: usize) -> usize {
    target.wrapping.as_ref().map_or(len, |wrapping| wrapping.sealed_len(len))
}

/// Asks one target what it speaks.
///
/// # Errors
/// [`Unusable`].
pub fn ask(
    cli: &Cli,
    url: &TargetUrl,
    wanted: Wanted,
    work: &mut Work,
) -> Result<Target, Unusable> {
    discover(url, wanted, work, !cli.call.is_empty(), cli.timeout)
}

fn wanted(text: &str) -> Result<Wanted, SetupError> {
    match text {
        "auto" => return Ok(Wanted::Any),
        "sessions" => return Ok(Wanted::Sessions),
        _ => {}
    }
    match text.parse() {
        Ok(Revision::V2024_11_05) => Err(SetupError::Option(
            "--mcp-revision 2024-11-05 (HTTP+SSE) is not spoken by this version".into(),
        )),
        Ok(revision) => Ok(Wanted::Exactly(revision)),
        Err(e) => Err(SetupError::Option(format!("--mcp-revision: {e}, auto, sessions"))),
    }
}

fn work(cli: &Cli) -> Result<Work, SetupError> {
    let seed = cli.seed.unwrap_or_else(fresh_seed);
    let mix = Mix::parse(&cli.call, &cli.tool_args, seed).map_err(SetupError::Option)?;
    let protocol: Protocol = cli.protocol;
    let transport = Arc::new(Transport::new(tls_options(cli), cli.ws_newline));
    Ok(Work { protocol, headers: headers(&cli.headers)?, transport, mix, seed })
}

fn tls_options(cli: &Cli) -> TlsOptions {
    let tls = cli.tls.clone();
    TlsOptions {
        ca: tls.ca,
        identity: tls.cert.zip(tls.key),
        server_name: tls.server_name,
        alpn: tls.alpn,
        insecure: tls.insecure,
        resume: tls.tls_resume,
    }
}

/// Reads `Name: value` headers, from the command line or from files.
fn headers(given: &[String]) -> Result<Vec<(String, String)>, SetupError> {
    let mut lines = Vec::new();
    for header in given {
        match header.strip_prefix('@') {
            None => lines.push(header.clone()),
            Some(file) => {
                let text = fs::read_to_string(file)
                    .map_err(|e| SetupError::Option(format!("--header @{file}: {e}")))?;
                lines.extend(text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned));
            }
        }
    }
    let split = |line: String| match line.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        // The line may hold a secret, so that it is not repeated.
        None => Err(SetupError::Option("--header: a header is written 'Name: value'".into())),
    };
    lines.into_iter().map(split).collect()
}

/// Tries the places that will be written, before anything is loaded.
fn try_outputs(cli: &Cli) -> Result<(), SetupError> {
    let unwritable = |path: &PathBuf, option: &'static str| {
        let path = path.clone();
        move |cause| SetupError::Unwritable { path, option, cause }
    };
    if let Some(dir) = &cli.log {
        fs::create_dir_all(dir).map_err(unwritable(dir, "--log"))?;
        let trial = dir.join(format!(".trial-{}", std::process::id()));
        fs::write(&trial, b"x").map_err(unwritable(dir, "--log"))?;
        let _ = fs::remove_file(trial);
    }
    if let Some(file) = &cli.json {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .map_err(unwritable(file, "--json"))?;
    }
    Ok(())
}

/// The command line as it can be typed again, without header values.
fn command_line() -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for arg in std::env::args() {
        let inline = arg.starts_with("--header=") || (arg.starts_with("-H") && arg.len() > 2);
        if inline || (hide && !arg.starts_with('@')) {
            words.push(if hide { "...".into() } else { "--header=...".into() });
        } else {
            words.push(quote(&arg));
        }
        hide = arg == "-H" || arg == "--header";
    }
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
