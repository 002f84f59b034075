//! What must hold for each parser by itself, without a connection around it: a cut changes nothing,
//! it comes to an end, and what it takes for JSON is JSON. Shared by the test beside it and by the
//! fuzz target `pieces`.
//!
//! An input is one byte (which parser) and what it is to read.

use wire::{Limits, http1, jsonrpc, ndjson, sse, ws};

/// Panics if an input breaks a rule.
pub fn check(input: &[u8]) {
    let [kind, bytes @ ..] = input else { return };
    let limits = Limits::default();
    let read: fn(&[u8], &Limits, usize) -> String = match kind % 5 {
        0 => read_http1,
        1 => read_sse,
        2 => return check_json(bytes, &limits),
        3 => read_lines,
        _ => read_frames,
    };
    let whole = read(bytes, &limits, usize::MAX);
    assert_eq!(read(bytes, &limits, 1), whole, "byte by byte");
    assert_eq!(read(bytes, &limits, 7), whole, "seven bytes at a time");
}

/// Feeds the bytes in pieces of `size`; `step` takes the front of a piece, and says how much it used
/// and whether it wants to be called again.
fn feed(bytes: &[u8], size: usize, mut step: impl FnMut(&[u8]) -> Option<(usize, bool)>) {
    for mut chunk in bytes.chunks(size.min(bytes.len()).max(1)) {
        let mut calls_left = 4 * chunk.len() + 16;
        loop {
            let Some((used, again)) = step(chunk) else { return };
            chunk = &chunk[used..];
            calls_left -= 1;
            assert!(calls_left > 0, "reading comes to no end");
            if !again {
                break;
            }
        }
        assert!(chunk.is_empty(), "nothing more means that all input is used");
    }
}

fn read_http1(bytes: &[u8], limits: &Limits, size: usize) -> String {
    let (mut seen, mut data) = (String::new(), Vec::new());
    let (mut spill, mut session) = (Vec::new(), Vec::new());
    let mut reader = http1::Reader::new();
    feed(bytes, size, |chunk| {
        let mut lent = http1::Lent { limits, spill: &mut spill, session: Some(&mut session) };
        match reader.next(chunk, false, &mut lent) {
            Ok((used, piece)) => {
                match piece {
                    http1::Piece::Data(more) => data.extend_from_slice(more),
                    http1::Piece::Nothing => {}
                    other => seen += &format!("{other:?}"),
                }
                Some((used, piece != http1::Piece::Nothing))
            }
            Err(violation) => {
                seen += &format!("{violation:?}");
                None
            }
        }
    });
    format!("{seen} {session:?} {data:?}")
}

fn read_sse(bytes: &[u8], _: &Limits, size: usize) -> String {
    let (mut seen, mut data, mut id) = (String::new(), Vec::new(), Vec::new());
    let mut parser = sse::Parser::new();
    feed(bytes, size, |chunk| {
        let (used, piece) = parser.next(chunk);
        match piece {
            sse::Piece::Nothing => {}
            sse::Piece::Data(more) => data.extend_from_slice(more),
            sse::Piece::IdStart => id.clear(),
            sse::Piece::Id(more) => id.extend_from_slice(more),
            sse::Piece::Dispatch(end) => seen += &format!("{end:?} {id:?} {data:?}"),
        }
        Some((used, piece != sse::Piece::Nothing))
    });
    seen
}

fn read_lines(bytes: &[u8], limits: &Limits, size: usize) -> String {
    let mut seen = String::new();
    let mut scanner = jsonrpc::Scanner::new();
    feed(bytes, size, |chunk| match ndjson::next(&mut scanner, chunk, limits) {
        Ok((used, message)) => {
            seen += &message.map_or_else(String::new, |m| format!("{m:?}"));
            Some((used, message.is_some()))
        }
        Err(violation) => {
            seen += &format!("{violation:?}");
            None
        }
    });
    seen
}

fn read_frames(bytes: &[u8], _: &Limits, size: usize) -> String {
    let (mut seen, mut data, mut control) = (String::new(), Vec::new(), Vec::new());
    let mut parser = ws::Parser::new();
    feed(bytes, size, |chunk| match parser.next(chunk) {
        Ok((used, piece)) => {
            match piece {
                ws::Piece::Nothing => {}
                ws::Piece::Data(more) => data.extend_from_slice(more),
                ws::Piece::Control(more) => control.extend_from_slice(more),
                ws::Piece::End => seen += &format!("{:?}", std::mem::take(&mut data)),
                ws::Piece::Ping | ws::Piece::Pong | ws::Piece::Close => {
                    assert!(control.len() <= ws::CONTROL_BYTES);
                    seen += &format!("{piece:?} {:?}", std::mem::take(&mut control));
                }
            }
            Some((used, piece != ws::Piece::Nothing))
        }
        Err(violation) => {
            seen += &format!("{violation:?}");
            None
        }
    });
    format!("{seen} {data:?} {control:?}")
}

/// What the scanner takes for a message is JSON by somebody else's judgement too.
fn check_json(bytes: &[u8], limits: &Limits) {
    let whole = jsonrpc::scan(bytes, limits);
    let mut scanner = jsonrpc::Scanner::new();
    let fed = bytes.chunks(1).try_for_each(|byte| scanner.feed(byte, limits));
    assert_eq!(fed.and_then(|()| scanner.finish()), whole, "byte by byte");
    if whole.is_ok() {
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
        assert!(parsed.is_ok(), "{parsed:?}");
    }
}
