//! The stateless era (2026-07-28), by hand.

use serde_json::{Value, json};

use crate::{
    raw::{Response, metric, open, read_until, send, until},
    server::Server,
};

const REVISION: &str = "2026-07-28";

fn body(method: &str, revision: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    crate::raw::request(1, method, params).to_string()
}

fn post(server: &Server, headers: &[(&str, &str)], body: &str) -> Response {
    send(&server.http, "POST", "/mcp", headers, body)
}

#[test]
fn a_tool_answers_beside_the_sessions_era() {
    let server = Server::start(&[]);
    crate::raw::Session::new(&server.http, "2025-11-25");
    let headers =
        [("MCP-Protocol-Version", REVISION), ("Mcp-Method", "tools/call"), ("Mcp-Name", "echo")];
    let params = json!({"name": "echo", "arguments": {"text": "hi"}});
    let response = post(&server, &headers, &body("tools/call", REVISION, params));
    assert_eq!(response.header("mcp-session-id"), None);
    let answer = response.message();
    assert_eq!(answer["result"]["content"][0]["text"], "hi");
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(metric(&server.metrics, "erlmcp_sessions_created_total"), 1.0);
}

#[test]
fn discover_names_both_eras() {
    let server = Server::start(&[]);
    let headers = [("MCP-Protocol-Version", REVISION), ("Mcp-Method", "server/discover")];
    let answer = post(&server, &headers, &body("server/discover", REVISION, json!({}))).message();
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25", REVISION] {
        assert!(versions.contains(&json!(revision)), "{answer}");
    }
}

/// Headers, body, HTTP status, JSON-RPC code.
type Case<'a> = (&'a [(&'a str, &'a str)], String, u16, i64);

#[test]
fn violations_have_their_codes() {
    let server = Server::start(&[]);
    let params = json!({"name": "echo", "arguments": {"text": "hi"}});
    let echo = body("tools/call", REVISION, params);
    let version = ("MCP-Protocol-Version", REVISION);
    let cases: [Case; 4] = [
        (&[version, ("Mcp-Method", "tools/call"), ("Mcp-Name", "add")], echo.clone(), 400, -32020),
        (&[version, ("Mcp-Method", "tools/list"), ("Mcp-Name", "echo")], echo, 400, -32020),
        (
            &[("MCP-Protocol-Version", "2099-01-01"), ("Mcp-Method", "tools/list")],
            body("tools/list", "2099-01-01", json!({})),
            400,
            -32022,
        ),
        (&[version, ("Mcp-Method", "ping")], body("ping", REVISION, json!({})), 404, -32601),
    ];
    for (headers, body, status, code) in cases {
        let response = post(&server, headers, &body);
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!(response.message()["error"]["code"], code, "{response:?}");
    }
    assert_eq!(send(&server.http, "GET", "/mcp", &[version], "").status, 406);
    let get = [version, ("Accept", "text/event-stream")];
    assert_eq!(send(&server.http, "GET", "/mcp", &get, "").status, 405);
    assert_eq!(send(&server.http, "DELETE", "/mcp", &[version], "").status, 405);
}

#[test]
fn a_subscription_is_acknowledged_and_held() {
    let server = Server::start(&[]);
    let headers = [("MCP-Protocol-Version", REVISION), ("Mcp-Method", "subscriptions/listen")];
    let params = json!({"notifications": {"toolsListChanged": true}});
    let body = body("subscriptions/listen", REVISION, params);
    let mut stream = open(&server.http, "POST", "/mcp", &headers, &body, "keep-alive");
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let event = read_until(&mut stream, "\n\n");
    assert!(event.contains("notifications/subscriptions/acknowledged"), "{event}");
    until(|| metric(&server.metrics, "erlmcp_streams_open") == 1.0);
    drop(stream);
    until(|| metric(&server.metrics, "erlmcp_streams_open") == 0.0);
}

#[test]
fn failed_calls_are_counted_as_failed() {
    let server = Server::start(&[]);
    let headers =
        [("MCP-Protocol-Version", REVISION), ("Mcp-Method", "tools/call"), ("Mcp-Name", "slow")];
    let params = json!({"name": "slow", "arguments": {"ms": 60_001}});
    let answer = post(&server, &headers, &body("tools/call", REVISION, params)).message();
    assert_eq!(answer["result"]["isError"], true);
    let series = "erlmcp_requests_total{transport=\"http\",method=\"tools/call\",\
                  outcome=\"tool_error\"}";
    assert_eq!(metric(&server.metrics, series), 1.0);
}
