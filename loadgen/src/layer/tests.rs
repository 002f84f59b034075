//! Layers against a rustls server in memory and tungstenite's frames, in every chunking.

mod certs;

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ServerConfig, ServerConnection};
use wire::Limits;
use wire::mcp::{Revision, Target};

use super::*;
use certs::{Authority, Period, client, server};

/// A peer in memory: TLS or not, WebSocket or not, and what it has read.
struct Peer {
    tls: Option<ServerConnection>,
    read: Vec<u8>,
    out: Vec<u8>,
    refusal: Option<rustls::Error>,
}

impl Peer {
    fn new(config: Option<Arc<ServerConfig>>) -> Self {
        let tls = config.map(|c| ServerConnection::new(c).expect("a server"));
        Self { tls, read: Vec::new(), out: Vec::new(), refusal: None }
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.read.extend_from_slice(bytes) };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes).expect("there is room");
            if let Err(e) = tls.process_new_packets() {
                self.refusal = Some(e);
            }
            let mut plain = [0; 70_000];
            while let Ok(len @ 1..) = tls.reader().read(&mut plain) {
                self.read.extend_from_slice(&plain[..len]);
            }
        }
    }

    fn say(&mut self, plain: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(plain).expect("it takes all"),
            None => self.out.extend_from_slice(plain),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut out).expect("to memory");
            }
        }
        out
    }
}

/// A client's side with what came of it.
struct Client {
    layer: Layer,
    scratch: Scratch,
    plain: Vec<u8>,
    secured: Option<Secured>,
    ready: bool,
    closed: Option<u16>,
}

impl Client {
    fn new(wrapping: &Wrapping) -> Self {
        let layer = Layer::begin(wrapping, 7).expect("it begins");
        let ready = layer.is_ready();
        let (scratch, plain) = (Scratch::default(), Vec::new());
        Self { layer, scratch, plain, secured: None, ready, closed: None }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (layer, limits) = (&mut self.layer, Limits::default());
        let fed = layer.feed(bytes, &mut self.plain, &mut self.scratch, &limits)?;
        self.secured = self.secured.take().or(fed.secured);
        self.ready |= fed.ready;
        self.closed = self.closed.or(fed.closed);
        assert_eq!(self.ready, self.layer.is_ready());
        Ok(())
    }

