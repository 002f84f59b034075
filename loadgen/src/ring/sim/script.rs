//! What a simulation is told to do: the kernel's moods, and each server's behaviour.

use std::ops::Range;

use super::time::Dice;

/// What the simulated kernel does to its caller. All are probabilities of the single occasion.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// A send takes only a part.
    pub short_send: f64,
    /// A send does not complete at once.
    pub blocked_send: f64,
    /// What has come in is handed over in pieces, the rest later.
    pub split: f64,
    /// ENOBUFS although there are buffers.
    pub enobufs: f64,
    /// A multishot receive ends without an error.
    pub ends: f64,
    /// The submission queue is full before it is.
    pub queue_full: f64,
    /// `enter` returns with nothing done (EINTR, EBUSY).
    pub empty_enter: f64,
    /// A socket cannot be made (EMFILE, EADDRINUSE).
    pub open_error: f64,
    /// A socket finds its address and port in use as it is made (EADDRINUSE), as before Linux 6.3.
    pub open_taken: f64,
    /// A connect fails (ECONNREFUSED, ETIMEDOUT, EADDRNOTAVAIL, unreachable).
    pub connect_error: f64,
    /// A connect finds its address and port in use (EADDRNOTAVAIL).
    pub connect_taken: f64,
    /// A cancelled operation completes later than the cancellation, or the other way round.
    pub late_cancel: f64,
    /// Completions of uses of a slot that are gone.
    pub stale: f64,
    /// Completions of different slots change places.
    pub reorder: f64,
    /// The process does not run for up to 100 ms.
    pub jump: f64,
    /// Completions that the queue holds; 0 is four times the submission queue.
    pub cq_entries: usize,
}

impl Kernel {
    /// A kernel with moods drawn by dice, each absent half of the time.
    pub fn drawn(dice: &mut Dice) -> Self {
        let mut share = |most: f64| match dice.chance(0.5) {
            true => most * dice.below(1000) as f64 / 1000.0,
            false => 0.0,
        };
        let mut kernel = Self {
            short_send: share(0.5),
            blocked_send: share(0.2),
            split: share(0.8),
            enobufs: share(0.2),
            ends: share(0.2),
            queue_full: share(0.3),
            empty_enter: share(0.3),
            open_error: share(0.1),
            open_taken: 0.0,
            connect_error: share(0.2),
            connect_taken: 0.0,
            late_cancel: share(0.5),
            stale: share(0.05),
            reorder: share(0.9),
            jump: share(0.005),
            cq_entries: 0,
        };
        if dice.chance(0.3) {
            kernel.cq_entries = 1 + dice.below(16) as usize;
        }
        kernel
    }
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// MCP over HTTP with sessions.
    Sessions,
    /// MCP over HTTP without.
    Stateless,
    /// Plain HTTP.
    Plain,
    /// MCP with sessions as lines.
    Lines,
    /// MCP over HTTP+SSE (2024-11-05).
    HttpSse,
}

/// Event streams, and what they carry beside answers.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// Whether sessions may have one; 405 otherwise.
    pub offered: bool,
    /// How long one lives; without end where it is empty.
    pub life_ns: Range<u64>,
    /// Answers that come with a notification, and with a request of the server, on the session's
    /// stream: a probability.
    pub chatter: f64,
    /// Answers that the server gives only once its own request is answered: a probability, of those
    /// that are event streams (and of all over lines).
    pub asks: f64,
    /// Answers that break off to be resumed: a probability, of those that are event streams.
    pub interrupts: f64,
    /// The wait that it wants before a stream is opened again, or an answer resumed.
    pub retry_ms: u64,
}

/// How a server frames its answers: probabilities, of which the rest is JSON with a length.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// An event stream instead of JSON.
    pub sse: f64,
    /// Chunks instead of a length.
    pub chunked: f64,
    /// The connection ends with the answer.
    pub closing: f64,
    /// Head, body and end apart in time.
    pub apart: f64,
    /// No session id is given (sessions era).
    pub without_id: bool,
    /// DELETE is not offered: 405.
    pub without_delete: bool,
}

/// What goes wrong with answers: probabilities.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// HTTP 500 (an error over lines).
    pub http_error: f64,
    /// A JSON-RPC error.
    pub rpc_error: f64,
    /// A tool error.
    pub tool_error: f64,
    /// The session is forgotten before it is looked up.
    pub forget: f64,
    /// RST somewhere in the answer.
    pub reset: f64,
    /// FIN somewhere in the answer.
    pub eof: f64,
    /// No answer at all.
    pub silent: f64,
    /// An event stream that is not ended after its answer.
    pub endless: f64,
    /// An answer before the request is whole.
    pub early: f64,
    /// Bytes that are no answer.
    pub garbage: f64,
    /// The connection is dropped at some time within three seconds.
    pub dropped: f64,
}

