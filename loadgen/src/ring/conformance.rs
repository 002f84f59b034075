//! One set of expectations that every ring against a real peer has to meet: the worker, and the
//! simulator that it is tested on, rely on nothing else.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::{
    Completion, EpollRing, Errno, Family, GENERATIONS, Handle, KernelRing, Op, OpKind, Peer, Ring,
    RingConfig, Source, try_io_uring,
};
use crate::clock::{Clock, Monotonic};

const CONFIG: RingConfig = RingConfig {
    slots: 8,
    entries: 16,
    recv_buffers: 8,
    recv_buffer_bytes: 256,
    send_buffers: 2,
    send_buffer_bytes: 8 << 20,
};

/// Not the first slot and not a small generation, so that an echo of something else shows.
const HANDLE: Handle = Handle { slot: 5, generation: GENERATIONS - 3 };
const ANY: Source = Source { bind: None, family: Family::V4 };

/// Runs a scenario on each ring that works here.
macro_rules! on_every_ring {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test]
            fn $name() {
                match super::try_io_uring() {
                    Ok(()) => super::$name(&mut super::Rig::new(super::KernelRing::new)),
                    Err(e) => eprintln!("SKIPPED, io_uring does not work here: {e}"),
                }
            })*
        }
        mod epoll {
            $(#[test]
            fn $name() {
                super::$name(&mut super::Rig::new(super::EpollRing::new));
            })*
        }
    };
}

on_every_ring!(
    a_connection_is_made_and_refused,
    bytes_go_both_ways_in_pieces,
    the_peers_end_and_reset_are_told_apart,
    a_cancelled_receive_ends_and_can_be_armed_again,
    a_cancelled_connect_ends,
    nothing_under_way_cannot_be_cancelled,
    close_resets,
    finish_leaves_the_other_direction_open,
    without_receive_buffers_a_receive_ends_and_recovers,
    a_long_send_is_short_then_waits_then_goes_on,
    a_quiet_send_is_through_before_its_answer_or_says_how_far_it_came,
    a_slot_is_used_again_with_another_generation,
    a_wait_ends_by_itself,
    what_is_foreseen_ends_a_wait_and_nothing_else,
    many_sockets_are_all_served,
    sources_are_bound,
);

/// A ring and a listener.
struct Rig<R> {
    ring: R,
    listener: TcpListener,
    peer: Peer,
}

impl<R: Ring> Rig<R> {
    fn new(engine: fn(&RingConfig) -> io::Result<R>) -> Self {
        let mut ring = engine(&CONFIG).expect("a small ring");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listener");
        let peer = ring.add_peer(&listener.local_addr().expect("address").into());
        Self { ring, listener, peer }
    }

    fn push(&mut self, handle: Handle, op: Op) {
        self.ring.push(handle, op).expect("the queue has room");
    }

    /// The next completion that is not a cancel's own; fails instead of waiting for ever.
    fn next(&mut self) -> Completion {
        for _ in 0..10 {
            while let Some(completion) = self.ring.pop() {
                if completion.kind != OpKind::Cancel {
                    return completion;
                }
            }
            self.ring.enter(1_000_000_000).expect("enter");
        }
        panic!("nothing completes");
    }

    /// The next completion, which must be of this operation.
    fn expect(&mut self, handle: Handle, kind: OpKind) -> Completion {
        let completion = self.next();
        assert_eq!((completion.handle, completion.kind), (handle, kind), "{completion:?}");
        completion
    }

    fn one(&mut self, handle: Handle, op: Op) -> Result<u32, Errno> {
        self.push(handle, op);
        let completion = self.expect(handle, op.kind());
        assert!(!completion.more);
        completion.result
    }

