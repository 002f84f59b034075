//! What the target answers when nothing is spoiled.

mod common;

use common::{Client, Target, request};
use serde_json::json;

#[test]
fn http_keeps_the_connection_and_answers_pipelined_requests_in_order() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http", "--payload-bytes=5"]);
    let mut client = target.connect();
    for _ in 0..3 {
        let answer = client.get("/any");
        assert_eq!((answer.status, answer.text()), (200, "okoko"));
    }
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500));
    for _ in 0..500 {
        assert_eq!(client.answer().text(), "okoko");
    }
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().status, 200);
    drop(client);
    let stats = target.stop();
    assert_eq!(stats["requests"], 504);
    assert_eq!(stats["connections_accepted"], 1);
}

#[test]
fn http_closes_when_asked_to() {
    need_io_uring!();
    let target = Target::http(&["--protocol=http"]);
    for request in [
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let mut client = target.connect();
        client.send(request);
        client.answer();
        assert_eq!(client.rest(), b"", "{request:?}");
    }
    let mut client = target.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.head().0, 200);
    assert_eq!(client.answer().text(), "ok", "the HEAD answer has no body");
}

#[test]
fn a_request_may_come_in_any_pieces_and_any_size() {
    need_io_uring!();
    for buffer in ["--read-bytes=16", "--read-bytes=384", "--read-bytes=4096"] {
        let target = Target::http(&[buffer]);
        let mut client = target.connect();
        client.initialize();
        let bytes = client.post_bytes(&request("1", "ping"), "");
        for byte in bytes.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.answer().json()["id"], 1);
        // The first piece ends inside the second request.
        let two = bytes.repeat(2);
        client.send(&two[..bytes.len() + 10]);
        assert_eq!(client.answer().json()["id"], 1);
        client.send(&two[bytes.len() + 10..]);
        assert_eq!(client.answer().json()["id"], 1);
        for size in [100, 383, 384, 385, 70_000, 300_000] {
            let long = format!(r#"{{"x":"{}","id":{size},"method":"ping"}}"#, "y".repeat(size));
            assert_eq!(client.post(&long).json()["id"], size, "{buffer}");
        }
    }
}

#[test]
fn a_session_is_given_named_and_ended() {
    need_io_uring!();
    let target = Target::http(&[]);
    let mut client = target.connect();
    assert_eq!(client.call("1", "ping").status, 400);
    let answer = client.initialize();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["result"]["protocolVersion"], "2025-06-18");
    let note = client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((note.status, note.text()), (202, ""));
    let result = client.call("2", "tools/call").json();
    assert_eq!(result["result"]["content"][0]["text"], "ok");
    assert_eq!(result["result"]["isError"], false);
    assert_eq!(client.call("3", "tools/list").json()["result"]["tools"][0]["name"], "echo");
    assert_eq!(client.call("3", "no/such").json()["result"], json!({}));
    assert_eq!(client.post("[1").status, 400);
    assert_eq!(client.get("/mcp").status, 405);
    // The session does not belong to the connection.
    let mut other = target.connect();
    other.session = client.session.clone();
    assert_eq!(other.call("4", "ping").status, 200);
    let id = client.session.clone().unwrap();
    let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: x\r\nMcp-Session-Id: {id}\r\n\r\n");
    client.send(&delete);
    assert_eq!(client.answer().status, 200);
    client.send(&delete);
    assert_eq!(client.answer().status, 404);
    assert_eq!(other.call("5", "ping").status, 404);
    let stats = target.stop();
    assert_eq!(stats["sessions_created"], 1);
    assert_eq!(stats["sessions_alive"], 0);
    assert_eq!(stats["sessions_alive_peak"], 1);
    assert_eq!(stats["notifications"], 1);
}

