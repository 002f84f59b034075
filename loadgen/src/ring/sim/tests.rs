//! The simulator sees each breach of the contract, and carries bytes when there is none.

use super::*;
use crate::clock::Clock;
use crate::ring::Family;
use std::net::SocketAddr;

const MS: u64 = 1_000_000;
const HANDLE: Handle = Handle { slot: 0, generation: 0 };
const ANY: Source = Source { bind: None, family: Family::V4 };

fn ring() -> SimRing {
    let config = SimConfig {
        ring: RingConfig {
            slots: 2,
            entries: 8,
            recv_buffers: 2,
            recv_buffer_bytes: 64,
            send_buffers: 2,
            send_buffer_bytes: 256,
        },
        seed: 1,
        kernel: Kernel::default(),
        scripts: vec![Script::healthy(Speaks::Plain)],
        heal_ns: 0,
    };
    let mut ring = SimRing::new(config, SimClock::new(1, 1));
    ring.add_peer(&SocketAddr::from(([127, 0, 0, 1], 80)).into());
    ring
}

fn push(ring: &mut SimRing, op: Op) {
    ring.push(HANDLE, op).expect("there is room");
}

/// Completions within 10 ms.
fn reap(ring: &mut SimRing) -> Vec<Completion> {
    ring.enter(10 * MS).expect("it can be entered");
    std::iter::from_fn(|| ring.pop()).collect()
}

fn connected() -> SimRing {
    let mut ring = ring();
    ring.open(0, ANY).expect("it opens");
    push(&mut ring, Op::Connect(Peer(0)));
    let done = reap(&mut ring);
    assert!(matches!(done[..], [Completion { kind: OpKind::Connect, result: Ok(0), .. }]));
    ring
}

fn request(ring: &mut SimRing) -> Op {
    let buffer = ring.take_send_buffer().expect("a buffer is free");
    let text = b"GET / HTTP/1.1\r\n\r\n";
    ring.send_bytes_mut(buffer)[..text.len()].copy_from_slice(text);
    Op::Send { buffer, from: 0, to: text.len() as u32 }
}

#[test]
fn a_request_is_answered_and_all_comes_home() {
    let mut ring = connected();
    push(&mut ring, Op::Receive);
    let send = request(&mut ring);
    push(&mut ring, send);
    let (mut text, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        for c in reap(&mut ring) {
            seen.push(c.kind);
            if let (Some(buffer), Ok(len)) = (c.buffer, c.result) {
                text.extend_from_slice(ring.received(buffer, len));
                ring.recycle(buffer);
            }
        }
    }
    assert!(text.starts_with(b"HTTP/1.1 200") && text.ends_with(b"hello\""));
    // 64 bytes a buffer.
    assert!(seen.iter().filter(|&&k| k == OpKind::Receive).count() > 1, "{seen:?}");
    if let Op::Send { buffer, .. } = send {
        ring.release(buffer);
    }
    for op in [Op::Cancel(OpKind::Receive), Op::Close] {
        push(&mut ring, op);
    }
    reap(&mut ring);
    reap(&mut ring);
    ring.assert_all_home();
}

#[test]
fn time_passes_only_as_asked() {
    let clock = SimClock::new(5, 1);
    assert_eq!((clock.now_ns(), clock.now_ns(), clock.peek_ns()), (6, 7, 7));
    let mut ring = ring();
    ring.enter(3 * MS).expect("it can be entered");
    assert_eq!(ring.net.now_ns(), 1 + 3 * MS);
}

#[test]
#[should_panic(expected = "the slot is not open")]
fn an_operation_on_a_closed_slot() {
    push(&mut ring(), Op::Connect(Peer(0)));
}

#[test]
#[should_panic(expected = "a second one while one is under way")]
fn two_sends_at_one_time() {
    let mut ring = connected();
    let (one, two) = (request(&mut ring), request(&mut ring));
    push(&mut ring, one);
    push(&mut ring, two);
}

#[test]
#[should_panic(expected = "not the caller's buffer")]
fn a_send_from_a_buffer_that_was_released() {
    let mut ring = connected();
    let send = request(&mut ring);
    if let Op::Send { buffer, .. } = send {
        ring.release(buffer);
    }
    push(&mut ring, send);
}

#[test]
#[should_panic(expected = "is released by who does not own it")]
fn a_buffer_released_while_it_is_sent() {
    let mut ring = connected();
    let send = request(&mut ring);
    push(&mut ring, send);
    if let Op::Send { buffer, .. } = send {
        ring.release(buffer);
    }
}

#[test]
#[should_panic(expected = "is recycled by who does not own it")]
fn a_receive_buffer_recycled_twice() {
    ring().recycle(RecvBuffer(0));
}

#[test]
#[should_panic(expected = "would hold the socket open")]
fn a_close_that_leaves_a_receive_behind() {
    let mut ring = connected();
    push(&mut ring, Op::Receive);
    push(&mut ring, Op::Close);
}

#[test]
#[should_panic(expected = "its last use is not over")]
fn a_slot_opened_before_its_last_completion_was_read() {
    let mut ring = connected();
    push(&mut ring, Op::Close);
    ring.enter(0).expect("it can be entered");
    let _ = ring.open(0, ANY);
}

#[test]
#[should_panic(expected = "generation used again")]
fn a_generation_that_was_used_before() {
    let mut ring = connected();
    push(&mut ring, Op::Close);
    reap(&mut ring);
    ring.open(0, ANY).expect("it opens");
    push(&mut ring, Op::Connect(Peer(0)));
}

#[test]
#[should_panic(expected = "spins without doing or awaiting anything")]
fn a_caller_that_spins() {
    let mut ring = ring();
    for _ in 0..2_000 {
        ring.net.pass(2_000);
        ring.enter(0).expect("it can be entered");
    }
}

#[test]
#[should_panic(expected = "a send buffer is not home")]
fn a_buffer_that_is_kept() {
    let mut ring = ring();
    ring.take_send_buffer();
    ring.assert_all_home();
}
