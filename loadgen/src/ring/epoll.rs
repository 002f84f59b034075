//! The engine for hosts that do not allow io_uring: epoll and plain non-blocking sockets.
//!
//! It keeps the promises of [`Ring`] with ordinary system calls. Each socket is registered once,
//! edge-triggered, so that a request costs one `send`, one `recv` and its share of an
//! `epoll_wait`; what is known about a socket (readable, writable, hung up) is kept here. A socket
//! is read only while completions are popped, and a few buffers at a time, so that a fast one
//! neither takes all buffers nor keeps the others waiting. Each connection occupies a descriptor
//! of the process.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;

use nix::errno::Errno as SysErrno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{SockAddr, Socket, Type};

use super::socket::{open_socket, sock_addr};
use super::{
    Address, Completion, Errno, Handle, Op, OpKind, Peer, QueueFull, RecvBuffer, Ring, RingConfig,
    RingStats, SendBuffer, Source,
};
use crate::clock::{Clock, Monotonic};

/// Buffers that one socket may fill before the others have their turn.
const RECEIVES_A_TURN: u32 = 8;
/// Events taken from the kernel at once; more wait there in their order.
const EVENTS_MAX: u32 = 1024;
/// Completions that one slot can have waiting when it is closed with everything under way.
const DONE_A_SLOT: usize = 6;
/// What the timer's events carry instead of a slot.
const TIMER: u64 = u64::MAX;
/// Longest single wait; the caller asks again.
const WAIT_NS_MAX: u64 = 3_600_000_000_000;

/// An epoll instance with its sockets and buffers.
pub struct EpollRing {
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer expires or has expired.
    timer_at_ns: u64,
    events: Vec<EpollEvent>,
    slots: Vec<Slot>,
    /// Slots with work, to be looked at while completions are popped.
    ready: VecDeque<u32>,
    /// Slots with work that wait for the next `enter`.
    later: VecDeque<u32>,
    done: VecDeque<Completion>,
    recv: Buffers,
    send: Buffers,
    peers: Vec<SockAddr>,
    stats: RingStats,
}

/// A socket, the operations under way on it (by generation), and what is known about it.
#[derive(Default)]
struct Slot {
    socket: Option<Socket>,
    connecting: Option<u32>,
    sending: Option<Sending>,
    receiving: Option<u32>,
    readable: bool,
    writable: bool,
    /// The peer has finished or reset: a short read does not mean that there is no more to read.
    hung_up: bool,
    /// Whether it is in `ready` or `later`.
    queued: bool,
}

#[derive(Clone, Copy)]
struct Sending {
    generation: u32,
    buffer: SendBuffer,
    from: u32,
    to: u32,
}

impl Slot {
    fn has_work(&self) -> bool {
        (self.writable && (self.connecting.is_some() || self.sending.is_some()))
            || (self.readable && self.receiving.is_some())
    }
}