    fn connected(&mut self, handle: Handle) -> TcpStream {
        self.ring.open(handle.slot, ANY).expect("open");
        assert_eq!(self.one(handle, Op::Connect(self.peer)), Ok(0));
        let (stream, _) = self.listener.accept().expect("accept");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    /// Bytes of the next receive; its buffer goes back.
    fn received(&mut self, handle: Handle) -> Result<Vec<u8>, Errno> {
        let completion = self.expect(handle, OpKind::Receive);
        let Ok(len) = completion.result else {
            assert!(completion.buffer.is_none() && !completion.more);
            return Err(completion.result.expect_err("an error"));
        };
        assert_eq!(completion.more, len > 0, "a receive goes on until there is nothing to come");
        let Some(buffer) = completion.buffer else { return Ok(Vec::new()) };
        let bytes = self.ring.received(buffer, len).to_vec();
        self.ring.recycle(buffer);
        Ok(bytes)
    }

    fn received_all(&mut self, handle: Handle, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let piece = self.received(handle).expect("bytes");
            assert!(!piece.is_empty(), "the peer has not finished");
            all.extend(piece);
        }
        all
    }

    /// Nothing completes in a moment that would be long enough for it.
    fn silent(&mut self) {
        self.ring.enter(20_000_000).expect("enter");
        while let Some(completion) = self.ring.pop() {
            assert_eq!(completion.kind, OpKind::Cancel, "{completion:?}");
        }
    }
}

/// Bytes in which every position is recognisable.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn a_connection_is_made_and_refused<R: Ring>(rig: &mut Rig<R>) {
    let stream = rig.connected(HANDLE);
    assert!(stream.peer_addr().expect("peer").ip().is_loopback());
    // A port that was just free has no listener.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listener");
    let nobody = rig.ring.add_peer(&free.local_addr().expect("address").into());
    drop(free);
    let other = Handle { slot: 0, generation: 1 };
    rig.ring.open(0, ANY).expect("open");
    assert_eq!(rig.one(other, Op::Connect(nobody)), Err(Errno(libc::ECONNREFUSED)));
    assert_eq!(rig.one(other, Op::Close), Ok(0));
}

fn bytes_go_both_ways_in_pieces<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    let buffer = rig.ring.take_send_buffer().expect("buffer");
    rig.ring.send_bytes_mut(buffer)[..11].copy_from_slice(b"hello world");
    assert_eq!(rig.one(HANDLE, Op::Send { buffer, from: 0, to: 6 }), Ok(6));
    assert_eq!(rig.one(HANDLE, Op::Send { buffer, from: 6, to: 11 }), Ok(5));
    rig.ring.release(buffer);
    let mut got = [0; 11];
    stream.read_exact(&mut got).expect("the request");
    assert_eq!(&got, b"hello world");

    rig.push(HANDLE, Op::Receive);
    for piece in [&b"a"[..], b"bcd", b"e"] {
        stream.write_all(piece).expect("write");
        assert_eq!(rig.received(HANDLE).as_deref(), Ok(piece));
    }
    // Longer than a buffer, and shorter than all of them.
    let long = pattern(CONFIG.recv_buffer_bytes as usize * 4 + 7);
    stream.write_all(&long).expect("write");
    assert_eq!(rig.received_all(HANDLE, long.len()), long);
}

fn the_peers_end_and_reset_are_told_apart<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    stream.write_all(b"last words").expect("write");
    drop(stream);
    assert_eq!(rig.received_all(HANDLE, 10), b"last words");
    assert_eq!(rig.received(HANDLE), Ok(Vec::new()));

    let other = Handle { slot: 1, generation: 9 };
    let stream = rig.connected(other);
    rig.push(other, Op::Receive);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(stream);
    assert_eq!(rig.received(other), Err(Errno(libc::ECONNRESET)));
    let buffer = rig.ring.take_send_buffer().expect("buffer");
    assert_eq!(
        rig.one(other, Op::Send { buffer, from: 0, to: 1 }),
        Err(Errno(libc::EPIPE)),
        "and no signal"
    );
}

