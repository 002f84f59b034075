//! A ring without a kernel: seeded dice, virtual time, and servers that are models.
//!
//! It does what a kernel may do and seldom does, and it holds its caller to the contract of
//! [`Ring`]: every operation on a slot that is open, every buffer used by its owner, every slot
//! empty before it is used again. A breach is a panic that names it. This file is the caller's
//! side; `net.rs` moves time, sockets and bytes, `server.rs` answers, `script.rs` says what goes
//! wrong.

mod net;
mod script;
mod server;
mod streams;
mod time;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use nix::libc;

use super::{
    Address, Completion, Errno, Handle, Op, OpKind, Peer, QueueFull, RecvBuffer, Ring, RingConfig,
    RingStats, SendBuffer, Source,
};
use net::Net;
pub use script::{Faults, Kernel, Script, Speaks, Streams, Style};
pub use server::{Counts, Server};
pub use time::{Dice, SimClock};

/// Calls of `enter` in a row that neither start, bring nor wait for anything, and how long they may
/// go on: shortly before a request is due, polling is a choice.
const SPINS_MAX: u32 = 1_000;
const SPIN_NS_MAX: u64 = 500_000;

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Sizes, as for a real ring.
    pub ring: RingConfig,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// What the kernel does to its caller, until `heal_ns`.
    pub kernel: Kernel,
    /// The servers behind the peers, in the order in which these are added; faults until `heal_ns`.
    pub scripts: Vec<Script>,
    /// From this moment on, neither kernel nor servers do anything unusual.
    pub heal_ns: u64,
}

/// Who may touch a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody: to be taken (send), or to be filled (receive).
    Free,
    /// The caller.
    Caller,
    /// An operation, or a completion that waits to be popped.
    Ring,
}

/// A slot as the caller has to see it.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    open: bool,
    /// The generation of its present use, known with its first operation; then the last one.
    generation: Option<u32>,
    fresh: bool,
    connected: bool,
    finished: bool,
    /// Operations pushed whose last completion was not popped, one bit a kind.
    under_way: u8,
    /// Kinds that were cancelled in this use.
    cancelled: u8,
}

/// What a caller asked for that breaks the contract.
#[derive(Clone, Copy)]
struct Breach {
    handle: Handle,
    op: Op,
    slot: Slot,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} for {:?} of {:?}", self.op, self.handle, self.slot)
    }
}

fn bit(kind: OpKind) -> u8 {
    1 << kind as u8
}

/// See the module.
pub struct SimRing {
    net: Net,
    slots: Vec<Slot>,
    recv_owner: Vec<Owner>,
    send_owner: Vec<Owner>,
    queue: VecDeque<(Handle, Op)>,
    entries: usize,
    ready: VecDeque<Completion>,
    kept_back: VecDeque<Completion>,
    stats: RingStats,
    spins: u32,
    spins_from_ns: u64,
    sources: BTreeSet<SocketAddr>,
}

impl SimRing {
    /// A ring that shares the time of `clock`.
    pub fn new(config: SimConfig, clock: SimClock) -> Self {
        let ring = config.ring;
        Self {
            slots: vec![Slot::default(); ring.slots as usize],
            recv_owner: vec![Owner::Free; usize::from(ring.recv_buffers)],
            send_owner: vec![Owner::Free; ring.send_buffers as usize],
            queue: VecDeque::new(),
            entries: ring.entries as usize,
            ready: VecDeque::new(),
            kept_back: VecDeque::new(),
            stats: RingStats::default(),
            spins: 0,
            spins_from_ns: 0,
            sources: BTreeSet::new(),
            net: Net::new(config, clock),
        }
    }

    /// The servers, in the order of the peers.
    pub fn servers(&self) -> &[Server] {
        &self.net.servers
    }

    /// Panics unless every buffer is home and every slot closed, as they are when all connections
    /// have ended.
    pub fn assert_all_home(&mut self) {
        while let Some(completion) = self.pop() {
            if let Some(buffer) = completion.buffer {
                self.recycle(buffer);
            }
        }
        assert!(self.recv_owner.iter().all(|&o| o == Owner::Free), "a receive buffer is not home");
        assert!(self.send_owner.iter().all(|&o| o == Owner::Free), "a send buffer is not home");
        for (number, slot) in self.slots.iter().enumerate() {
            assert!(!slot.open && slot.under_way == 0, "slot {number} is in use: {slot:?}");
        }
    }

