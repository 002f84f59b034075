//! The only place that performs network I/O, and the only one with `unsafe`.
//!
//! An operation is plain data ([`Op`]); `entry.rs` turns it into a kernel entry and nothing else
//! does. [`Ring`] has three implementations: io_uring (`kernel.rs`), epoll for hosts that do not
//! allow it (`epoll.rs`), and a seeded simulator with virtual time. A ring knows slots, generations
//! and buffers; it knows neither sessions nor protocols, and it never decides anything: it reports.

mod alarms;
mod buffers;
#[cfg(test)]
mod conformance;
mod entry;
mod epoll;
mod kernel;
mod probe;
mod quiet;
#[doc(hidden)]
pub mod sim;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use epoll::EpollRing;
pub use kernel::KernelRing;
pub use probe::{Probe, probe, try_io_uring};
pub(crate) use socket::connect;

/// Names one use of one slot: a completion whose generation is not the slot's present one
/// belongs to a connection that is gone, which is an ordinary event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Index into the ring's table of direct descriptors.
    pub slot: u32,
    /// How often the slot has been used, modulo 2^24.
    pub generation: u32,
}

/// Generations count modulo this.
pub const GENERATIONS: u32 = 1 << 24;

/// An index into the ring's own send buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendBuffer(pub(crate) u32);

/// An index into the ring's own receive buffers; must go back by [`Ring::recycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvBuffer(pub(crate) u16);

/// An address that connections go to, registered once by [`Ring::add_peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub(crate) u16);

/// What a ring can be asked to do with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Connect the slot's socket to a peer.
    Connect(Peer),
    /// Send bytes `from..to` of a send buffer; may complete short.
    Send {
        /// The buffer, filled by [`Ring::send_bytes_mut`].
        buffer: SendBuffer,
        /// First byte to send.
        from: u32,
        /// One past the last byte to send.
        to: u32,
    },
    /// Receive until told otherwise; every completion brings one receive buffer.
    Receive,
    /// Stop what of this kind is under way for this handle; it then completes with ECANCELED.
    Cancel(OpKind),
    /// Send FIN and go on receiving.
    Finish,
    /// Drop the slot's socket. Sockets are opened with a zero linger: what was not finished first
    /// is reset, so that nothing stays behind in TIME_WAIT.
    Close,
}

/// The kind of operation that a completion belongs to.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// [`Op::Connect`].
    Connect = 1,
    /// [`Op::Send`].
    Send = 2,
    /// [`Op::Receive`].
    Receive = 3,
    /// [`Op::Cancel`].
    Cancel = 4,
    /// [`Op::Finish`].
    Finish = 5,
    /// [`Op::Close`].
    Close = 6,
}

impl Op {
    /// The kind of this operation.
    pub fn kind(self) -> OpKind {
        match self {
            Op::Connect(_) => OpKind::Connect,
            Op::Send { .. } => OpKind::Send,
            Op::Receive => OpKind::Receive,
            Op::Cancel(_) => OpKind::Cancel,
            Op::Finish => OpKind::Finish,
            Op::Close => OpKind::Close,
        }
    }
}

/// The error number of a failed operation (`errno(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The connection it was asked for.
    pub handle: Handle,
    /// The operation.
    pub kind: OpKind,
    /// Bytes moved (0 of a receive: end of stream), or why not.
    pub result: Result<u32, Errno>,
    /// Whether more completions of the same operation will follow.
    pub more: bool,
    /// The buffer that a receive filled; belongs to the caller until recycled.
    pub buffer: Option<RecvBuffer>,
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A stream socket in the file system, with a path of at most [`UNIX_PATH_MAX`] bytes.
    Unix(PathBuf),
}

/// Bytes of the path of a socket: `sun_path` without its end (unix(7)).
pub const UNIX_PATH_MAX: usize = 107;

impl Address {
    /// What kind of socket reaches it.
    pub fn family(&self) -> Family {
        match self {
            Address::Ip(address) if address.is_ipv6() => Family::V6,
            Address::Ip(_) => Family::V4,
            Address::Unix(_) => Family::Unix,
        }
    }

