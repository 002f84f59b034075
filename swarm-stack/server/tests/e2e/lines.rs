//! Newline-delimited JSON-RPC over TCP, by hand.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    raw::{call, initialize, metric, request, until},
    server::Server,
};

struct Lines(BufReader<TcpStream>);

impl Lines {
    fn connect(server: &Server) -> Self {
        Self(BufReader::new(TcpStream::connect(&server.tcp).unwrap()))
    }

    fn write(&mut self, message: &Value) {
        self.0.get_mut().write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the server closed the connection");
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn a_whole_conversation() {
    let server = Server::start(&[]);
    let mut lines = Lines::connect(&server);
    lines.write(&initialize("2025-11-25"));
    assert_eq!(lines.read()["result"]["protocolVersion"], "2025-11-25");
    lines.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized", "params": {}}));
    lines.write(&call(2, "add", json!({"a": 40, "b": 2})));
    assert_eq!(lines.read()["result"]["content"][0]["text"], "42");
    lines.write(&request(3, "ping", json!({})));
    assert_eq!(lines.read(), json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    lines.write(&request(4, "no/such", json!({})));
    assert_eq!(lines.read()["error"]["code"], -32601);
}

#[test]
fn answers_are_matched_by_id() {
    let server = Server::start(&[]);
    let mut lines = Lines::connect(&server);
    lines.write(&initialize("2025-06-18"));
    lines.read();
    lines.write(&call(2, "slow", json!({"ms": 300})));
    lines.write(&request(3, "ping", json!({})));
    let mut ids = [lines.read()["id"].clone(), lines.read()["id"].clone()];
    ids.sort_by_key(Value::as_u64);
    assert_eq!(ids, [json!(2), json!(3)]);
}

#[test]
fn connections_are_counted_while_open() {
    let server = Server::start(&[]);
    let series = "erlmcp_connections_open{transport=\"tcp\"}";
    let mut lines = Lines::connect(&server);
    lines.write(&initialize("2025-11-25"));
    lines.read();
    assert_eq!(metric(&server.metrics, series), 1.0);
    drop(lines);
    until(|| metric(&server.metrics, series) == 0.0);
}

#[test]
fn what_is_no_json_is_ignored() {
    let server = Server::start(&[]);
    let mut lines = Lines::connect(&server);
    lines.0.get_mut().write_all(b"{ no json\n\n").unwrap();
    lines.write(&initialize("2025-11-25"));
    assert_eq!(lines.read()["id"], 1);
}
