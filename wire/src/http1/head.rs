//! Reads one whole response head; the only file that knows `httparse`.
//!
//! Owns the meaning of the head's fields (RFC 9110, RFC 9112). Must not know how the head's bytes
//! were put together, or what follows it.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};

use crate::{Limits, Violation};

/// The class of a `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Content {
    /// No `Content-Type`.
    Absent,
    /// `application/json`, whatever its parameters.
    Json,
    /// `text/event-stream`.
    EventStream,
    /// Any other.
    Other,
}

/// How the end of the body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks (section 7.1).
    Chunked,
    /// All bytes up to the end of the connection.
    Close,
}

/// What is learnt from one response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status code, 100 to 999.
    pub status: u16,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
    /// The class of the body's type.
    pub content: Content,
    /// Whether a `Content-Encoding` other than `identity` applies.
    pub encoded: bool,
    /// Whether an `Mcp-Session-Id` was there and taken.
    pub has_session: bool,
}

impl Head {
    /// Whether the final response is yet to come (1xx other than 101).
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Hands every field of the head that is all of `text` to `see`, and returns the status.
///
/// # Errors
/// [`Violation::TooManyHeaders`] or [`Violation::MalformedHttp`].
pub fn each_field(
    text: &[u8],
    limits: &Limits,
    mut see: impl FnMut(&str, &[u8]),
) -> Result<u16, Violation> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; Limits::HEADERS_MAX];
    let response = parse(text, limits, &mut fields)?;
    response.headers.iter().for_each(|field| see(field.name, field.value));
    response.code.ok_or(Violation::MalformedHttp)
}

fn parse<'h, 't>(
    text: &'t [u8],
    limits: &Limits,
    fields: &'h mut [MaybeUninit<Header<'t>>],
) -> Result<Response<'h, 't>, Violation> {
    let count = limits.headers.min(fields.len());
    let mut response = Response::new(&mut []);
    let mut config = ParserConfig::default();
    // Section 5.2: a user agent reads a folded line as if it were one.
    config.allow_obsolete_multiline_headers_in_responses(true);
    let parsed =
        config.parse_response_with_uninit_headers(&mut response, text, &mut fields[..count]);
    match parsed {
        Ok(Status::Complete(len)) if len == text.len() => Ok(response),
        Err(httparse::Error::TooManyHeaders) => Err(Violation::TooManyHeaders),
        Ok(_) | Err(_) => Err(Violation::MalformedHttp),
    }
}

/// The fields that decide the framing, gathered over all header lines.
#[derive(Default)]
struct Gathered {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

/// Reads the head that is all of `text`. `session` takes the `Mcp-Session-Id` of a 2xx response;
/// it is emptied if that carries none.
///
/// # Errors
/// A [`Violation`] of the HTTP group, or [`Violation::BadSessionId`].
pub fn read_head(
    text: &[u8],
    head_request: bool,
    limits: &Limits,
    session: Option<&mut Vec<u8>>,
) -> Result<Head, Violation> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; Limits::HEADERS_MAX];
    let response = parse(text, limits, &mut fields)?;
    let (Some(status @ 100..), Some(minor)) = (response.code, response.version) else {
        return Err(Violation::MalformedHttp);
    };
    let mut head = Head {
        status,
        framing: Framing::Empty,
        keep_alive: minor >= 1,
        content: Content::Absent,
        encoded: false,
        has_session: false,
    };
    let mut gathered = Gathered::default();
    let mut session = session.filter(|_| (200..300).contains(&status));
    if let Some(session) = session.as_deref_mut() {
        session.clear();
    }
    for field in &*response.headers {
        read_field(field, &mut head, &mut gathered, limits, session.as_deref_mut())?;
    }
    // Section 9.3. Minor version 0 keeps alive only if both sides say so.
    head.keep_alive = !gathered.close && (head.keep_alive || gathered.keep_alive);
    head.framing = framing(&head, head_request, &gathered);
    if gathered.chunked && (gathered.length.is_some() || minor == 0) {
        // Section 6.1: such a message is read as chunked, and its connection is not used again.
        head.keep_alive = false;
    }
    if head.framing == Framing::Close {
        head.keep_alive = false;
    }
    Ok(head)
}

/// Section 6.3, in its order.
fn framing(head: &Head, head_request: bool, gathered: &Gathered) -> Framing {
    if head_request || head.status < 200 || matches!(head.status, 204 | 304) {
        Framing::Empty
    } else if gathered.chunked {
        Framing::Chunked
    } else {
        match gathered.length {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

fn read_field(
    field: &Header<'_>,
    head: &mut Head,
    gathered: &mut Gathered,
    limits: &Limits,
    session: Option<&mut Vec<u8>>,
) -> Result<(), Violation> {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    // The length is told before the name, as most fields are of no interest.
    match field.name.len() {
        10 if is("connection") => {
            for option in list(field.value) {
                gathered.close |= option.eq_ignore_ascii_case(b"close");
                gathered.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        12 if is("content-type") => head.content = content(field.value),
        14 if is("content-length") => {
            for length in list(field.value) {
                let length = decimal(length).ok_or(Violation::BadContentLength)?;
                if gathered.length.is_some_and(|before| before != length) {
                    return Err(Violation::BadContentLength);
                }
                gathered.length = Some(length);
            }
            // An empty value is no length.
            gathered.length.ok_or(Violation::BadContentLength)?;
        }
        14 if is("mcp-session-id") => {
            if let Some(session) = session {
                take_session(field.value, session, limits)?;
                head.has_session = true;
            }
        }
        16 if is("content-encoding") => {
            head.encoded |=
                list(field.value).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        }
        17 if is("transfer-encoding") => {
            for coding in list(field.value) {
                if gathered.chunked || !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::BadTransferEncoding);
                }
                gathered.chunked = true;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), empty ones left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn content(value: &[u8]) -> Content {
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    let media_type = value[..end].trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/json") {
        Content::Json
    } else if media_type.eq_ignore_ascii_case(b"text/event-stream") {
        Content::EventStream
    } else {
        Content::Other
    }
}

/// 1*DIGIT (RFC 9110 section 8.6) of at most 64 bits: no sign, no space.
fn decimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Visible ASCII only (MCP 2025-11-25, "Session Management").
fn take_session(value: &[u8], session: &mut Vec<u8>, limits: &Limits) -> Result<(), Violation> {
    let fits = !value.is_empty() && value.len() <= limits.session_id_bytes;
    if !fits || !value.iter().all(u8::is_ascii_graphic) {
        return Err(Violation::BadSessionId);
    }
    session.clear();
    session.extend_from_slice(value);
    Ok(())
}
