//! The event streams of a model server, and what a server does over them: notifications, requests
//! of its own, answers that break off, and answers that come on a stream (2024-11-05).

use super::script::{Faults, Speaks};
use super::server::{INITIALIZED, Out, Reply, Request, Server, Then, result};
use super::time::Dice;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
const END: &str = "0\r\n\r\n";
const NOTICE: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const ACKNOWLEDGED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#;

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(json: &str) -> String {
    chunk(&format!("event: message\r\ndata: {json}\r\n\r\n"))
}

fn out(at_ns: u64, text: String, then: Then) -> Out {
    Out { at_ns, bytes: text.into_bytes(), then, over: None }
}

fn status(at_ns: u64, status: u16) -> Vec<Out> {
    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    vec![out(at_ns, text, Then::Free)]
}

impl Server {
    /// What a request for a stream gets, if it is one.
    pub(super) fn stream(
        &mut self,
        conn: u64,
        request: &Request,
        at_ns: u64,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Option<Vec<Out>> {
        let listens = request.rpc == "subscriptions/listen";
        let gets = request.method == "GET" && self.script.speaks != Speaks::Plain;
        if !gets && !listens {
            return None;
        }
        if dice.chance(faults.http_error) {
            return Some(status(at_ns, 500));
        }
        if listens {
            let head = format!("{HEAD}{}", event(ACKNOWLEDGED));
            return Some(self.opened(String::new(), conn, head, at_ns, dice));
        }
        if self.script.speaks == Speaks::HttpSse {
            let session = self.admit(dice);
            let endpoint =
                format!("event: endpoint\r\ndata: /messages/?session_id={session}\r\n\r\n");
            let head = format!("{HEAD}{}", chunk(&endpoint));
            return Some(self.opened(session, conn, head, at_ns, dice));
        }
        let session = request.session.clone().unwrap_or_default();
        if !self.has(&session) && !self.script.style.without_id {
            if !self.had(&session) {
                self.misuse.push(format!("a stream of a session that never was: {session}"));
            }
            return Some(status(at_ns, 404));
        }
        if let Some(last) = &request.last_event
            && let Some(json) = self.broken.remove(&(session.clone(), last.clone()))
        {
            self.counts.resumed += 1;
            let text = format!("{HEAD}{}{END}", event(&json));
            return Some(vec![out(at_ns, text, Then::Free)]);
        }
        if !self.script.streams.offered {
            return Some(status(at_ns, 405));
        }
        let retry_ms = self.script.streams.retry_ms;
        let hello =
            chunk(&format!("id: s{}\r\nretry: {retry_ms}\r\ndata:\r\n\r\n", self.next_event));
        self.next_event += 1;
        Some(self.opened(session, conn, format!("{HEAD}{hello}"), at_ns, dice))
    }

    fn opened(
        &mut self,
        session: String,
        conn: u64,
        head: String,
        at_ns: u64,
        dice: &mut Dice,
    ) -> Vec<Out> {
        self.counts.streams += 1;
        self.streams.insert(session, (conn, at_ns));
        let mut outs = vec![out(at_ns, head, Then::Wait)];
        let life_ns = &self.script.streams.life_ns;
        if !life_ns.is_empty() {
            let end_ns = at_ns + dice.within(life_ns);
            let cut = dice.chance(0.3);
            let text = if cut { String::new() } else { END.to_owned() };
            outs.push(out(end_ns, text, Then::Finish));
        }
        outs
    }

    /// What a session's DELETE does to its stream.
    pub(super) fn end_of_stream(
        &mut self,
        request: &Request,
        reply: &Reply,
        at_ns: u64,
    ) -> Option<Out> {
        let deleted = request.method == "DELETE" && reply.status == 200;
        let named = request.session.as_ref().filter(|_| deleted)?;
        let (stream, begins_ns) = self.streams.remove(named)?;
        let end_ns = at_ns.max(begins_ns + 1);
        Some(Out { over: Some(stream), ..out(end_ns, END.to_owned(), Then::Finish) })
    }

    /// A request of its own is answered: gives what waited for that.
    pub(super) fn told(&mut self, token: &str, lines: bool, at_ns: u64) -> Vec<Out> {
        self.counts.told += 1;
        let mut outs: Vec<Out> = self.withheld.remove(token).into_iter().collect();
        outs.iter_mut().for_each(|out| out.at_ns = at_ns);
        if !lines {
            let text = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned();
            outs.push(out(at_ns, text, Then::Free));
        }
        outs
    }

    fn ask(&mut self) -> (String, String) {
        self.counts.asked += 1;
        let (token, method) = match self.counts.asked % 3 {
            0 => (format!("\"ask-{}\"", self.counts.asked), "sampling/createMessage"),
            1 => (self.counts.asked.to_string(), "ping"),
            _ => (format!("\"{}\"", self.counts.asked), "roots/list"),
        };
        let json = format!(r#"{{"jsonrpc":"2.0","id":{token},"method":"{method}","params":{{}}}}"#);
        (token, json)
    }

    /// An answer that does not come in one go: after a request of its own, or resumed.
    pub(super) fn answer_in_parts(
        &mut self,
        conn: u64,
        request: &Request,
        reply: &Reply,
        at_ns: u64,
        dice: &mut Dice,
    ) -> Option<Vec<Out>> {
        let json = reply.json.clone().filter(|_| reply.status == 200)?;
        let lines = self.script.speaks == Speaks::Lines;
        let sessions = self.script.speaks == Speaks::Sessions && reply.session.is_none();
        let called = request.rpc.starts_with("tools/");
        if !called || !(lines || sessions) {
            return None;
        }
        let streams = self.script.streams.clone();
        if dice.chance(streams.asks) {
            let (token, ask) = self.ask();
            let first = if lines { format!("{ask}\n") } else { format!("{HEAD}{}", event(&ask)) };
            let rest = if lines { format!("{json}\n") } else { event(&json) + END };
            let mut rest = out(at_ns, rest, Then::Free);
            rest.over = Some(conn);
            self.withheld.insert(token, rest);
            return Some(vec![out(at_ns, first, Then::Wait)]);
        }
        let session = request.session.clone().filter(|_| sessions)?;
        if !dice.chance(streams.interrupts) {
            return None;
        }
        self.counts.broken += 1;
        self.next_event += 1;
        let id = format!("e{}", self.next_event);
        let priming = chunk(&format!("id: {id}\r\nretry: {}\r\ndata:\r\n\r\n", streams.retry_ms));
        self.broken.insert((session, id), json);
        let then = if dice.chance(0.3) { Then::Finish } else { Then::Free };
        let head = match then {
            Then::Finish => HEAD.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"),
            Then::Wait | Then::Free | Then::Reset => HEAD.to_owned(),
        };
        Some(vec![out(at_ns, format!("{head}{priming}{END}"), then)])
    }

    /// What the session's stream carries beside answers.
    pub(super) fn chatter(
        &mut self,
        request: &Request,
        at_ns: u64,
        outs: &mut Vec<Out>,
        dice: &mut Dice,
    ) {
        let stream = request.session.as_ref().and_then(|session| self.streams.get(session));
        let Some(&(stream, begins_ns)) = stream else { return };
        if !request.rpc.starts_with("tools/") || !dice.chance(self.script.streams.chatter) {
            return;
        }
        let (_, ask) = self.ask();
        let at_ns = at_ns.max(begins_ns);
        let mut out = out(at_ns, event(NOTICE) + &event(&ask), Then::Wait);
        out.over = Some(stream);
        outs.push(out);
    }

    /// Judges a message that was posted to the address of a session (2024-11-05).
    pub(super) fn judge_posted(
        &mut self,
        request: &Request,
        faults: &Faults,
        dice: &mut Dice,
    ) -> Reply {
        let session = request.path.split_once("session_id=").map_or("", |(_, id)| id).to_owned();
        if request.session.is_some() || session.is_empty() {
            self.misuse.push(format!("{} to {}", request.rpc, request.path));
        }
        if dice.chance(faults.forget) && self.has(&session) {
            self.forget(&session);
        }
        if !self.has(&session) {
            if !self.had(&session) {
                self.misuse.push(format!("a session that never was: {}", request.path));
            }
            return Reply::bare(404);
        }
        if request.rpc == "initialize" {
            self.counts.opened += 1;
            let json = Some(result(request.id.unwrap_or(0), INITIALIZED));
            return Reply { status: 200, json, session: None };
        }
        self.in_session(request)
    }

    /// Accepts a message, and answers it on the stream of its session (2024-11-05).
    pub(super) fn answer_on_stream(
        &mut self,
        _conn: u64,
        request: &Request,
        reply: &Reply,
        at_ns: u64,
    ) -> Vec<Out> {
        let session = request.path.split_once("session_id=").map_or("", |(_, id)| id);
        let Some(json) = reply.json.as_ref().filter(|_| reply.status == 200) else {
            return status(at_ns, reply.status);
        };
        let mut outs = status(at_ns, 202);
        if let Some(&(stream, begins_ns)) = self.streams.get(session) {
            let mut answer = out(at_ns.max(begins_ns), event(json), Then::Wait);
            answer.over = Some(stream);
            // Either may come first.
            let place = usize::from(at_ns.is_multiple_of(2));
            outs.insert(place, answer);
        }
        outs
    }
}
