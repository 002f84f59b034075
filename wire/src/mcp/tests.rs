//! The client's messages, read back by serde_json and a plain reading of HTTP.

use serde_json::{Value, json};

use super::build::header_value;
use super::*;
use crate::client::{Expectation, Purpose};
use crate::jsonrpc::{Id, Kind, Message, Method, ResultType};
use crate::{Limits, Violation};

const CALL: Operation<'_> = Operation::ToolsCall { name: "echo", arguments: r#"{"text":"é\n"}"# };

fn target(revision: Revision) -> Target {
    let mut target = Target::new("127.0.0.11:8080", "/mcp", revision);
    target.headers.push(("Authorization".to_owned(), "Bearer a.b=".to_owned()));
    target
}

fn render(template: &Template, fields: &Fields<'_>) -> String {
    let mut out = b"before".to_vec();
    template.render(&mut out, fields);
    let text = out.split_off(6);
    assert_eq!(template.rendered_len(fields), text.len());
    let mut exact = vec![0; text.len()];
    assert_eq!(template.render_to(&mut exact, fields), Some(text.len()));
    assert_eq!(exact, text);
    exact.pop();
    assert_eq!(template.render_to(&mut exact, fields), None, "one byte short");
    String::from_utf8(text).unwrap()
}

struct Request {
    line: String,
    fields: Vec<(String, String)>,
    body: Value,
}