fn a_cancelled_receive_ends_and_can_be_armed_again<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    stream.write_all(b"one").expect("write");
    assert_eq!(rig.received(HANDLE).as_deref(), Ok(&b"one"[..]));
    rig.push(HANDLE, Op::Cancel(OpKind::Receive));
    assert_eq!(rig.received(HANDLE), Err(Errno(libc::ECANCELED)));
    stream.write_all(b"two").expect("write");
    rig.silent();
    rig.push(HANDLE, Op::Receive);
    assert_eq!(rig.received(HANDLE).as_deref(), Ok(&b"two"[..]));
}

fn a_cancelled_connect_ends<R: Ring>(rig: &mut Rig<R>) {
    // A listener that is full drops further SYNs: the connect stays under way.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    listener.bind(&any.into()).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("address");
    let _first = TcpStream::connect(address.as_socket().expect("inet")).expect("the one place");
    let full = rig.ring.add_peer(&address.as_socket().expect("inet").into());
    rig.ring.open(HANDLE.slot, ANY).expect("open");
    rig.push(HANDLE, Op::Connect(full));
    rig.silent();
    rig.push(HANDLE, Op::Cancel(OpKind::Connect));
    let ended = rig.expect(HANDLE, OpKind::Connect);
    assert_eq!(ended.result, Err(Errno(libc::ECANCELED)));
    assert_eq!(rig.one(HANDLE, Op::Close), Ok(0));
}

fn nothing_under_way_cannot_be_cancelled<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    let stale = Handle { generation: HANDLE.generation - 1, ..HANDLE };
    for (handle, kind) in [(HANDLE, OpKind::Send), (stale, OpKind::Receive)] {
        rig.push(handle, Op::Cancel(kind));
        rig.ring.enter(1_000_000_000).expect("enter");
        let completion = rig.ring.pop().expect("the cancel's own completion");
        assert_eq!((completion.handle, completion.kind), (handle, OpKind::Cancel));
        assert_eq!(completion.result, Err(Errno(libc::ENOENT)));
    }
    stream.write_all(b"still here").expect("write");
    assert_eq!(rig.received(HANDLE).as_deref(), Ok(&b"still here"[..]));
}

fn close_resets<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    rig.push(HANDLE, Op::Cancel(OpKind::Receive));
    rig.push(HANDLE, Op::Close);
    let ended: BTreeSet<u8> = (0..2)
        .map(|_| {
            let completion = rig.next();
            assert_eq!(completion.handle, HANDLE);
            let expected = match completion.kind {
                OpKind::Receive => Err(Errno(libc::ECANCELED)),
                _ => Ok(0),
            };
            assert_eq!(completion.result, expected);
            completion.kind as u8
        })
        .collect();
    assert_eq!(ended, BTreeSet::from([OpKind::Receive as u8, OpKind::Close as u8]));
    let error = stream.read(&mut [0; 8]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.one(HANDLE, Op::Close), Err(Errno(libc::EBADF)), "the slot is empty");
}

fn finish_leaves_the_other_direction_open<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    assert_eq!(rig.one(HANDLE, Op::Finish), Ok(0));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end, not a reset");
    stream.write_all(b"bye").expect("write");
    assert_eq!(rig.received(HANDLE).as_deref(), Ok(&b"bye"[..]));
    drop(stream);
    assert_eq!(rig.received(HANDLE), Ok(Vec::new()));
}

