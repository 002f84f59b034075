//! A model of a server: bytes of requests in, bytes of answers and their times out. It also holds
//! the client to the protocol; what it catches is kept in [`Server::misuse`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::script::{Faults, Script, Speaks, covers};
use super::time::Dice;

/// What a connection does once bytes of an answer have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// More of the answer follows, or nothing ever.
    Wait,
    /// The answer is complete.
    Free,
    /// FIN.
    Finish,
    /// RST.
    Reset,
}

/// Bytes that leave a server.
#[derive(Debug)]
pub(super) struct Out {
    pub at_ns: u64,
    pub bytes: Vec<u8>,
    pub then: Then,
    /// The connection, where it is not the one that asked.
    pub over: Option<u64>,
}

/// The server's side of a connection.
#[derive(Debug, Default)]
pub(super) struct Conn {
    pub slot: u32,
    inbox: Vec<u8>,
    /// A request was taken and its answer is not complete.
    busy: bool,
    /// Answers that are complete.
    answers: u64,
    /// Whatever else comes breaks the connection.
    deaf: bool,
    /// Over lines: 0 nothing, 1 initialized by a request, 2 confirmed.
    stage: u8,
}

/// What a server has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// `tools/call`, `tools/list` or plain requests read to the end.
    pub calls: u64,
    /// Of these, answered with success, as far as they could be sent.
    pub good: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions ended by DELETE.
    pub deleted: u64,
    /// Pings read.
    pub pings: u64,
    /// Event streams opened.
    pub streams: u64,
    /// Own requests sent.
    pub asked: u64,
    /// Of these, answered.
    pub told: u64,
    /// Answers that broke off, and those asked for again.
    pub broken: u64,
    /// See `broken`.
    pub resumed: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    pub(super) script: Script,
    pub(super) conns: BTreeMap<u64, Conn>,
    /// Session ids, and whether each was confirmed.
    sessions: HashMap<String, bool>,
    /// Ids of sessions that are gone by a fault, so that asking for them is no misuse.
    gone: BTreeSet<String>,
    next_session: u64,
    /// The connections of streams by session, and when each begins with its head.
    pub(super) streams: BTreeMap<String, (u64, u64)>,
    /// What waits for the answer to a request of its own, by that one's id.
    pub(super) withheld: BTreeMap<String, Out>,
    /// Answers that broke off, by session and the event that came last.
    pub(super) broken: BTreeMap<(String, String), String>,
    pub(super) next_event: u64,
    /// What it has counted.
    pub counts: Counts,
    /// What a client must not do and did.
    pub misuse: Vec<String>,
}

/// A request, taken apart.
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub session: Option<String>,
    pub last_event: Option<String>,
    pub rpc: String,
    pub id: Option<u64>,
    /// The id of the server's request that this message answers, as JSON.
    pub answers: Option<String>,
}

/// An answer before it is framed.
pub(super) struct Reply {
    pub status: u16,
    pub json: Option<String>,
    pub session: Option<String>,
}

impl Reply {
    pub fn bare(status: u16) -> Self {
        Self { status, json: None, session: None }
    }

    fn json(json: String) -> Self {
        Self { status: 200, json: Some(json), session: None }
    }
}

