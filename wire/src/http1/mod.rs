//! HTTP/1.1 responses: heads, bodies, and whether the connection survives them.
//!
//! Owns [`Reader`], which turns a connection's bytes into heads and pieces of content. Knows
//! nothing of MCP except the name of one header field, and nothing of requests except whether
//! one was HEAD.

mod body;
mod head;
#[cfg(test)]
mod tests;

pub use body::Body;
pub(crate) use head::list;
pub use head::{Content, Framing, Head, each_field, read_head};

use crate::{Limits, Violation};

/// Buffers lent to one call of [`Reader::next`].
#[derive(Debug)]
pub struct Lent<'a> {
    /// The bounds of this run.
    pub limits: &'a Limits,
    /// Takes a head that is split over calls; empty otherwise.
    pub spill: &'a mut Vec<u8>,
    /// Takes the `Mcp-Session-Id` of a 2xx response, and is emptied by one that carries none.
    pub session: Option<&'a mut Vec<u8>>,
}

/// What the front of the input amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Nothing yet: all input is used.
    Nothing,
    /// The head of the final response.
    Head(Head),
    /// Content, free of framing.
    Data(&'a [u8]),
    /// The end of the response; the reader is ready for the next one.
    End {
        /// Whether the connection may be used again (RFC 9112 section 9.3).
        reuse: bool,
    },
}

/// Reads the responses of one connection, in a few words of state.
#[derive(Debug, Clone)]
pub struct Reader {
    body: Body,
    in_body: bool,
    keep_alive: bool,
    interim: u16,
}

impl Reader {
    /// A reader before the first byte of a response.
    pub fn new() -> Self {
        Self { body: Body::new(Framing::Empty), in_body: false, keep_alive: true, interim: 0 }
    }

    /// Takes the front of `input`; returns how much was used and what it is. To be called until
    /// it returns [`Piece::Nothing`]. `head_request` tells that the request was HEAD.
    ///
    /// # Errors
    /// A [`Violation`] of the HTTP group; the connection cannot be used after it.
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        head_request: bool,
        lent: &mut Lent<'_>,
    ) -> Result<(usize, Piece<'a>), Violation> {
        let mut used = 0;
        while !self.in_body {
            let (taken, head) = self.next_head(&input[used..], head_request, lent)?;
            used += taken;
            match head {
                None => return Ok((used, Piece::Nothing)),
                // RFC 9110 section 15.2: a client must be able to read interim responses.
                Some(head) if head.is_interim() => {
                    self.interim += 1;
                    if self.interim > lent.limits.interim_responses {
                        return Err(Violation::TooManyInterim);
                    }
                }
                Some(head) => {
                    self.body = Body::new(head.framing);
                    self.in_body = true;
                    self.keep_alive = head.keep_alive;
                    self.interim = 0;
                    return Ok((used, Piece::Head(head)));
                }
            }
        }
        let (taken, data) = self.body.next(&input[used..], lent.limits)?;
        used += taken;
        if !data.is_empty() {
            Ok((used, Piece::Data(data)))
        } else if self.body.is_done() {
            self.in_body = false;
            Ok((used, Piece::End { reuse: self.keep_alive }))
        } else {
            Ok((used, Piece::Nothing))
        }
    }

    /// Gives back the last `len` bytes of the [`Piece::Data`] just returned: the caller stops in
    /// the middle of it, and passes them in again.
    pub fn unread(&mut self, len: usize) {
        self.body.unread(len);
    }

    /// Whether the end of the connection now is the proper end of the body.
    pub fn ends_at_eof(&self) -> bool {
        self.in_body && self.body.is_until_close()
    }

    /// Whether a head was read whose body has not ended.
    pub fn in_body(&self) -> bool {
        self.in_body
    }

    /// Takes bytes of a head; parses it once, when its last byte is there.
    fn next_head(
        &mut self,
        input: &[u8],
        head_request: bool,
        lent: &mut Lent<'_>,
    ) -> Result<(usize, Option<Head>), Violation> {
        let limits = lent.limits;
        let session = lent.session.as_deref_mut();
        if lent.spill.is_empty() {
            if let Some(len) = head_end(input, 0) {
                if len > limits.head_bytes {
                    return Err(too_long(input));
                }
                let head = read_head(&input[..len], head_request, limits, session)?;
                return Ok((len, Some(head)));
            }
            check_partial(input, limits)?;
            lent.spill.extend_from_slice(input);
            return Ok((input.len(), None));
        }
        // The head's last newline is among the new bytes; what it follows may be among the old.
        let old_bytes = lent.spill.len();
        let room = (limits.head_bytes + 1).saturating_sub(old_bytes).min(input.len());
        lent.spill.extend_from_slice(&input[..room]);
        let Some(len) = head_end(lent.spill, old_bytes) else {
            check_partial(lent.spill, limits)?;
            return Ok((room, None));
        };
        if len > limits.head_bytes {
            return Err(too_long(lent.spill));
        }
        let head = read_head(&lent.spill[..len], head_request, limits, session)?;
        lent.spill.clear();
        Ok((len - old_bytes, Some(head)))
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of the head at the front of `text`, found by its empty line, whose ends may be CRLF
/// or a lone LF (RFC 9112 section 2.2). Its last byte is looked for at `from` and after.
fn head_end(text: &[u8], from: usize) -> Option<usize> {
    for newline in memchr::memchr_iter(b'\n', &text[from..]) {
        let newline = from + newline;
        let before = &text[..newline];
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        if before.ends_with(b"\n") {
            return Some(newline + 1);
        }
    }
    None
}

/// Refuses a head as soon as it cannot become one, without waiting for its end.
fn check_partial(text: &[u8], limits: &Limits) -> Result<(), Violation> {
    if text.len() > limits.head_bytes {
        return Err(too_long(text));
    }
    if begins_well(text) { Ok(()) } else { Err(Violation::MalformedHttp) }
}

/// What is wrong with a head beyond the bound: what is no head from its beginning was refused there
/// if it came in pieces, and the reason does not depend on how it is cut.
fn too_long(text: &[u8]) -> Violation {
    if begins_well(text) { Violation::HeadTooLong } else { Violation::MalformedHttp }
}

/// Whether the front of `text` can be that of a head.
fn begins_well(text: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    let len = text.len().min(START.len());
    // Empty lines before a status line are skipped, as httparse does.
    let blank = matches!(text.first(), Some(b'\r' | b'\n'));
    blank || text[..len] == START[..len]
}