fn without_receive_buffers_a_receive_ends_and_recovers<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    let total = u32::from(CONFIG.recv_buffers) * CONFIG.recv_buffer_bytes * 2;
    stream.write_all(&pattern(total as usize)).expect("write");
    rig.push(HANDLE, Op::Receive);
    let (mut held, mut all) = (Vec::new(), Vec::new());
    let last = loop {
        let completion = rig.expect(HANDLE, OpKind::Receive);
        let Ok(len) = completion.result else { break completion };
        let buffer = completion.buffer.expect("bytes come in a buffer");
        all.extend_from_slice(rig.ring.received(buffer, len));
        held.push(buffer);
    };
    assert_eq!(last.result, Err(Errno(libc::ENOBUFS)));
    assert!(!last.more && last.buffer.is_none());
    assert_eq!(held.len(), usize::from(CONFIG.recv_buffers));
    assert_eq!(rig.ring.recv_buffers_free(), 0);
    for buffer in held {
        rig.ring.recycle(buffer);
    }
    assert_eq!(rig.ring.recv_buffers_free(), u32::from(CONFIG.recv_buffers));
    // The rest again exhausts the buffers if it is read faster than they come back: armed again
    // each time, as the worker does.
    rig.push(HANDLE, Op::Receive);
    while all.len() < total as usize {
        match rig.received(HANDLE) {
            Ok(piece) => all.extend(piece),
            Err(Errno(libc::ENOBUFS)) => rig.push(HANDLE, Op::Receive),
            Err(e) => panic!("{e:?}"),
        }
    }
    assert_eq!(all, pattern(total as usize), "nothing lost and nothing twice");
}

fn a_long_send_is_short_then_waits_then_goes_on<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    let to = CONFIG.send_buffer_bytes;
    let buffer = rig.ring.take_send_buffer().expect("buffer");
    rig.ring.send_bytes_mut(buffer).copy_from_slice(&pattern(to as usize));
    // The peer does not read: the kernel takes what it has room for, and then nothing.
    let mut from = 0;
    loop {
        rig.push(HANDLE, Op::Send { buffer, from, to });
        rig.push(HANDLE, Op::Cancel(OpKind::Send));
        match rig.expect(HANDLE, OpKind::Send).result {
            Ok(len) => from += len,
            Err(errno) => break assert_eq!(errno, Errno(libc::ECANCELED)),
        }
        assert!(from < to, "the peer reads nothing");
    }
    assert!(from > 0, "something was sent");
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; to as usize];
        stream.read_exact(&mut all).expect("all of it");
        (all, stream)
    });
    while from < to {
        from += rig.one(HANDLE, Op::Send { buffer, from, to }).expect("sent");
    }
    let (all, _stream) = reader.join().expect("reader");
    assert!(all == pattern(to as usize), "nothing lost and nothing twice");
}

fn a_quiet_send_is_through_before_its_answer_or_says_how_far_it_came<R: Ring>(rig: &mut Rig<R>) {
    let mut stream = rig.connected(HANDLE);
    rig.push(HANDLE, Op::Receive);
    let to = CONFIG.send_buffer_bytes;
    let buffer = rig.ring.take_send_buffer().expect("buffer");
    rig.ring.send_bytes_mut(buffer).copy_from_slice(&pattern(to as usize));
    let quiet = |rig: &mut Rig<R>, from, to| {
        rig.ring.push_quiet(HANDLE, Op::Send { buffer, from, to }).expect("the queue has room");
    };
    quiet(rig, 0, 6);
    rig.ring.enter(0).expect("enter");
    let mut first = [0; 6];
    stream.read_exact(&mut first).expect("all of it");
    stream.write_all(b"answer").expect("write");
    let through = rig.expect(HANDLE, OpKind::Send);
    assert_eq!((through.result, through.more), (Ok(6), false));
    assert_eq!(rig.received(HANDLE), Ok(b"answer".to_vec()));
    // What the kernel has no room for, it says; what it has none at all for waits as any other.
    quiet(rig, 6, to);
    let mut from = 6 + rig.expect(HANDLE, OpKind::Send).result.expect("some of it");
    assert!(from < to, "the peer reads nothing");
    quiet(rig, from, to);
    rig.ring.enter(0).expect("enter");
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; to as usize - 6];
        stream.read_exact(&mut all).expect("all of it");
        (all, stream)
    });
    from += rig.expect(HANDLE, OpKind::Send).result.expect("sent");
    while from < to {
        quiet(rig, from, to);
        from += rig.expect(HANDLE, OpKind::Send).result.expect("sent");
    }
    let (rest, _stream) = reader.join().expect("reader");
    assert!([&first[..], &rest].concat() == pattern(to as usize), "nothing lost, nothing twice");
    // The peer is gone: a failure comes of itself.
    let gone = Handle { slot: 3, ..HANDLE };
    drop(rig.connected(gone));
    let failed = (0..100).any(|_| {
        let send = Op::Send { buffer, from: 0, to: 6 };
        rig.ring.push_quiet(gone, send).expect("the queue has room");
        rig.expect(gone, OpKind::Send).result.is_err()
    });
    assert!(failed, "sending to nobody");
}

