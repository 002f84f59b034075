//! From the command line to a plan: targets asked, host read, output places tried.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use wire::mcp::{Era, Revision};

use crate::chance::fresh_seed;
use crate::cli::{Cli, Protocol};
use crate::dialect::{Dialect, Requests};
use crate::discover::{Unusable, Wanted, discover};
use crate::headers;
use crate::layer::{TlsOptions, Transport};
use crate::mix::Mix;
use crate::names::{self, Finder, Names};
use crate::plan::host::Host;
use crate::plan::target::{BadTarget, TargetUrl};
use crate::plan::{PlainRequest, Plan, PlanError, Target, Work, engine, sources};
use crate::ring::Address;

/// Everything that a run needs.
pub struct Setup {
    /// The plan.
    pub plan: Plan,
    /// The host that it was made for.
    pub host: Host,
    /// The revision that the user asked for.
    pub wanted: Wanted,
    /// The names of the targets, where they are followed.
    pub names: Option<Names>,
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
        let typed: Vec<TargetUrl> =
            cli.targets.iter().map(|t| t.parse()).collect::<Result<_, _>>()?;
        let urls = match cli.all_addresses {
            true => names::expand(&typed).map_err(SetupError::Option)?,
            false => typed.clone(),
        };
        for source in &cli.sources {
            sources::parse_addresses(source)
                .map_err(|e| SetupError::Option(format!("--sources: {e}")))?;
        }
        try_outputs(cli)?;
        let wanted = wanted(&cli.mcp_revision)?;
        let mut work = work(cli)?;
        let mut targets = Vec::new();
        for url in &urls {
            targets.extend(ask_all(cli, url, wanted, &mut work)?);
        }
        suits(cli, &targets)?;
        let mut longest = 0;
        for target in &targets {
            let requests = Requests::prepare(&target.url, target.dialect, &work)?;
            longest = longest.max(sealed_len(target, requests.longest()));
        }
        let mut plan = Plan::resolve(cli, &host, engine, targets, work, longest)?;
        plan.command = command_line();
        let names = follow_names(cli, typed, wanted, &mut plan)?;
        Ok(Self { plan, host, wanted, names })
    }
}

/// Follows the targets' names, if that is wanted and they have any.
fn follow_names(
    cli: &Cli,
    urls: Vec<TargetUrl>,
    wanted: Wanted,
    plan: &mut Plan,
) -> Result<Option<Names>, SetupError> {
    let usual = cli.all_addresses.then_some(names::EVERY);
    let Some(every) = cli.resolve_every.or(usual) else { return Ok(None) };
    let by_address = cli.all_addresses;
    if !by_address && !urls.iter().any(names::has_name) {
        let cause = "--resolve-every: all targets are addresses already; give a name to look up";
        return Err(SetupError::Option(cause.into()));
    }
    for target in plan.targets.iter_mut().filter(|t| names::has_name(&t.url)) {
        target.one_of_several = true;
    }
    let (known, mut work) = (plan.targets.clone(), plan.work.clone());
    let (tool_named, timeout) = (!cli.call.is_empty(), cli.timeout);
    let ask = move |url: &TargetUrl, address: &Address| {
        let asked = discover(url, Some(address.clone()), wanted, &mut work, tool_named, timeout);
        let target = asked.map_err(|e| e.to_string())?;
        Ok(Target { one_of_several: names::has_name(url), ..target })
    };
    let mut finder = Finder { urls, by_address, known, resolve: TargetUrl::resolve, ask };
    Ok(Some(Names::follow(every, move || finder.find())))
}

/// Whether these targets can do what only some can.
///
/// # Errors
/// What is in the way of what is wanted, and what to do.
pub fn suits(cli: &Cli, targets: &[Target]) -> Result<(), SetupError> {
    let http = targets.iter().find(|target| target.dialect.is_http());
    if let (2.., Some(Target { url, .. })) = (cli.in_flight, http) {
        let cause = format!(
            "--in-flight {}: {url} is HTTP/1.1, where a connection carries one request at a time: use \
             more connections (-c), each with its session",
            cli.in_flight
        );
        return Err(SetupError::Option(cause));
    }
    holds_sessions(cli, targets)
}

