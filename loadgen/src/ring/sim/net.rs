//! The simulated kernel and network: sockets, bytes on their way, and the passing of time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use nix::libc;

use super::script::{Faults, Kernel, Script, Speaks, covers};
use super::server::{Out, Server, Then};
use super::time::{Dice, SimClock};
use super::{Completion, Errno, Handle, Op, OpKind, RecvBuffer, SendBuffer, SimConfig, refused};

/// How a peer's side of a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finish,
    Reset,
}

/// A socket; `conn` names it for both sides and is never used again.
#[derive(Debug, Default)]
struct Socket {
    conn: u64,
    peer: usize,
    inbound: VecDeque<u8>,
    end: Option<End>,
    /// When bytes sent last arrive, each way: later ones do not overtake them.
    arrives_there_ns: u64,
    arrives_here_ns: u64,
    connecting: Option<Handle>,
    sending: Option<(Handle, SendBuffer, u32, u32)>,
    receiving: Option<Handle>,
}

enum Event {
    Connected { slot: u32, conn: u64, errno: i32 },
    Sent { slot: u32, conn: u64 },
    ToServer { peer: usize, conn: u64, bytes: Vec<u8> },
    GoneFromServer { peer: usize, conn: u64, politely: bool },
    FromServer { peer: usize, conn: u64, bytes: Vec<u8>, then: Then },
    ToClient { slot: u32, conn: u64, bytes: Vec<u8>, end: Option<End> },
    Pump { slot: u32, conn: u64 },
    Post(Completion),
    Drop { peer: usize, conn: u64, end: End },
    Idle { peer: usize, conn: u64, answer: u64 },
    Kill { peer: usize },
}

struct Timed {
    at_ns: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

/// See the module.
pub(super) struct Net {
    pub config: SimConfig,
    pub dice: Dice,
    clock: SimClock,
    events: BinaryHeap<Reverse<Timed>>,
    numbers: u64,
    conns: u64,
    sockets: Vec<Option<Socket>>,
    pub servers: Vec<Server>,
    /// Completions that have not been put into the queue.
    pub fresh: Vec<Completion>,
    pub recv_bytes: Vec<Vec<u8>>,
    recv_free: Vec<RecvBuffer>,
    pub send_bytes: Vec<Vec<u8>>,
    /// The buffers of sends that are completed and not popped, by their slot and generation.
    sent: BTreeMap<(u32, u32), SendBuffer>,
    /// Sends whose success ends no wait, by their slot and generation.
    pub quiet: BTreeSet<(u32, u32)>,
    /// The last generation seen on each slot, for stale completions.
    generations: Vec<u32>,
}

impl Net {
    pub fn new(config: SimConfig, clock: SimClock) -> Self {
        let ring = config.ring;
        let buffers = |count: usize, bytes: u32| vec![vec![0; bytes as usize]; count];
        Self {
            dice: Dice::new(config.seed),
            clock,
            events: BinaryHeap::new(),
            numbers: 0,
            conns: 0,
            sockets: (0..ring.slots).map(|_| None).collect(),
            servers: Vec::new(),
            fresh: Vec::new(),
            recv_bytes: buffers(usize::from(ring.recv_buffers), ring.recv_buffer_bytes),
            recv_free: (0..ring.recv_buffers).map(RecvBuffer).collect(),
            send_bytes: buffers(ring.send_buffers as usize, ring.send_buffer_bytes),
            sent: BTreeMap::new(),
            quiet: BTreeSet::new(),
            generations: vec![0; ring.slots as usize],
            config,
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.peek_ns()
    }

    pub fn add_server(&mut self) {
        let peer = self.servers.len();
        let script = self.config.scripts.get(peer).cloned();
        let script = script.unwrap_or_else(|| Script::healthy(Speaks::Sessions));
        for kill in &script.kills {
            self.push(kill.start, Event::Kill { peer });
        }
        self.servers.push(Server::new(script));
    }

    /// Whether the kernel is in a mood for something.
    pub fn mood(&mut self, of: impl Fn(&Kernel) -> f64) -> bool {
        let share = of(&self.config.kernel);
        self.now_ns() < self.config.heal_ns && self.dice.chance(share)
    }

    fn faults(&self, peer: usize) -> Faults {
        match self.now_ns() < self.config.heal_ns {
            true => self.servers[peer].script.faults.clone(),
            false => Faults::default(),
        }
    }

    fn push(&mut self, at_ns: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse(Timed { at_ns, number: self.numbers, event }));
    }

