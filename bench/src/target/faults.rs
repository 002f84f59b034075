//! Decides what is spoiled: which answer turns into an error, and how an answer is delivered.
//!
//! Decisions only: it draws dice and returns steps, and never touches a socket.

use std::sync::atomic::Ordering;

use super::hostile;
use super::options::FaultOptions;
use super::reply::Framing;
use super::stats::Count;
use super::steps::Step;
use super::worker::Worker;
use crate::clock;

/// What becomes of an answer's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is what was asked for.
    Normal,
    /// HTTP 500.
    Error,
    /// JSON-RPC -32603.
    RpcError,
    /// isError, where it is a tool's result.
    ToolError,
    /// The session is dropped first.
    Forgotten,
}

/// The faults of a thread, and whether there are any: an honest server draws no dice.
#[derive(Debug)]
pub struct Faults {
    options: FaultOptions,
    spoils_content: bool,
    spoils_delivery: bool,
}

impl Faults {
    /// Takes the options.
    pub fn new(options: &FaultOptions) -> Self {
        let shares = [
            options.error_share,
            options.rpc_error_share,
            options.tool_error_share,
            options.forget_sessions_share,
        ];
        Self {
            spoils_content: shares.iter().any(|&share| share > 0.0),
            spoils_delivery: options.delay.is_some()
                || options.delay_jitter.is_some()
                || !options.stall.is_empty()
                || options.reset_share > 0.0
                || options.never_answer
                || options.short_writes.is_some()
                || !options.hostile.is_empty(),
            options: options.clone(),
        }
    }

    /// Whether requests of the handshake pass unharmed.
    pub fn spares_handshake(&self) -> bool {
        self.options.spare_handshake
    }

    /// Whether answers may be held, withheld, or sent otherwise than at once.
    pub fn spoils_delivery(&self) -> bool {
        self.spoils_delivery
    }

    /// Draws the content's fate. Dice are rolled in a fixed order, so that a seed repeats a run.
    pub fn fate(&self, worker: &Worker) -> Fate {
        if !self.spoils_content {
            return Fate::Normal;
        }
        let (options, rng) = (&self.options, &worker.rng);
        if rng.chance(options.forget_sessions_share) {
            Fate::Forgotten
        } else if rng.chance(options.error_share) {
            Fate::Error
        } else if rng.chance(options.rpc_error_share) {
            Fate::RpcError
        } else if rng.chance(options.tool_error_share) {
            Fate::ToolError
        } else {
            Fate::Normal
        }
    }

    /// Turns the answer `out[start..]` into steps, or leaves it there to be sent at once (`None`).
    ///
    /// `id` is the raw JSON-RPC id of the request, if it has one. A delay counts from
    /// `arrived_ns`, so that requests which arrived together do not add theirs up.
    pub fn deliver(
        &self,
        worker: &Worker,
        framing: Framing,
        id: Option<&[u8]>,
        arrived_ns: u64,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Option<Vec<Step>> {
        if !self.spoils_delivery {
            return None;
        }
        let (options, counters) = (&self.options, worker.counters());
        let mut steps = Vec::new();
        if let Some(due_ns) = self.due_ns(worker, arrived_ns) {
            steps.push(Step::WaitUntil(due_ns));
        }
        if options.never_answer {
            counters.add(Count::Unanswered, 1);
            out.truncate(start);
            return Some(Vec::new());
        }
        if worker.rng.chance(options.reset_share) {
            counters.add(Count::Resets, 1);
            out.truncate(start);
            steps.push(Step::Reset);
            return Some(steps);
        }
        if !options.hostile.is_empty() && worker.rng.chance(options.hostile_share) {
            counters.add(Count::Hostile, 1);
            let drawn = worker.rng.up_to(options.hostile.len() as u64 - 1) as usize;
            let answer = out.split_off(start);
            steps.extend(hostile::script(options.hostile[drawn], framing, id, answer));
            return Some(steps);
        }
        if let Some(size_bytes) = options.short_writes {
            let bytes = out.split_off(start);
            steps.push(Step::Pieces { bytes, size_bytes, gap: options.short_write_gap });
            return Some(steps);
        }
        if steps.is_empty() {
            return None;
        }
        steps.push(Step::Send(out.split_off(start)));
        Some(steps)
    }

    /// When an answer to a request that arrived at `arrived_ns` may leave, if not at once.
    fn due_ns(&self, worker: &Worker, arrived_ns: u64) -> Option<u64> {
        let options = &self.options;
        let mut due_ns = arrived_ns + options.delay.map_or(0, |delay| delay.as_nanos() as u64);
        if let Some(jitter) = options.delay_jitter {
            due_ns += worker.rng.up_to(jitter.as_nanos() as u64);
        }
        if due_ns > arrived_ns {
            worker.counters().add(Count::Delayed, 1);
        }
        if !options.stall.is_empty() {
            // A pipelined request may have arrived before a stall that began meanwhile.
            let leaves_ns = due_ns.max(clock::now_ns());
            let first_ns = first_request_ns(worker, arrived_ns);
            let held_ns = after_stalls_ns(&options.stall, first_ns, leaves_ns);
            if held_ns > leaves_ns {
                worker.counters().add(Count::Stalled, 1);
                due_ns = held_ns;
            }
        }
        (due_ns > arrived_ns).then_some(due_ns)
    }
}

/// The time of the process's first request, which is `now_ns` if there was none.
fn first_request_ns(worker: &Worker, now_ns: u64) -> u64 {
    let first = &worker.shared.first_request_ns;
    match first.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => now_ns,
        Err(first_ns) => first_ns,
    }
}

/// The first moment from `due_ns` on that lies in no stall; stalls may touch and overlap.
fn after_stalls_ns(stalls: &[crate::units::Stall], first_ns: u64, due_ns: u64) -> u64 {
    let mut free_ns = due_ns;
    loop {
        let holding = stalls.iter().find_map(|stall| {
            let start_ns = first_ns + stall.start_ns;
            let end_ns = start_ns + stall.length_ns;
            (start_ns..end_ns).contains(&free_ns).then_some(end_ns)
        });
        match holding {
            Some(end_ns) => free_ns = end_ns,
            None => return free_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Stall;

    #[test]
    fn stalls_hold_what_falls_into_them_and_chain() {
        let stalls = [
            Stall { start_ns: 10, length_ns: 5 },
            Stall { start_ns: 14, length_ns: 6 },
            Stall { start_ns: 50, length_ns: 1 },
        ];
        let free = |due_ns| after_stalls_ns(&stalls, 100, due_ns);
        assert_eq!(free(109), 109);
        assert_eq!(free(110), 120);
        assert_eq!(free(119), 120);
        assert_eq!(free(120), 120);
        assert_eq!(free(150), 151);
    }
}
