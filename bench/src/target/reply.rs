//! Frames an answer: HTTP with a length, HTTP as an event stream, or a line. Bytes out only.

use std::io::Write;

/// How an answer's JSON is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1 with Content-Length.
    Json,
    /// HTTP/1.1, one event of a chunked `text/event-stream` (HTML standard section 9.2).
    Sse,
    /// The JSON and a line feed, as over stdio.
    Line,
}

/// The head of a stream that stays open, without any event yet.
pub const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One comment event as a chunk, which keeps an idle stream alive.
pub const STREAM_PING: &[u8] = b"8\r\n: ping\n\n\r\n";

/// The last chunk of a stream (RFC 9112 section 7.1).
pub const STREAM_END: &[u8] = b"0\r\n\r\n";

/// Appends an answer whose JSON is the concatenation of `parts`.
///
/// `status` and `session` (an `Mcp-Session-Id`) are HTTP's; a line has neither.
pub fn framed(
    out: &mut Vec<u8>,
    framing: Framing,
    status: u16,
    session: Option<&str>,
    parts: &[&[u8]],
) {
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    match framing {
        Framing::Line => {
            extend(out, parts);
            out.push(b'\n');
        }
        Framing::Json => {
            status_line(out, status);
            out.extend_from_slice(b"Content-Type: application/json\r\n");
            session_header(out, session);
            length_header(out, body_bytes);
            extend(out, parts);
        }
        Framing::Sse => {
            status_line(out, status);
            out.extend_from_slice(b"Content-Type: text/event-stream\r\n");
            session_header(out, session);
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            event(out, parts);
            out.extend_from_slice(STREAM_END);
        }
    }
}

/// Appends one `message` event as one chunk.
pub fn event(out: &mut Vec<u8>, parts: &[&[u8]]) {
    const BEFORE: &[u8] = b"event: message\r\ndata: ";
    const AFTER: &[u8] = b"\r\n\r\n";
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    append(out, format_args!("{:x}\r\n", BEFORE.len() + body_bytes + AFTER.len()));
    out.extend_from_slice(BEFORE);
    extend(out, parts);
    out.extend_from_slice(AFTER);
    out.extend_from_slice(b"\r\n");
}

/// Appends an HTTP answer with a text body.
pub fn text(out: &mut Vec<u8>, status: u16, body: &[u8]) {
    status_line(out, status);
    out.extend_from_slice(b"Content-Type: text/plain\r\n");
    length_header(out, body.len());
    out.extend_from_slice(body);
}

/// Appends an HTTP answer without a body.
pub fn empty(out: &mut Vec<u8>, status: u16) {
    status_line(out, status);
    length_header(out, 0);
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        append(out, format_args!("HTTP/1.1 {status} {}\r\n", reason(status)));
    }
}

fn session_header(out: &mut Vec<u8>, session: Option<&str>) {
    if let Some(id) = session {
        append(out, format_args!("Mcp-Session-Id: {id}\r\n"));
    }
}

fn length_header(out: &mut Vec<u8>, length: usize) {
    append(out, format_args!("Content-Length: {length}\r\n\r\n"));
}

fn extend(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

fn reason(status: u16) -> &'static str {
    match status {
        202 => "Accepted",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_its_length_and_session() {
        let text = text_of(|out| framed(out, Framing::Json, 200, Some("s1"), &[b"{", b"}"]));
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s1\r\n\
             Content-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn an_event_is_one_chunk_of_the_announced_size() {
        let text = text_of(|out| framed(out, Framing::Sse, 200, None, &[b"{}"]));
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        assert_eq!(&rest[..size], "event: message\r\ndata: {}\r\n\r\n");
        assert_eq!(&rest[size..], "\r\n0\r\n\r\n");
    }

    #[test]
    fn the_ping_chunk_says_its_size() {
        let text = std::str::from_utf8(STREAM_PING).unwrap();
        let (size, rest) = text.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        assert_eq!(&rest[size..], "\r\n");
    }

    #[test]
    fn a_line_has_no_head() {
        assert_eq!(text_of(|out| framed(out, Framing::Line, 200, None, &[b"{}"])), "{}\n");
    }
}