    fn complete(&mut self, handle: Handle, kind: OpKind, result: Result<u32, Errno>) {
        self.fresh.push(Completion { handle, kind, result, more: false, buffer: None });
    }

    fn socket(&mut self, slot: u32, conn: u64) -> Option<&mut Socket> {
        self.sockets[slot as usize].as_mut().filter(|s| s.conn == conn)
    }

    pub fn open(&mut self, slot: u32) {
        self.conns += 1;
        let socket = Socket { conn: self.conns, ..Socket::default() };
        self.sockets[slot as usize] = Some(socket);
    }

    pub fn recycle(&mut self, buffer: RecvBuffer) {
        self.recv_bytes[usize::from(buffer.0)].fill(b'?');
        self.recv_free.push(buffer);
    }

    /// The buffer that comes home with a popped completion of a send.
    pub fn sent_from(&mut self, c: &Completion) -> Option<SendBuffer> {
        let sent = c.kind == OpKind::Send && c.buffer.is_none();
        sent.then(|| self.sent.remove(&(c.handle.slot, c.handle.generation))).flatten()
    }

    /// Starts an operation.
    pub fn execute(&mut self, handle: Handle, op: Op) {
        let now_ns = self.now_ns();
        self.generations[handle.slot as usize] = handle.generation;
        if let Op::Cancel(kind) = op {
            return self.cancel(handle, kind);
        }
        let Some(socket) = self.sockets[handle.slot as usize].as_mut() else {
            panic!("{op:?} on an empty slot {}", handle.slot);
        };
        let (slot, conn, peer) = (handle.slot, socket.conn, socket.peer);
        match op {
            Op::Connect(peer) => {
                socket.peer = usize::from(peer.0);
                socket.connecting = Some(handle);
                self.connect(slot, conn, usize::from(peer.0), now_ns);
            }
            Op::Send { buffer, from, to } => {
                socket.sending = Some((handle, buffer, from, to));
                if self.mood(|k| k.blocked_send) {
                    let long = self.dice.chance(0.05);
                    let wait_ns = self.dice.below(if long { 5_000_000_000 } else { 5_000_000 });
                    self.push(now_ns + wait_ns, Event::Sent { slot, conn });
                } else {
                    self.send(slot, conn);
                }
            }
            Op::Receive => {
                socket.receiving = Some(handle);
                self.pump(slot, conn);
            }
            Op::Finish => {
                let latency_ns = self.dice.within(&self.servers[peer].script.network_ns);
                let event = Event::GoneFromServer { peer, conn, politely: true };
                self.push(now_ns + latency_ns, event);
                self.complete(handle, OpKind::Finish, Ok(0));
            }
            Op::Close => {
                self.sockets[slot as usize] = None;
                let event = Event::GoneFromServer { peer, conn, politely: false };
                self.push(now_ns, event);
                self.complete(handle, OpKind::Close, Ok(0));
            }
            Op::Cancel(_) => {}
        }
    }

    fn connect(&mut self, slot: u32, conn: u64, peer: usize, now_ns: u64) {
        let script = &self.servers[peer].script;
        let latency_ns = 2 * self.dice.within(&script.network_ns);
        if covers(&script.unreachable, now_ns) {
            return;
        }
        let dead = covers(&script.kills, now_ns) || covers(&script.refuses, now_ns);
        let mut errno = if dead { libc::ECONNREFUSED } else { 0 };
        if self.mood(|k| k.connect_taken) {
            errno = libc::EADDRNOTAVAIL;
        }
        if self.mood(|k| k.connect_error) {
            errno = self.dice.one_of(&[
                libc::ECONNREFUSED,
                libc::ETIMEDOUT,
                libc::EADDRNOTAVAIL,
                libc::EHOSTUNREACH,
                libc::ENETUNREACH,
                libc::ECONNRESET,
            ]);
        }
        self.push(now_ns + latency_ns, Event::Connected { slot, conn, errno });
    }