impl EpollRing {
    /// Takes all memory and the two descriptors that an engine needs beside its connections.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)`, `timerfd_create(2)` and `epoll_ctl(2)`.
    pub fn new(config: &RingConfig) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Edge-triggered, so that an expiry is one event and never has to be read.
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        let slots = config.slots as usize;
        Ok(Self {
            epoll,
            timer,
            timer_at_ns: 0,
            events: vec![EpollEvent::empty(); config.entries.clamp(8, EVENTS_MAX) as usize],
            slots: (0..slots).map(|_| Slot::default()).collect(),
            ready: VecDeque::with_capacity(slots),
            later: VecDeque::with_capacity(slots),
            done: VecDeque::with_capacity(slots * DONE_A_SLOT),
            recv: Buffers::new(u32::from(config.recv_buffers), config.recv_buffer_bytes),
            send: Buffers::new(config.send_buffers, config.send_buffer_bytes),
            peers: Vec::new(),
            stats: RingStats::default(),
        })
    }

    fn complete(&mut self, handle: Handle, kind: OpKind, result: Result<u32, Errno>) {
        self.done.push_back(Completion { handle, kind, result, more: false, buffer: None });
    }

    /// Puts a slot with work into the turn that begins with the next `enter`.
    fn postpone(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if !s.queued && s.has_work() {
            s.queued = true;
            self.later.push_back(slot);
        }
    }

    fn connect(&mut self, handle: Handle, peer: Peer) -> Result<Option<u32>, Errno> {
        let s = &mut self.slots[handle.slot as usize];
        let socket = s.socket.as_ref().ok_or(Errno(libc::EBADF))?;
        let begun = socket.connect(&self.peers[usize::from(peer.0)]);
        let under_way = match &begun {
            Ok(()) => false,
            Err(e) if e.kind() == ErrorKind::Interrupted => true,
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => true,
            Err(e) => return Err(errno(e)),
        };
        // Registered after connect(2), which tells a socket that is being connected from one that
        // never was; what has happened by now is reported all the same.
        let interest = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let event = EpollEvent::new(interest, u64::from(handle.slot));
        self.epoll.add(socket, event).map_err(|e| Errno(e as i32))?;
        if under_way {
            s.connecting = Some(handle.generation);
            return Ok(None);
        }
        Ok(Some(0))
    }

    /// Tries to send what the slot has to send; nothing is completed if the socket takes nothing.
    fn try_send(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        let (Some(socket), Some(sending)) = (&s.socket, s.sending) else { return };
        let Sending { generation, buffer, from, to } = sending;
        let bytes = &self.send.get(buffer.0)[from as usize..to as usize];
        let sent = loop {
            match socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let result = match sent {
            Ok(len) => Ok(len as u32),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                s.writable = false;
                return;
            }
            Err(e) => Err(errno(&e)),
        };
        s.sending = None;
        self.complete(Handle { slot, generation }, OpKind::Send, result);
    }

    /// Reads a few buffers, or until there is no more.
    fn receive(&mut self, slot: u32) {
        for _ in 0..RECEIVES_A_TURN {
            let s = &mut self.slots[slot as usize];
            let (Some(socket), Some(generation), true) = (&s.socket, s.receiving, s.readable)
            else {
                return;
            };
            let handle = Handle { slot, generation };
            let Some(buffer) = self.recv.take() else {
                s.receiving = None;
                return self.complete(handle, OpKind::Receive, Err(Errno(libc::ENOBUFS)));
            };
            let bytes = self.recv.get_mut(buffer);
            let room = bytes.len();
            let mut reader: &Socket = socket;
            match reader.read(bytes) {
                Ok(len) if len > 0 => {
                    // A short read has taken all there was (epoll(7)); more makes another edge.
                    s.readable = len == room || s.hung_up;
                    self.done.push_back(Completion {
                        handle,
                        kind: OpKind::Receive,
                        result: Ok(len as u32),
                        more: true,
                        buffer: Some(RecvBuffer(buffer as u16)),
                    });
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => self.recv.give(buffer),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    s.readable = false;
                    self.recv.give(buffer);
                }
                ended => {
                    s.receiving = None;
                    self.recv.give(buffer);
                    let result = ended.map(|_| 0).map_err(|e| errno(&e));
                    return self.complete(handle, OpKind::Receive, result);
                }
            }
        }
    }

    /// Does what a slot's socket is ready for.
    fn advance(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.queued = false;
        if s.writable
            && let Some(generation) = s.connecting.take()
            && let Some(socket) = &s.socket
        {
            let result = match socket.take_error() {
                Ok(None) => Ok(0),
                Ok(Some(e)) | Err(e) => Err(errno(&e)),
            };
            self.complete(Handle { slot, generation }, OpKind::Connect, result);
        }
        if self.slots[slot as usize].writable {
            self.try_send(slot);
        }
        self.receive(slot);
        self.postpone(slot);
    }

    /// Takes an operation out of its slot, if it is under way; whether it was.
    fn cancel(&mut self, handle: Handle, kind: OpKind) -> bool {
        let s = &mut self.slots[handle.slot as usize];
        let same = Some(handle.generation);
        let found = match kind {
            OpKind::Connect => s.connecting.take_if(|g| Some(*g) == same).is_some(),
            OpKind::Send => s.sending.take_if(|o| Some(o.generation) == same).is_some(),
            OpKind::Receive => s.receiving.take_if(|g| Some(*g) == same).is_some(),
            OpKind::Cancel | OpKind::Finish | OpKind::Close => false,
        };
        if found {
            self.complete(handle, kind, Err(Errno(libc::ECANCELED)));
        }
        found
    }

    /// Drops the socket of a slot; what is still under way on it is cancelled.
    fn close(&mut self, slot: u32) -> Result<u32, Errno> {
        let s = &self.slots[slot as usize];
        let sending = s.sending.map(|o| o.generation);
        let under_way = [
            (OpKind::Connect, s.connecting),
            (OpKind::Send, sending),
            (OpKind::Receive, s.receiving),
        ];
        for (kind, generation) in under_way {
            if let Some(generation) = generation {
                self.cancel(Handle { slot, generation }, kind);
            }
        }
        let s = &mut self.slots[slot as usize];
        let open = s.socket.is_some();
        // The last descriptor of a socket takes its registration with it.
        *s = Slot { queued: s.queued, ..Slot::default() };
        if open { Ok(0) } else { Err(Errno(libc::EBADF)) }
    }

    /// Makes sure that a wait of `wait_ns` ends in time. An expiry that is armed for an earlier
    /// moment is left alone: it ends one wait early, and saves a system call in most others.
    fn timeout(&mut self, wait_ns: u64) -> io::Result<EpollTimeout> {
        if wait_ns == 0 {
            return Ok(EpollTimeout::ZERO);
        }
        let now_ns = Monotonic.now_ns();
        let until_ns = now_ns + wait_ns.min(WAIT_NS_MAX);
        if self.timer_at_ns <= now_ns || self.timer_at_ns > until_ns {
            let at = TimeSpec::from_duration(std::time::Duration::from_nanos(until_ns));
            self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.timer_at_ns = until_ns;
        }
        Ok(EpollTimeout::NONE)
    }

    fn on_event(&mut self, event: EpollEvent) {
        let Some(s) = self.slots.get_mut(event.data() as usize) else { return };
        let ended = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let flags = event.events();
        s.writable |= flags.intersects(EpollFlags::EPOLLOUT | ended);
        s.readable |= flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | ended);
        s.hung_up |= flags.intersects(EpollFlags::EPOLLRDHUP | ended);
        if !s.queued && s.has_work() {
            s.queued = true;
            self.ready.push_back(event.data() as u32);
        }
    }
}

