//! What a worker says about itself once a second: to the log, and to whoever watches the run.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the fields once: a struct to fill, their names for the log's header, and a shared
/// copy that other threads read.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The counters and gauges of a worker at one instant.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sample { $($(#[$doc])* pub $name: u64,)+ }

        /// The names of the fields, in the order of [`Sample::values`].
        pub const FIELDS: &[&str] = &[$(stringify!($name)),+];

        impl Sample {
            /// The values in the order of [`FIELDS`].
            pub fn values(&self) -> [u64; FIELDS.len()] {
                [$(self.$name),+]
            }

            /// Adds another worker's values to these; a maximum stays a maximum.
            pub fn add(&mut self, other: &Sample) {
                let maximum = |name: &str| name.ends_with("_max");
                $(self.$name = if maximum(stringify!($name)) {
                    self.$name.max(other.$name)
                } else {
                    self.$name + other.$name
                };)+
            }
        }

        impl Sample {
            /// Keeps the greater one of each maximum, and nothing else.
            pub fn keep_maxima(&mut self, other: &Sample) {
                $(if stringify!($name).ends_with("_max") {
                    self.$name = self.$name.max(other.$name);
                })+
            }
        }

        /// The latest sample of a worker, readable by other threads. Fields may be of two
        /// neighbouring instants.
        #[derive(Debug, Default)]
        pub struct Shared { $($name: AtomicU64,)+ }

        impl Shared {
            /// Replaces the sample.
            pub fn publish(&self, sample: &Sample) {
                $(self.$name.store(sample.$name, Ordering::Relaxed);)+
            }

            /// Reads the sample.
            pub fn read(&self) -> Sample {
                Sample { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

fields! {
    /// TCP connections that stand.
    tcp_open,
    /// Sessions that the server has accepted, on a connection that stands.
    session_established,
    /// Sessions on which a request was answered within the heartbeat interval.
    session_alive,
    /// Sessions that have stood at some time.
    session_stood,
    /// Event streams that have not ended.
    stream_open,
    /// Event streams lost, by the server's will or with their connection.
    stream_losses,
    /// Notifications of servers.
    notifications,
    /// Requests of servers.
    server_requests,
    /// Of these, those that got no answer: none was to be had in time, or their id is too long.
    server_requests_given_up,
    /// Responses that belong to no request.
    unsolicited,
    /// Answers that broke off and were asked for again, from their last event on.
    resumed,
    /// Requests that are due and wait for a session.
    queued,
    /// Requests sent and not answered to the end.
    in_flight,
    /// Load requests sent.
    sent,
    /// Load requests that succeeded.
    ok,
    /// Load requests that failed after they were sent.
    failed,
    /// Load requests that were due and never sent.
    dropped,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Connections established.
    connects,
    /// Connections lost.
    losses,
    /// TLS handshakes in full.
    tls_full,
    /// TLS handshakes that resumed an earlier session.
    tls_resumed,
    /// TLS handshakes that failed.
    tls_failed,
    /// CPU time of the thread.
    cpu_ns,
    /// Time asleep in the kernel, waiting.
    wait_ns,
    /// Turns of the loop.
    turns,
    /// Longest turn since the last sample, sleep not counted.
    turn_ns_max,
    /// Longest time since the last sample between the return of the kernel and the reading of the
    /// last completion that it brought.
    reap_lag_ns_max,
    /// Age of the oldest request that was due and not sent, the greatest since the last sample:
    /// what the schedule was owed.
    debt_ns_max,
    /// Most completions that were read in one turn since the last sample.
    reaped_max,
    /// Most receive buffers that waited to be read in one turn since the last sample.
    recv_buffers_used_max,
    /// Most send buffers that were under way at one time since the start.
    send_buffers_used_max,
    /// Completions.
    completions,
    /// Receives that ended for want of a buffer.
    enobufs,
    /// Completions that did not fit the queue.
    cq_overflow,
    /// Times that a request had to wait for a send buffer.
    send_buffer_waits,
    /// Records that could not be logged.
    log_lost_records,
    /// Resident memory of the process; worker 0 only.
    rss_bytes,
}

/// Resident memory of this process, bytes (`/proc/self/statm`, proc(5)); 0 where it cannot be
/// read. Called under load, and so without allocation.
pub(super) fn resident_bytes() -> u64 {
    let mut text = [0; 128];
    let read = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text));
    let text = std::str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages * page.map_or(4096, |p| p as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_agree() {
        let sample = Sample { tcp_open: 1, rss_bytes: 9, ..Sample::default() };
        assert_eq!(sample.values().len(), FIELDS.len());
        assert_eq!((FIELDS[0], sample.values()[0]), ("tcp_open", 1));
        assert_eq!((FIELDS[FIELDS.len() - 1], sample.values()[FIELDS.len() - 1]), ("rss_bytes", 9));
        let shared = Shared::default();
        shared.publish(&sample);
        assert_eq!(shared.read(), sample);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes() > 100_000);
    }

    #[test]
    fn maxima_do_not_add_up() {
        let mut a = Sample { turn_ns_max: 5, sent: 5, ..Sample::default() };
        a.add(&Sample { turn_ns_max: 3, sent: 3, ..Sample::default() });
        assert_eq!((a.turn_ns_max, a.sent), (5, 8));
        a.keep_maxima(&Sample { turn_ns_max: 9, sent: 3, ..Sample::default() });
        assert_eq!((a.turn_ns_max, a.sent), (9, 8));
    }
}