    fn connected(&mut self, slot: u32, conn: u64, errno: i32) {
        let now_ns = self.now_ns();
        let Some(socket) = self.socket(slot, conn) else { return };
        let (Some(handle), peer) = (socket.connecting.take(), socket.peer) else { return };
        if errno != 0 {
            return self.complete(handle, OpKind::Connect, refused(errno));
        }
        self.complete(handle, OpKind::Connect, Ok(0));
        if covers(&self.servers[peer].script.kills, now_ns) {
            // Died between the handshake and now.
            return self.deliver(slot, conn, Vec::new(), Some(End::Reset));
        }
        self.servers[peer].accept(conn, slot);
        let faults = self.faults(peer);
        if self.dice.chance(faults.dropped) {
            let end = if self.dice.chance(0.5) { End::Reset } else { End::Finish };
            let at_ns = now_ns + self.dice.below(3_000_000_000);
            self.push(at_ns, Event::Drop { peer, conn, end });
        }
    }

    fn send(&mut self, slot: u32, conn: u64) {
        let now_ns = self.now_ns();
        let short = self.mood(|k| k.short_send);
        let Some(socket) = self.socket(slot, conn) else { return };
        let Some((handle, buffer, from, to)) = socket.sending.take() else { return };
        let (end, peer) = (socket.end, socket.peer);
        self.sent.insert((slot, handle.generation), buffer);
        if short || end == Some(End::Reset) {
            self.quiet.remove(&(slot, handle.generation));
        }
        if end == Some(End::Reset) {
            let errno = self.dice.one_of(&[libc::ECONNRESET, libc::EPIPE]);
            return self.complete(handle, OpKind::Send, refused(errno));
        }
        let len = if short { 1 + self.dice.below(u64::from(to - from)) as u32 } else { to - from };
        let bytes = self.send_bytes[buffer.0 as usize][from as usize..(from + len) as usize].into();
        let latency_ns = self.dice.within(&self.servers[peer].script.network_ns);
        let Some(socket) = self.socket(slot, conn) else { return };
        socket.arrives_there_ns = socket.arrives_there_ns.max(now_ns + latency_ns);
        let at_ns = socket.arrives_there_ns;
        self.push(at_ns, Event::ToServer { peer, conn, bytes });
        self.complete(handle, OpKind::Send, Ok(len));
    }

    fn cancel(&mut self, handle: Handle, kind: OpKind) {
        let now_ns = self.now_ns();
        let late = self.mood(|k| k.late_cancel);
        let mut sent = None;
        let found = match self.sockets[handle.slot as usize].as_mut() {
            None => false,
            Some(socket) => match kind {
                OpKind::Connect => socket.connecting.take().is_some(),
                OpKind::Receive => socket.receiving.take().is_some(),
                OpKind::Send => {
                    sent = socket.sending.take().map(|(_, buffer, ..)| buffer);
                    sent.is_some()
                }
                OpKind::Cancel | OpKind::Finish | OpKind::Close => false,
            },
        };
        if let Some(buffer) = sent {
            self.sent.insert((handle.slot, handle.generation), buffer);
        }
        let (mut op_ns, mut cancel_ns) = (now_ns, now_ns);
        if late {
            op_ns += self.dice.below(10_000_000);
            cancel_ns += self.dice.below(50_000_000);
        }
        let completion =
            |kind, result| Completion { handle, kind, result, more: false, buffer: None };
        if found {
            self.push(op_ns, Event::Post(completion(kind, refused(libc::ECANCELED))));
        }
        let result = match (found, late) {
            (true, false) => Ok(0),
            (true, true) => refused(libc::EALREADY),
            (false, _) => refused(libc::ENOENT),
        };
        self.push(cancel_ns, Event::Post(completion(OpKind::Cancel, result)));
    }