#[test]
fn ids_come_back_as_they_were_sent() {
    need_io_uring!();
    let target = Target::http(&["--era=sessionless"]);
    let mut client = target.connect();
    assert!(client.initialize().header("mcp-session-id").is_none());
    for id in ["7", "-1", "9007199254740993", r#""text \" with }""#, "1.5"] {
        let body = client.call(id, "ping").text().to_owned();
        assert!(body.contains(&format!(r#""id":{id},"#)), "{id} in {body}");
    }
}

#[test]
fn answers_can_be_event_streams() {
    need_io_uring!();
    let target = Target::http(&["--sse"]);
    let mut client = target.connect();
    assert_eq!(client.initialize().header("content-type"), Some("text/event-stream"));
    for id in ["1", "2"] {
        let answer = client.call(id, "tools/call");
        assert_eq!(answer.json()["id"].to_string(), id);
        assert!(answer.text().starts_with("event: message\r\ndata: {"));
    }
}

#[test]
fn a_get_stream_is_held_pinged_and_cut() {
    need_io_uring!();
    let target = Target::http(&["--streams", "--stream-ping=60ms", "--stream-cut=300ms"]);
    let mut client = target.connect();
    client.initialize();
    let id = client.session.clone().unwrap();
    client.send(format!(
        "GET /mcp HTTP/1.1\r\nAccept: text/event-stream\r\nMcp-Session-Id: {id}\r\n\r\n"
    ));
    let (status, head) = client.head();
    assert_eq!(status, 200);
    assert!(head.contains("text/event-stream"));
    let mut pings = 0;
    loop {
        let chunk = client.chunk();
        if chunk.is_empty() {
            break;
        }
        assert_eq!(chunk, b": ping\n\n");
        pings += 1;
    }
    assert!(pings >= 1);
    assert_eq!(client.rest(), b"");
    let stats = target.stop();
    assert_eq!(stats["streams_opened"], 1);
    assert_eq!(stats["faults_streams_cut"], 1);
}

#[test]
fn the_stateless_era_has_no_sessions() {
    need_io_uring!();
    let target = Target::http(&["--era=stateless"]);
    let mut client = target.connect();
    let mut ask = |method: &str, version: &str, named: &str| {
        let headers = format!("MCP-Protocol-Version: {version}\r\nMcp-Method: {named}\r\n");
        client.send(client.post_bytes(&request("1", method), &headers));
        client.answer()
    };
    let found = ask("server/discover", "2026-07-28", "server/discover").json();
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    let called = ask("tools/call", "2026-07-28", "tools/call").json();
    assert_eq!(called["result"]["resultType"], "complete");
    let refused = ask("tools/call", "2025-11-25", "tools/call");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (400, json!(-32022)));
    assert_eq!(refused.json()["error"]["data"]["supported"], json!(["2026-07-28"]));
    let refused = ask("tools/call", "2026-07-28", "tools/list");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (400, json!(-32020)));
    let refused = ask("initialize", "2026-07-28", "initialize");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (404, json!(-32601)));
    let body = request("9", "subscriptions/listen");
    let headers = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n";
    client.send(client.post_bytes(&body, headers));
    assert_eq!(client.head().0, 200);
    let first = String::from_utf8(client.chunk()).unwrap();
    assert!(first.contains("notifications/subscriptions/acknowledged"), "{first}");
    assert!(first.contains(r#"subscriptionId":9"#), "{first}");
}

#[test]
fn lines_are_answered_by_id_and_notifications_are_not() {
    need_io_uring!();
    let target = Target::lines(&[]);
    let mut client = target.connect();
    let mut text = String::new();
    for id in 0..300 {
        text.push_str(&request(&id.to_string(), "ping"));
        text.push_str("\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
    }
    for piece in text.as_bytes().chunks(997) {
        client.send(piece);
    }
    for id in 0..300 {
        assert_eq!(client.line(), json!({"jsonrpc":"2.0","id":id,"result":{}}));
    }
    client.send("nonsense\n");
    assert_eq!(client.line()["error"]["code"], -32700);
    let stats = target.stop();
    assert_eq!((&stats["requests"], &stats["notifications"]), (&json!(300), &json!(300)));
}

#[test]
fn every_thread_listens_on_every_address() {
    need_io_uring!();
    let target = Target::start(&["--listen=127.0.0.1:0", "--tcp=127.0.0.1:0", "--threads=3"]);
    assert_eq!(target.addresses.len(), 2);
    for _ in 0..30 {
        let mut http = Client::connect(target.addresses[0]);
        http.initialize();
        // Another connection may reach another thread: sessions are the process's.
        let mut again = Client::connect(target.addresses[0]);
        again.session = http.session.clone();
        assert_eq!(again.call("1", "ping").status, 200);
        let mut lines = Client::connect(target.addresses[1]);
        lines.send(format!("{}\n", request("1", "ping")));
        assert_eq!(lines.line()["id"], 1);
    }
}

#[test]
fn an_address_in_use_is_refused_with_its_name() {
    need_io_uring!();
    let target = Target::http(&[]);
    let taken = format!("--listen={}", target.addresses[0]);
    let run =
        std::process::Command::new(env!("CARGO_BIN_EXE_fast-target")).arg(taken).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains(&target.addresses[0].to_string()), "{said}");
}