    /// Panics if the operation breaks the contract; otherwise notes it.
    fn admit(&mut self, handle: Handle, op: Op) {
        let kind = op.kind();
        let slot = &mut self.slots[handle.slot as usize];
        let before = *slot;
        // Put into words only where it is needed.
        let what = Breach { handle, op, slot: before };
        if std::mem::take(&mut slot.fresh) {
            assert_ne!(slot.generation, Some(handle.generation), "generation used again: {what}");
            slot.generation = Some(handle.generation);
        }
        if let Op::Cancel(cancelled) = op {
            slot.cancelled |= bit(cancelled);
            return;
        }
        assert!(slot.open, "the slot is not open: {what}");
        assert_eq!(slot.generation, Some(handle.generation), "another generation: {what}");
        assert_eq!(slot.under_way & bit(kind), 0, "a second one while one is under way: {what}");
        match op {
            Op::Connect(_) => assert!(!slot.connected, "connected already: {what}"),
            Op::Send { buffer, from, to } => {
                assert!(slot.connected && !slot.finished, "not connected: {what}");
                let owner = &mut self.send_owner[buffer.0 as usize];
                assert_eq!(*owner, Owner::Caller, "not the caller's buffer: {what}");
                assert!(from < to && to <= self.net.send_bytes[0].len() as u32, "range: {what}");
                *owner = Owner::Ring;
            }
            Op::Receive => assert!(slot.connected, "not connected: {what}"),
            Op::Finish => {
                assert!(slot.connected && !slot.finished, "not connected: {what}");
                slot.finished = true;
            }
            Op::Close => {
                for kind in [OpKind::Connect, OpKind::Send, OpKind::Receive] {
                    let left = slot.under_way & !slot.cancelled & bit(kind);
                    assert_eq!(left, 0, "{kind:?} would hold the socket open: {what}");
                }
                slot.open = false;
            }
            Op::Cancel(_) => {}
        }
        slot.under_way |= bit(kind);
    }

    /// Moves finished operations into the completion queue, in an order of its own.
    fn settle(&mut self) {
        let mut fresh = std::mem::take(&mut self.net.fresh);
        self.net.shuffle(&mut fresh);
        self.kept_back.extend(fresh.drain(..));
        self.net.fresh = fresh;
        let room = match self.net.config.kernel.cq_entries {
            0 => self.entries * 4,
            few => few,
        };
        while self.ready.len() < room
            && let Some(completion) = self.kept_back.pop_front()
        {
            self.ready.push_back(completion);
        }
        self.stats.cq_overflow += self.kept_back.len() as u64;
    }
}

impl Ring for SimRing {
    fn add_peer(&mut self, _: &Address) -> Peer {
        self.net.add_server();
        Peer((self.net.servers.len() - 1) as u16)
    }