    /// Hands what has come in to an armed receive, as far as buffers and moods go.
    fn pump(&mut self, slot: u32, conn: u64) {
        let now_ns = self.now_ns();
        loop {
            let Some(socket) = self.sockets[slot as usize].as_mut().filter(|s| s.conn == conn)
            else {
                return;
            };
            let Some(handle) = socket.receiving else { return };
            let (waiting, end) = (socket.inbound.len(), socket.end);
            if waiting == 0 {
                let Some(end) = end else { return };
                socket.receiving = None;
                let result = if end == End::Reset { refused(libc::ECONNRESET) } else { Ok(0) };
                return self.complete(handle, OpKind::Receive, result);
            }
            let starved = self.mood(|k| k.enobufs) || self.recv_free.is_empty();
            let last = self.mood(|k| k.ends);
            let split = self.mood(|k| k.split);
            let most = waiting.min(self.config.ring.recv_buffer_bytes as usize);
            let len = if split { 1 + self.dice.below(most as u64) as usize } else { most };
            let Some(socket) = self.sockets[slot as usize].as_mut() else { return };
            if starved {
                socket.receiving = None;
                return self.complete(handle, OpKind::Receive, refused(libc::ENOBUFS));
            }
            let Some(buffer) = self.recv_free.pop() else { return };
            let bytes = &mut self.recv_bytes[usize::from(buffer.0)];
            bytes.iter_mut().zip(socket.inbound.drain(..len)).for_each(|(to, from)| *to = from);
            if last {
                socket.receiving = None;
            }
            self.fresh.push(Completion {
                handle,
                kind: OpKind::Receive,
                result: Ok(len as u32),
                more: !last,
                buffer: Some(buffer),
            });
            if split && self.dice.chance(0.5) {
                let at_ns = now_ns + self.dice.below(2_000_000);
                return self.push(at_ns, Event::Pump { slot, conn });
            }
        }
    }

    /// Sends bytes, an end, or both to the client, after all that was sent before.
    fn deliver(&mut self, slot: u32, conn: u64, bytes: Vec<u8>, end: Option<End>) {
        let now_ns = self.now_ns();
        let Some(socket) = self.socket(slot, conn) else { return };
        let peer = socket.peer;
        let latency_ns = self.dice.within(&self.servers[peer].script.network_ns);
        let Some(socket) = self.socket(slot, conn) else { return };
        socket.arrives_here_ns = socket.arrives_here_ns.max(now_ns + latency_ns);
        let at_ns = socket.arrives_here_ns;
        self.push(at_ns, Event::ToClient { slot, conn, bytes, end });
    }

    fn arrived(&mut self, slot: u32, conn: u64, bytes: &[u8], end: Option<End>) {
        let Some(socket) = self.socket(slot, conn) else { return };
        socket.inbound.extend(bytes);
        if socket.end != Some(End::Reset) {
            socket.end = end.or(socket.end);
        }
        if end == Some(End::Reset) {
            socket.inbound.clear();
        }
        self.pump(slot, conn);
    }

    fn leave_server(&mut self, peer: usize, conn: u64, bytes: Vec<u8>, then: Then) {
        let now_ns = self.now_ns();
        let Some(slot) = self.servers[peer].conns.get(&conn).map(|c| c.slot) else { return };
        // A frozen process does not send either.
        let thawed_ns = self.servers[peer].script.done_ns(now_ns, 0);
        if thawed_ns > now_ns {
            return self.push(thawed_ns, Event::FromServer { peer, conn, bytes, then });
        }
        let end = match then {
            Then::Wait => None,
            Then::Free => {
                let answer = self.servers[peer].free(conn);
                let idle_ns = self.servers[peer].script.idle_ns;
                if idle_ns > 0 {
                    self.push(now_ns + idle_ns, Event::Idle { peer, conn, answer });
                }
                None
            }
            Then::Finish => Some(End::Finish),
            Then::Reset => Some(End::Reset),
        };
        self.deliver(slot, conn, bytes, end);
        if end.is_some() {
            self.servers[peer].conns.remove(&conn);
        }
    }