/// Whether more sessions than connections can be had of these targets.
fn holds_sessions(cli: &Cli, targets: &[Target]) -> Result<(), SetupError> {
    let (sessions, connections) = (cli.sessions.unwrap_or(cli.connections), cli.connections);
    let refused =
        |because: String| Err(SetupError::Option(format!("--sessions {sessions}: {because}")));
    if sessions == connections {
        return Ok(());
    }
    if sessions < connections {
        return refused(format!(
            "fewer than the {connections} connections, of which some would carry nothing: use \
             -c {sessions}"
        ));
    }
    if cli.streams {
        return refused("a stream is a connection of its session: leave --streams out".into());
    }
    if cli.new_connection_per_request {
        return refused(
            "with --new-connection-per-request no connection is held: leave one of the two out"
                .into(),
        );
    }
    for Target { url, dialect, .. } in targets {
        let because = match dialect {
            Dialect::Mcp(revision) if revision.era() == Era::Sessions => continue,
            Dialect::Mcp(revision) => format!(
                "{url} speaks MCP {revision}, which has no sessions: use --mcp-revision sessions, \
                 or as many connections (-c)"
            ),
            Dialect::Http => format!("{url} is plain HTTP, which has no sessions: use -c"),
            Dialect::HttpSse(_) => {
                format!("{url} speaks HTTP+SSE, where a session is its event stream: use -c")
            }
            Dialect::Lines(_) => format!(
                "over tcp://, tls://, ws:// and wss:// the session is the connection ({url}): use -c"
            ),
        };
        return refused(because);
    }
    Ok(())
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
    discover(url, None, wanted, work, !cli.call.is_empty(), cli.timeout)
}

/// Asks every address that the host's name has, of the family of the first that answers: each is a
/// target. One that does not answer is left out, and said to be.
///
/// # Errors
/// [`Unusable`] where none answers.
pub fn ask_all(
    cli: &Cli,
    url: &TargetUrl,
    wanted: Wanted,
    work: &mut Work,
) -> Result<Vec<Target>, Unusable> {
    let first = ask(cli, url, wanted, work)?;
    let mut seen = vec![first.address.clone()];
    let mut targets = vec![first];
    for address in url.resolve().unwrap_or_default() {
        if seen.contains(&address) || address.family() != seen[0].family() {
            continue;
        }
        seen.push(address.clone());
        match discover(url, Some(address.clone()), wanted, work, !cli.call.is_empty(), cli.timeout)
        {
            Ok(target) => targets.push(target),
            Err(e) => eprintln!("loadgen: left out {address}: {e}"),
        }
    }
    let several = targets.len() > 1;
    targets.iter_mut().for_each(|target| target.one_of_several = several);
    Ok(targets)
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
    let (headers, secrets) = headers::read(cli).map_err(SetupError::Option)?;
    let plain = plain_request(cli)?;
    Ok(Work { protocol, headers, secrets, plain, transport, mix, seed })
}

fn plain_request(cli: &Cli) -> Result<PlainRequest, SetupError> {
    if cli.protocol != Protocol::Http && (cli.method != "GET" || cli.body.is_some()) {
        let cause = "--method and --body are for plain HTTP: add --protocol http";
        return Err(SetupError::Option(cause.into()));
    }
    let body = match cli.body.as_deref().map(|body| (body, body.strip_prefix('@'))) {
        None => Vec::new(),
        Some((text, None)) => text.as_bytes().to_vec(),
        Some((_, Some(file))) => {
            fs::read(file).map_err(|e| SetupError::Option(format!("--body @{file}: {e}")))?
        }
    };
    Ok(PlainRequest { method: cli.method.clone(), body })
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
