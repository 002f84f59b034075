//! Finds the bytes of a body and its end, whatever its framing.
//!
//! Owns the chunk grammar (RFC 9112 section 7.1). Must not know what the bytes mean.

use super::Framing;
use crate::{Limits, Violation};

/// Where in the body the next byte falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Done,
    Length,
    UntilClose,
    /// Before the first digit of a chunk size.
    Size,
    /// After a digit.
    SizeMore,
    /// In white space after the size, or in extensions.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer line.
    TrailerLine,
    /// After the CR of the empty line that ends the trailer section.
    TrailerLf,
}

/// A body under way, in two words.
#[derive(Debug, Clone)]
pub struct Body {
    /// Bytes of the body or of the chunk that are to come.
    remaining: u64,
    /// Bytes of the size line, or of the trailer section, so far.
    line_bytes: u16,
    state: State,
}

impl Body {
    /// A body of that framing, before its first byte.
    pub fn new(framing: Framing) -> Self {
        let (state, remaining) = match framing {
            Framing::Empty => (State::Done, 0),
            Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size, 0),
            Framing::Close => (State::UntilClose, 0),
        };
        Self { remaining, line_bytes: 0, state }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the body ends with the connection.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Takes the front of `input`; returns how much was used and the content in it. Uses nothing
    /// only if `input` is empty or the body is done.
    ///
    /// # Errors
    /// [`Violation::MalformedChunk`] or [`Violation::ChunkHeaderTooLong`].
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
    ) -> Result<(usize, &'a [u8]), Violation> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            match self.state {
                State::Done => break,
                State::UntilClose => return Ok((input.len(), &input[used..])),
                State::Length | State::Data => {
                    let left = input.len() - used;
                    let take = usize::try_from(self.remaining).unwrap_or(left).min(left);
                    self.remaining -= take as u64;
                    if self.remaining == 0 {
                        let chunk = self.state == State::Data;
                        self.state = if chunk { State::DataCr } else { State::Done };
                    }
                    return Ok((used + take, &input[used..used + take]));
                }
                _ => {
                    self.frame(byte, limits)?;
                    used += 1;
                }
            }
        }
        Ok((used, &[]))
    }

    /// Gives back the last `len` bytes of the content that [`Body::next`] returned, to be passed
    /// in again.
    pub fn unread(&mut self, len: usize) {
        if len == 0 || self.state == State::UntilClose {
            return;
        }
        self.remaining += len as u64;
        self.state = match self.state {
            State::Data | State::DataCr => State::Data,
            _ => State::Length,
        };
    }

    /// Takes one byte of the chunk framing.
    fn frame(&mut self, byte: u8, limits: &Limits) -> Result<(), Violation> {
        self.state = match (self.state, byte) {
            (State::Size | State::SizeMore, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // A size that needs more than 64 bits cannot be meant.
                let size = self.remaining.checked_mul(16).ok_or(Violation::MalformedChunk)?;
                self.remaining = size | u64::from(digit);
                State::SizeMore
            }
            (State::SizeMore, b' ' | b'\t' | b';') => State::Extension,
            (State::SizeMore | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\n') => return Err(Violation::MalformedChunk),
            (State::Extension, _) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.line_bytes = 0;
                if self.remaining == 0 { State::Trailer } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::TrailerLf,
            // Section 2.2: a lone LF may end a line.
            (State::Trailer | State::TrailerLf, b'\n') => State::Done,
            (State::TrailerLine, b'\n') => State::Trailer,
            (State::Trailer | State::TrailerLine, _) => State::TrailerLine,
            _ => return Err(Violation::MalformedChunk),
        };
        self.count(limits)
    }

    fn count(&mut self, limits: &Limits) -> Result<(), Violation> {
        let limit = match self.state {
            State::Size | State::SizeMore | State::Extension | State::SizeLf => {
                limits.chunk_line_bytes
            }
            State::Trailer | State::TrailerLine | State::TrailerLf => limits.trailer_bytes,
            State::Data | State::DataCr | State::DataLf => {
                self.line_bytes = 0;
                return Ok(());
            }
            State::Done | State::Length | State::UntilClose => return Ok(()),
        };
        self.line_bytes = self.line_bytes.saturating_add(1);
        if self.line_bytes > limit {
            return Err(Violation::ChunkHeaderTooLong);
        }
        Ok(())
    }
}
