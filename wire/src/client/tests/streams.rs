//! Event streams: as answers, of a session, of a subscription, and of 2024-11-05.

use super::*;

#[test]
fn an_event_stream_answers_before_it_ends() {
    let event = format!("event: message\r\ndata: {ANSWER}\r\n\r\n");
    let mut peer = Peer::http(request());
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    assert_eq!(peer.feed(format!("{SSE}{chunk}").as_bytes(), 4000), [streamed(Reply::Ok)]);
    assert!(!peer.exchange.is_idle());
    assert_eq!(peer.exchange.expect(request()), Err(Busy), "the body has not ended");
    assert_eq!(peer.feed(b"0\r\n\r\n", 1), [Event::Idle]);
}

#[test]
fn an_event_stream_may_bring_much_before_the_answer() {
    let ask = r#"{"jsonrpc":"2.0","id":"a-1","method":"sampling/createMessage","params":{}}"#;
    let parts = [
        "id: 0/1\nretry: 3000\ndata: \n\n",
        ": ping - 2026-07-28\r\n\r\n",
        &format!("id: 0/2\nevent: message\ndata: {PROGRESS}\n\n"),
        &format!("data: {ask}\nid: 0/3\n\n"),
        // One message over two data lines.
        &format!("event: message\ndata: {}\ndata:{}\n\n", &ANSWER[..23], &ANSWER[23..]),
    ];
    let text = format!("{SSE}{}", chunked(&parts));
    let (events, peer) = play(request(), &text, false);
    let method = Method::Sampling;
    assert_eq!(
        events,
        [
            Event::StreamEvent,
            Event::Notification(Method::Progress),
            Event::ServerRequest { id: Id::Text, method },
            streamed(Reply::Ok),
            Event::Idle,
        ]
    );
    assert_eq!(peer.last_event, b"0/3");
    let mut peer = Peer::http(request());
    let end = text.find("0/3").unwrap() + 5;
    peer.feed(&text.as_bytes()[..end], 50);
    assert_eq!(peer.exchange.text(), br#""a-1""#, "to be repeated in the answer");
}

#[test]
fn an_event_stream_may_end_before_the_answer() {
    let text = format!("{SSE}{}", chunked(&["id: 5\ndata:\n\n", "id: 9\ndata: {\"jsonrpc\":"]));
    let (events, peer) = play(request(), &text, false);
    assert_eq!(events, [Event::StreamEvent, Event::Interrupted, Event::Idle]);
    assert_eq!(peer.last_event, b"5");
    let stateless = Expectation { stateless: true, ..request() };
    let (events, _) = play(stateless, &text, false);
    let cut = streamed(Reply::Violation(Violation::AnswerCutShort));
    assert_eq!(events, [Event::StreamEvent, cut, Event::Idle]);
    // The GET that resumes it brings the answer.
    let resume = Expectation { id: ID, ..stream() };
    let text = format!("{SSE}{}", chunked(&[&format!("id: 6\ndata: {ANSWER}\n\n")]));
    let (events, peer) = play(resume, &text, false);
    let ok = streamed(Reply::Ok);
    assert_eq!(events, [Event::StreamOpen, ok, Event::StreamEnd, Event::Idle]);
    assert_eq!(peer.last_event, b"6");
}

#[test]
fn a_session_stream_opens_brings_news_and_ends() {
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let ping = r#"{"method":"ping","jsonrpc":"2.0","id":0}"#;
    let parts = [
        ": hello\n\n",
        &format!("event: message\nid: 1\ndata: {changed}\n\n"),
        "event: message\ndata: oops\n\n",
        &format!("data: {ping}\n\n"),
        &format!("data: {ANSWER}\n\n"),
    ];
    let (events, peer) = play(stream(), &format!("{SSE}{}", chunked(&parts)), false);
    let reply = Reply::Violation(Violation::MalformedJson);
    assert_eq!(
        events,
        [
            Event::StreamOpen,
            Event::Notification(Method::ToolsChanged),
            Event::Unsolicited { id: None, reply },
            Event::ServerRequest { id: Id::Number(0), method: Method::Ping },
            Event::Unsolicited { id: Some(ID), reply: Reply::Ok },
            Event::StreamEnd,
            Event::Idle,
        ]
    );
    assert_eq!(peer.last_event, b"1");
    let none = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n";
    let (events, _) = play(stream(), none, false);
    assert_eq!(events, [answer(Reply::HttpStatus(405), 405), Event::Idle]);
    let (events, _) = play(stream(), &with_length(JSON, ANSWER), false);
    assert_eq!(events, [violation(Violation::WrongContentType, 200), Event::Idle]);
    // Cut by a proxy in the middle of a chunk.
    let (events, _) = play(stream(), &format!("{SSE}20\r\n: pi"), true);
    assert_eq!(events, [Event::StreamOpen, Event::StreamEnd]);
}

#[test]
fn event_ids_that_cannot_be_sent_back_are_dropped() {
    let long = format!("id: {}\ndata:\n\n", "x".repeat(257));
    let parts = ["id: 1\ndata:\n\n", "id: 2\ndata: lost", "\n\n", &long];
    for (count, kept) in [(1, "1"), (2, "1"), (3, "2"), (4, "")] {
        let text = format!("{SSE}{}", chunked(&parts[..count]));
        assert_eq!(play(stream(), &text, false).1.last_event, kept.as_bytes(), "{count}");
    }
}

#[test]
fn a_listen_stream_is_acknowledged_first() {
    let listen = Expectation { stateless: true, ..Expectation::new(Purpose::Listen, ID) };
    let acknowledged = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#;
    let data = |text: &str| format!("data: {text}\n\n");
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated"}"#;
    let parts = [&*data(acknowledged), ":\r\n\r\n", &data(changed)];
    let text = format!("{SSE}{}", chunked(&parts));
    let (events, _) = play(listen, &text, false);
    let news = Event::Notification(Method::ResourceUpdated);
    assert_eq!(events, [Event::StreamOpen, news, Event::StreamEnd, Event::Idle]);
    for (part, expected) in [
        (data(changed), Violation::NotAcknowledged),
        (data(ANSWER), Violation::NotAcknowledged),
        (":\n\n".to_owned(), Violation::AnswerCutShort),
    ] {
        let text = format!("{SSE}{}", chunked(&[&part]));
        let (events, _) = play(listen, &text, false);
        assert_eq!(events, [streamed(Reply::Violation(expected)), Event::Idle]);
    }
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}"#;
    let head = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n";
    let (events, _) = play(listen, &with_length(head, error), false);
    assert!(matches!(events[0], Event::Answer(Answer { reply: Reply::RpcError(-32601), .. })));
}