impl Ring for EpollRing {
    fn add_peer(&mut self, address: &Address) -> Peer {
        self.peers.push(sock_addr(address));
        Peer((self.peers.len() - 1) as u16)
    }

    fn open(&mut self, slot: u32, source: Source) -> io::Result<()> {
        if slot as usize >= self.slots.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let socket = open_socket(source, Type::STREAM.nonblocking())?;
        let _ = self.close(slot);
        self.slots[slot as usize].socket = Some(socket);
        Ok(())
    }

    /// Starts the operation at once: its completion waits to be popped, so that the queue of
    /// operations is never full.
    fn push(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        let s = &mut self.slots[handle.slot as usize];
        let (open, generation) = (s.socket.is_some(), handle.generation);
        let result = match op {
            Op::Connect(peer) => self.connect(handle, peer),
            Op::Send { .. } | Op::Receive if !open => Err(Errno(libc::EBADF)),
            Op::Send { .. } if s.sending.is_some() => Err(Errno(libc::EALREADY)),
            Op::Send { buffer, from, to } => {
                s.sending = Some(Sending { generation, buffer, from, to });
                self.try_send(handle.slot);
                Ok(None)
            }
            Op::Receive if s.receiving.is_some() => Err(Errno(libc::EALREADY)),
            Op::Receive => {
                s.receiving = Some(generation);
                self.postpone(handle.slot);
                Ok(None)
            }
            Op::Cancel(kind) => match self.cancel(handle, kind) {
                true => Ok(Some(0)),
                false => Err(Errno(libc::ENOENT)),
            },
            Op::Finish => match &s.socket {
                Some(socket) => {
                    socket.shutdown(Shutdown::Write).map(|()| Some(0)).map_err(|e| errno(&e))
                }
                None => Err(Errno(libc::EBADF)),
            },
            Op::Close => self.close(handle.slot).map(Some),
        };
        match result {
            Ok(None) => {}
            Ok(Some(value)) => self.complete(handle, op.kind(), Ok(value)),
            Err(errno) => self.complete(handle, op.kind(), Err(errno)),
        }
        Ok(())
    }

    fn enter(&mut self, wait_ns: u64) -> io::Result<()> {
        self.stats.enters += 1;
        self.ready.append(&mut self.later);
        let idle = self.ready.is_empty() && self.done.is_empty();
        let timeout = self.timeout(if idle { wait_ns } else { 0 })?;
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => count,
            Err(SysErrno::EINTR) => 0,
            Err(e) => return Err(io::Error::other(format!("epoll_wait: {e}"))),
        };
        for index in 0..count {
            self.on_event(self.events[index]);
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                self.stats.completions += 1;
                return Some(completion);
            }
            let slot = self.ready.pop_front()?;
            self.advance(slot);
        }
    }

    fn received(&self, buffer: RecvBuffer, len: u32) -> &[u8] {
        &self.recv.get(u32::from(buffer.0))[..len as usize]
    }

    fn recycle(&mut self, buffer: RecvBuffer) {
        self.recv.give(u32::from(buffer.0));
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
        self.send.give(buffer.0);
    }

    fn recv_buffers_free(&self) -> u32 {
        self.recv.free.len() as u32
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A stack of equal buffers; the one given back last is taken first, while it is in the cache.
struct Buffers {
    bytes: Vec<u8>,
    size: usize,
    free: Vec<u32>,
}

impl Buffers {
    fn new(count: u32, size: u32) -> Self {
        let bytes = vec![0; count as usize * size as usize];
        Self { bytes, size: size as usize, free: (0..count).rev().collect() }
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// How many are taken.
    fn used(&self) -> u32 {
        (self.bytes.len() / self.size.max(1) - self.free.len()) as u32
    }

    fn give(&mut self, id: u32) {
        debug_assert!(!self.free.contains(&id), "buffer {id} given back twice");
        self.free.push(id);
    }

    fn get(&self, id: u32) -> &[u8] {
        &self.bytes[id as usize * self.size..][..self.size]
    }

    fn get_mut(&mut self, id: u32) -> &mut [u8] {
        &mut self.bytes[id as usize * self.size..][..self.size]
    }
}
