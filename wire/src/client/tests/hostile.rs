//! Peers that break the protocol, and the bounds that hold against them.

use proptest::prelude::*;

use super::*;

#[test]
fn broken_http_closes_the_connection() {
    for (text, expected, status) in [
        ("SSH-2.0-OpenSSH\r\n", Violation::MalformedHttp, 0),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Violation::UnexpectedUpgrade, 101),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", Violation::MalformedChunk, 200),
    ] {
        let (events, mut peer) = play(Expectation::new(Purpose::Plain, ID), text, false);
        assert_eq!(events, [violation(expected, status), Event::Closed], "{text}");
        assert_eq!(peer.feed(b"more of it", 3), [], "nothing means anything any more");
        assert_eq!(peer.exchange.expect(request()), Err(Busy));
        assert!(peer.spill.is_empty());
    }
}

#[test]
fn bytes_that_nobody_asked_for_are_an_event() {
    let mut peer = Peer::http(request());
    let events = peer.feed(with_length(JSON, ANSWER).as_bytes(), 4000);
    assert_eq!(events[1], Event::Idle);
    let events = peer.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n", 5);
    let reply = Reply::Violation(Violation::Unsolicited);
    assert_eq!(events, [Event::Unsolicited { id: None, reply }, Event::Closed]);
    // Two answers to one request.
    let twice = with_length(JSON, ANSWER).repeat(2);
    let (events, _) = play(request(), &twice, false);
    assert_eq!(events[2], Event::Unsolicited { id: None, reply });
}

#[test]
fn an_event_without_an_end_is_cut_off() {
    for line in ["data: ", "id: ", "retry: ", ": ", "other: "] {
        let endless = format!("{SSE}{}", chunked(&[&(line.to_owned() + &"1".repeat(100))]));
        let cut = streamed(Reply::Violation(Violation::MessageTooLong));
        let events = |expected| {
            let mut peer = Peer::http(expected);
            peer.limits.message_bytes = 50;
            peer.feed(endless.as_bytes(), 40)
        };
        assert_eq!(events(request()), [cut, Event::Closed], "{line} instead of an answer");
        assert_eq!(events(stream()), [Event::StreamOpen, cut, Event::Closed], "{line} on a stream");
    }
}

#[test]
fn a_peer_that_never_answers_but_talks_is_cut_off() {
    let mut peer = Peer::http(request());
    peer.limits.messages_per_answer = 3;
    let note = format!("data: {PROGRESS}\n\n").repeat(4);
    let events = peer.feed(format!("{SSE}{}", chunked(&[&note])).as_bytes(), 40);
    let many = streamed(Reply::Violation(Violation::TooManyMessages));
    assert_eq!(events.len(), 5);
    assert_eq!(events[3], many);
    assert_eq!(events[4], Event::Closed);
    // On an open stream any number is fine.
    let mut peer = Peer::http(stream());
    peer.limits.messages_per_answer = 3;
    let events = peer.feed(format!("{SSE}{}", chunked(&[&note])).as_bytes(), 40);
    assert_eq!(events.len(), 7);
    let mut peer = Peer::http(request());
    peer.limits.message_bytes = 20;
    let events = peer.feed(with_length(JSON, ANSWER).as_bytes(), 9);
    assert_eq!(events, [violation(Violation::MessageTooLong, 200), Event::Closed]);
}

#[test]
fn the_state_stays_small() {
    assert!(size_of::<Exchange>() <= 192, "{}", size_of::<Exchange>());
    assert!(size_of::<Event>() <= 32, "{}", size_of::<Event>());
    assert!(size_of::<Expectation>() <= 16, "{}", size_of::<Expectation>());
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_nor_grow_anything(
        start in prop::sample::select(vec![
            "", SSE, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 70\r\n\r\n",
        ]),
        parts in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(vec![
                "\r\n", "\n\n", "data: ", "id: ", "event: endpoint\n", "5\r\n", "0\r\n\r\n", "{}",
                ANSWER, PROGRESS, "4000\r\n", "HTTP/1.1 200 OK\r\n", ":", "\u{e9}", "[", "\"", "\0",
            ]).prop_map(|part| part.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ], 0..30),
        purpose in prop::sample::select(vec![
            Purpose::Plain, Purpose::Request, Purpose::Initialize, Purpose::Notification,
            Purpose::Stream, Purpose::Listen, Purpose::Delete,
        ]),
        size in 1usize..60,
        line in any::<bool>(),
        stateless in any::<bool>(),
    ) {
        let text = [start.as_bytes(), &parts.concat()].concat();
        let expectation = Expectation { stateless, ..for_purpose(purpose) };
        let run = |size| {
            let exchange = if line { Exchange::line() } else { Exchange::http() };
            let mut peer = Peer::new(exchange, expectation);
            let mut events = peer.feed(&text, size);
            let limits = Limits::default();
            assert!(peer.spill.len() <= limits.head_bytes + 1);
            assert!(peer.last_event.len() <= limits.event_id_bytes);
            events.extend(peer.exchange.eof());
            assert_eq!(peer.exchange.eof(), None, "once");
            events
        };
        let events = run(size);
        prop_assert_eq!(&events, &run(text.len().max(1)), "{}", String::from_utf8_lossy(&text));
        let answers = events.iter().filter(|event| matches!(event, Event::Answer(_))).count();
        prop_assert!(answers <= 1);
    }
}