impl Request {
    fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
        let value = found.next().map(|field| &*field.1);
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

fn post(revision: Revision, operation: Operation<'_>, fields: &Fields<'_>) -> Request {
    let template = Template::http(&target(revision), operation).unwrap();
    let text = render(&template, fields);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    let request = Request { line, fields, body: value };
    let length = request.field("Content-Length").map(|length| length.parse().unwrap());
    assert_eq!(length, (!body.is_empty()).then_some(body.len()));
    assert_eq!(request.field("Host"), Some("127.0.0.11:8080"));
    assert_eq!(request.field("Authorization"), Some("Bearer a.b="));
    request
}

#[test]
fn a_sessions_era_request_carries_its_session_and_revision() {
    for id in [0, 9, 10, 1_000_000, u64::MAX] {
        let request = post(Revision::V2025_11_25, CALL, &Fields::request(id, b"s-1"));
        assert_eq!(request.line, "POST /mcp HTTP/1.1");
        assert_eq!(request.field("Accept"), Some("application/json, text/event-stream"));
        assert_eq!(request.field("Content-Type"), Some("application/json"));
        assert_eq!(request.field("MCP-Protocol-Version"), Some("2025-11-25"));
        assert_eq!(request.field("Mcp-Session-Id"), Some("s-1"));
        assert_eq!(request.field("Mcp-Method"), None);
        let params = json!({"name": "echo", "arguments": {"text": "é\n"}});
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        assert_eq!(request.body, body);
    }
    let request = post(Revision::V2025_11_25, CALL, &Fields::request(1, b""));
    assert_eq!(request.field("Mcp-Session-Id"), None, "only if one was given");
    let request = post(Revision::V2025_03_26, CALL, &Fields::request(1, b"s"));
    assert_eq!(request.field("MCP-Protocol-Version"), None, "came with 2025-06-18");
}

#[test]
fn the_handshake_offers_the_revision() {
    let fields = Fields::request(1, b"old-session");
    let request = post(Revision::V2025_06_18, Operation::Initialize, &fields);
    assert_eq!(request.field("Mcp-Session-Id"), None);
    assert_eq!(request.field("MCP-Protocol-Version"), None);
    assert_eq!(request.body["params"]["protocolVersion"], "2025-06-18");
    assert_eq!(request.body["params"]["clientInfo"]["name"], "loadgen");
    assert_eq!(request.body["params"]["capabilities"], json!({}));
    let request = post(Revision::V2025_06_18, Operation::Initialized, &fields);
    assert_eq!(request.field("Mcp-Session-Id"), Some("old-session"));
    let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized", "params": {}});
    assert_eq!(request.body, body, "no id, but params");
}

#[test]
fn streams_and_deletes_have_no_body() {
    let fields = Fields { last_event: b"ev/9", ..Fields::request(1, b"s-1") };
    let request = post(Revision::V2025_11_25, Operation::Stream, &fields);
    assert_eq!(request.line, "GET /mcp HTTP/1.1");
    assert_eq!(request.field("Accept"), Some("text/event-stream"));
    assert_eq!(request.field("Last-Event-ID"), Some("ev/9"));
    assert_eq!(request.field("Mcp-Session-Id"), Some("s-1"));
    let request = post(Revision::V2025_11_25, Operation::Delete, &fields);
    assert_eq!(request.line, "DELETE /mcp HTTP/1.1");
    assert_eq!(request.field("Last-Event-ID"), None);
    assert_eq!(request.field("Mcp-Session-Id"), Some("s-1"));
    let request = post(Revision::V2025_11_25, Operation::PlainGet, &fields);
    assert_eq!((&*request.line, request.fields.len()), ("GET /mcp HTTP/1.1", 3));
}

#[test]
fn a_plain_request_has_its_method_and_its_content() {
    let target = Target::new("a:1", "/x", Revision::V2025_11_25);
    let rendered = |method: &str, body: &[u8]| {
        let template = Template::http(&target, Operation::Plain { method, body }).expect("builds");
        let fields = Fields::request(7, b"no-session");
        let mut out = Vec::new();
        template.render(&mut out, &fields);
        (String::from_utf8(out).expect("text"), template.expectation(&fields).expect("an answer"))
    };
    let (put, expected) = rendered("PUT", b"{\"id\":1}");
    assert!(put.starts_with("PUT /x HTTP/1.1\r\n"), "{put}");
    assert!(put.ends_with("\r\nContent-Length: 8\r\n\r\n{\"id\":1}"), "{put}");
    assert_eq!((expected.purpose, expected.head), (Purpose::Plain, false));
    assert!(rendered("POST", b"").0.contains("\r\nContent-Length: 0\r\n"));
    let (head, expected) = rendered("HEAD", b"");
    assert!(head.starts_with("HEAD /x ") && !head.contains("Content-Length"), "{head}");
    assert!(expected.head, "its answer has no body");
    let bad = Operation::Plain { method: "GE T", body: b"" };
    assert!(matches!(
        Template::http(&target, bad),
        Err(BuildError::BadHeader { what: "method", .. })
    ));
    let mut secret = Target::new("a:1", "/x", Revision::V2025_11_25);
    secret.headers.push(("Authorization".into(), "Bearer s3cret\n".into()));
    let error = Template::http(&secret, Operation::PlainGet).expect_err("a newline").to_string();
    assert!(error.contains("Authorization") && !error.contains("s3cret"), "{error}");
}

#[test]
fn a_stateless_request_repeats_itself_in_its_headers() {
    let operations = [
        (Operation::Discover, None),
        (Operation::ToolsList, None),
        (Operation::Listen, None),
        (CALL, Some("echo")),
        (Operation::ResourcesRead { uri: "file:///日" }, Some("=?base64?ZmlsZTovLy/ml6U=?=")),
        (Operation::PromptsGet { name: "a b", arguments: "{}" }, Some("a b")),
    ];
    for (operation, name) in operations {
        let request = post(Revision::V2026_07_28, operation, &Fields::request(5, b"no-session"));
        assert_eq!(request.field("Mcp-Session-Id"), None);
        assert_eq!(request.field("Mcp-Method"), request.body["method"].as_str());
        assert_eq!(request.field("Mcp-Name"), name);
        let meta = &request.body["params"]["_meta"];
        let version = meta["io.modelcontextprotocol/protocolVersion"].as_str();
        assert_eq!(request.field("MCP-Protocol-Version"), version);
        assert_eq!(version, Some("2026-07-28"));
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "loadgen");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(request.body["id"], 5);
    }
}

#[test]
fn header_values_are_encoded_as_in_the_specification() {
    for (value, encoded) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ] {
        assert_eq!(header_value(value), encoded);
    }
}

#[test]
fn a_line_is_one_line_with_params() {
    let fields = Fields::request(12, b"ignored");
    for operation in [Operation::Ping, CALL, Operation::Initialize, Operation::ToolsList] {
        let template = Template::line(&target(Revision::V2025_11_25), operation).unwrap();
        let text = render(&template, &fields);
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'));
        let body: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&body["id"], body["params"].is_object()), (&json!(12), true));
        let expected = template.expectation(&fields).unwrap();
        assert_eq!((expected.id, expected.carried_session), (12, false));
    }
    let note = Template::line(&target(Revision::V2025_11_25), Operation::Initialized).unwrap();
    assert_eq!(note.expectation(&fields), None);
    for operation in [Operation::Delete, Operation::Stream, Operation::PlainGet] {
        assert!(Template::line(&target(Revision::V2025_11_25), operation).is_err());
    }
}

