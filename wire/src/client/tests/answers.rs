//! Answers with a body, without one, over lines, and cut short.

use super::*;

#[test]
fn a_json_answer_then_an_idle_connection() {
    let text = with_length(JSON, ANSWER);
    let (events, mut peer) = play(request(), &text, false);
    assert_eq!(events, [answer(Reply::Ok, 200), Event::Idle]);
    assert!(peer.exchange.is_idle() && peer.spill.is_empty());
    peer.exchange.expect(Expectation { id: 8, ..request() }).unwrap();
    assert_eq!(peer.exchange.expect(request()), Err(Busy));
    assert_eq!(peer.feed(text.as_bytes(), 10)[0], violation(Violation::WrongId, 200));
    assert_eq!(peer.exchange.eof(), None);
}

#[test]
fn a_chunked_json_answer_whose_end_comes_apart() {
    let head = format!("{JSON}Transfer-Encoding: chunked\r\n\r\n");
    let body = chunked(&[&ANSWER[..20], &ANSWER[20..]]);
    let mut peer = Peer::http(request());
    let (most, terminator) = body.split_at(body.len() - 5);
    assert_eq!(peer.feed(head.as_bytes(), 1000), []);
    assert_eq!(peer.feed(most.as_bytes(), 1000), [], "JSON is judged when the body ends");
    let events = peer.feed(terminator.as_bytes(), 1000);
    assert_eq!(events, [answer(Reply::Ok, 200), Event::Idle]);
    assert_eq!(play(request(), &(head + &body), false).0, events);
}

#[test]
fn a_notification_is_accepted_without_a_body() {
    for text in [
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 8\r\n\r\nAccepted",
    ] {
        let (events, _) = play(for_purpose(Purpose::Notification), text, false);
        assert!(matches!(events[0], Event::Answer(Answer { reply: Reply::Ok, .. })), "{text}");
        assert_eq!(events[1], Event::Idle);
        let (events, _) = play(request(), text, false);
        assert!(matches!(
            events[0],
            Event::Answer(Answer { reply: Reply::Violation(Violation::AnswerMissing), .. })
                | Event::Answer(Answer {
                    reply: Reply::Violation(Violation::WrongContentType),
                    ..
                })
        ));
    }
}

#[test]
fn initialize_brings_a_session_and_a_revision() {
    let result = r#"{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-06-18"}}"#;
    let head = format!("{JSON}mcp-session-id: 9f-a\r\n");
    let initialize = Expectation::new(Purpose::Initialize, ID);
    let (events, peer) = play(initialize, &with_length(&head, result), false);
    let Event::Answer(answer) = events[0] else { panic!("{events:?}") };
    assert_eq!((answer.reply, answer.revision), (Reply::Ok, Some(Revision::V2025_06_18)));
    assert_eq!((&*peer.session, peer.exchange.text()), (&b"9f-a"[..], &b"2025-06-18"[..]));
    // Without one the session has none; a session id elsewhere changes nothing.
    let mut peer = Peer::http(initialize);
    peer.session = b"old".to_vec();
    peer.feed(with_length(JSON, result).as_bytes(), 30);
    assert_eq!(peer.session, b"");
    peer.session = b"mine".to_vec();
    peer.exchange.expect(for_purpose(Purpose::Request)).unwrap();
    peer.feed(with_length(&head, ANSWER).as_bytes(), 30);
    assert_eq!(peer.session, b"mine");
    let bad = format!("{JSON}mcp-session-id: a b\r\n");
    let (events, _) = play(initialize, &with_length(&bad, result), false);
    assert_eq!(events, [violation(Violation::BadSessionId, 0), Event::Closed]);
}

#[test]
fn errors_come_in_many_forms() {
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Unknown tool"}}"#;
    let failed = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":true}}"#;
    let rpc = |status, reply, rpc_code| {
        Event::Answer(Answer { reply, status, rpc_code, streamed: false, revision: None })
    };
    let (events, _) = play(request(), &with_length(JSON, error), false);
    assert_eq!(events[0], rpc(200, Reply::RpcError(-32602), -32602), "an error under HTTP 200");
    let (events, _) = play(request(), &with_length(JSON, failed), false);
    assert_eq!(events[0], answer(Reply::ToolError, 200));
    let status = |status: u16, body: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
        with_length(&head, body)
    };
    let missing = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}"#;
    // A 400 for a missing session may carry a dead session id.
    let text = status(400, missing).replace("X\r\n", "X\r\nmcp-session-id: dead\r\n");
    let (events, peer) = play(Expectation::new(Purpose::Initialize, ID), &text, false);
    assert_eq!(events, [rpc(400, Reply::HttpStatus(400), -32600), Event::Idle]);
    assert_eq!(peer.session, b"");
    let (events, _) = play(for_purpose(Purpose::Request), &status(404, missing), false);
    assert_eq!(events[0], rpc(404, Reply::SessionGone, -32600));
    let (events, _) = play(for_purpose(Purpose::Initialize), &status(503, "oops"), false);
    assert_eq!(events, [answer(Reply::SessionLimit, 503), Event::Idle], "no JSON, no breach");
    let stateless = Expectation { stateless: true, ..request() };
    let (events, _) = play(stateless, &status(404, error), false);
    assert_eq!(events[0], rpc(404, Reply::RpcError(-32602), -32602));
    let html = with_length("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n", "<html>");
    assert_eq!(play(request(), &html, false).0[0], answer(Reply::HttpStatus(502), 502));
    let (events, _) = play(for_purpose(Purpose::Delete), &status(405, "{}"), false);
    assert_eq!(events, [answer(Reply::Ok, 405), Event::Idle]);
}