#[test]
fn the_stream_of_2024_11_05_names_its_endpoint() {
    let data = format!("event: message\r\ndata: {ANSWER}\r\n\r\n");
    let parts = ["event: endpoint\r\ndata: /messages/?session_id=a1\r\n\r\n", &data];
    let (events, peer) = play(stream(), &format!("{SSE}{}", chunked(&parts)), false);
    assert_eq!(peer.endpoint, b"/messages/?session_id=a1");
    let late = Event::Unsolicited { id: Some(ID), reply: Reply::Ok };
    let expected = [Event::StreamOpen, Event::Endpoint, late, Event::StreamEnd, Event::Idle];
    assert_eq!(events, expected);
    for part in ["event: endpoint\ndata: /x\nid: 4\n\n", "id: 4\nevent: endpoint\ndata: /x\n\n"] {
        let (_, peer) = play(stream(), &format!("{SSE}{}", chunked(&[part])), false);
        assert_eq!((&*peer.endpoint, &*peer.last_event), (&b"/x"[..], &b""[..]), "{part}");
    }
    let long = format!("event: endpoint\ndata: /{}\n\n", "x".repeat(1024));
    for part in ["event: endpoint\ndata:\n\n", "event: endpoint\ndata: a b\n\n", &long] {
        let (events, _) = play(stream(), &format!("{SSE}{}", chunked(&[part])), false);
        let reply = Reply::Violation(Violation::BadEndpoint);
        assert_eq!(events[1], Event::Unsolicited { id: None, reply }, "{part}");
    }
}