fn a_slot_is_used_again_with_another_generation<R: Ring>(rig: &mut Rig<R>) {
    for generation in [GENERATIONS - 1, 0, 1] {
        let handle = Handle { generation, ..HANDLE };
        let mut stream = rig.connected(handle);
        rig.push(handle, Op::Receive);
        stream.write_all(&[generation as u8; 3]).expect("write");
        assert_eq!(rig.received(handle), Ok(vec![generation as u8; 3]));
        // What the peer sent and nobody read does not reach the next user of the slot.
        rig.push(handle, Op::Cancel(OpKind::Receive));
        assert_eq!(rig.received(handle), Err(Errno(libc::ECANCELED)));
        stream.write_all(b"unread").expect("write");
        assert_eq!(rig.one(handle, Op::Close), Ok(0));
    }
    rig.silent();
}

fn a_wait_ends_by_itself<R: Ring>(rig: &mut Rig<R>) {
    let began_ns = Monotonic.now_ns();
    rig.ring.enter(2_000_000).expect("enter");
    assert!(rig.ring.pop().is_none());
    assert!(Monotonic.now_ns() - began_ns >= 2_000_000, "a wait is a wait");
    // A shorter and a longer one after it, and none at all.
    for wait_ns in [1, 300_000, 5_000_000, 0] {
        rig.ring.enter(wait_ns).expect("enter");
        assert!(rig.ring.pop().is_none());
    }
    assert_eq!((rig.ring.stats().enters, rig.ring.stats().completions), (5, 0));
    // What is complete ends a wait, however long: this would outlast every patience.
    rig.ring.open(HANDLE.slot, ANY).expect("open");
    rig.push(HANDLE, Op::Close);
    rig.ring.enter(u64::MAX / 2).expect("enter");
    assert_eq!(rig.expect(HANDLE, OpKind::Close).result, Ok(0));
}

fn what_is_foreseen_ends_a_wait_and_nothing_else<R: Ring>(rig: &mut Rig<R>) {
    let handle = Handle { slot: 1, generation: 1 };
    let mut stream = rig.connected(handle);
    rig.push(handle, Op::Receive);
    let began_ns = Monotonic.now_ns();
    // More than are kept at one time, in any order, some twice, and one that has passed.
    for at_ms in [5, 3, 3, 1, 4, 2, 0, 6] {
        rig.ring.foresee(began_ns + at_ms * 1_000_000);
    }
    let until_ns = began_ns + 8_000_000;
    loop {
        let now_ns = Monotonic.now_ns();
        if now_ns >= until_ns {
            break;
        }
        rig.ring.enter(until_ns - now_ns).expect("enter");
        assert!(rig.ring.pop().is_none(), "nothing has completed");
    }
    stream.write_all(b"answer").expect("write");
    assert_eq!(rig.received(handle), Ok(b"answer".to_vec()));
}