    /// The address of TCP, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
    /// A stream socket of this host.
    Unix,
}

/// Where a connection starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Local address and port; port 0 lets the kernel choose when it connects. `None`: all of it.
    pub bind: Option<SocketAddr>,
    /// What the socket is (for TCP, where `bind` is `None`).
    pub family: Family,
}

/// The submission queue is full: enter, then push again. Nothing was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Counters of a ring since its creation.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingStats {
    /// Completions taken from the queue.
    pub completions: u64,
    /// Completions that the kernel had to keep back because the queue was full.
    pub cq_overflow: u64,
    /// Calls of `enter`.
    pub enters: u64,
    /// Most send buffers that were taken at one time.
    pub send_buffers_used_max: u32,
}

/// Sizes of a ring; all of them limits that the plan computed.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Connections: direct descriptors, bounded by RLIMIT_NOFILE for each ring; with epoll,
    /// descriptors of the process.
    pub slots: u32,
    /// Entries of the submission queue; the completion queue has four times as many. With epoll,
    /// events taken from the kernel at once.
    pub entries: u32,
    /// Receive buffers, a power of two.
    pub recv_buffers: u16,
    /// Bytes of a receive buffer.
    pub recv_buffer_bytes: u32,
    /// Send buffers.
    pub send_buffers: u32,
    /// Bytes of a send buffer: the longest request.
    pub send_buffer_bytes: u32,
}

/// Submission and completion of operations on a table of slots.
pub trait Ring {
    /// Makes an address known; connections are made to it by the returned name.
    fn add_peer(&mut self, address: &Address) -> Peer;

    /// Creates a socket in `slot`, bound to `source`.
    ///
    /// # Errors
    /// The error of `socket(2)`, `bind(2)` or of the registration.
    fn open(&mut self, slot: u32, source: Source) -> io::Result<()>;

    /// Queues an operation; it starts with the next [`Ring::enter`] at the latest.
    ///
    /// # Errors
    /// [`QueueFull`], with nothing queued.
    fn push(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull>;

    /// As [`Ring::push`], for a send whose success nobody waits for: that it is through may be said
    /// as late as at the end of the wait that the next [`Ring::enter`] makes, and is not what ends
    /// that wait. It is said before any answer to what was sent, and a failure at once.
    ///
    /// # Errors
    /// [`QueueFull`], with nothing queued.
    fn push_quiet(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        self.push(handle, op)
    }

    /// Starts all that is queued and waits up to `wait_ns` for at least one completion.
    /// 0 does not wait. Interruption by a signal is a return without completions.
    ///
    /// # Errors
    /// Only what makes the ring unusable.
    fn enter(&mut self, wait_ns: u64) -> io::Result<()>;

    /// Says that a later wait is going to end at this time on the clock, whatever else ends one
    /// before: to know it early may save a ring work. Nothing follows from it but a wait that is
    /// ended without a completion.
    fn foresee(&mut self, _at_ns: u64) {}

    /// Takes the next completion, if there is one.
    fn pop(&mut self) -> Option<Completion>;

    /// The bytes that a receive brought.
    fn received(&self, buffer: RecvBuffer, len: u32) -> &[u8];

    /// Gives a receive buffer back.
    fn recycle(&mut self, buffer: RecvBuffer);

    /// Takes a free send buffer; `None` when all are under way.
    fn take_send_buffer(&mut self) -> Option<SendBuffer>;

    /// The bytes of a send buffer that is not under way.
    fn send_bytes_mut(&mut self, buffer: SendBuffer) -> &mut [u8];

    /// Gives a send buffer back.
    fn release(&mut self, buffer: SendBuffer);

    /// Free receive buffers: after ENOBUFS, a receive is armed again when there are some.
    fn recv_buffers_free(&self) -> u32;

    /// Counters.
    fn stats(&self) -> RingStats;
}
