//! The kernel's ring: one thread, deferred task work, direct descriptors, multishot receives.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{IoUring, types};
use socket2::{SockAddr, Type};

use super::alarms::Alarms;
use super::buffers::{RecvBuffers, SendBuffers};
use super::entry::{Pointers, alarm_number, completion, entry, quiet_send};
use super::quiet::{QuietSend, QuietSends};
use super::socket::{open_socket, sock_addr};
use super::{
    Address, Completion, Handle, Op, Peer, QueueFull, RecvBuffer, Ring, RingConfig, RingStats,
    SendBuffer, Source,
};
use crate::clock::{Clock, Monotonic};

/// How long after its alarm a wait ends by itself. A timeout behind an alarm programs no clock.
const GUARD_NS: u64 = 1_000_000;
/// Asks `io_uring_enter(2)` for completions; libc has no name for it.
const GETEVENTS: u32 = 1;

/// An [`IoUring`] with its table and buffers. Built and used by one thread (SINGLE_ISSUER).
pub struct KernelRing {
    // Field order is drop order: the ring goes before the memory that it points at.
    ring: IoUring,
    recv: RecvBuffers,
    send: SendBuffers,
    #[expect(clippy::vec_box, reason = "queued entries point at the addresses")]
    peers: Vec<Box<SockAddr>>,
    quiet: QuietSends,
    alarms: Alarms,
    stats: RingStats,
}

impl KernelRing {
    /// Builds the ring and registers its table and buffers.
    ///
    /// # Errors
    /// Names the step that failed and the limit or setting behind it.
    pub fn new(config: &RingConfig) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(config.entries * 4)
            .build(config.entries)
            .map_err(|e| step(e, "io_uring_setup"))?;
        ring.submitter()
            .register_files_sparse(config.slots)
            .map_err(|e| step(e, "registering the table of direct descriptors"))?;
        let recv =
            RecvBuffers::register(&ring.submitter(), config.recv_buffers, config.recv_buffer_bytes)
                .map_err(|e| step(e, "registering the receive buffers"))?;
        let send = SendBuffers::new(config.send_buffers, config.send_buffer_bytes)?;
        let quiet = QuietSends::new(config.entries, ring.params().is_feature_skip_cqe_on_success());
        let (alarms, stats) = (Alarms::new(), RingStats::default());
        Ok(Self { ring, recv, send, peers: Vec::new(), quiet, alarms, stats })
    }

    /// Arms an alarm; whether there was room for one.
    fn set_alarm(&mut self, at_ns: u64) -> bool {
        let mut submission = self.ring.submission();
        self.alarms.set(at_ns, |entry| {
            // SAFETY: the entry points at a time that stays until its completion has been popped
            // (see `Alarms::set`), and so does the box that it is in, which the ring goes before.
            unsafe { submission.push(entry) }.is_ok()
        })
    }

    /// Makes sure that a wait until then ends in time by an alarm; whether one does.
    fn ends_by_alarm(&mut self, until_ns: u64) -> bool {
        self.alarms.ring_by(until_ns) || self.set_alarm(until_ns)
    }

    /// Takes what has completed from the kernel, and finds out which quiet sends are through.
    fn take_completions(&mut self) {
        let Self { ring, quiet, .. } = self;
        let whole = quiet.take(ring.completion().by_ref());
        let submission = ring.submission();
        // What the kernel keeps back for want of room may be of a send.
        quiet.settle(whole && submission.is_empty() && !submission.cq_overflow());
    }

    /// Sends again, and waits for room this time, what could not be sent at once.
    fn send_again(&mut self) {
        while let Some(send) = self.quiet.again.last() {
            let QuietSend { handle, buffer, from, to } = *send;
            if self.push(handle, Op::Send { buffer, from, to }).is_err() {
                return;
            }
            self.quiet.again.pop();
        }
    }
}

/// Adds the step, and what usually stands behind its error, to an error.
fn step(error: io::Error, what: &str) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES | nix::libc::ENOSYS) => {
            "io_uring is not allowed here: see kernel.io_uring_disabled, or the seccomp profile of \
             the container"
        }
        Some(nix::libc::EINVAL) => "this needs kernel 6.1 or newer",
        Some(nix::libc::EMFILE) => {
            "the table exceeds RLIMIT_NOFILE: raise `ulimit -n` or use \
             more --workers"
        }
        Some(nix::libc::ENOMEM) => "out of memory, or RLIMIT_MEMLOCK is too low (`ulimit -l`)",
        _ => "",
    };
    let dash = if hint.is_empty() { "" } else { " - " };
    io::Error::new(error.kind(), format!("{what}: {error}{dash}{hint}"))
}

impl Ring for KernelRing {
    fn add_peer(&mut self, address: &Address) -> Peer {
        self.peers.push(Box::new(sock_addr(address)));
        Peer((self.peers.len() - 1) as u16)
    }