#[test]
fn server_requests_get_their_id_back() {
    let raw = Fields { id: IdField::Raw(r#""a\"é""#.as_bytes()), session: b"s", last_event: b"" };
    let ping = post(Revision::V2025_11_25, Operation::answer_to(Method::Ping), &raw);
    assert_eq!(ping.body, json!({"jsonrpc": "2.0", "id": "a\"é", "result": {}}));
    assert_eq!(ping.field("Mcp-Session-Id"), Some("s"));
    let operation = Operation::answer_to(Method::Sampling);
    let other = post(Revision::V2025_11_25, operation, &Fields::request(3, b""));
    assert_eq!((&other.body["id"], &other.body["error"]["code"]), (&json!(3), &json!(-32601)));
}

#[test]
fn the_expectation_follows_the_template() {
    let expectation = |revision, operation, session: &[u8]| {
        let template = Template::http(&target(revision), operation).unwrap();
        template.expectation(&Fields::request(8, session)).unwrap()
    };
    let plain = Expectation::new(Purpose::Request, 8);
    assert_eq!(expectation(Revision::V2025_11_25, CALL, b""), plain);
    let held = Expectation { carried_session: true, ..plain };
    assert_eq!(expectation(Revision::V2025_11_25, CALL, b"s"), held);
    let stateless = Expectation { stateless: true, ..plain };
    assert_eq!(expectation(Revision::V2026_07_28, CALL, b"s"), stateless);
    let init = expectation(Revision::V2025_11_25, Operation::Initialize, b"s");
    assert_eq!(init, Expectation { purpose: Purpose::Initialize, ..plain });
    let delete = expectation(Revision::V2025_11_25, Operation::Delete, b"s");
    let id = Expectation::NO_ID;
    assert_eq!(delete, Expectation { purpose: Purpose::Delete, id, ..held });
}

#[test]
fn what_cannot_be_sent_is_refused_at_start() {
    let build = |target: &Target, operation| Template::http(target, operation).map(drop);
    let good = target(Revision::V2025_11_25);
    let mut bad = good.clone();
    bad.headers[0].1 = "x\r\nEvil: 1".to_owned();
    assert!(matches!(build(&bad, CALL), Err(BuildError::BadHeader { .. })));
    let bad = Target { path: "/mcp x".to_owned(), ..good.clone() };
    assert!(matches!(build(&bad, CALL), Err(BuildError::BadHeader { what: "path", .. })));
    let bad = Target { host: String::new(), ..good.clone() };
    assert!(matches!(build(&bad, CALL), Err(BuildError::BadHeader { what: "host", .. })));
    let call = |arguments| build(&good, Operation::ToolsCall { name: "t", arguments });
    assert!(matches!(call("[]"), Err(BuildError::BadArguments { .. })));
    assert!(matches!(call("{"), Err(BuildError::BadArguments { .. })));
    for operation in [Operation::Discover, Operation::Listen] {
        let error = build(&good, operation).unwrap_err();
        assert!(error.to_string().starts_with("MCP 2025-11-25 has no "), "{error}");
    }
    let modern = target(Revision::V2026_07_28);
    for operation in [Operation::Initialize, Operation::Ping, Operation::Stream, Operation::Delete]
    {
        assert!(matches!(build(&modern, operation), Err(BuildError::NotInRevision { .. })));
    }
    let own = ("hOST".to_owned(), "example.org".to_owned());
    let named = Target { headers: vec![own], ..good };
    let text = render(&Template::http(&named, CALL).unwrap(), &Fields::request(1, b""));
    assert_eq!(text.to_lowercase().matches("host:").count(), 1);
}

#[test]
fn revisions_have_names_eras_and_an_order() {
    for revision in Revision::ALL {
        assert_eq!(revision.to_string().parse(), Ok(revision));
        let stateless = revision >= Revision::V2026_07_28;
        assert_eq!(revision.era() == Era::Stateless, stateless);
    }
    assert!("2026-01-01".parse::<Revision>().is_err());
    assert!(code::is_modern(-32022) && !code::is_modern(code::METHOD_NOT_FOUND));
}

fn message(kind: Kind) -> Message {
    let id = Some(Id::Number(8));
    Message { id, kind, result_type: ResultType::Absent, has_version: false, len_bytes: 1 }
}

#[test]
fn statuses_and_messages_are_judged_together() {
    let plain = Expectation::new(Purpose::Request, 8);
    let held = Expectation { carried_session: true, ..plain };
    let stateless = Expectation { stateless: true, ..plain };
    let purpose = |purpose| Expectation { purpose, ..held };
    let (good, bad) = (message(Kind::Result), message(Kind::Error(-32601)));
    let violation = Reply::Violation;
    for (expected, status, message, reply) in [
        (plain, 200, Some(&good), Reply::Ok),
        (plain, 200, Some(&bad), Reply::RpcError(-32601)),
        (plain, 202, None, violation(Violation::AnswerMissing)),
        (plain, 404, None, Reply::HttpStatus(404)),
        (held, 404, Some(&bad), Reply::SessionGone),
        (held, 400, Some(&bad), Reply::HttpStatus(400)),
        (held, 503, None, Reply::HttpStatus(503)),
        (stateless, 404, Some(&bad), Reply::RpcError(-32601)),
        (stateless, 404, None, Reply::HttpStatus(404)),
        (purpose(Purpose::Initialize), 503, None, Reply::SessionLimit),
        (purpose(Purpose::Plain), 204, None, Reply::Ok),
        (purpose(Purpose::Plain), 503, None, Reply::HttpStatus(503)),
        (purpose(Purpose::Plain), 404, None, Reply::HttpStatus(404)),
        (purpose(Purpose::Notification), 202, None, Reply::Ok),
        (purpose(Purpose::Notification), 404, None, Reply::SessionGone),
        (purpose(Purpose::Delete), 200, None, Reply::Ok),
        (purpose(Purpose::Delete), 405, None, Reply::Ok),
        (purpose(Purpose::Delete), 404, None, Reply::SessionGone),
        (purpose(Purpose::Stream), 405, None, Reply::HttpStatus(405)),
        (purpose(Purpose::Listen), 200, Some(&good), violation(Violation::NotAcknowledged)),
    ] {
        assert_eq!(judge_http(&expected, status, message), reply, "{expected:?} {status}");
    }
    let asked = Message { result_type: ResultType::InputRequired, ..good };
    assert_eq!(judge_message(&plain, &asked), violation(Violation::InputRequired));
    let odd = Message { result_type: ResultType::Other, ..good };
    assert_eq!(judge_message(&plain, &odd), violation(Violation::UnknownResultType));
    let other = Message { id: Some(Id::Number(9)), ..good };
    assert_eq!(judge_message(&plain, &other), violation(Violation::WrongId));
    let unread = Message { id: Some(Id::Null), ..bad };
    assert_eq!(judge_message(&plain, &unread), Reply::RpcError(-32601));
    let failed = message(Kind::ToolError);
    assert_eq!(judge_message(&plain, &failed), Reply::ToolError);
    assert_eq!(Reply::Violation(Violation::WrongId).detail(), Violation::WrongId as i32);
    let limits = Limits::default();
    let text = br#"{"jsonrpc":"2.0","id":8,"result":{"resultType":"complete"}}"#;
    let scanned = crate::jsonrpc::scan(text, &limits).unwrap();
    assert_eq!(judge_message(&stateless, &scanned), Reply::Ok);
}

#[test]
fn over_http_and_sse_a_post_goes_to_the_address_that_the_stream_named() {
    let target = target(Revision::V2024_11_05);
    let template = Template::http_sse(&target, CALL).unwrap();
    let fields = Fields::request(7, b"/messages/?session_id=a1");
    let text = render(&template, &fields);
    assert!(
        text.starts_with("POST /messages/?session_id=a1 HTTP/1.1\r\nHost: 127.0.0.11:8080\r\n")
    );
    assert!(!text.contains("Mcp-Session-Id"), "the address says which session it is");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(text.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["id"], 7);
    let expected = template.expectation(&fields).unwrap();
    assert_eq!((expected.purpose, expected.id), (Purpose::Notification, 7), "only accepted");
    assert!(expected.carried_session);
    let stream = Template::http_sse(&target, Operation::Stream).unwrap();
    let text = render(&stream, &Fields::request(0, b"/messages/?session_id=a1"));
    assert!(text.starts_with("GET /mcp HTTP/1.1\r\n"), "{text}");
    assert!(!text.contains("a1"), "{text}");
}
