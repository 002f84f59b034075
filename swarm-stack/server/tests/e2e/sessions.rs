//! The sessions era, by hand, against both session managers.

use std::io::Read as _;

use serde_json::json;

use crate::{
    raw::{Session, call, initialize, metric, open, read_until, request, send, until},
    server::Server,
};

const MANAGERS: [&str; 2] = ["lean", "sdk"];

fn each_manager(test: impl Fn(Server)) {
    for kind in MANAGERS {
        test(Server::start(&["--sessions", kind]));
    }
}

#[test]
fn every_revision_of_the_era_is_negotiated() {
    each_manager(|server| {
        for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
            Session::new(&server.http, revision);
        }
    });
}

#[test]
fn every_tool_answers() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let text = |id, tool, arguments| {
            let answer = session.post(&call(id, tool, arguments)).message();
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"]["isError"], false, "{answer}");
            answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
        };
        assert_eq!(text(2, "echo", json!({"text": "ä \n \"quoted\""})), "ä \n \"quoted\"");
        assert_eq!(text(3, "add", json!({"a": 2, "b": -0.5})), "1.5");
        assert_eq!(text(4, "slow", json!({"ms": 1})), "slept 1 ms");
        assert_eq!(text(5, "payload", json!({"bytes": 100_000})), "x".repeat(100_000));
    });
}

#[test]
fn tools_are_listed_with_schemas() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let answer = session.post(&request(2, "tools/list", json!({}))).message();
        let tools = answer["result"]["tools"].as_array().unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["echo", "add", "slow", "payload"]);
        for tool in tools {
            let schema = &tool["inputSchema"];
            assert_eq!(schema["type"], "object");
            for name in schema["required"].as_array().unwrap() {
                assert!(schema["properties"][name.as_str().unwrap()].is_object(), "{tool}");
            }
        }
    });
}

#[test]
fn failures_are_told_apart() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let bounds = [("slow", json!({"ms": 60_001})), ("payload", json!({"bytes": 4_194_305}))];
        for (tool, arguments) in bounds {
            let answer = session.post(&call(2, tool, arguments)).message();
            assert_eq!(answer["result"]["isError"], true, "{answer}");
        }
        let wrong = [
            (call(3, "nope", json!({})), -32602),
            (call(4, "add", json!({"a": "x", "b": 1})), -32602),
            (request(5, "no/such", json!({})), -32601),
        ];
        for (message, code) in wrong {
            let response = session.post(&message);
            assert_eq!(response.status, 200);
            let answer = response.message();
            assert_eq!(answer["error"]["code"], code, "{answer}");
            assert_eq!(answer["id"], message["id"]);
        }
    });
}

#[test]
fn ping_answers_with_ids_of_any_kind() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-06-18");
        for id in [json!(7), json!("seven"), json!(0)] {
            let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
            assert_eq!(
                session.post(&ping).message(),
                json!({
                    "jsonrpc": "2.0", "id": id, "result": {}
                })
            );
        }
    });
}

#[test]
fn a_deleted_session_is_gone_and_counted() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let other = Session::new(&server.http, "2025-11-25");
        assert_eq!(metric(&server.metrics, "erlmcp_sessions_open"), 2.0);
        assert_eq!(session.delete().status, 202);
        assert_eq!(session.post(&request(2, "ping", json!({}))).status, 404);
        assert_eq!(metric(&server.metrics, "erlmcp_sessions_open"), 1.0);
        session.delete();
        assert_eq!(metric(&server.metrics, "erlmcp_sessions_closed_total"), 1.0);
        assert_eq!(other.post(&request(2, "ping", json!({}))).status, 200);
    });
}

#[test]
fn a_session_must_be_named_and_known() {
    each_manager(|server| {
        let ping = request(2, "ping", json!({})).to_string();
        let version = ("MCP-Protocol-Version", "2025-11-25");
        assert_eq!(send(&server.http, "POST", "/mcp", &[version], &ping).status, 400);
        let unknown = [version, ("Mcp-Session-Id", "0e8400-unknown")];
        assert_eq!(send(&server.http, "POST", "/mcp", &unknown, &ping).status, 404);
    });
}

