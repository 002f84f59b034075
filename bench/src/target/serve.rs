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
use crate::clock;
use crate::net::Conn;

/// Longest line in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What a connection remembers between two turns.
struct State {
    protocol: Protocol,
    place: Place,
    requests: u32,
    is_stream: bool,
    /// When the bytes being answered arrived (ns); 0 where nobody needs to know.
    arrived_ns: u64,
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
///
/// One flat `async` block, because its size is what an idle connection costs: every `async fn`
/// between it and the read would hold its arguments twice.
pub fn connection(
    worker: Rc<Worker>,
    conn: Conn,
    protocol: Protocol,
) -> impl Future<Output = ()> + 'static {
    let place = sweep::enter(&worker, conn.fd());
    let mut state = State { protocol, place, requests: 0, is_stream: false, arrived_ns: 0 };
    let mut buf = Vec::with_capacity(worker.shared.options.idle_bytes());
    async move {
        let ending = 'open: loop {
            let result;
            (result, buf) = if buf.is_empty() {
                conn.read(buf).await
            } else {
                Box::pin(conn.read_more(buf)).await
            };
            let Ok(read_bytes @ 1..) = result else { break Ending::Close };
            arrived(&worker, &mut state, read_bytes);
            loop {
                match turn(&worker, &conn, &mut state, &mut buf) {
                    Turn::Read => break,
                    Turn::Close => break 'open Ending::Close,
                    Turn::Perform(steps) => {
                        let ending = Box::pin(steps::perform(&conn, steps)).await;
                        if ending != Ending::Keep {
                            break 'open ending;
                        }
                    }
                }
            }
        };
        worker.table.borrow_mut().leave(state.place);
        worker.counters().add(Count::Closed, 1);
        worker.count_closed();
        let resets_on_close = worker.shared.options.faults.reset_share > 0.0;
        if resets_on_close && ending != Ending::Reset {
            Box::pin(conn.close_gracefully()).await;
        }
    }
}

fn arrived(worker: &Worker, state: &mut State, read_bytes: usize) {
    let counters = worker.counters();
    counters.add(Count::BytesIn, read_bytes as u64);
    if !worker.needs_time {
        return;
    }
    state.arrived_ns = clock::now_ns();
    counters.stamp(state.arrived_ns);
    if state.place != Place::NONE {
        worker.table.borrow_mut().used(state.place, state.arrived_ns);
    }
}

/// Answers what is whole in `buf` and sends it; leaves in `buf` what is not, with room for more.
///
/// A full buffer says that more may have come: the rest is taken into the thread's input buffer,
/// so that a connection's own can be small.
fn turn(worker: &Worker, conn: &Conn, state: &mut State, buf: &mut Vec<u8>) -> Turn {
    let mut out = worker.out.borrow_mut();
    let mut input = worker.input.borrow_mut();
    out.clear();
    let mut taken = None;
    if buf.len() == buf.capacity() && buf.len() < input.len() {
        let (start, room) = input.split_at_mut(buf.len());
        start.copy_from_slice(buf);
        let Ok(more_bytes) = conn.fd().receive_now(room) else { return Turn::Close };
        worker.counters().add(Count::BytesIn, more_bytes as u64);
        taken = Some(buf.len() + more_bytes);
    }
    let bytes = taken.map_or(&buf[..], |bytes| &input[..bytes]);
    let (used_bytes, need_bytes, after) = answer_all(worker, state, bytes, &mut out);
    match taken {
        None => drop(buf.drain(..used_bytes)),
        Some(bytes) => {
            buf.clear();
            buf.extend_from_slice(&input[used_bytes..bytes]);
        }
    }
    make_room(buf, need_bytes, worker.shared.options.idle_bytes());
    if out.is_empty() {
        return after;
    }
    match conn.fd().send_now(&out) {
        Ok(sent_bytes) if sent_bytes == out.len() => after,
        Ok(sent_bytes) => {
            worker.counters().add(Count::FullSockets, 1);
            flush_first(out[sent_bytes..].to_vec(), after)
        }
        Err(_) => Turn::Close,
    }
}

/// Answers the requests that are whole in `bytes`: the bytes they took, the least length of the
/// next one, and what follows.
fn answer_all(
    worker: &Worker,
    state: &mut State,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> (usize, usize, Turn) {
    let mut used_bytes = 0;
    loop {
        let rest = &bytes[used_bytes..];
        if rest.is_empty() {
            return (used_bytes, 0, Turn::Read);
        }
        if state.is_stream {
            // Nothing may follow on a connection whose answer does not end.
            return (used_bytes, 0, Turn::Close);
        }
        let next = match state.protocol {
            Protocol::Http => http(worker, state, rest, out),
            Protocol::Lines => line(worker, state, rest, out),
        };
        match next {
            Next::Need(need_bytes) => return (used_bytes, need_bytes, Turn::Read),
            Next::Answered { took_bytes, after } => {
                used_bytes += took_bytes;
                if let Some(turn) = after {
                    return (used_bytes, 0, turn);
                }
            }
        }
    }
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
    let answered = mcp::http(worker, &request, state.arrived_ns, out);
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
    let answered = mcp::line(worker, text, state.arrived_ns, out);
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
