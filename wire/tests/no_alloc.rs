//! The steady path allocates nothing: rendering a request, and reading its answer.
//!
//! Buffers are warmed up by one round; every later round must leave the allocator alone.

use wire::client::{Answer, Event, Exchange, Side};
use wire::mcp::{Fields, IdField, Operation, Reply, Revision, Target, Template};
use wire::{Limits, client, jsonrpc};

const ID: u64 = 1_234_567;
const RESULT: &str =
    r#""jsonrpc":"2.0","id":1234567,"result":{"text":"caf\u00e9 é","n":[1,2.5e3,null,true]}}"#;

struct Connection {
    exchange: Exchange,
    out: Vec<u8>,
    session: Vec<u8>,
    last_event: Vec<u8>,
    spill: Vec<u8>,
}

impl Connection {
    fn new(exchange: Exchange) -> Self {
        let [out, session, last_event, spill] = [(); 4].map(|()| Vec::new());
        Self { exchange, out, session, last_event, spill }
    }

    /// Sends one request, reads its answer in pieces, and returns the last answer.
    fn round(&mut self, template: &Template, input: &[u8], size: usize) -> Option<Answer> {
        let limits = Limits::default();
        let session = std::mem::take(&mut self.session);
        let fields = Fields { id: IdField::Number(ID), session: &session, last_event: b"" };
        self.out.clear();
        template.render(&mut self.out, &fields);
        let expectation = template.expectation(&fields).unwrap();
        self.session = session;
        self.exchange.expect(expectation).unwrap();
        let mut answer = None;
        for mut chunk in input.chunks(size) {
            loop {
                let side = Side {
                    limits: &limits,
                    session: &mut self.session,
                    last_event: Some(&mut self.last_event),
                    spill: &mut self.spill,
                };
                let (used, event) = self.exchange.feed(chunk, side);
                chunk = &chunk[used..];
                match event {
                    None => break,
                    Some(Event::Answer(found)) => answer = Some(found),
                    Some(_) => {}
                }
            }
        }
        answer
    }
}

/// Runs rounds and counts the allocations of all but the first.
fn check(exchange: Exchange, template: &Template, input: &str) {
    for size in [1, 7, 64, input.len()] {
        let mut connection = Connection::new(exchange.clone());
        let warm = connection.round(template, input.as_bytes(), size).unwrap();
        assert_eq!(warm.reply, Reply::Ok, "{input}");
        let info = allocation_counter::measure(|| {
            for _ in 0..100 {
                let answer = connection.round(template, input.as_bytes(), size);
                assert_eq!(answer, Some(warm));
            }
        });
        assert_eq!(info.count_total, 0, "in pieces of {size}: {input}");
    }
}

fn call(revision: Revision) -> Template {
    let target = Target::new("127.0.0.11:8080", "/mcp", revision);
    let operation = Operation::ToolsCall { name: "echo", arguments: r#"{"text":"x"}"# };
    Template::http(&target, operation).unwrap()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocation_counter::measure(|| drop(vec![1])).count_total, 1);
}

#[test]
fn json_answers_allocate_nothing() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: a-b\r\n";
    let text = format!("{head}Content-Length: {}\r\n\r\n{{{RESULT}", RESULT.len() + 1);
    check(Exchange::http(), &call(Revision::V2025_11_25), &text);
    check(Exchange::http(), &call(Revision::V2026_07_28), &text);
    let target = Target::new("127.0.0.11:8080", "/mcp", Revision::V2025_06_18);
    check(Exchange::http(), &Template::http(&target, Operation::Initialize).unwrap(), &text);
}

#[test]
fn event_streams_allocate_nothing() {
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    let events = format!(
        "id: 0\nretry: 3\ndata:\n\n: ping\n\nid: 17/2\ndata: {progress}\n\n\
         data: {{\ndata: {RESULT}\n\n"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked";
    let text = format!("{head}\r\n\r\n{:x}\r\n{events}\r\n0\r\n\r\n", events.len());
    check(Exchange::http(), &call(Revision::V2025_11_25), &text);
}

#[test]
fn lines_allocate_nothing() {
    let target = Target::new("", "", Revision::V2025_11_25);
    let template = Template::line(&target, Operation::ToolsList).unwrap();
    check(Exchange::line(), &template, &format!("{{{RESULT}\r\n"));
}

#[test]
fn violations_allocate_nothing() {
    let limits = Limits::default();
    let info = allocation_counter::measure(|| {
        for text in ["[", "{\"a\":01}", "{\"jsonrpc\":\"2.0\"}", "\"\u{1}\"", "{\"\\u00e\""] {
            assert!(jsonrpc::scan(text.as_bytes(), &limits).is_err());
        }
        let mut exchange = Exchange::http();
        exchange.expect(client::Expectation::new(client::Purpose::Plain, 1)).unwrap();
        let (mut session, mut spill) = (Vec::new(), Vec::new());
        let side = Side::new(&limits, &mut session, &mut spill);
        let (_, event) = exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", side);
        assert!(matches!(event, Some(Event::Answer(_))));
    });
    assert_eq!(info.count_total, 0);
}