fn many_sockets_are_all_served<R: Ring>(rig: &mut Rig<R>) {
    let handles: Vec<Handle> =
        (0..CONFIG.slots).map(|slot| Handle { slot, generation: 2 }).collect();
    let mut streams: Vec<TcpStream> = handles.iter().map(|h| rig.connected(*h)).collect();
    handles.iter().for_each(|h| rig.push(*h, Op::Receive));
    let mut wanted: Vec<usize> = Vec::new();
    for (index, stream) in streams.iter_mut().enumerate() {
        // The first has much more to say than the others.
        let len = if index == 0 { 64 * 1024 } else { 1 + index };
        stream.write_all(&pattern(len)).expect("write");
        wanted.push(len);
    }
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); handles.len()];
    while got.iter().zip(&wanted).any(|(g, w)| g.len() < *w) {
        let completion = rig.next();
        let slot = completion.handle.slot;
        match (completion.result, completion.buffer) {
            (Ok(len), Some(buffer)) => {
                got[slot as usize].extend_from_slice(rig.ring.received(buffer, len));
                rig.ring.recycle(buffer);
            }
            (result, _) => assert_eq!(result, Err(Errno(libc::ENOBUFS))),
        }
        if !completion.more {
            rig.push(handles[slot as usize], Op::Receive);
        }
    }
    assert!(got.iter().zip(&wanted).all(|(g, w)| *g == pattern(*w)));
}

fn sources_are_bound<R: Ring>(rig: &mut Rig<R>) {
    let free = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 77), 0)).expect("listener");
    let planned = free.local_addr().expect("address");
    let source = |bind| Source { bind: Some(bind), family: Family::V4 };
    // A listener has it: found out when the socket is bound, or (kernel 6.3) when it connects.
    match rig.ring.open(HANDLE.slot, source(planned)) {
        Err(taken) => assert_eq!(taken.kind(), ErrorKind::AddrInUse),
        Ok(()) => {
            let taken = rig.one(HANDLE, Op::Connect(rig.peer));
            assert_eq!(taken, Err(Errno(libc::EADDRNOTAVAIL)));
        }
    }
    drop(free);
    let mut connects = |slot, bind: SocketAddr| {
        let handle = Handle { slot, generation: 0 };
        rig.ring.open(slot, source(bind)).expect("open");
        let result = rig.one(handle, Op::Connect(rig.peer));
        assert!(matches!(result, Ok(0) | Err(Errno(libc::EADDRNOTAVAIL))), "{result:?}");
        result.is_ok().then(|| rig.listener.accept().expect("accept").1)
    };
    // Whoever on this host has bound the same port, at any address, keeps it for a while, and so does
    // a minute of TIME_WAIT (docs/journal/planned-ports.md).
    let planned = |_| {
        let free = TcpListener::bind((planned.ip(), 0)).expect("listener");
        free.local_addr().expect("address")
    };
    let pair = (0..500).map(planned).find_map(|bind| Some((bind, connects(0, bind)?)));
    let (bind, from) = pair.expect("one of many ports is free");
    assert_eq!(from, bind);
    let chosen = SocketAddr::new(bind.ip(), 0);
    let from = connects(1, chosen).expect("the kernel chooses a free one");
    assert_eq!(from.ip(), chosen.ip());
    assert!(rig.ring.open(CONFIG.slots, ANY).is_err(), "there is no such slot");
}

/// Not in the promise of a ring, but in that of epoll's: one turn serves everybody a little.
#[test]
fn a_fast_socket_does_not_keep_others_waiting() {
    let mut rig = Rig::new(EpollRing::new);
    let [fast, slow] = [0, 1].map(|slot| Handle { slot, generation: 0 });
    let (mut much, mut little) = (rig.connected(fast), rig.connected(slow));
    rig.push(fast, Op::Receive);
    rig.push(slow, Op::Receive);
    much.write_all(&pattern(64 * 1024)).expect("write");
    little.write_all(b"x").expect("write");
    let (mut served, mut fast_bytes) = (false, 0);
    while !served || fast_bytes < 64 * 1024 {
        rig.ring.enter(1_000_000_000).expect("enter");
        let mut buffers = 0;
        while let Some(completion) = rig.ring.pop() {
            let len = completion.result.expect("bytes");
            rig.ring.recycle(completion.buffer.expect("buffer"));
            served |= completion.handle == slow;
            if completion.handle == fast {
                buffers += 1;
                fast_bytes += len;
            }
        }
        assert!(buffers <= 8, "{buffers} buffers of one socket in one turn");
    }
}