    fn open(&mut self, slot: u32, source: Source) -> io::Result<()> {
        let socket = open_socket(source, Type::STREAM)?;
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        Ok(())
    }

    fn push(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        let mut pointers =
            Pointers { address: std::ptr::null(), address_len: 0, bytes: std::ptr::null() };
        match op {
            Op::Connect(peer) => {
                let address = &self.peers[usize::from(peer.0)];
                pointers.address = address.as_ptr().cast();
                pointers.address_len = address.len();
            }
            Op::Send { buffer, from, to } => {
                pointers.bytes = self.send.pointer(buffer.0, from, to);
            }
            Op::Receive | Op::Cancel(_) | Op::Finish | Op::Close => {}
        }
        let entry = entry(handle, op, &pointers);
        // SAFETY: an address is boxed, never removed and lives as long as the ring; the bytes are
        // in the mapping that outlives the ring and are not handed out again before the
        // completion of this send has been popped (its holder releases them only then).
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| QueueFull)
    }

    fn push_quiet(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        let Op::Send { buffer, from, to } = op else { return self.push(handle, op) };
        if !self.quiet.has_room() {
            return self.push(handle, op);
        }
        let entry = quiet_send(handle, self.send.pointer(buffer.0, from, to), to - from);
        // SAFETY: as in `push`; a send that has failed without a word of it having been said is
        // kept in `quiet`, and so is its buffer.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| QueueFull)?;
        self.quiet.pushed(QuietSend { handle, buffer, from, to });
        Ok(())
    }

    fn enter(&mut self, wait_ns: u64) -> io::Result<()> {
        self.stats.enters += 1;
        self.send_again();
        self.stats.cq_overflow = u64::from(self.ring.completion().overflow());
        let here = !self.ring.completion().is_empty() || self.quiet.has_taken();
        // Buffers that are known to be free only after a return are not slept on.
        let starved = self.send.is_empty() && self.quiet.any();
        // Deferred task work runs only in a call that asks for events; one that asks for none at
        // the least needs no timer.
        let least = u32::from(wait_ns > 0 && !here && !starved);
        let entered = if least == 0 {
            let to_submit = self.ring.submission().len() as u32;
            let submitter = self.ring.submitter();
            // SAFETY: the count is that of entries in the queue, and there is no argument.
            unsafe { submitter.enter::<nix::libc::sigset_t>(to_submit, 0, GETEVENTS, None) }
        } else {
            let rings = self.ends_by_alarm(Monotonic.now_ns() + wait_ns);
            let wait_ns = if rings { wait_ns + GUARD_NS } else { wait_ns };
            let wait = types::Timespec::from(Duration::from_nanos(wait_ns));
            let wait = types::SubmitArgs::new().timespec(&wait);
            self.ring.submitter().submit_with_args(1, &wait)
        };
        self.take_completions();
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Time is up; interrupted; or completions must be reaped before more is taken.
                Some(nix::libc::ETIME | nix::libc::EINTR | nix::libc::EBUSY) => Ok(()),
                Some(nix::libc::EAGAIN) => Ok(()),
                _ => Err(step(e, "io_uring_enter")),
            },
        }
    }

    fn foresee(&mut self, at_ns: u64) {
        if !self.alarms.ring_at(at_ns) {
            self.set_alarm(at_ns);
        }
    }

    fn pop(&mut self) -> Option<Completion> {
        if let Some(completion) = self.quiet.pop_through() {
            return Some(completion);
        }
        loop {
            let cqe = match self.quiet.pop_taken() {
                Some(cqe) => cqe,
                None => self.ring.completion().next()?,
            };
            if let Some(number) = alarm_number(cqe.user_data()) {
                self.alarms.went_off(number);
                continue;
            }
            self.stats.completions += 1;
            if let Some(completion) = completion(&cqe) {
                if completion.buffer.is_some() {
                    self.recv.taken();
                }
                return Some(completion);
            }
        }
    }

    fn received(&self, buffer: RecvBuffer, len: u32) -> &[u8] {
        self.recv.get(buffer.0, len)
    }

    fn recycle(&mut self, buffer: RecvBuffer) {
        self.recv.recycle(buffer.0);
    }

    fn take_send_buffer(&mut self) -> Option<SendBuffer> {
        let taken = self.send.take().map(SendBuffer);
        let most = &mut self.stats.send_buffers_used_max;
        *most = self.send.used().max(*most);
        taken
    }

    fn send_bytes_mut(&mut self, buffer: SendBuffer) -> &mut [u8] {
        self.send.get_mut(buffer.0)
    }

    fn release(&mut self, buffer: SendBuffer) {
        self.send.release(buffer.0);
    }

    fn recv_buffers_free(&self) -> u32 {
        self.recv.free()
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}
