//! Responses in every chunking, with httparse as the oracle for chunk sizes.

use proptest::prelude::*;

use super::*;

/// What a whole input amounts to.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    heads: Vec<Head>,
    body: Vec<u8>,
    ends: Vec<bool>,
    session: Vec<u8>,
}

fn read_in(input: &[u8], cuts: &[usize], head_request: bool) -> Result<Seen, Violation> {
    let limits = Limits::default();
    let mut reader = Reader::new();
    let mut seen = Seen::default();
    let mut spill = Vec::new();
    let mut rest = input;
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let (mut chunk, later) = rest.split_at(size);
        rest = later;
        loop {
            let session = Some(&mut seen.session);
            let mut lent = Lent { limits: &limits, spill: &mut spill, session };
            let (used, piece) = reader.next(chunk, head_request, &mut lent)?;
            chunk = &chunk[used..];
            match piece {
                Piece::Nothing => break,
                Piece::Head(head) => seen.heads.push(head),
                Piece::Data(data) => seen.body.extend_from_slice(data),
                Piece::End { reuse } => seen.ends.push(reuse),
            }
        }
        assert!(chunk.is_empty(), "nothing means that all input is used");
        assert!(spill.is_empty() || !reader.in_body(), "a body leaves nothing behind");
    }
    Ok(seen)
}

fn read(input: &str) -> Result<Seen, Violation> {
    let whole = read_in(input.as_bytes(), &[usize::MAX], false);
    assert_eq!(whole, read_in(input.as_bytes(), &[1], false), "{input}");
    whole
}

fn head(fields: &str) -> Result<Head, Violation> {
    let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let head = read_head(text.as_bytes(), false, &Limits::default(), None);
    assert_eq!(read(&text).map(|seen| seen.heads), head.map(|head| vec![head]));
    head
}

#[test]
fn the_framing_follows_rfc_9112_section_6_3() {
    let framing = |fields: &str| head(fields).map(|head| (head.framing, head.keep_alive));
    for (fields, expected) in [
        ("content-LENGTH: 5\r\n", Ok((Framing::Length(5), true))),
        ("Content-Length: 0\r\n", Ok((Framing::Empty, true))),
        ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Ok((Framing::Length(5), true))),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Violation::BadContentLength)),
        ("Content-Length: 5, 6\r\n", Err(Violation::BadContentLength)),
        ("Content-Length: +5\r\n", Err(Violation::BadContentLength)),
        ("Content-Length: \r\n", Err(Violation::BadContentLength)),
        ("Content-Length: 18446744073709551616\r\n", Err(Violation::BadContentLength)),
        ("transfer-encoding: Chunked\r\n", Ok((Framing::Chunked, true))),
        // Both: chunked wins, and the connection is not used again (6.1).
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Ok((Framing::Chunked, false))),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(Violation::BadTransferEncoding)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(Violation::BadTransferEncoding)),
        ("Transfer-Encoding: gzip\r\n", Err(Violation::BadTransferEncoding)),
        ("", Ok((Framing::Close, false))),
        ("Connection: keep-alive\r\n", Ok((Framing::Close, false))),
        ("Content-Length: 1\r\nConnection: Close\r\n", Ok((Framing::Length(1), false))),
        ("Content-Length: 1\r\nConnection: x, close\r\n", Ok((Framing::Length(1), false))),
    ] {
        assert_eq!(framing(fields), expected, "{fields}");
    }
    let limits = Limits::default();
    let old = |fields: &str| {
        let text = format!("HTTP/1.0 200 OK\r\n{fields}\r\n");
        read_head(text.as_bytes(), false, &limits, None).map(|head| (head.framing, head.keep_alive))
    };
    assert_eq!(old("Content-Length: 2\r\n"), Ok((Framing::Length(2), false)));
    assert_eq!(old("Content-Length: 2\r\nConnection: keep-alive\r\n"), {
        Ok((Framing::Length(2), true))
    });
    assert_eq!(old("Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n"), {
        Ok((Framing::Chunked, false))
    });
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    let response = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
    for status in [204, 304] {
        let seen = read(&response(status)).unwrap();
        assert_eq!((seen.body.len(), seen.ends), (0, vec![true]), "{status}");
    }
    let seen = read_in(response(200).as_bytes(), &[1], true).unwrap();
    assert_eq!((seen.heads[0].framing, seen.ends), (Framing::Empty, vec![true]), "HEAD");
}

