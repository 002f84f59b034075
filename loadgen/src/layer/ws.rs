//! WebSocket as a layer: the opening handshake, text messages as lines, control frames answered.
//! Frames are `wire`'s; this file owns what follows from them.

use std::sync::Arc;

use wire::mcp::Target;
use wire::ws::{CONTROL_BYTES, Handshake, Opcode, Parser, Piece, write_frame};
use wire::{Limits, Violation};

use super::Failure;
use latlog::Outcome;

/// A normal end (RFC 6455 section 7.4.1).
const NORMAL: u16 = 1000;
/// A close without a code counts as this one, which is never sent (section 7.4.1).
const NO_CODE: u16 = 1005;

/// What the handshakes of one target have in common.
#[derive(Clone, Debug)]
pub struct WsPeer {
    target: Arc<Target>,
    newline: bool,
}

impl WsPeer {
    /// For a target whose parts make a valid HTTP request; `newline` ends each message with one.
    pub fn new(target: Target, newline: bool) -> Self {
        Self { target: Arc::new(target), newline }
    }

    /// Bytes of the handshake's request.
    pub fn request_bytes(&self) -> usize {
        Handshake::new(&self.target, true, [0; 16]).request.len()
    }
}

#[derive(Debug)]
enum Stage {
    /// The request is sent, or about to be; the head of the answer as far as it came.
    Opening(Box<Opening>),
    Open,
    /// A close was sent.
    Closing,
}

#[derive(Debug)]
struct Opening {
    handshake: Handshake,
    head: Vec<u8>,
}

/// The WebSocket of one connection.
#[derive(Debug)]
pub(super) struct Ws {
    stage: Stage,
    parser: Parser,
    newline: bool,
    /// The payload of the control frame under way.
    control: Vec<u8>,
    /// The state of the masks' numbers.
    masks: u64,
}

impl Ws {
    pub(super) fn begin(peer: &WsPeer, nonce: u64) -> Self {
        let mut masks = nonce;
        let mut key = [0; 16];
        let (first, second) = key.split_at_mut(8);
        first.copy_from_slice(&next(&mut masks).to_be_bytes());
        second.copy_from_slice(&next(&mut masks).to_be_bytes());
        let handshake = Handshake::new(&peer.target, true, key);
        Self {
            stage: Stage::Opening(Box::new(Opening { handshake, head: Vec::new() })),
            parser: Parser::new(),
            newline: peer.newline,
            control: Vec::new(),
            masks,
        }
    }

    /// The opening handshake's request.
    pub(super) fn request(&self) -> Vec<u8> {
        match &self.stage {
            Stage::Opening(opening) => opening.handshake.request.clone(),
            Stage::Open | Stage::Closing => Vec::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Takes bytes; appends each message as a line to `plain`, and what is to be sent in answer to
    /// `answer`. A ping needs no pong while `answers_wait`, since only the latest one does (section
    /// 5.5.3): a flood of them costs nothing. Returns the code of a close.
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
        answers_wait: bool,
        limits: &Limits,
    ) -> Result<Option<u16>, Failure> {
        if let Stage::Opening(opening) = &mut self.stage {
            match opening.read(&mut input, limits)? {
                false => return Ok(None),
                true => self.stage = Stage::Open,
            }
        }
        let mut pong = None;
        let closed = loop {
            let (used, piece) = self.parser.next(input).map_err(Failure::violation)?;
            input = &input[used..];
            match piece {
                Piece::Nothing => break None,
                // Outside of strings a newline is space, as a carriage return is, and inside of
                // them both are wrong: a message stays one line, worth what it was.
                Piece::Data(text) => {
                    plain.extend(text.iter().map(|&b| if b == b'\n' { b'\r' } else { b }));
                }
                Piece::End => plain.push(b'\n'),
                Piece::Control(bytes) => self.control.extend_from_slice(bytes),
                Piece::Ping => pong = Some(std::mem::take(&mut self.control)),
                Piece::Pong => self.control.clear(),
                Piece::Close => break Some(self.closed(answer)),
            }
            debug_assert!(self.control.len() <= CONTROL_BYTES);
        };
        if let (Some(payload), false, None) = (pong, answers_wait, closed) {
            write_frame(answer, Opcode::Pong, &payload, self.mask());
        }
        Ok(closed)
    }

    /// The code of a close that has come; it is answered by one, unless it is the answer to ours.
    fn closed(&mut self, answer: &mut Vec<u8>) -> u16 {
        let code = match self.control[..] {
            [high, low, ..] => u16::from_be_bytes([high, low]),
            _ => NO_CODE,
        };
        if let Stage::Open = self.stage {
            let echo = self.control.get(..2).unwrap_or_default().to_vec();
            write_frame(answer, Opcode::Close, &echo, self.mask());
            self.stage = Stage::Closing;
        }
        code
    }

    /// Appends a message to `out` as a text frame.
    pub(super) fn frame(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let message = match self.newline {
            true => line,
            false => line.strip_suffix(b"\n").unwrap_or(line),
        };
        let mask = self.mask();
        write_frame(out, Opcode::Text, message, mask);
    }

    /// A close of good order, once.
    pub(super) fn close(&mut self) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let mask = self.mask();
        write_frame(&mut frame, Opcode::Close, &NORMAL.to_be_bytes(), mask);
        self.stage = Stage::Closing;
        Some(frame)
    }

    fn mask(&mut self) -> [u8; 4] {
        let number = next(&mut self.masks);
        (number as u32).to_be_bytes()
    }
}

impl Opening {
    /// Takes bytes of the head; whether it is whole, and the connection open.
    fn read(&mut self, input: &mut &[u8], limits: &Limits) -> Result<bool, Failure> {
        for (at, &byte) in input.iter().enumerate() {
            self.head.push(byte);
            if byte == b'\n' && (self.head.ends_with(b"\r\n\r\n") || self.head.ends_with(b"\n\n")) {
                *input = &input[at + 1..];
                return match self.handshake.check(&self.head, limits) {
                    Ok(101) => Ok(true),
                    Ok(status) => Err(Failure {
                        outcome: Outcome::HttpStatus,
                        detail: status.into(),
                        text: String::new(),
                    }),
                    Err(violation) => Err(Failure::violation(violation)),
                };
            }
            if self.head.len() > limits.head_bytes {
                return Err(Failure::violation(Violation::HeadTooLong));
            }
        }
        const START: &[u8] = b"HTTP/1.";
        let len = self.head.len().min(START.len());
        if self.head[..len] != START[..len] {
            return Err(Failure::violation(Violation::MalformedHttp));
        }
        Ok(false)
    }
}

/// The next number of a sequence without memory of who asked: SplitMix64.
fn next(state: &mut u64) -> u64 {
    let number = crate::chance::scramble(*state);
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    number
}
