//! Newline-delimited JSON-RPC: one message a line (MCP, "stdio"; here over TCP).
//!
//! Owns where a line ends. Must not know what the messages are for.

use crate::jsonrpc::{Message, Scanner};
use crate::{Limits, Violation};

/// Takes the front of `input`; returns how much was used and the message that ended in it. To be
/// called until it returns `None`, which means that all input is used.
///
/// Lines may end in CRLF, and blank ones are skipped.
///
/// # Errors
/// What the [`Scanner`] says; where the next message begins is not known then.
pub fn next(
    scanner: &mut Scanner,
    input: &[u8],
    limits: &Limits,
) -> Result<(usize, Option<Message>), Violation> {
    let mut used = 0;
    while used < input.len() {
        let rest = &input[used..];
        let newline = memchr::memchr(b'\n', rest);
        let line = &rest[..newline.unwrap_or(rest.len())];
        scanner.feed(line, limits)?;
        used += line.len();
        if newline.is_some() {
            used += 1;
            if !scanner.is_blank() {
                return Ok((used, Some(scanner.finish()?)));
            }
            scanner.reset();
        }
    }
    Ok((used, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Id, Kind};

    fn read(input: &[u8], size: usize) -> Vec<Message> {
        let limits = Limits::default();
        let mut scanner = Scanner::new();
        let mut found = Vec::new();
        for mut chunk in input.chunks(size) {
            loop {
                let (used, message) = next(&mut scanner, chunk, &limits).unwrap();
                chunk = &chunk[used..];
                match message {
                    Some(message) => found.push(message),
                    None => break,
                }
            }
            assert!(chunk.is_empty());
        }
        found
    }

    #[test]
    fn reads_lines_in_every_chunking() {
        let input = b"\r\n{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}\n\n  \n\
            {\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{}}\r\n\
            {\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{}}";
        for size in 1..input.len() {
            let found = read(input, size);
            assert_eq!(found.len(), 2, "the last line has not ended");
            assert!(matches!(found[0].kind, Kind::Notification(_)));
            assert_eq!(found[1].id, Some(Id::Number(3)));
        }
    }

    #[test]
    fn a_newline_inside_a_message_ends_it() {
        let limits = Limits::default();
        let mut scanner = Scanner::new();
        let broken = b"{\"jsonrpc\":\"2.0\",\n\"id\":3,\"result\":{}}\n";
        assert_eq!(next(&mut scanner, broken, &limits), Err(Violation::TruncatedJson));
    }
}
