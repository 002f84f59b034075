//! One connection: read, answer everything that is whole, send, read again.
//!
//! An idle connection owns its task, one pending read and a small buffer, nothing else: answers
//! are composed in the thread's buffer, and whatever needs more state (a delay, a full socket, a
//! hostile answer) is boxed for as long as it lasts.

use std::rc::Rc;

use super::mcp::{self, Answered};
use super::reply;
use super::request::{self, Parsed};
use super::stats::Count;
use super::steps::{self, Ending, Step};
use super::sweep::{self, Place};
use super::worker::{Protocol, Worker};
use crate::net::Conn;

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What a connection remembers between two turns.
struct State {
    protocol: Protocol,
    place: Place,
    requests: u32,
    is_stream: bool,
}

/// What follows a turn.
enum Turn {
    /// More bytes are needed.
    Read,
    /// Everything is said.
    Close,
    /// These steps, then another turn.
    Perform(Vec<Step>),
}

/// Serves the connection until one side ends it.
pub async fn connection(worker: Rc<Worker>, conn: Conn, protocol: Protocol) {
    let place = sweep::enter(&worker, conn.fd());
    let state = State { protocol, place, requests: 0, is_stream: false };
    let ending = exchange(&worker, &conn, state).await;
    worker.table.borrow_mut().leave(place);
    worker.counters().add(Count::Closed, 1);
    worker.count_closed();
    let resets_on_close = worker.shared.options.faults.reset_share > 0.0;
    if resets_on_close && ending != Ending::Reset {
        Box::pin(conn.close_gracefully()).await;
    }
}

async fn exchange(worker: &Worker, conn: &Conn, mut state: State) -> Ending {
    let mut buf = Vec::with_capacity(worker.shared.options.read_bytes);
    loop {
        let (result, back) = conn.read_more(buf).await;
        buf = back;
        let Ok(read_bytes @ 1..) = result else { return Ending::Close };
        worker.counters().add(Count::BytesIn, read_bytes as u64);
        if state.place != Place::NONE {
            worker.table.borrow_mut().used(state.place);
        }
        loop {
            match turn(worker, conn, &mut state, &mut buf) {
                Turn::Read => break,
                Turn::Close => return Ending::Close,
                Turn::Perform(steps) => {
                    let ending = Box::pin(steps::perform(conn, steps)).await;
                    if ending != Ending::Keep {
                        return ending;
                    }
                }
            }
        }
    }
}

/// Answers what is whole in `buf` and sends it; leaves in `buf` what is not, with room for more.
fn turn(worker: &Worker, conn: &Conn, state: &mut State, buf: &mut Vec<u8>) -> Turn {
    let mut out = worker.out.borrow_mut();
    out.clear();
    let mut used_bytes = 0;
    let mut need_bytes = 0;
    let mut after = loop {
        let rest = &buf[used_bytes..];
        if rest.is_empty() {
            break Turn::Read;
        }
        if state.is_stream {
            // Nothing may follow on a connection whose answer does not end.
            break Turn::Close;
        }
        let next = match state.protocol {
            Protocol::Http => http(worker, state, rest, &mut out),
            Protocol::Lines => line(worker, state, rest, &mut out),
        };
        match next {
            Next::Need(bytes) => {
                need_bytes = bytes;
                break Turn::Read;
            }
            Next::Answered { took_bytes, after } => {
                used_bytes += took_bytes;
                if let Some(turn) = after {
                    break turn;
                }
            }
        }
    };
    buf.drain(..used_bytes);
    make_room(buf, need_bytes, worker.shared.options.read_bytes);
    if !out.is_empty() {
        match conn.fd().send_now(&out) {
            Ok(sent_bytes) if sent_bytes == out.len() => {}
            Ok(sent_bytes) => {
                worker.counters().add(Count::FullSockets, 1);
                after = flush_first(out[sent_bytes..].to_vec(), after);
            }
            Err(_) => return Turn::Close,
        }
    }
    after
}

/// The unsent rest goes before whatever was to follow.
fn flush_first(rest: Vec<u8>, after: Turn) -> Turn {
    let mut steps = vec![Step::Send(rest)];
    match after {
        Turn::Read => {}
        Turn::Close => steps.push(Step::Close),
        Turn::Perform(more) => steps.extend(more),
    }
    Turn::Perform(steps)
}

/// Room for `need_bytes` in all, and no more memory than an idle connection may own.
fn make_room(buf: &mut Vec<u8>, need_bytes: usize, idle_bytes: usize) {
    if buf.is_empty() && buf.capacity() > idle_bytes * 2 {
        *buf = Vec::with_capacity(idle_bytes);
    }
    let wanted_bytes = need_bytes.max(buf.len() + 1);
    if buf.capacity() < wanted_bytes {
        buf.reserve(wanted_bytes - buf.len());
    }
}

/// What one request at the start of the buffer came to.
enum Next {
    /// Not whole: so many bytes at least.
    Need(usize),
    /// Answered; `after` ends the turn.
    Answered { took_bytes: usize, after: Option<Turn> },
}

fn http(worker: &Worker, state: &mut State, bytes: &[u8], out: &mut Vec<u8>) -> Next {
    let request = match request::parse(bytes) {
        Parsed::Whole(request) => request,
        Parsed::Partial { need_bytes } => return Next::Need(need_bytes),
        Parsed::Bad(status) => {
            worker.counters().add(Count::BadRequests, 1);
            reply::empty(out, status);
            return Next::Answered { took_bytes: bytes.len(), after: Some(Turn::Close) };
        }
    };
    let answered = mcp::http(worker, &request, out);
    let mut after = follow(worker, state, answered);
    if !request.keep_alive && !state.is_stream {
        after = Some(closing(after));
    }
    Next::Answered { took_bytes: request.len_bytes, after }
}

fn line(worker: &Worker, state: &mut State, bytes: &[u8], out: &mut Vec<u8>) -> Next {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        if bytes.len() >= LINE_BYTES_MAX {
            worker.counters().add(Count::BadRequests, 1);
            return Next::Answered { took_bytes: bytes.len(), after: Some(Turn::Close) };
        }
        return Next::Need(bytes.len() + 1);
    };
    let text = bytes[..end].trim_ascii();
    if text.is_empty() {
        return Next::Answered { took_bytes: end + 1, after: None };
    }
    let answered = mcp::line(worker, text, out);
    Next::Answered { took_bytes: end + 1, after: follow(worker, state, answered) }
}

/// Counts the request and says what follows its answer.
fn follow(worker: &Worker, state: &mut State, answered: Answered) -> Option<Turn> {
    state.requests += 1;
    let after = match answered {
        Answered::Written => None,
        Answered::Steps(steps) => Some(Turn::Perform(steps)),
        Answered::Stream => {
            state.is_stream = true;
            worker.table.borrow_mut().stream(state.place);
            None
        }
    };
    match worker.shared.options.faults.close_after {
        Some(most) if state.requests >= most => {
            worker.counters().add(Count::ClosedAfter, 1);
            Some(closing(after))
        }
        _ => after,
    }
}

/// The same, and then the end.
fn closing(after: Option<Turn>) -> Turn {
    match after {
        None | Some(Turn::Read | Turn::Close) => Turn::Close,
        Some(Turn::Perform(mut steps)) => {
            steps.push(Step::Close);
            Turn::Perform(steps)
        }
    }
}
