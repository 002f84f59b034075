//! Looks after connections from outside: closes idle ones, pings and cuts streams.
//!
//! A connection waits in a read that cannot be cancelled cheaply; the sweeper ends it by shutting
//! the socket down. The table is filled only where an option asks for sweeping, so that an
//! ordinary idle connection owns no entry.

use std::rc::Rc;
use std::time::Duration;

use super::options::Options;
use super::reply;
use super::stats::Count;
use super::worker::Worker;
use crate::clock;
use crate::net::{self, Fd};

/// How often the table is swept.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

/// A place in the table; `NONE` for a connection that nobody looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// No place.
    pub const NONE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fd: Fd,
    /// Last time something arrived (ns).
    used_ns: u64,
    /// When the stream was opened and last pinged (ns); 0 if the connection is none.
    stream_ns: u64,
    pinged_ns: u64,
}

/// The connections of one thread that are swept.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Table {
    /// Enters a connection. Its descriptor must stay open until it is taken out.
    fn enter(&mut self, fd: Fd, now_ns: u64) -> Place {
        let entry = Some(Entry { fd, used_ns: now_ns, stream_ns: 0, pinged_ns: 0 });
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                Place(index)
            }
            None => {
                self.entries.push(entry);
                Place((self.entries.len() - 1) as u32)
            }
        }
    }

    fn entry(&mut self, place: Place) -> Option<&mut Entry> {
        self.entries.get_mut(place.0 as usize)?.as_mut()
    }

    /// Notes that something arrived.
    pub fn used(&mut self, place: Place, now_ns: u64) {
        if let Some(entry) = self.entry(place) {
            entry.used_ns = now_ns;
        }
    }

    /// Notes that the connection has become a stream.
    pub fn stream(&mut self, place: Place) {
        if let Some(entry) = self.entry(place) {
            entry.stream_ns = clock::now_ns();
            entry.pinged_ns = entry.stream_ns;
        }
    }

    /// Takes a connection out, before its descriptor is closed.
    pub fn leave(&mut self, place: Place) {
        if let Some(slot) = self.entries.get_mut(place.0 as usize) {
            *slot = None;
            self.free.push(place.0);
        }
    }
}

/// Whether any option asks for sweeping.
pub fn is_wanted(options: &Options) -> bool {
    options.faults.idle_close.is_some()
        || options.stream_ping.is_some()
        || options.stream_cut.is_some()
}

/// Enters a connection if sweeping is wanted.
pub fn enter(worker: &Worker, fd: Fd) -> Place {
    if !is_wanted(&worker.shared.options) {
        return Place::NONE;
    }
    worker.table.borrow_mut().enter(fd, clock::now_ns())
}

/// Sweeps the thread's table for ever.
pub async fn run(worker: Rc<Worker>) {
    loop {
        net::sleep(SWEEP_EVERY).await;
        sweep(&worker, clock::now_ns());
    }
}

fn sweep(worker: &Worker, now_ns: u64) {
    let options = &worker.shared.options;
    let ns = |span: Option<Duration>| span.map_or(u64::MAX, |span| span.as_nanos() as u64);
    let idle_ns = ns(options.faults.idle_close);
    let (ping_ns, cut_ns) = (ns(options.stream_ping), ns(options.stream_cut));
    let mut table = worker.table.borrow_mut();
    for entry in table.entries.iter_mut().flatten() {
        if entry.stream_ns == 0 {
            if now_ns.saturating_sub(entry.used_ns) > idle_ns {
                entry.used_ns = u64::MAX;
                worker.counters().add(Count::IdleClosed, 1);
                entry.fd.shut_down();
            }
        } else if now_ns.saturating_sub(entry.stream_ns) > cut_ns {
            entry.stream_ns = u64::MAX;
            worker.counters().add(Count::StreamsCut, 1);
            // The end is orderly: the last chunk, then FIN.
            let _ = entry.fd.send_now(reply::STREAM_END);
            entry.fd.shut_down();
        } else if now_ns.saturating_sub(entry.pinged_ns) > ping_ns {
            entry.pinged_ns = now_ns;
            // A peer that does not read misses pings; a peer that is gone ends the read itself.
            let _ = entry.fd.send_now(reply::STREAM_PING);
        }
    }
}
