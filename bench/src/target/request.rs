//! HTTP/1.1 requests: bytes in, one request out. No socket, no answer.
//!
//! `httparse` is known only here. Bodies need a Content-Length; chunked requests are refused,
//! which RFC 9112 section 6.1 allows (501).

use std::mem::MaybeUninit;

/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Longest head and longest body, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;

/// The request methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// HEAD: answered without a body.
    Head,
    /// Any other.
    Other,
}

/// One whole request, borrowed from the connection's buffer.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The request target as sent, query included.
    pub path: &'a str,
    /// The body, empty if none was announced.
    pub body: &'a [u8],
    /// `Mcp-Session-Id`.
    pub session: Option<&'a [u8]>,
    /// `MCP-Protocol-Version`.
    pub version: Option<&'a [u8]>,
    /// `Mcp-Method`.
    pub mcp_method: Option<&'a [u8]>,
    /// Whether `Accept` names `text/event-stream`.
    pub accepts_stream: bool,
    /// Whether the connection stays open after the answer (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Bytes of the buffer that this request took.
    pub len_bytes: usize,
}

/// What the buffer holds.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// Not yet a whole request; `need_bytes` is the least length it will have, as far as known.
    Partial {
        /// Least length of the whole request in bytes.
        need_bytes: usize,
    },
    /// A whole request.
    Whole(Request<'a>),
    /// Nothing that can be answered but with this status, and then the connection is closed.
    Bad(u16),
}

/// Reads the request at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let head_bytes = match head.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
            return Parsed::Partial { need_bytes: bytes.len() + 1 };
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Bad(431);
        }
        Err(_) => return Parsed::Bad(400),
    };
    let mut request = Request {
        method: method(head.method.unwrap_or_default()),
        path: head.path.unwrap_or_default(),
        body: &[],
        session: None,
        version: None,
        mcp_method: None,
        accepts_stream: false,
        keep_alive: head.version == Some(1),
        len_bytes: head_bytes,
    };
    let mut body_bytes = 0;
    for header in head.headers.iter() {
        match read_header(&mut request, header) {
            Ok(None) => {}
            Ok(Some(announced)) => body_bytes = announced,
            Err(status) => return Parsed::Bad(status),
        }
    }
    request.len_bytes += body_bytes;
    match bytes.get(head_bytes..request.len_bytes) {
        Some(body) => request.body = body,
        None => return Parsed::Partial { need_bytes: request.len_bytes },
    }
    Parsed::Whole(request)
}

/// Takes one header into the request; gives the body's length if the header is that one.
fn read_header<'a>(
    request: &mut Request<'a>,
    header: &httparse::Header<'a>,
) -> Result<Option<usize>, u16> {
    let (name, value) = (header.name, header.value);
    // The length tells nearly all names apart, so that most headers cost one comparison.
    match name.len() {
        6 if name.eq_ignore_ascii_case("accept") => {
            request.accepts_stream |= contains(value, b"text/event-stream");
        }
        10 if name.eq_ignore_ascii_case("connection") => {
            if value.eq_ignore_ascii_case(b"close") {
                request.keep_alive = false;
            } else if value.eq_ignore_ascii_case(b"keep-alive") {
                request.keep_alive = true;
            }
        }
        10 if name.eq_ignore_ascii_case("mcp-method") => request.mcp_method = Some(value),
        14 if name.eq_ignore_ascii_case("content-length") => {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            return match length {
                Some(length) if length <= BODY_BYTES_MAX => Ok(Some(length)),
                Some(_) => Err(413),
                None => Err(400),
            };
        }
        14 if name.eq_ignore_ascii_case("mcp-session-id") => request.session = Some(value),
        17 if name.eq_ignore_ascii_case("transfer-encoding") => return Err(501),
        20 if name.eq_ignore_ascii_case("mcp-protocol-version") => request.version = Some(value),
        _ => {}
    }
    Ok(None)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "HEAD" => Method::Head,
        _ => Method::Other,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST /mcp HTTP/1.1\r\nHost: x\r\nACCEPT: application/json, \
        text/event-stream\r\nmcp-session-id: abc\r\nMCP-Protocol-Version: 2025-11-25\r\n\
        Content-Length: 4\r\n\r\n{}{}GET";

    fn whole(text: &str) -> Request<'_> {
        match parse(text.as_bytes()) {
            Parsed::Whole(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn takes_what_it_needs_and_leaves_what_follows() {
        let request = whole(POST);
        assert_eq!(request.method, Method::Post);
        assert_eq!(request.path, "/mcp");
        assert_eq!(request.body, b"{}{}");
        assert_eq!(request.session, Some(&b"abc"[..]));
        assert_eq!(request.version, Some(&b"2025-11-25"[..]));
        assert!(request.accepts_stream && request.keep_alive);
        assert_eq!(&POST.as_bytes()[request.len_bytes..], b"GET");
    }

    #[test]
    fn every_prefix_is_partial_and_asks_for_more_than_it_has() {
        let whole_bytes = whole(POST).len_bytes;
        for cut in 0..whole_bytes {
            match parse(&POST.as_bytes()[..cut]) {
                Parsed::Partial { need_bytes } => {
                    assert!(need_bytes > cut && need_bytes <= whole_bytes, "at {cut}");
                }
                other => panic!("at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn keep_alive_follows_version_and_header() {
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(whole("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").keep_alive);
    }

    #[test]
    fn refuses_what_it_cannot_read_with_the_right_status() {
        let status = |text: &str| match parse(text.as_bytes()) {
            Parsed::Bad(status) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status("\u{1}\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), 413);
        assert_eq!(status("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(40_000))), 431);
    }
}
