//! Asks each target, before the run and over one ordinary connection, what it speaks: which era
//! and revision, and whether it answers the request that will be the load. Blocking and bounded.

mod events;
mod stream;

use std::io::ErrorKind;
use std::time::Duration;

use wire::client::{Answer, Event, Exchange, Side};
use wire::mcp::{Era, Fields, Revision, Template, code};

use crate::cli::Protocol;
use crate::dialect::{Dialect, Load, Requests, wrapping};
use crate::layer::Wrapping;
use crate::mix::Mix;
use crate::ops::Op;
use crate::plan::target::{Framing, TargetUrl};
use crate::plan::{Target, Work};
use crate::ring::Address;
use events::{Events, token_of};
use stream::Stream;

/// Which revision the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever the target speaks, the newest era first.
    Any,
    /// The newest with sessions that the target agrees to.
    Sessions,
    /// This one and no other.
    Exactly(Revision),
}

impl Wanted {
    fn allows(self, era: Era) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Sessions => era == Era::Sessions,
            Wanted::Exactly(revision) => revision.era() == era,
        }
    }

    /// The same of a server that has sessions.
    fn older(self) -> Self {
        match self {
            Wanted::Any | Wanted::Sessions => Wanted::Sessions,
            Wanted::Exactly(revision) => Wanted::Exactly(revision),
        }
    }
}

/// Why a target cannot be loaded: one line with the cause and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {cause}")]
pub struct Unusable {
    url: String,
    cause: String,
}

/// The first bytes of TLS records that a server sends when it is spoken to in clear: alert, or
/// handshake, of any version 3.x (RFC 8446 5.1).
const TLS_RECORDS: [[u8; 2]; 2] = [[0x15, 0x03], [0x16, 0x03]];

/// Finds out what a target speaks, at this address or at the first of its name that answers.
///
/// The load falls back to `tools/list`
/// where the user named no tool and the target has no `echo`.
///
/// # Errors
/// [`Unusable`].
pub fn discover(
    url: &TargetUrl,
    address: Option<Address>,
    wanted: Wanted,
    work: &mut Work,
    tool_named: bool,
    timeout: Duration,
) -> Result<Target, Unusable> {
    let fail = |cause: String| Unusable { url: url.to_string(), cause };
    let unknown = |e| fail(format!("cannot resolve '{}' ({e}): check the name", url.host));
    let addresses = match address {
        Some(address) => vec![address],
        None => url.resolve().map_err(unknown)?,
    };
    let wrapping = wrapping(url, work).map_err(|e| fail(e.to_string()))?;
    let stream = Stream::connect(&addresses, wrapping.as_ref(), timeout).map_err(fail)?;
    let mut probe = Probe {
        stream,
        url,
        wrapping: wrapping.as_ref(),
        timeout,
        events: None,
        session: Vec::new(),
        refused: false,
    };
    let dialect = match (url.scheme.framing, work.protocol) {
        (Framing::Http, Protocol::Http) => Dialect::Http,
        (Framing::Http, Protocol::Mcp) => {
            match probe.revision(Dialect::Mcp, wanted, work) {
                Ok(revision) => Dialect::Mcp(revision),
                // 2025-11-25, "Backwards Compatibility": then it may be a server of 2024-11-05.
                Err(cause) if probe.refused && wanted.allows(Era::Sessions) => {
                    let found = probe.reconnect();
                    let found =
                        found.and_then(|()| probe.revision(Dialect::HttpSse, wanted.older(), work));
                    Dialect::HttpSse(found.map_err(|_| fail(cause))?)
                }
                Err(cause) => return Err(fail(cause)),
            }
        }
        (Framing::Lines | Framing::WebSocket, _) => {
            Dialect::Lines(probe.revision(Dialect::Lines, wanted, work).map_err(fail)?)
        }
    };
    probe.try_load(dialect, work, tool_named).map_err(fail)?;
    let (address, terms) = (probe.stream.address(), probe.stream.terms());
    let url = url.clone();
    Ok(Target { url, address, dialect, wrapping, terms, one_of_several: false })
}