#[test]
fn requests_of_one_session_answer_out_of_order() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let body = call(2, "slow", json!({"ms": 60_000})).to_string();
        let slow = open(&server.http, "POST", "/mcp", &session.headers(), &body, "close");
        let answer = session.post(&call(3, "echo", json!({"text": "first"}))).message();
        assert_eq!(answer["result"]["content"][0]["text"], "first");
        drop(slow);
    });
}

#[test]
fn a_cancelled_request_ends_without_an_answer() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let body = call(2, "slow", json!({"ms": 60_000})).to_string();
        let mut slow = open(&server.http, "POST", "/mcp", &session.headers(), &body, "close");
        // A later request of the session is answered: the slow one has reached the service.
        session.post(&request(3, "ping", json!({}))).message();
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": 2}});
        assert_eq!(session.post(&cancel).status, 202);
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        assert!(!text.contains("\"id\":2"), "{text}");
    });
}

#[test]
fn the_stream_lasts_until_the_session_ends() {
    each_manager(|server| {
        let session = Session::new(&server.http, "2025-11-25");
        let mut stream = session.stream();
        assert_eq!(metric(&server.metrics, "erlmcp_streams_open"), 1.0);
        session.delete();
        // The last chunk: the stream ends, its connection stays.
        read_until(&mut stream, "0\r\n\r\n");
        until(|| metric(&server.metrics, "erlmcp_streams_open") == 0.0);
    });
}

#[test]
fn a_vanished_client_is_forgotten() {
    for kind in MANAGERS {
        let server = Server::start(&["--sessions", kind, "--session-ttl", "1"]);
        let session = Session::new(&server.http, "2025-11-25");
        until(|| metric(&server.metrics, "erlmcp_sessions_open") == 0.0);
        assert_eq!(session.post(&request(2, "ping", json!({}))).status, 404);
    }
}

#[test]
fn the_session_limit_answers_503_and_lifts() {
    for kind in MANAGERS {
        let server = Server::start(&["--sessions", kind, "--max-sessions", "2"]);
        let first = Session::new(&server.http, "2025-11-25");
        let _second = Session::new(&server.http, "2025-11-25");
        let body = initialize("2025-11-25").to_string();
        let refused = send(&server.http, "POST", "/mcp", &[], &body);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("--max-sessions"), "{refused:?}");
        assert_eq!(first.post(&request(2, "ping", json!({}))).status, 200);
        first.delete();
        until(|| metric(&server.metrics, "erlmcp_sessions_open") == 1.0);
        Session::new(&server.http, "2025-11-25");
    }
}

#[test]
fn json_answers_on_request() {
    for kind in MANAGERS {
        let server = Server::start(&["--sessions", kind, "--json-response"]);
        let session = Session::new(&server.http, "2025-11-25");
        let response = session.post(&call(2, "echo", json!({"text": "hi"})));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.message()["result"]["content"][0]["text"], "hi");
    }
}

#[test]
fn lean_answers_carry_no_event_ids_and_sdk_answers_do() {
    for (kind, expected) in [("lean", false), ("sdk", true)] {
        let server = Server::start(&["--sessions", kind]);
        let session = Session::new(&server.http, "2025-11-25");
        let response = session.post(&request(2, "ping", json!({})));
        assert_eq!(response.body.lines().any(|line| line.starts_with("id:")), expected);
    }
}

#[test]
fn without_sessions_no_id_is_given() {
    let server = Server::start(&["--stateless"]);
    let body = initialize("2025-11-25").to_string();
    let response = send(&server.http, "POST", "/mcp", &[], &body);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("mcp-session-id"), None);
    let version = [("MCP-Protocol-Version", "2025-11-25")];
    let body = call(2, "add", json!({"a": 1, "b": 2})).to_string();
    let response = send(&server.http, "POST", "/mcp", &version, &body);
    assert_eq!(response.message()["result"]["content"][0]["text"], "3");
    assert_eq!(send(&server.http, "DELETE", "/mcp", &version, "").status, 405);
}