impl Server {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            conns: BTreeMap::new(),
            sessions: HashMap::new(),
            gone: BTreeSet::new(),
            next_session: 0,
            streams: BTreeMap::new(),
            withheld: BTreeMap::new(),
            broken: BTreeMap::new(),
            next_event: 0,
            counts: Counts::default(),
            misuse: Vec::new(),
        }
    }

    /// Sessions that it holds.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn accept(&mut self, conn: u64, slot: u32) {
        self.counts.accepted += 1;
        self.conns.insert(conn, Conn { slot, ..Conn::default() });
    }

    /// Forgets everything, as a restart does; the connections that break.
    pub(super) fn kill(&mut self) -> BTreeMap<u64, Conn> {
        self.gone.extend(self.sessions.drain().map(|(id, _)| id));
        self.streams.clear();
        self.withheld.clear();
        self.broken.clear();
        std::mem::take(&mut self.conns)
    }

    /// The answer of a connection is complete: which it is.
    pub(super) fn free(&mut self, conn: u64) -> u64 {
        let Some(conn) = self.conns.get_mut(&conn) else { return 0 };
        conn.busy = false;
        conn.answers += 1;
        conn.answers
    }

    /// Whether nothing has come over a connection since an answer.
    pub(super) fn is_idle_since(&self, conn: u64, answer: u64) -> bool {
        self.conns.get(&conn).is_some_and(|conn| !conn.busy && conn.answers == answer)
    }

    /// Takes bytes of a request; what is answered, if that makes one whole.
    pub(super) fn take(
        &mut self,
        id: u64,
        bytes: &[u8],
        now_ns: u64,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Vec<Out> {
        let Some(conn) = self.conns.get_mut(&id) else { return Vec::new() };
        if conn.deaf {
            return vec![Out { at_ns: now_ns, bytes: Vec::new(), then: Then::Reset, over: None }];
        }
        if conn.busy && self.script.speaks != Speaks::Lines {
            self.misuse.push("a request before the answer to the one before".into());
        }
        conn.inbox.extend_from_slice(bytes);
        let lines = self.script.speaks == Speaks::Lines;
        let split = if lines { split_line(&conn.inbox) } else { split_http(&conn.inbox) };
        let Some((len, request)) = split else {
            return self.perhaps_early(id, now_ns, faults, dice);
        };
        conn.inbox.drain(..len);
        if !conn.inbox.is_empty() && !lines {
            self.misuse.push("two requests in one piece".into());
        }
        if let Some(token) = &request.answers {
            return self.told(token, lines, now_ns);
        }
        let work_ns = dice.within(&self.script.service_ns);
        let done_ns = self.script.done_ns(now_ns, work_ns);
        if lines && request.id.is_none() {
            // A notification gets no answer.
            if conn.stage != 1 {
                self.misuse.push(format!("{} in stage {}", request.rpc, conn.stage));
            }
            conn.stage = 2;
            return Vec::new();
        }
        if std::mem::replace(&mut conn.busy, true) && lines && !self.script.several {
            self.misuse.push("a request before the answer to the one before".into());
        }
        if covers(&self.script.silent, now_ns) || dice.chance(faults.silent) {
            return Vec::new();
        }
        if dice.chance(faults.garbage) {
            conn.deaf = true;
            let bytes = b"\x16\x03\x01 nonsense\n\r\n\r\n".to_vec();
            return vec![Out { at_ns: done_ns, bytes, then: Then::Finish, over: None }];
        }
        if let Some(outs) = self.stream(id, &request, done_ns, faults, dice) {
            return outs;
        }
        let reply = self.judge(id, &request, faults, dice);
        if self.script.speaks == Speaks::HttpSse {
            return self.answer_on_stream(id, &request, &reply, done_ns);
        }
        if let Some(outs) = self.answer_in_parts(id, &request, &reply, done_ns, dice) {
            return outs;
        }
        let outs = self.frame(&reply, lines, done_ns, faults, dice);
        let mut outs = break_off(outs, faults, dice);
        self.chatter(&request, done_ns, &mut outs, dice);
        outs.extend(self.end_of_stream(&request, &reply, done_ns));
        if self.script.several { in_one_piece(outs) } else { outs }
    }

    /// An answer to a request that is not whole yet, as servers give that dislike its beginning.
    fn perhaps_early(
        &mut self,
        id: u64,
        now_ns: u64,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Vec<Out> {
        let Some(conn) = self.conns.get_mut(&id) else { return Vec::new() };
        if !dice.chance(faults.early) {
            return Vec::new();
        }
        let lines = self.script.speaks == Speaks::Lines;
        let number = lines.then(|| early_id(&conn.inbox)).flatten();
        let bytes = match (lines, number) {
            (true, None) => return Vec::new(),
            (true, Some(id)) => format!("{}\n", error(id, -32600)).into_bytes(),
            (false, _) => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        };
        conn.deaf = true;
        vec![Out { at_ns: now_ns, bytes, then: Then::Wait, over: None }]
    }

    fn judge(&mut self, conn: u64, request: &Request, faults: &Faults, dice: &mut Dice) -> Reply {
        let load = matches!(request.rpc.as_str(), "tools/call" | "tools/list")
            || self.script.speaks == Speaks::Plain;
        self.counts.calls += u64::from(load);
        self.counts.pings += u64::from(request.rpc == "ping");
        if dice.chance(faults.http_error) {
            return Reply { status: 500, ..Reply::json(error(request.id.unwrap_or(0), -32603)) };
        }
        let reply = match self.script.speaks {
            Speaks::Plain => Reply::json("\"hello\"".into()),
            Speaks::Stateless => self.judge_stateless(request),
            Speaks::Sessions => self.judge_session(request, faults, dice),
            Speaks::HttpSse => self.judge_posted(request, faults, dice),
            Speaks::Lines => self.judge_line(conn, request),
        };
        let Some(id) = request.id else { return reply };
        if !load || reply.status != 200 {
            return reply;
        }
        if dice.chance(faults.rpc_error) {
            return Reply::json(error(id, -32603));
        }
        if dice.chance(faults.tool_error) {
            return Reply::json(result(id, r#"{"content":[],"isError":true}"#));
        }
        self.counts.good += 1;
        reply
    }

    fn judge_session(&mut self, request: &Request, faults: &Faults, dice: &mut Dice) -> Reply {
        if request.rpc == "initialize" {
            if request.session.is_some() {
                self.misuse.push("initialize with a session id".into());
            }
            if self.sessions.len() >= self.script.session_limit {
                return Reply::bare(503);
            }
            self.counts.opened += 1;
            let reply = Reply::json(result(request.id.unwrap_or(0), INITIALIZED));
            if self.script.style.without_id {
                return reply;
            }
            self.next_session += 1;
            let id = format!("{:016x}-{:08x}", dice.number(), self.next_session);
            self.sessions.insert(id.clone(), false);
            return Reply { session: Some(id), ..reply };
        }
        if self.script.style.without_id {
            return self.in_session(request);
        }
        let Some(id) = &request.session else {
            self.misuse.push(format!("{} {} without a session id", request.method, request.rpc));
            return Reply::bare(400);
        };
        if dice.chance(faults.forget) && self.sessions.remove(id).is_some() {
            self.gone.insert(id.clone());
        }
        let Some(confirmed) = self.sessions.get_mut(id) else {
            if !self.gone.contains(id) {
                self.misuse.push(format!("a session id that was never given: {id}"));
            }
            return Reply::bare(404);
        };
        if request.rpc == "notifications/initialized" {
            *confirmed = true;
        } else if !*confirmed && request.rpc != "ping" && request.method != "DELETE" {
            self.misuse.push(format!("{} before notifications/initialized", request.rpc));
        }
        if request.method == "DELETE" && !self.script.style.without_delete {
            self.counts.deleted += 1;
            let id = id.clone();
            self.sessions.remove(&id);
            self.gone.insert(id);
            return Reply::bare(200);
        }
        self.in_session(request)
    }

    /// Whether it has a session.
    pub(super) fn has(&self, session: &str) -> bool {
        self.sessions.contains_key(session)
    }

    /// Whether it had a session once.
    pub(super) fn had(&self, session: &str) -> bool {
        self.gone.contains(session)
    }

    /// Forgets a session.
    pub(super) fn forget(&mut self, session: &str) {
        self.sessions.remove(session);
        self.gone.insert(session.to_owned());
    }

    /// A session that a stream names.
    pub(super) fn admit(&mut self, dice: &mut Dice) -> String {
        self.next_session += 1;
        let id = format!("{:016x}-{:08x}", dice.number(), self.next_session);
        self.sessions.insert(id.clone(), false);
        id
    }

    pub(super) fn in_session(&mut self, request: &Request) -> Reply {
        match (request.method.as_str(), request.rpc.as_str()) {
            ("DELETE", _) => Reply::bare(405),
            (_, "notifications/initialized") => Reply::bare(202),
            (_, "ping") => Reply::json(result(request.id.unwrap_or(0), "{}")),
            (_, "tools/call" | "tools/list") => {
                Reply::json(result(request.id.unwrap_or(0), CALLED))
            }
            (method, rpc) => {
                self.misuse.push(format!("an unknown request: {method} {rpc}"));
                Reply::bare(400)
            }
        }
    }

    fn judge_stateless(&mut self, request: &Request) -> Reply {
        if request.session.is_some() {
            self.misuse.push("a session id in the stateless era".into());
        }
        match (request.rpc.as_str(), request.id) {
            ("server/discover", Some(id)) => Reply::json(result(id, DISCOVERED)),
            ("tools/call" | "tools/list", Some(id)) => Reply::json(result(id, COMPLETE)),
            (rpc, _) => {
                self.misuse.push(format!("an unknown request: {rpc}"));
                Reply::bare(400)
            }
        }
    }

    fn judge_line(&mut self, conn: u64, request: &Request) -> Reply {
        let id = request.id.unwrap_or(0);
        let Some(conn) = self.conns.get_mut(&conn) else { return Reply::bare(500) };
        match request.rpc.as_str() {
            "initialize" if conn.stage == 0 => {
                conn.stage = 1;
                self.counts.opened += 1;
                Reply::json(result(id, INITIALIZED))
            }
            "ping" | "tools/call" | "tools/list" if conn.stage == 2 => {
                Reply::json(result(id, if request.rpc == "ping" { "{}" } else { CALLED }))
            }
            rpc => {
                self.misuse.push(format!("{rpc} in stage {} of a connection", conn.stage));
                Reply::json(error(id, -32600))
            }
        }
    }

    fn frame(
        &self,
        reply: &Reply,
        lines: bool,
        at_ns: u64,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Vec<Out> {
        let json = reply.json.clone().unwrap_or_default();
        if lines {
            let noise = if dice.chance(0.1) { NOTICE_LINE } else { "" };
            let bytes = format!("{noise}{json}\n").into_bytes();
            return vec![Out { at_ns, bytes, then: Then::Free, over: None }];
        }
        let style = &self.script.style;
        let sse = reply.status == 200 && !json.is_empty() && dice.chance(style.sse);
        let sse = sse && matches!(self.script.speaks, Speaks::Sessions | Speaks::Stateless);
        let chunked = sse || dice.chance(style.chunked);
        let closing = dice.chance(style.closing);
        // A stream that its connection's end ends, as HTTP/1.0 servers send it.
        let unframed = closing && sse && dice.chance(0.5);
        let endless = sse && !closing && dice.chance(faults.endless);
        let body = if sse { event_stream(&json, dice) } else { json };
        let mut parts = vec![head(reply, sse, chunked && !unframed, closing, body.len())];
        if chunked && !unframed {
            if !body.is_empty() {
                parts.push(format!("{:x}\r\n{body}\r\n", body.len()));
            }
            if !endless {
                parts.push("0\r\n\r\n".into());
            }
        } else if !body.is_empty() {
            parts.push(body);
        }
        if !dice.chance(style.apart) {
            parts = vec![parts.concat()];
        }
        let then = match (closing, endless) {
            (true, _) => Then::Finish,
            (false, true) => Then::Wait,
            (false, false) => Then::Free,
        };
        let last = parts.len() - 1;
        let mut at_ns = at_ns;
        let mut out = |(n, part): (usize, String)| {
            at_ns += if n > 0 { dice.below(2_000_000) } else { 0 };
            let then = if n == last { then } else { Then::Wait };
            Out { at_ns, bytes: part.into(), then, over: None }
        };
        parts.into_iter().enumerate().map(&mut out).collect()
    }
}

pub(super) const INITIALIZED: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#;
const CALLED: &str = r#"{"content":[{"type":"text","text":"hello"}],"isError":false}"#;
const COMPLETE: &str = r#"{"resultType":"complete","content":[{"type":"text","text":"hi"}]}"#;
const DISCOVERED: &str =
    r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}"#;
const NOTICE_LINE: &str =
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\"x\"}}\n";

pub(super) fn result(id: u64, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: u64, code: i32) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
}

fn event_stream(json: &str, dice: &mut Dice) -> String {
    let priming = if dice.chance(0.3) { "id: 1\ndata:\n\n: ping\n\n" } else { "" };
    let notice = match dice.chance(0.3) {
        true => format!("data: {NOTICE_LINE}\n"),
        false => String::new(),
    };
    format!("{priming}{notice}event: message\ndata: {json}\n\n")
}

fn head(reply: &Reply, sse: bool, chunked: bool, closing: bool, len: usize) -> String {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    if len > 0 {
        let kind = if sse { "text/event-stream" } else { "application/json" };
        head += &format!("content-type: {kind}\r\n");
    }
    if let Some(id) = &reply.session {
        head += &format!("mcp-session-id: {id}\r\n");
    }
    if closing {
        head += "connection: close\r\n";
    }
    if chunked {
        head += "transfer-encoding: chunked\r\n";
    } else if !(closing && sse) {
        head += &format!("content-length: {len}\r\n");
    }
    head + "\r\n"
}

/// An answer that no other one can come in the middle of.
fn in_one_piece(outs: Vec<Out>) -> Vec<Out> {
    let bytes = outs.iter().flat_map(|out| out.bytes.iter().copied()).collect();
    outs.into_iter().next_back().map(|last| Out { bytes, ..last }).into_iter().collect()
}

/// Cuts an answer somewhere, and the connection with it.
fn break_off(mut outs: Vec<Out>, faults: &Faults, dice: &mut Dice) -> Vec<Out> {
    let (reset, eof) = (dice.chance(faults.reset), dice.chance(faults.eof));
    if !reset && !eof {
        return outs;
    }
    let keep = 1 + dice.below(outs.len() as u64) as usize;
    outs.truncate(keep);
    if let Some(last) = outs.last_mut() {
        last.bytes.truncate(dice.below(last.bytes.len() as u64 + 1) as usize);
        last.then = if reset { Then::Reset } else { Then::Finish };
    }
    outs
}

/// The first line and its request, if it is whole.
fn split_line(inbox: &[u8]) -> Option<(usize, Request)> {
    let end = inbox.iter().position(|&b| b == b'\n')?;
    let (rpc, id, answers) = parse_rpc(&inbox[..end]);
    let (method, path) = (String::new(), String::new());
    let request = Request { method, path, session: None, last_event: None, rpc, id, answers };
    Some((end + 1, request))
}

/// The first HTTP request and its length, if it is whole.
fn split_http(inbox: &[u8]) -> Option<(usize, Request)> {
    let head_end = inbox.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&inbox[..head_end]).expect("a client's head is text");
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut session, mut last_event, mut length) = (None, None, 0);
    for line in lines {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length is a number"),
            "mcp-session-id" => session = Some(value.to_owned()),
            "last-event-id" => last_event = Some(value.to_owned()),
            _ => {}
        }
    }
    let body = inbox.get(head_end..head_end + length)?;
    let (rpc, id, answers) = match body.is_empty() {
        true => (String::new(), None, None),
        false => parse_rpc(body),
    };
    Some((head_end + length, Request { method, path, session, last_event, rpc, id, answers }))
}

/// The method and the id of a message, or the id of what it answers.
fn parse_rpc(body: &[u8]) -> (String, Option<u64>, Option<String>) {
    let value: Value = serde_json::from_slice(body).expect("a client's message is JSON");
    if value["method"].is_null() {
        assert!(value["result"].is_object() || value["error"]["code"] == -32601, "{value}");
        return (String::new(), None, Some(value["id"].to_string()));
    }
    assert!(value["params"].is_object(), "every message has params: {value}");
    (value["method"].as_str().expect("a method").to_owned(), value["id"].as_u64(), None)
}

/// The id of a message whose beginning has come, where that is certain.
fn early_id(inbox: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(inbox).ok()?;
    text.strip_prefix(r#"{"jsonrpc":"2.0","id":"#)?.split_once(',')?.0.parse().ok()
}