    fn open(&mut self, slot: u32, source: Source) -> io::Result<()> {
        let number = slot;
        let slot = &mut self.slots[slot as usize];
        assert!(!slot.open, "slot {number} is open: {slot:?}");
        assert_eq!(slot.under_way, 0, "slot {number}: its last use is not over: {slot:?}");
        if self.net.mood(|k| k.open_error) {
            let errno = self.net.dice.one_of(&[libc::EMFILE, libc::EADDRINUSE, libc::ENOBUFS]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.net.mood(|k| k.open_taken) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        self.sources.extend(source.bind);
        *slot = Slot { open: true, fresh: true, generation: slot.generation, ..Slot::default() };
        self.net.open(number);
        Ok(())
    }

    fn push(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        if self.queue.len() >= self.entries || self.net.mood(|k| k.queue_full) {
            return Err(QueueFull);
        }
        self.admit(handle, op);
        self.queue.push_back((handle, op));
        Ok(())
    }

    fn push_quiet(&mut self, handle: Handle, op: Op) -> Result<(), QueueFull> {
        self.push(handle, op)?;
        self.net.quiet.insert((handle.slot, handle.generation));
        Ok(())
    }

    fn enter(&mut self, wait_ns: u64) -> io::Result<()> {
        self.stats.enters += 1;
        let idle = self.queue.is_empty() && self.ready.is_empty() && wait_ns == 0;
        if self.spins == 0 {
            self.spins_from_ns = self.net.now_ns();
        }
        self.spins = if idle { self.spins + 1 } else { 0 };
        let spins = self.spins > SPINS_MAX && self.net.now_ns() - self.spins_from_ns > SPIN_NS_MAX;
        assert!(!spins, "the caller spins without doing or awaiting anything");
        if self.net.mood(|k| k.empty_enter) {
            self.net.pass(20_000);
            return Ok(());
        }
        while let Some((handle, op)) = self.queue.pop_front() {
            if let Op::Send { buffer, .. } = op {
                debug_assert_eq!(self.send_owner[buffer.0 as usize], Owner::Ring);
            }
            self.net.execute(handle, op);
        }
        self.net.run_until_now();
        let starved = !self.send_owner.contains(&Owner::Free);
        let here = self.ready.iter().any(|c| self.net.is_awaited(c, starved));
        if !here && self.kept_back.is_empty() {
            self.net.wait(wait_ns, starved);
        }
        self.settle();
        Ok(())
    }

    fn pop(&mut self) -> Option<Completion> {
        let completion = self.ready.pop_front()?;
        self.stats.completions += 1;
        let Completion { handle, kind, result, more, buffer } = completion;
        if let Some(buffer) = buffer {
            assert_eq!(self.recv_owner[usize::from(buffer.0)], Owner::Free);
            self.recv_owner[usize::from(buffer.0)] = Owner::Caller;
        }
        let slot = &mut self.slots[handle.slot as usize];
        if slot.generation == Some(handle.generation) && !slot.fresh {
            slot.connected |= kind == OpKind::Connect && result.is_ok();
            if !more {
                slot.under_way &= !bit(kind);
            }
        }
        if kind == OpKind::Send {
            self.net.quiet.remove(&(handle.slot, handle.generation));
        }
        if let Some(buffer) = self.net.sent_from(&completion) {
            self.send_owner[buffer.0 as usize] = Owner::Caller;
        }
        Some(completion)
    }

    fn received(&self, buffer: RecvBuffer, len: u32) -> &[u8] {
        let owner = self.recv_owner[usize::from(buffer.0)];
        assert_eq!(owner, Owner::Caller, "{buffer:?} is read by who does not own it");
        &self.net.recv_bytes[usize::from(buffer.0)][..len as usize]
    }

    fn recycle(&mut self, buffer: RecvBuffer) {
        let owner = &mut self.recv_owner[usize::from(buffer.0)];
        assert_eq!(*owner, Owner::Caller, "{buffer:?} is recycled by who does not own it");
        *owner = Owner::Free;
        self.net.recycle(buffer);
    }

    fn take_send_buffer(&mut self) -> Option<SendBuffer> {
        let free = self.send_owner.iter().position(|&o| o == Owner::Free)?;
        self.send_owner[free] = Owner::Caller;
        let used = self.send_owner.iter().filter(|&&o| o != Owner::Free).count() as u32;
        self.stats.send_buffers_used_max = self.stats.send_buffers_used_max.max(used);
        Some(SendBuffer(free as u32))
    }

    fn send_bytes_mut(&mut self, buffer: SendBuffer) -> &mut [u8] {
        let owner = self.send_owner[buffer.0 as usize];
        assert_eq!(owner, Owner::Caller, "{buffer:?} is written by who does not own it");
        &mut self.net.send_bytes[buffer.0 as usize]
    }

    fn release(&mut self, buffer: SendBuffer) {
        let owner = &mut self.send_owner[buffer.0 as usize];
        assert_eq!(*owner, Owner::Caller, "{buffer:?} is released by who does not own it");
        *owner = Owner::Free;
        self.net.send_bytes[buffer.0 as usize].fill(b'!');
    }

    fn recv_buffers_free(&self) -> u32 {
        self.recv_owner.iter().filter(|&&o| o == Owner::Free).count() as u32
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

fn refused(errno: i32) -> Result<u32, Errno> {
    Err(Errno(errno))
}

#[cfg(test)]
mod tests;