    fn run(&mut self, event: Event) {
        let now_ns = self.now_ns();
        match event {
            Event::Connected { slot, conn, errno } => self.connected(slot, conn, errno),
            Event::Sent { slot, conn } => self.send(slot, conn),
            Event::ToServer { peer, conn, bytes } => {
                let faults = self.faults(peer);
                let outs = self.servers[peer].take(conn, &bytes, now_ns, &faults, &mut self.dice);
                for Out { at_ns, bytes, then, over } in outs {
                    let conn = over.unwrap_or(conn);
                    self.push(at_ns, Event::FromServer { peer, conn, bytes, then });
                }
            }
            Event::GoneFromServer { peer, conn, politely } => {
                let gone = self.servers.get_mut(peer).and_then(|s| s.conns.remove(&conn));
                if politely && let Some(gone) = gone {
                    self.deliver(gone.slot, conn, Vec::new(), Some(End::Finish));
                }
            }
            Event::FromServer { peer, conn, bytes, then } => {
                self.leave_server(peer, conn, bytes, then);
            }
            Event::ToClient { slot, conn, bytes, end } => self.arrived(slot, conn, &bytes, end),
            Event::Pump { slot, conn } => self.pump(slot, conn),
            Event::Post(completion) => self.fresh.push(completion),
            Event::Drop { .. } if now_ns >= self.config.heal_ns => {}
            Event::Drop { peer, conn, end } => self.hang_up(peer, conn, end),
            Event::Idle { peer, conn, answer } => {
                if self.servers[peer].is_idle_since(conn, answer) {
                    self.hang_up(peer, conn, End::Finish);
                }
            }
            Event::Kill { peer } => {
                for (conn, gone) in self.servers[peer].kill() {
                    let end = if self.dice.chance(0.7) { End::Reset } else { End::Finish };
                    self.deliver(gone.slot, conn, Vec::new(), Some(end));
                }
            }
        }
    }

    /// A server ends a connection.
    fn hang_up(&mut self, peer: usize, conn: u64, end: End) {
        if let Some(gone) = self.servers[peer].conns.remove(&conn) {
            self.deliver(gone.slot, conn, Vec::new(), Some(end));
        }
    }

    /// Runs what has happened by now.
    pub fn run_until_now(&mut self) {
        while self.events.peek().is_some_and(|Reverse(e)| e.at_ns <= self.now_ns()) {
            if let Some(Reverse(Timed { event, .. })) = self.events.pop() {
                self.run(event);
            }
        }
    }

    /// Whether a completion ends a wait; without send buffers, any does.
    pub fn is_awaited(&self, c: &Completion, starved: bool) -> bool {
        let quiet = self.quiet.contains(&(c.handle.slot, c.handle.generation));
        starved || c.kind != OpKind::Send || !quiet
    }

    fn has_awaited(&self, starved: bool) -> bool {
        self.fresh.iter().any(|c| self.is_awaited(c, starved))
    }

    /// Lets time pass until something completes that ends a wait, for `wait_ns` at most.
    pub fn wait(&mut self, wait_ns: u64, starved: bool) {
        let until_ns = self.now_ns() + wait_ns;
        while !self.has_awaited(starved) && self.now_ns() < until_ns {
            let next_ns = self.events.peek().map_or(u64::MAX, |Reverse(e)| e.at_ns);
            self.clock.advance_to(next_ns.min(until_ns));
            self.run_until_now();
        }
        if self.mood(|k| k.jump) {
            self.pass(100_000_000);
            self.run_until_now();
        }
    }

    /// Lets up to `most_ns` pass.
    pub fn pass(&mut self, most_ns: u64) {
        let by_ns = self.dice.below(most_ns);
        self.clock.advance_to(self.now_ns() + by_ns);
    }

    /// Puts completions into another order, those of one slot among themselves as they were, and
    /// adds some of uses that are gone.
    pub fn shuffle(&mut self, fresh: &mut Vec<Completion>) {
        for index in 1..fresh.len() {
            let mut at = index;
            while at > 0
                && fresh[at].handle.slot != fresh[at - 1].handle.slot
                && self.mood(|k| k.reorder)
            {
                fresh.swap(at, at - 1);
                at -= 1;
            }
        }
        if fresh.is_empty() || !self.mood(|k| k.stale) {
            return;
        }
        let slot = self.dice.below(self.generations.len() as u64) as u32;
        let Some(generation) = self.generations[slot as usize].checked_sub(1) else { return };
        let handle = Handle { slot, generation };
        let kinds = [OpKind::Connect, OpKind::Send, OpKind::Receive, OpKind::Cancel, OpKind::Close];
        let kind = self.dice.one_of(&kinds);
        let mut stale =
            Completion { handle, kind, result: Ok(1), more: self.dice.chance(0.5), buffer: None };
        if kind == OpKind::Receive {
            stale.buffer = self.recv_free.pop();
        }
        fresh.push(stale);
    }
}