/// One connection to a target that is being asked.
struct Probe<'a> {
    stream: Stream,
    url: &'a TargetUrl,
    wrapping: Option<&'a Wrapping>,
    timeout: Duration,
    /// Where answers come, over HTTP+SSE.
    events: Option<Events>,
    /// The id of the session that was opened to find the revision, and carries the trial of the load;
    /// over HTTP+SSE the path that stands for it, and empty where the server gave none.
    session: Vec<u8>,
    /// Whether the POST of `initialize` was answered with a client error.
    refused: bool,
}

impl Probe<'_> {
    /// Finds the revision: the newest era first, then what `initialize` negotiates, whose session
    /// stays open.
    fn revision(
        &mut self,
        dialect: fn(Revision) -> Dialect,
        wanted: Wanted,
        work: &Work,
    ) -> Result<Revision, String> {
        let modern = Revision::V2026_07_28;
        if wanted.allows(Era::Stateless) {
            let answer = self.ask(dialect(modern), work, Op::Discover, &mut Vec::new());
            match answer {
                Ok(a) if a.reply.is_ok() => return Ok(modern),
                Ok(a) if wanted != Wanted::Any || code::is_modern(a.rpc_code) => {
                    return Err(format!("does not speak MCP {modern}: {}", explain(&a)));
                }
                Err(cause) if wanted != Wanted::Any || self.url.scheme.framing == Framing::Http => {
                    return Err(cause);
                }
                Ok(_) | Err(_) => self.reconnect()?,
            }
        }
        let offered = match wanted {
            Wanted::Exactly(revision) => revision,
            Wanted::Any | Wanted::Sessions => Revision::V2025_11_25,
        };
        let mut session = Vec::new();
        if dialect(offered).answers_on_stream() {
            self.open_events(dialect(offered), work, &mut session)?;
        }
        let answer = self.ask(dialect(offered), work, Op::Initialize, &mut session)?;
        self.session = session;
        if !answer.reply.is_ok() {
            self.refused = matches!(answer.status, 400..500);
            return Err(self.without_sessions(dialect, wanted, work, &answer));
        }
        let agreed = answer.revision.ok_or("initialize was answered without a known revision")?;
        if matches!(wanted, Wanted::Exactly(revision) if revision != agreed) {
            self.leave(dialect(agreed), work);
            return Err(format!(
                "speaks MCP {agreed}, not {offered}: use --mcp-revision {agreed} or auto"
            ));
        }
        Ok(agreed)
    }

    /// Why `initialize` failed: for a revision that was asked for, or for any.
    fn without_sessions(
        &mut self,
        dialect: fn(Revision) -> Dialect,
        wanted: Wanted,
        work: &Work,
        answer: &Answer,
    ) -> String {
        let asked = match wanted {
            Wanted::Any => return format!("is no MCP endpoint: {}", explain(answer)),
            Wanted::Sessions => "with sessions".to_owned(),
            Wanted::Exactly(revision) => revision.to_string(),
        };
        let modern = Revision::V2026_07_28;
        let _ = self.reconnect();
        match self.ask(dialect(modern), work, Op::Discover, &mut Vec::new()) {
            Ok(a) if a.reply.is_ok() => format!(
                "does not speak MCP {asked} but {modern}: use --mcp-revision {modern} or auto"
            ),
            Ok(_) | Err(_) => format!("does not speak MCP {asked}: {}", explain(answer)),
        }
    }

    /// Asks for the load once, in the session that is open, and ends that.
    fn try_load(
        &mut self,
        dialect: Dialect,
        work: &mut Work,
        tool_named: bool,
    ) -> Result<(), String> {
        let mut session = std::mem::take(&mut self.session);
        if dialect.opening() == Some(Op::Initialize) {
            self.ask(dialect, work, Op::Initialized, &mut session)?;
        }
        let (mut answer, mut call) = self.try_calls(dialect, work, &mut session)?;
        if !answer.reply.is_ok() && dialect != Dialect::Http && !tool_named {
            work.mix = Mix::single(Load::ToolsList);
            (answer, call) = self.try_calls(dialect, work, &mut session)?;
        }
        self.session = session;
        self.leave(dialect, work);
        if answer.reply.is_ok() {
            return Ok(());
        }
        let hint = match (dialect, work.mix.loads().nth(usize::from(call))) {
            (Dialect::Http, _) => ": check the path".into(),
            (_, Some(Load::Tool { name, .. })) => {
                format!(": check --call and --tool-args of '{name}'")
            }
            (_, Some(Load::ToolsList) | None) => String::new(),
        };
        Err(format!(
            "does not answer the request that would be the load: {}{hint}",
            explain(&answer)
        ))
    }

    /// Makes each call of the mix, up to one that is no success: the last answer, and whose it is.
    fn try_calls(
        &mut self,
        dialect: Dialect,
        work: &Work,
        session: &mut Vec<u8>,
    ) -> Result<(Answer, u8), String> {
        let mut last = (unasked(), 0);
        for call in 0..work.mix.count() {
            last = (self.ask(dialect, work, Op::Call(call), session)?, call);
            if !last.0.reply.is_ok() {
                break;
            }
        }
        Ok(last)
    }

    /// Ends the session.
    fn leave(&mut self, dialect: Dialect, work: &Work) {
        let mut session = std::mem::take(&mut self.session);
        if self.events.take().is_none() && !session.is_empty() {
            let _ = self.ask(dialect, work, Op::Delete, &mut session);
        }
    }

    fn reconnect(&mut self) -> Result<(), String> {
        let address = self.stream.address();
        self.stream = Stream::connect(&[address], self.wrapping, self.timeout)?;
        Ok(())
    }

    /// Sends one request and reads its answer.
    fn ask(
        &mut self,
        dialect: Dialect,
        work: &Work,
        op: Op,
        session: &mut Vec<u8>,
    ) -> Result<Answer, String> {
        let requests = Requests::prepare(self.url, dialect, work).map_err(|e| e.to_string())?;
        let template: &Template = requests.get(op).ok_or("this revision lacks the request")?;
        let fields = Fields::request(u64::from(op.number()) + 1, session);
        let (mut bytes, expectation) = (Vec::new(), template.expectation(&fields));
        template.render(&mut bytes, &fields);
        let trouble = |e: std::io::Error| format!("the connection failed: {e}");
        self.stream.send(&bytes).map_err(trouble)?;
        let mut exchange = if dialect.is_http() { Exchange::http() } else { Exchange::line() };
        let Some(expectation) = expectation else {
            return Ok(unasked());
        };
        exchange.expect(expectation).map_err(|e| e.to_string())?;
        let asked = Asked { requests: &requests, id: u64::from(op.number()) + 1 };
        let answer = self.read_answer(exchange, &asked, session)?;
        if dialect.answers_on_stream() && answer.reply.is_ok() && op != Op::Initialized {
            return self.answer_on_stream(&asked, session);
        }
        Ok(answer)
    }

    fn read_answer(
        &mut self,
        mut exchange: Exchange,
        asked: &Asked<'_>,
        session: &mut Vec<u8>,
    ) -> Result<Answer, String> {
        let limits = wire::Limits::default();
        let (mut spill, mut answer, mut first) = (Vec::new(), None, true);
        let (mut last_event, mut broken, mut resumed) = (Vec::new(), false, false);
        let mut chunk = [0; 4096];
        loop {
            let n = match self.stream.read(&mut chunk) {
                Ok(0) => return self.at_end(exchange, answer),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.read_failure(&e)),
            };
            if first
                && self.stream.is_clear()
                && TLS_RECORDS.iter().any(|r| chunk[..n].starts_with(r))
            {
                return Err("answers in TLS: write https:// (wss://, tls://)".into());
            }
            first = false;
            let mut input = &chunk[..n];
            loop {
                let last_event = &mut last_event;
                let side = Side {
                    last_event: Some(&mut *last_event),
                    ..Side::new(&limits, session, &mut spill)
                };
                let (used, event) = exchange.feed(input, side);
                input = &input[used..];
                match event {
                    None => break,
                    Some(Event::ServerRequest { id, method }) => {
                        let token = token_of(id, exchange.text());
                        self.answer_server(asked, session, &token, method)?;
                    }
                    Some(Event::Interrupted) => broken = true,
                    Some(Event::Idle | Event::Closed) if broken && !last_event.is_empty() => {
                        exchange = self.resume(asked, session, last_event, &exchange)?;
                        (broken, resumed) = (false, true);
                        break;
                    }
                    // What is left of a resumed stream is of no interest.
                    Some(Event::Answer(a)) if resumed => return self.reconnect().map(|()| a),
                    Some(Event::Answer(a)) if self.url.scheme.framing != Framing::Http => {
                        return Ok(a);
                    }
                    Some(Event::Answer(a)) => answer = Some(a),
                    Some(Event::Idle) => return answer.ok_or_else(|| "gave no answer".into()),
                    Some(Event::Closed) => {
                        self.reconnect()?;
                        return answer.ok_or_else(|| "broke off its answer".into());
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn at_end(&mut self, mut exchange: Exchange, answer: Option<Answer>) -> Result<Answer, String> {
        let last = exchange.eof();
        let connected = self.reconnect();
        match (answer, last) {
            (Some(answer), _) | (None, Some(Event::Answer(answer))) => connected.map(|()| answer),
            // TLS 1.3: the client is through before the server has seen what it shows.
            _ if self.url.scheme.tls => Err("closed the connection without an answer: does it \
                 want a client certificate (--cert FILE --key FILE)?"
                .into()),
            _ => Err("closed the connection without an answer: does it speak this protocol on \
                      this port?"
                .into()),
        }
    }

    fn read_failure(&self, e: &std::io::Error) -> String {
        match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "accepted the connection and did not answer within {:?}: is this the right port, \
                 and does the server serve?",
                self.timeout
            ),
            ErrorKind::ConnectionReset => "reset the connection instead of answering: does it \
                 speak this protocol on this port?"
                .into(),
            _ => format!("reading the answer failed: {e}"),
        }
    }
}

/// A request that waits for its answer.
struct Asked<'a> {
    requests: &'a Requests,
    id: u64,
}

/// What stands for the answer of a message that gets none.
fn unasked() -> Answer {
    Answer { reply: wire::mcp::Reply::Ok, status: 0, rpc_code: 0, streamed: false, revision: None }
}

/// An answer that is no success, in words.
fn explain(answer: &Answer) -> String {
    use wire::mcp::Reply;
    match answer.reply {
        Reply::Ok => "it was answered".into(),
        Reply::HttpStatus(401 | 403) => {
            format!(
                "HTTP {}: it wants credentials (--bearer-env VARIABLE or --header @FILE)",
                answer.status
            )
        }
        Reply::HttpStatus(404 | 405) => format!("HTTP {}: check the path", answer.status),
        Reply::HttpStatus(s) => format!("HTTP {s}"),
        Reply::SessionGone => {
            "HTTP 404 to a session just opened: a balancer without stickiness?".into()
        }
        Reply::SessionLimit => "HTTP 503: it takes no more sessions".into(),
        Reply::RpcError(c) => format!("JSON-RPC error {c}"),
        Reply::ToolError => "the tool failed".into(),
        Reply::Violation(v) => {
            format!("HTTP {} that is no MCP answer ({})", answer.status, v.describe())
        }
    }
}