/// A server's behaviour. Times are those of the simulation's clock.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it speaks.
    pub speaks: Speaks,
    /// How long an answer takes.
    pub service_ns: Range<u64>,
    /// How long bytes travel, one way.
    pub network_ns: Range<u64>,
    /// When its process does not run.
    pub freezes: Vec<Range<u64>>,
    /// When it is dead: connections break, sessions are forgotten, connects are refused.
    pub kills: Vec<Range<u64>>,
    /// When connects are refused, and nothing else happens.
    pub refuses: Vec<Range<u64>>,
    /// When connects are neither accepted nor refused.
    pub unreachable: Vec<Range<u64>>,
    /// When requests are read and never answered.
    pub silent: Vec<Range<u64>>,
    /// Sessions that it takes; 503 for more.
    pub session_limit: usize,
    /// How it frames answers.
    pub style: Style,
    /// Its event streams.
    pub streams: Streams,
    /// It ends connections that have been idle for so long after an answer; none where it is 0.
    pub idle_ns: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether it takes a request before it has answered the one before (lines); answers then come in
    /// the order in which they are done.
    pub several: bool,
}

impl Script {
    /// A healthy server that answers within 50 to 150 us.
    pub fn healthy(speaks: Speaks) -> Self {
        Self {
            speaks,
            service_ns: 50_000..150_000,
            network_ns: 5_000..20_000,
            freezes: Vec::new(),
            kills: Vec::new(),
            refuses: Vec::new(),
            unreachable: Vec::new(),
            silent: Vec::new(),
            session_limit: usize::MAX,
            style: Style::default(),
            streams: Streams::default(),
            idle_ns: 0,
            faults: Faults::default(),
            several: false,
        }
    }

    /// A server whose behaviour is drawn by dice; its windows lie within `time`.
    pub fn drawn(speaks: Speaks, time: &Range<u64>, dice: &mut Dice) -> Self {
        let mut script = Self::healthy(speaks);
        script.service_ns = 10_000..10_001 + dice.below(3_000_000);
        script.network_ns = 1_000..1_001 + dice.below(200_000);
        let mut windows = |chance: f64| {
            let mut all = Vec::new();
            if dice.chance(chance) {
                let start = dice.within(time);
                all.push(start..dice.within(&(start..time.end)));
            }
            all
        };
        script.freezes = windows(0.2);
        script.kills = windows(0.3);
        script.refuses = windows(0.1);
        script.unreachable = windows(0.1);
        script.silent = windows(0.1);
        let mut share = |most: f64| match dice.chance(0.3) {
            true => most * dice.below(1000) as f64 / 1000.0,
            false => 0.0,
        };
        script.style = Style {
            sse: share(1.0),
            chunked: share(1.0),
            closing: share(0.3),
            apart: share(1.0),
            without_id: share(1.0) > 0.8,
            without_delete: share(1.0) > 0.8,
        };
        if share(1.0) > 0.9 {
            script.style.closing = 1.0;
        }
        script.streams = Streams {
            offered: share(1.0) < 0.8,
            // Where a session is its stream, each end is a failure.
            life_ns: 0..if speaks == Speaks::HttpSse { 0 } else { (share(1.0) * 3e9) as u64 },
            chatter: share(0.5),
            asks: share(0.5),
            interrupts: share(0.5),
            retry_ms: (share(1.0) * 50.0) as u64,
        };
        script.faults = Faults {
            http_error: share(0.2),
            rpc_error: share(0.2),
            tool_error: share(0.2),
            forget: share(0.1),
            reset: share(0.1),
            eof: share(0.1),
            silent: share(0.05),
            endless: share(0.1),
            early: share(0.3),
            garbage: share(0.05),
            dropped: share(0.5),
        };
        script
    }

    /// When work that begins at `at_ns` and takes `work_ns` is done, freezes counted in.
    pub fn done_ns(&self, at_ns: u64, work_ns: u64) -> u64 {
        let mut done_ns = at_ns + work_ns;
        for freeze in &self.freezes {
            if freeze.contains(&at_ns) {
                done_ns += freeze.end - at_ns;
            } else if at_ns < freeze.start && done_ns >= freeze.start {
                done_ns += freeze.end - freeze.start;
            }
        }
        done_ns
    }
}

/// Whether a moment lies in one of the windows.
pub(super) fn covers(windows: &[Range<u64>], at_ns: u64) -> bool {
    windows.iter().any(|w| w.contains(&at_ns))
}
