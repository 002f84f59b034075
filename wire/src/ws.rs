//! WebSocket frames and the opening handshake, from the client's side (RFC 6455).
//!
//! Owns frames; hands the data of text messages on as it comes, to be fed to a
//! [`Scanner`](crate::jsonrpc::Scanner), and keeps none of it. Must not draw random numbers: the
//! caller brings nonces and masking keys.

use sha1::{Digest, Sha1};

use crate::http1::{each_field, list};
use crate::mcp::{Target, base64};
use crate::{Limits, Violation};

/// Bytes of a control frame's payload at most (section 5.5).
pub const CONTROL_BYTES: usize = 125;

/// Opcodes that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A whole text message.
    Text = 1,
    /// The end, with a status code of two bytes or nothing.
    Close = 8,
    /// A question that is answered by a pong.
    Ping = 9,
    /// The answer to a ping, with its payload.
    Pong = 10,
}

/// Appends one whole frame. `mask` must not be foreseeable by the payload's author (section 5.3).
/// Allocates only if `out` lacks room.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    const FIN: u8 = 0x80;
    const MASKED: u8 = 0x80;
    out.push(FIN | opcode as u8);
    if let Ok(short @ 0..126) = u8::try_from(payload.len()) {
        out.push(MASKED | short);
    } else if let Ok(middle) = u16::try_from(payload.len()) {
        out.push(MASKED | 126);
        out.extend_from_slice(&middle.to_be_bytes());
    } else {
        out.push(MASKED | 127);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// What the front of the input amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Nothing yet: all input is used.
    Nothing,
    /// More of the text message under way.
    Data(&'a [u8]),
    /// The text message is complete.
    End,
    /// More of a control frame's payload, [`CONTROL_BYTES`] at most in all. It may stand in the
    /// middle of a message.
    Control(&'a [u8]),
    /// The control frame was a ping: send a pong with its payload.
    Ping,
    /// The control frame was a pong.
    Pong,
    /// The control frame was a close: its payload is a code and a reason. Send a close, and read
    /// no further.
    Close,
}

/// Where in a frame the next byte falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Opcode,
    Length,
    /// In an extended length, of which so many bytes are to come.
    Extended(u8),
    Payload,
    Closed,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The frames of one connection, in a few words of state.
#[derive(Debug, Clone)]
pub struct Parser {
    /// Bytes of the payload that are to come, or the length as far as read.
    remaining: u64,
    state: State,
    opcode: u8,
    fin: bool,
    /// Whether a text message is under way.
    in_message: bool,
    /// The least length that needs as many bytes as it was given (section 5.2).
    least: u32,
}

impl Parser {
    /// A parser after the handshake.
    pub const fn new() -> Self {
        let state = State::Opcode;
        Self { remaining: 0, state, opcode: 0, fin: false, in_message: false, least: 0 }
    }

    /// Takes the front of `input`; returns how much was used and what it is. To be called until
    /// it returns [`Piece::Nothing`].
    ///
    /// # Errors
    /// [`Violation::BadFrame`]; the connection cannot be used after it.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Violation> {
        let mut used = 0;
        loop {
            if self.state == State::Payload && self.remaining == 0 {
                self.state = State::Opcode;
                if let Some(piece) = self.end_frame() {
                    return Ok((used, piece));
                }
            }
            let Some(&byte) = input.get(used) else { return Ok((used, Piece::Nothing)) };
            match self.state {
                State::Opcode => self.opcode(byte)?,
                State::Length => self.length(byte)?,
                State::Extended(left) => {
                    self.remaining = self.remaining << 8 | u64::from(byte);
                    self.state = State::Extended(left - 1);
                    if left == 1 {
                        // Section 5.2: the shortest form, and no sign bit.
                        let odd = self.remaining < self.least.into() || self.remaining >> 63 == 1;
                        self.state =
                            if odd { return Err(Violation::BadFrame) } else { State::Payload };
                    }
                }
                State::Payload => {
                    let rest = &input[used..];
                    let len = usize::try_from(self.remaining).unwrap_or(rest.len()).min(rest.len());
                    self.remaining -= len as u64;
                    let data = &rest[..len];
                    let control = self.opcode >= CLOSE;
                    let piece = if control { Piece::Control(data) } else { Piece::Data(data) };
                    return Ok((used + len, piece));
                }
                State::Closed => return Ok((input.len(), Piece::Nothing)),
            }
            used += 1;
        }
    }

    fn opcode(&mut self, byte: u8) -> Result<(), Violation> {
        let reserved = byte & 0x70 != 0;
        self.fin = byte & 0x80 != 0;
        self.opcode = byte & 0x0f;
        let allowed = match self.opcode {
            CONTINUATION => self.in_message,
            TEXT => !self.in_message,
            CLOSE | PING | PONG => self.fin,
            _ => false,
        };
        if reserved || !allowed {
            return Err(Violation::BadFrame);
        }
        self.in_message |= self.opcode == TEXT;
        self.state = State::Length;
        Ok(())
    }

    fn length(&mut self, byte: u8) -> Result<(), Violation> {
        let masked = byte & 0x80 != 0;
        let control = self.opcode >= CLOSE;
        self.remaining = 0;
        (self.state, self.least) = match byte & 0x7f {
            // Section 5.1: a server must not mask.
            _ if masked => return Err(Violation::BadFrame),
            126 | 127 if control => return Err(Violation::BadFrame),
            126 => (State::Extended(2), 126),
            127 => (State::Extended(8), 1 << 16),
            short => {
                self.remaining = short.into();
                (State::Payload, 0)
            }
        };
        Ok(())
    }

    fn end_frame(&mut self) -> Option<Piece<'static>> {
        match self.opcode {
            PING => Some(Piece::Ping),
            PONG => Some(Piece::Pong),
            CLOSE => {
                self.state = State::Closed;
                Some(Piece::Close)
            }
            _ if self.fin => {
                self.in_message = false;
                Some(Piece::End)
            }
            _ => None,
        }
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

/// The opening handshake of one target: its request, and the proof it expects.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The request, to be sent as it is.
    pub request: Vec<u8>,
    accept: String,
}

impl Handshake {
    /// Prepares the handshake, with the subprotocol `mcp` if asked for. The parts of the target
    /// must be such as [`Template::http`](crate::mcp::Template::http) accepts.
    pub fn new(target: &Target, subprotocol: bool, nonce: [u8; 16]) -> Self {
        let key = base64(&nonce);
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", target.path, target.host);
        let hosts = |name: &str| name.eq_ignore_ascii_case("host");
        for (name, value) in target.headers.iter().filter(|(name, _)| !hosts(name)) {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        if subprotocol {
            request += "Sec-WebSocket-Protocol: mcp\r\n";
        }
        request.extend(["Sec-WebSocket-Key: ", &key, "\r\n\r\n"]);
        // Section 1.3.
        let proof = Sha1::digest(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        Self { request: request.into_bytes(), accept: base64(&proof) }
    }

    /// Checks the head that is all of `text`, from the status line to the empty line; returns the
    /// status, which is 101 if the connection speaks WebSocket from its next byte on.
    ///
    /// # Errors
    /// [`Violation::BadHandshake`] for a 101 without the proof, else those of a head.
    pub fn check(&self, text: &[u8], limits: &Limits) -> Result<u16, Violation> {
        let (mut upgrade, mut connection, mut accept) = (false, false, false);
        let status = each_field(text, limits, |name, value| {
            let has = |token: &[u8]| list(value).any(|option| option.eq_ignore_ascii_case(token));
            upgrade |= name.eq_ignore_ascii_case("upgrade") && has(b"websocket");
            connection |= name.eq_ignore_ascii_case("connection") && has(b"upgrade");
            accept |= name.eq_ignore_ascii_case("sec-websocket-accept")
                && value.trim_ascii() == self.accept.as_bytes();
        })?;
        if status == 101 && !(upgrade && connection && accept) {
            return Err(Violation::BadHandshake);
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::Message;
    use tungstenite::handshake::derive_accept_key;
    use tungstenite::protocol::{Role, WebSocket};

    use super::*;
    use crate::mcp::Revision;

    #[derive(Debug, Clone, PartialEq)]
    enum Seen {
        Text(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Vec<u8>),
    }

    fn read(input: &[u8], size: usize) -> Result<Vec<Seen>, Violation> {
        let mut parser = Parser::new();
        let (mut data, mut control, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for mut chunk in input.chunks(size) {
            loop {
                let (used, piece) = parser.next(chunk)?;
                chunk = &chunk[used..];
                match piece {
                    Piece::Nothing => break,
                    Piece::Data(text) => data.extend_from_slice(text),
                    Piece::Control(text) => control.extend_from_slice(text),
                    Piece::End => seen.push(Seen::Text(std::mem::take(&mut data))),
                    Piece::Ping => seen.push(Seen::Ping(std::mem::take(&mut control))),
                    Piece::Pong => seen.push(Seen::Pong(std::mem::take(&mut control))),
                    Piece::Close => seen.push(Seen::Close(std::mem::take(&mut control))),
                }
            }
            assert!(chunk.is_empty());
        }
        Ok(seen)
    }

    #[test]
    fn frames_that_the_rfc_forbids_are_refused() {
        for bad in [
            &[0x81, 0x80, 0, 0, 0, 0][..], // masked
            &[0xc1, 0x00],                 // a reserved bit
            &[0x82, 0x01, 0],              // binary
            &[0x83, 0x00],                 // an unknown opcode
            &[0x80, 0x00],                 // continues nothing
            &[0x01, 0x00, 0x81, 0x00],     // a message inside a message
            &[0x09, 0x00],                 // a fragmented ping
            &[0x89, 126, 0, 126],          // a long ping
            &[0x81, 126, 0, 125],          // not the shortest form
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(read(bad, 1), Err(Violation::BadFrame), "{bad:x?}");
            assert_eq!(read(bad, 99), Err(Violation::BadFrame), "{bad:x?}");
        }
        assert!(size_of::<Parser>() <= 24);
    }

    #[test]
    fn control_frames_stand_inside_messages() {
        let input = [
            &[0x01, 2, b'a', b'b', 0x89, 1, b'p', 0x00, 0, 0x80, 1, b'c'][..],
            &[0x88, 2, 0x03, 0xe8, 0xff, 0xff],
        ]
        .concat();
        for size in 1..=input.len() {
            let text = Seen::Text(b"abc".to_vec());
            let close = Seen::Close(vec![0x03, 0xe8]);
            assert_eq!(read(&input, size), Ok(vec![Seen::Ping(b"p".to_vec()), text, close]));
        }
    }

    #[test]
    fn the_handshake_proves_that_it_was_read() {
        let target = Target::new("127.0.0.1:8080", "/ws", Revision::V2025_11_25);
        let limits = Limits::default();
        let handshake = Handshake::new(&target, true, *b"the sample nonce");
        let request = String::from_utf8(handshake.request.clone()).unwrap();
        assert!(request.contains("\r\nSec-WebSocket-Protocol: mcp\r\n"));
        // The example of section 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert!(request.contains(&format!("Sec-WebSocket-Key: {key}\r\n")), "{request}");
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.accept, derive_accept_key(key.as_bytes()));
        let response = |accept: &str| {
            format!(
                "HTTP/1.1 101 X\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
        };
        let good = response(&handshake.accept);
        assert_eq!(handshake.check(good.as_bytes(), &limits), Ok(101));
        let bad = response("s3pPLMBiTxaQ9kYGzzhZRbK+xOo");
        assert_eq!(handshake.check(bad.as_bytes(), &limits), Err(Violation::BadHandshake));
        let other = good.replace("WebSocket", "h2c");
        assert_eq!(handshake.check(other.as_bytes(), &limits), Err(Violation::BadHandshake));
        assert_eq!(handshake.check(b"HTTP/1.1 404 X\r\n\r\n", &limits), Ok(404));
    }

    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..130, 65_500usize..65_600]
    }

    proptest! {
        #[test]
        fn tungstenite_reads_what_is_written(
            lengths in prop::collection::vec(lengths(), 1..4), mask in any::<[u8; 4]>(),
        ) {
            let mut out = Vec::new();
            for &len in &lengths {
                write_frame(&mut out, Opcode::Text, &vec![b'x'; len], mask);
            }
            write_frame(&mut out, Opcode::Ping, b"p", mask);
            let mut peer =
                WebSocket::from_raw_socket(std::io::Cursor::new(out), Role::Server, None);
            for &len in &lengths {
                prop_assert_eq!(peer.read().unwrap(), Message::text("x".repeat(len)));
            }
            prop_assert!(peer.read().unwrap().is_ping());
        }

        #[test]
        fn what_tungstenite_writes_is_read_in_every_chunking(
            lengths in prop::collection::vec(lengths(), 1..4), size in 1usize..70_000,
        ) {
            let mut peer =
                WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Server, None);
            let mut expected = Vec::new();
            for &len in &lengths {
                peer.send(Message::text("y".repeat(len))).unwrap();
                peer.send(Message::Ping(b"p".as_slice().into())).unwrap();
                expected.extend([Seen::Text(vec![b'y'; len]), Seen::Ping(b"p".to_vec())]);
            }
            let bytes = peer.get_ref().get_ref().clone();
            prop_assert_eq!(read(&bytes, size), Ok(expected));
        }

        #[test]
        fn never_panics_and_says_the_same_in_every_chunking(
            input in prop::collection::vec(
                prop_oneof![
                    3 => 0u8..4,
                    2 => prop::sample::select(vec![1, 0x80, 0x81, 0x88, 0x89, 0x8a, 126, 127]),
                    1 => any::<u8>(),
                ],
                0..60,
            ),
            size in 1usize..9,
        ) {
            prop_assert_eq!(read(&input, size), read(&input, 1000));
        }
    }
}