#[test]
fn interim_responses_are_skipped_and_counted() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let seen = read(&format!("{interim}{last}{interim}{last}")).unwrap();
    assert_eq!((seen.heads.len(), &*seen.body, seen.ends.len()), (2, &b"okok"[..], 2));
    assert_eq!(read(&format!("{}{last}", interim.repeat(5))), Err(Violation::TooManyInterim));
    assert_eq!(read("HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap().heads[0].status, 101);
}

#[test]
fn content_types_and_codings_are_classed() {
    for (fields, content) in [
        ("Content-Type: application/json\r\n", Content::Json),
        ("CONTENT-TYPE: Application/JSON ; charset=utf-8\r\n", Content::Json),
        ("content-type: text/event-stream;charset=utf-8\r\n", Content::EventStream),
        ("content-type: application/json-seq\r\n", Content::Other),
        ("content-type: text/html\r\n", Content::Other),
        ("", Content::Absent),
    ] {
        assert_eq!(head(fields).unwrap().content, content, "{fields}");
    }
    assert!(head("Content-Encoding: gzip\r\n").unwrap().encoded);
    assert!(!head("Content-Encoding: identity\r\n").unwrap().encoded);
}

#[test]
fn a_session_id_is_taken_from_a_success_only() {
    let response = |status: u16, fields: &str| {
        read(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{fields}\r\n"))
    };
    let seen = response(200, "mCP-sESSION-iD: 1868a90c-5f\r\n").unwrap();
    assert_eq!((&*seen.session, seen.heads[0].has_session), (&b"1868a90c-5f"[..], true));
    let seen = response(400, "Mcp-Session-Id: dead\r\n").unwrap();
    assert_eq!((&*seen.session, seen.heads[0].has_session), (&b""[..], false));
    let long = "x".repeat(256);
    assert_eq!(response(200, &format!("mcp-session-id: {long}\r\n")).unwrap().session.len(), 256);
    for bad in ["", "a b", "caf\u{e9}", &format!("{long}x")] {
        let found = response(200, &format!("mcp-session-id: {bad}\r\n"));
        assert_eq!(found, Err(Violation::BadSessionId), "{bad}");
    }
}

#[test]
fn heads_are_bounded_and_refused_early() {
    let status = "HTTP/1.1 200 OK\r\n";
    let long = format!("{status}X-Pad: {}\r\n\r\n", "x".repeat(16 * 1024));
    assert_eq!(read(&long), Err(Violation::HeadTooLong));
    let fits = format!("{status}Connection: close\r\nX: {}\r\n\r\n", "x".repeat(16_300));
    assert!(fits.len() <= Limits::default().head_bytes);
    assert_eq!(read(&fits).unwrap().heads.len(), 1);
    let endless = format!("{status}X-Pad: {}", "x".repeat(17 * 1024));
    assert_eq!(read(&endless), Err(Violation::HeadTooLong));
    let many = format!("{status}{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(read(&many), Err(Violation::TooManyHeaders));
    for text in ["SSH-2.0-x", "HTTP/2 200\r\n", "H2", "\u{16}\u{3}\u{1}", "{}"] {
        assert_eq!(read(text), Err(Violation::MalformedHttp), "without waiting for more: {text}");
    }
    for text in
        ["HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"]
    {
        assert_eq!(read(text), Err(Violation::MalformedHttp), "{text}");
    }
    assert_eq!(read("HTTP/1.1 200\nContent-Length: 1\n\nx").unwrap().body, b"x", "lone LF");
}

#[test]
fn chunks_come_with_odd_sizes_extensions_and_trailers() {
    let response = |body: &str| {
        read(&format!("HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n{body}"))
    };
    let empty = response("0\r\n\r\n").unwrap();
    assert_eq!((empty.body.len(), empty.ends), (0, vec![true]), "a 202 that is chunked and empty");
    let text = "1a;name=\"v\"\r\nabcdefghijklmnopqrstuvwxyz\r\n\
        001A \r\nABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n0;last\r\nTrailer: x\r\nOther: y\r\n\r\n";
    let seen = response(text).unwrap();
    assert_eq!((seen.body.len(), seen.ends), (52, vec![true]));
    for bad in
        ["g\r\n", "\r\n", "5x\r\n", "-1\r\n", "2\nab", "2\r\nabc", "11111111111111111\r\n", "5;\n"]
    {
        assert_eq!(response(bad), Err(Violation::MalformedChunk), "{bad}");
    }
    let long = format!("5;{}", "x".repeat(300));
    assert_eq!(response(&long), Err(Violation::ChunkHeaderTooLong));
    let trailers = format!("0\r\n{}", "A: b\r\n".repeat(2000));
    assert_eq!(response(&trailers), Err(Violation::ChunkHeaderTooLong));
}

#[test]
fn the_state_stays_small() {
    assert!(size_of::<Reader>() <= 24, "{}", size_of::<Reader>());
}

/// A body in chunks of the given lengths, with sizes in a mix of cases.
fn chunked(body: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = body;
    for (index, &length) in lengths.iter().cycle().enumerate() {
        let (chunk, later) = rest.split_at(length.clamp(1, 400).min(rest.len()));
        rest = later;
        let size = match index % 3 {
            0 => format!("{:x}\r\n", chunk.len()),
            1 => format!("{:X};ext=1\r\n", chunk.len()),
            _ => format!("0{:x}\r\n", chunk.len()),
        };
        let parsed = httparse::parse_chunk_size(size.as_bytes()).unwrap();
        assert_eq!(parsed, httparse::Status::Complete((size.len(), chunk.len() as u64)));
        text.extend_from_slice(size.as_bytes());
        if chunk.is_empty() {
            break;
        }
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

proptest! {
    #[test]
    fn responses_back_to_back_are_read_in_every_chunking(
        bodies in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..600), prop::option::of(1usize..400)), 1..4),
        cuts in prop::collection::vec(1usize..200, 1..6),
    ) {
        let mut text = Vec::new();
        let mut all = Vec::new();
        for (body, chunks) in &bodies {
            all.extend_from_slice(body);
            match chunks {
                Some(length) => {
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    text.extend_from_slice(head.as_bytes());
                    text.extend(chunked(body, &[*length, 7]));
                }
                None => {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    text.extend_from_slice(head.as_bytes());
                    text.extend_from_slice(body);
                }
            }
        }
        let seen = read_in(&text, &cuts, false).unwrap();
        prop_assert_eq!(&seen.body, &all);
        prop_assert_eq!(&seen.ends, &vec![true; bodies.len()]);
        prop_assert_eq!(&seen, &read_in(&text, &[1], false).unwrap());
        prop_assert_eq!(&seen, &read_in(&text, &[usize::MAX], false).unwrap());
    }

    #[test]
    fn chunk_size_lines_are_judged_as_by_httparse(
        line in "[0-9a-fA-F]{1,18}[ \t]{0,2}(;[a-z=\"]{0,8})?\r\n",
    ) {
        let mut body = Body::new(Framing::Chunked);
        let limits = Limits::default();
        let ours = body.next(line.as_bytes(), &limits);
        match httparse::parse_chunk_size(line.as_bytes()) {
            // httparse also refuses more than 16 digits that are mostly zeros.
            Ok(httparse::Status::Complete((used, _))) => {
                prop_assert_eq!(ours, Ok((used, &b""[..])));
            }
            Ok(httparse::Status::Partial) => prop_assert!(ours.is_ok()),
            Err(_) => prop_assert!(ours.is_err() || line.trim().len() > 16, "{:?}", line),
        }
    }

    #[test]
    fn unread_content_comes_again(
        body in prop::collection::vec(any::<u8>(), 1..300),
        chunks in prop::option::of(1usize..100),
        step in 1usize..20,
    ) {
        let (framing, text) = match chunks {
            Some(length) => (Framing::Chunked, chunked(&body, &[length])),
            None => (Framing::Length(body.len() as u64), body.clone()),
        };
        let limits = Limits::default();
        let mut reader = Body::new(framing);
        let (mut at, mut seen) = (0, Vec::new());
        while !reader.is_done() {
            let (used, data) = reader.next(&text[at..], &limits).unwrap();
            let keep = data.len().min(step);
            seen.extend_from_slice(&data[..keep]);
            reader.unread(data.len() - keep);
            at += used - (data.len() - keep);
        }
        prop_assert_eq!((seen, at), (body, text.len()));
    }

    #[test]
    fn never_panics_and_says_the_same_in_every_chunking(
        tail in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(b"\r\n :;0aFx".to_vec()), 1 => any::<u8>()],
            0..60,
        ),
        start in prop::sample::select(vec![
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ]),
    ) {
        let text = [start.as_bytes(), &tail].concat();
        prop_assert_eq!(read_in(&text, &[1], false), read_in(&text, &[usize::MAX], false));
    }
}
