//! What the generator does for every request, without any I/O: compose it, read its answer, log it.
//!
//! `cargo bench -p bench`. Each figure is for one request on one core, everything in cache.
#![allow(missing_docs)] // criterion_group! writes an undocumented function.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latlog::{BlockBuilder, BlockKind, Outcome, Request};
use wire::Limits;
use wire::client::{Event, Exchange, Side};
use wire::mcp::{Fields, Operation, Revision, Target, Template};

const SESSION: &[u8] = b"0123456789abcdef01234567";

fn call(line: bool) -> Template {
    let target = Target::new("127.0.0.11:8080", "/mcp", Revision::V2025_11_25);
    let call = Operation::ToolsCall { name: "echo", arguments: r#"{"text":"hello"}"# };
    let template = if line { Template::line(&target, call) } else { Template::http(&target, call) };
    template.expect("tools/call exists in this revision")
}

fn compose(criterion: &mut Criterion) {
    let template = call(false);
    let mut out = vec![0; 4096];
    let mut id = 1_000_000;
    criterion.bench_function("compose tools/call over HTTP", |bencher| {
        bencher.iter(|| {
            id += 1;
            let fields = Fields::request(id, black_box(SESSION));
            template.render_to(black_box(&mut out), &fields)
        });
    });
}

/// An answer's bytes, with an id of seven digits.
fn answer(framing: &str) -> Vec<u8> {
    let json = r#"{"jsonrpc":"2.0","id":1000000,"result":{"content":[{"type":"text","text":"hello hello hello hello hello hello hello hello hello 1"}],"isError":false}}"#;
    assert_eq!(json.len(), 150);
    let text = match framing {
        "json" => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 150\r\n\r\n{json}"
        ),
        "sse" => {
            let event = format!("event: message\r\ndata: {json}\r\n\r\n");
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
                event.len()
            )
        }
        _ => format!("{json}\n"),
    };
    text.into_bytes()
}

/// Reads one answer to its end and counts what it said.
fn read(exchange: &mut Exchange, bytes: &[u8], limits: &Limits, buffers: &mut [Vec<u8>; 2]) -> u32 {
    let mut answers = 0;
    let mut input = bytes;
    loop {
        let [session, spill] = &mut *buffers;
        let (used, event) = exchange.feed(input, Side::new(limits, session, spill));
        input = &input[used..];
        match event {
            Some(Event::Answer(answer)) => answers += u32::from(answer.reply.is_ok()),
            Some(_) => {}
            None => return answers,
        }
    }
}

fn scan(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("read a 150-byte answer");
    for framing in ["json", "sse", "line"] {
        let bytes = answer(framing);
        let line = framing == "line";
        let template = call(line);
        let fields = Fields::request(1_000_000, SESSION);
        let expectation = template.expectation(&fields).expect("a request has an answer");
        let mut exchange = if line { Exchange::line() } else { Exchange::http() };
        let mut buffers = [SESSION.to_vec(), Vec::new()];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(framing, |bencher| {
            bencher.iter(|| {
                exchange.expect(expectation).expect("the exchange is idle");
                let answers = read(&mut exchange, black_box(&bytes), &limits, &mut buffers);
                assert_eq!(answers, 1);
            });
        });
    }
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, 64 << 10);
    let (mut now_ns, mut seq, mut bytes, mut records) = (1_000_000_000_000_u64, 0, 0_u64, 0_u64);
    criterion.bench_function("log a request, sealing included", |bencher| {
        bencher.iter(|| {
            // Answers some 20 us apart, 150 us after they were due, with jitter in every field.
            now_ns += 17_000 + now_ns % 7919;
            let jitter_ns = now_ns % 4093;
            let request = Request {
                intended_ns: now_ns - 150_000 - jitter_ns,
                sent_ns: now_ns - 148_000,
                first_byte_ns: now_ns - 300 - jitter_ns / 8,
                done_ns: now_ns,
                outcome: Outcome::Ok,
                detail: 0,
                target: (now_ns % 12) as u16,
                op: 0,
            };
            if builder.is_full() {
                records += u64::from(builder.count());
                bytes += black_box(builder.seal(seq)).len() as u64;
                seq += 1;
                builder.clear();
            }
            builder.push_request(black_box(&request)).expect("room was checked");
        });
    });
    println!("{:.2} bytes a record", bytes as f64 / records.max(1) as f64);
}

criterion_group!(hot_paths, compose, scan, log);
criterion_main!(hot_paths);