#[test]
fn a_success_that_is_no_answer_is_a_violation() {
    let cases = [
        (with_length(JSON, r#"{"jsonrpc":"2.0","id":7,"result":{"#), Violation::TruncatedJson),
        (with_length(JSON, "{]xxxx"), Violation::MalformedJson),
        (with_length(JSON, &format!("[{ANSWER}]")), Violation::Batch),
        (with_length(JSON, ""), Violation::AnswerMissing),
        (with_length(JSON, PROGRESS), Violation::AnswerMissing),
        (with_length("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "<p>"), {
            Violation::WrongContentType
        }),
        (with_length(&format!("{JSON}Content-Encoding: gzip\r\n"), "\u{1}\u{2}"), {
            Violation::ContentEncoded
        }),
    ];
    for (text, expected) in cases {
        let (events, _) = play(request(), &text, false);
        assert_eq!(events, [violation(expected, 200), Event::Idle], "{text}");
    }
    let broken = format!("{SSE}{}", chunked(&["data: {]\n\n", &format!("data: {ANSWER}\n\n")]));
    let (events, _) = play(request(), &broken, false);
    let malformed = streamed(Reply::Violation(Violation::MalformedJson));
    assert_eq!(events, [malformed, Event::Idle]);
}

#[test]
fn the_end_of_the_connection_ends_some_answers() {
    let body = format!("{JSON}\r\n{ANSWER}");
    assert_eq!(play(request(), &body, true).0, [answer(Reply::Ok, 200)]);
    let events =
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {ANSWER}\n\n");
    assert_eq!(play(request(), &events, true).0, [streamed(Reply::Ok)]);
    let cut = with_length(JSON, ANSWER);
    let (events, _) = play(request(), &cut[..cut.len() - 1], true);
    assert_eq!(events, [Event::Truncated { any_bytes: true }]);
    assert_eq!(play(request(), "", true).0, [Event::Truncated { any_bytes: false }]);
    let (events, _) = play(request(), "HTT", true);
    assert_eq!(events, [Event::Truncated { any_bytes: true }]);
    let close = with_length(&format!("{JSON}Connection: close\r\n"), ANSWER);
    let (events, mut peer) = play(request(), &close, false);
    assert_eq!(events, [answer(Reply::Ok, 200), Event::Closed]);
    assert!(!peer.exchange.is_idle());
    assert_eq!(peer.exchange.eof(), None);
}

#[test]
fn plain_http_counts_any_success() {
    let plain = Expectation::new(Purpose::Plain, Expectation::NO_ID);
    let (events, _) = play(plain, &with_length("HTTP/1.1 200 OK\r\n", "<html>{"), false);
    assert_eq!(events, [answer(Reply::Ok, 200), Event::Idle]);
    let (events, _) = play(plain, &with_length("HTTP/1.1 503 X\r\n", "{}"), false);
    assert_eq!(events, [answer(Reply::HttpStatus(503), 503), Event::Idle]);
    let head = Expectation { head: true, ..plain };
    let (events, _) = play(head, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", false);
    assert_eq!(events, [answer(Reply::Ok, 200), Event::Idle]);
    let text = format!("HTTP/1.1 100 Continue\r\n\r\n{}", with_length("HTTP/1.1 201 X\r\n", ""));
    assert_eq!(play(plain, &text, false).0, [answer(Reply::Ok, 201), Event::Idle]);
}

#[test]
fn lines_are_matched_by_id_never_by_order() {
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    let late = r#"{"jsonrpc":"2.0","id":6,"result":{"isError":true}}"#;
    let ping = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
    let text = format!("{log}\n{late}\r\n\n{ping}\n{ANSWER}\n{ANSWER}\n");
    let (events, peer) = play_on(&Exchange::line(), request(), &text, false);
    let again = Event::Unsolicited { id: Some(ID), reply: Reply::Ok };
    assert_eq!(
        events,
        [
            Event::Notification(Method::LogMessage),
            Event::Unsolicited { id: Some(6), reply: Reply::ToolError },
            Event::ServerRequest { id: Id::Text, method: Method::Ping },
            answer(Reply::Ok, 0),
            Event::Idle,
            again,
        ]
    );
    assert!(peer.exchange.is_idle());
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#;
    let (events, _) = play_on(&Exchange::line(), request(), &format!("{error}\n"), true);
    assert!(matches!(events[0], Event::Answer(Answer { reply: Reply::RpcError(-32700), .. })));
    let (events, _) = play_on(&Exchange::line(), request(), "Listening on 5555\n", false);
    assert_eq!(events, [violation(Violation::MalformedJson, 0), Event::Closed]);
    let (events, _) = play_on(&Exchange::line(), request(), "{\"jsonrpc\"", true);
    assert_eq!(events, [Event::Truncated { any_bytes: true }]);
    let mut peer = Peer::new(Exchange::line(), request());
    peer.exchange.expect(Expectation { id: 8, ..request() }).unwrap();
    let events = peer.feed(format!("{ANSWER}\n").as_bytes(), 9);
    assert_eq!(events, [again], "the request of that id timed out");
    let mut peer = Peer::new(Exchange::line(), request());
    let side = Side::new(&peer.limits, &mut peer.session, &mut peer.spill);
    let (_, event) = peer.exchange.feed(format!("{ANSWER}\n").as_bytes(), side);
    assert_eq!(event, Some(answer(Reply::Ok, 0)));
    peer.exchange.expect(request()).unwrap();
    let events = peer.feed(format!("{ANSWER}\n").as_bytes(), 9);
    assert_eq!(events, [answer(Reply::Ok, 0), Event::Idle]);
}