    /// Moves bytes both ways in pieces until nobody has any left.
    fn settle(&mut self, peer: &mut Peer, piece: usize) -> Result<(), Failure> {
        loop {
            let mut buffer = vec![0; piece];
            let mut moved = false;
            while self.layer.has_output() {
                let len = self.layer.take_output(&mut buffer);
                assert!(len > 0 && len <= piece);
                peer.receive(&buffer[..len]);
                moved = true;
            }
            for chunk in peer.take().chunks(piece) {
                self.feed(chunk)?;
                moved = true;
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

fn over_ws(tls: Option<TlsPeer>) -> Wrapping {
    let target = Target::new("localhost:1", "/ws", Revision::V2025_11_25);
    Wrapping { tls, ws: Some(WsPeer::new(target, false)) }
}

fn over_tls(tls: TlsPeer) -> Wrapping {
    Wrapping { tls: Some(tls), ws: None }
}

/// Answers the opening handshake whose request `peer` has read.
fn accept_ws(peer: &mut Peer) {
    let request = String::from_utf8(std::mem::take(&mut peer.read)).expect("text");
    assert!(request.starts_with("GET /ws HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"));
    assert!(request.contains("Sec-WebSocket-Protocol: mcp\r\n"), "{request}");
    let key = request.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    peer.say(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// What a server sends as these frames: no mask.
fn frames(parts: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (head, payload) in parts {
        out.push(*head);
        match payload.len() {
            short @ 0..126 => out.push(short as u8),
            long => {
                out.push(126);
                out.extend((long as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
    }
    out
}

/// The text messages and the close code among a client's frames.
fn read_frames(bytes: &[u8]) -> (Vec<String>, Vec<Vec<u8>>, Option<u16>) {
    use tungstenite::protocol::{Role, WebSocket};
    let socket = std::io::Cursor::new(bytes.to_vec());
    let mut socket = WebSocket::from_raw_socket(socket, Role::Server, None);
    let (mut texts, mut pongs, mut close) = (Vec::new(), Vec::new(), None);
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => texts.push(text.to_string()),
            Ok(tungstenite::Message::Pong(payload)) => pongs.push(payload.to_vec()),
            Ok(tungstenite::Message::Close(frame)) => {
                close = frame.map(|f| u16::from(f.code));
                return (texts, pongs, close);
            }
            Ok(_) => {}
            Err(_) => return (texts, pongs, close),
        }
    }
}

/// A whole conversation over any layers, in pieces of any size.
fn converse(wrapping: &Wrapping, config: Option<Arc<ServerConfig>>, piece: usize) {
    let (mut peer, mut client) = (Peer::new(config), Client::new(wrapping));
    let ws = wrapping.ws.is_some();
    client.settle(&mut peer, piece).expect("the handshake");
    if ws {
        assert!(!client.ready);
        accept_ws(&mut peer);
        client.settle(&mut peer, piece).expect("the second handshake");
    }
    assert!(client.ready && peer.read.is_empty());
    assert_eq!(client.secured, wrapping.tls.as_ref().map(|_| Secured { resumed: false }));
    let long = "x".repeat(40_000);
    for message in ["{}\n", &format!("{long}\n")] {
        client.layer.seal(message.as_bytes(), &mut client.scratch);
        client.settle(&mut peer, piece).expect("sent");
        let read = std::mem::take(&mut peer.read);
        match ws {
            true => assert_eq!(read_frames(&read).0, [message.trim_end()]),
            false => assert_eq!(read, message.as_bytes()),
        }
        match ws {
            true => peer.say(&frames(&[
                (0x01, b"{\n"),
                (0x89, b"are you there"),
                (0x80, &long.as_bytes()[..message.len() - 1]),
            ])),
            false => peer.say(message.as_bytes()),
        }
        client.settle(&mut peer, piece).expect("received");
        let plain = std::mem::take(&mut client.plain);
        match ws {
            // One message, and its newline no longer one.
            true => {
                assert_eq!(plain, format!("{{\r{}\n", &long[..message.len() - 1]).as_bytes());
                assert_eq!(read_frames(&peer.read).1, [b"are you there"]);
                peer.read.clear();
            }
            false => assert_eq!(plain, message.as_bytes()),
        }
    }
    client.layer.close();
    client.settle(&mut peer, piece).expect("closed");
    if ws {
        assert_eq!(read_frames(&peer.read).2, Some(1000));
        peer.say(&frames(&[(0x88, &1000u16.to_be_bytes())]));
        client.settle(&mut peer, piece).expect("closed by both");
        assert_eq!(client.closed, Some(1000));
    }
}

#[test]
fn conversations_do_not_depend_on_how_bytes_are_cut() {
    let authority = Authority::new();
    let config = server(&authority, "localhost", Period::Now, false);
    let tls = || client(&authority, |_| {});
    for piece in [1, 2, 3, 7, 64, 500, 1024, 5_000, 100_000] {
        converse(&over_ws(None), None, piece);
        converse(&over_tls(tls()), Some(config.clone()), piece);
        converse(&over_ws(Some(tls())), Some(config.clone()), piece);
    }
}

/// The failure of a handshake with this server.
fn refused(peer: TlsPeer, server: &Arc<ServerConfig>) -> Failure {
    let (mut server, mut client) = (Peer::new(Some(server.clone())), Client::new(&over_tls(peer)));
    let failure = client.settle(&mut server, 1024).expect_err("it is refused");
    assert!(client.layer.has_output(), "an alert says so");
    failure
}

#[test]
fn certificates_that_prove_nothing_are_refused_with_their_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = server(&authority, "localhost", Period::Now, false);
    let why = |peer, server| {
        let failure = refused(peer, server);
        assert_eq!(failure.outcome, Outcome::Tls);
        (describe(failure.detail).expect("it has words"), failure.text)
    };
    let (words, text) = why(client(&other, |_| {}), &good);
    assert_eq!(words, "the certificate comes from no known issuer");
    assert!(text.contains("--ca FILE"), "{text}");
    let expired = server(&authority, "localhost", Period::Past, false);
    let (words, _) = why(client(&authority, |_| {}), &expired);
    assert_eq!(words, "the certificate has expired");
    let early = server(&authority, "localhost", Period::Future, false);
    let (words, _) = why(client(&authority, |_| {}), &early);
    assert_eq!(words, "the certificate is not valid yet");
    let named = server(&authority, "elsewhere.example", Period::Now, false);
    let (words, text) = why(client(&authority, |_| {}), &named);
    assert_eq!(words, "the certificate is for another name");
    assert!(text.contains("--server-name"), "{text}");
    // The same servers, asked for what they have, or not asked for anything.
    let asked = client(&authority, |o| o.server_name = Some("elsewhere.example".into()));
    converse(&over_tls(asked), Some(named), 1024);
    let insecure = || client(&authority, |o| (o.ca, o.insecure) = (None, true));
    converse(&over_tls(insecure()), Some(expired), 1024);
    converse(&over_tls(insecure()), Some(server(&other, "x.example", Period::Now, false)), 1024);
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_one() {
    let authority = Authority::new();
    let config = server(&authority, "localhost", Period::Now, true);
    let identity = authority.files("someone", Period::Now);
    let known = client(&authority, |o| o.identity = Some(identity.clone()));
    converse(&over_tls(known), Some(config.clone()), 1024);
    // TLS 1.3: the client is through before the server has seen that it shows nothing.
    let mut peer = Peer::new(Some(config));
    let mut stranger = Client::new(&over_tls(client(&authority, |_| {})));
    let failure = stranger.settle(&mut peer, 1024).expect_err("it is refused");
    assert_eq!(describe(failure.detail).as_deref(), Some("alert certificate_required"));
    assert!(failure.text.contains("--cert FILE"), "{}", failure.text);
}

#[test]
fn sessions_are_resumed_only_where_that_was_asked_for() {
    let authority = Authority::new();
    let config = server(&authority, "localhost", Period::Now, false);
    let connect = |peer: &TlsPeer| {
        let mut peer_side = Peer::new(Some(config.clone()));
        let mut client = Client::new(&over_tls(peer.clone()));
        client.settle(&mut peer_side, 1024).expect("the handshake");
        client.secured.expect("secured").resumed
    };
    let never = client(&authority, |_| {}).for_worker();
    assert!(!connect(&never) && !connect(&never));
    let asked = client(&authority, |o| o.resume = true);
    let (one, other) = (asked.for_worker(), asked.for_worker());
    assert!(!connect(&one) && connect(&one), "the second goes on from the first");
    assert!(!connect(&other), "another worker is another client");
}

#[test]
fn a_flood_of_pings_costs_one_pong() {
    let (mut peer, mut client) = (Peer::new(None), Client::new(&over_ws(None)));
    client.settle(&mut peer, 1024).expect("asked");
    accept_ws(&mut peer);
    client.settle(&mut peer, 1024).expect("open");
    for _ in 0..10_000 {
        client.feed(&frames(&[(0x89, &[0; 125])])).expect("pings are fine");
    }
    let mut out = vec![0; 1 << 20];
    let len = client.layer.take_output(&mut out);
    assert!(len < 200, "{len} bytes wait to be sent");
}

#[test]
fn a_refused_upgrade_has_its_status() {
    let (mut peer, mut client) = (Peer::new(None), Client::new(&over_ws(None)));
    client.settle(&mut peer, 1024).expect("asked");
    peer.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let failure = client.settle(&mut peer, 5).expect_err("refused");
    assert_eq!((failure.outcome, failure.detail), (Outcome::HttpStatus, 401));
    let (mut peer, mut client) = (Peer::new(None), Client::new(&over_ws(None)));
    peer.say(&[b'x'; 20_000]);
    let failure = client.settle(&mut peer, 1).expect_err("no HTTP");
    assert_eq!(failure.detail, wire::Violation::MalformedHttp as i32);
    let mut client = Client::new(&over_ws(None));
    let mut endless = b"HTTP/1.1 101 X\r\nA: ".to_vec();
    endless.resize(20_000, b'a');
    let failure = client.feed(&endless).expect_err("too long");
    assert_eq!(failure.detail, wire::Violation::HeadTooLong as i32);
}

#[test]
fn what_came_before_a_broken_frame_is_still_read() {
    for piece in [1, 1024] {
        let (mut peer, mut client) = (Peer::new(None), Client::new(&over_ws(None)));
        client.settle(&mut peer, 1024).expect("asked");
        accept_ws(&mut peer);
        client.settle(&mut peer, 1024).expect("open");
        peer.say(&frames(&[(0x81, b"{}"), (0x83, b"")]));
        let failure = client.settle(&mut peer, piece).expect_err("an unknown opcode");
        assert_eq!(failure.detail, wire::Violation::BadFrame as i32);
        assert_eq!(client.plain, b"{}\n");
    }
}

proptest! {
    #[test]
    fn whatever_answers_a_client_hello_is_bounded(
        answer in prop::collection::vec(any::<u8>(), 1..3_000),
        record in any::<bool>(),
        piece in 1usize..1500,
    ) {
        let authority = certs::shared();
        let mut client = Client::new(&over_tls(client(authority, |_| {})));
        let mut hello = vec![0; 4096];
        let len = client.layer.take_output(&mut hello);
        prop_assert!(len > 100 && !client.layer.has_output());
        let mut bytes = answer;
        if record {
            // What looks like a handshake record of the longest length.
            bytes.splice(0..0, [0x16, 3, 3, 0x40, 0]);
        }
        let mut failed = false;
        for _ in 0..200 {
            for chunk in bytes.chunks(piece) {
                if client.feed(chunk).is_err() {
                    failed = true;
                    break;
                }
            }
            if failed {
                break;
            }
        }
        prop_assert!(failed || bytes.len() * 200 < 20_000, "it is taken without an end");
        prop_assert!(client.plain.is_empty() && !client.ready);
    }
}
