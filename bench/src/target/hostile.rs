//! Garbage to order: what a broken or malicious server might send instead of an answer.
//!
//! Bytes and pauses only, as steps; nothing is sent from here.

use std::time::Duration;

use clap::ValueEnum;

use super::reply::{self, Framing};
use super::steps::Step;

/// Pause between the bytes of [`Kind::Drip`].
const DRIP_GAP: Duration = Duration::from_millis(100);
/// An id that no client sends: above 2^53, so that a reader through doubles is caught too.
const FOREIGN_ID: &[u8] = b"9007199254740993";
/// Size of the pieces of an endless answer.
const PIECE_BYTES: usize = 16 << 10;

/// The kinds of garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Sound framing around JSON that ends in the middle
    MalformedJson,
    /// Bytes that are no HTTP (over TCP: no JSON), then the end
    MalformedHttp,
    /// A result under an id that nobody asked for
    WrongId,
    /// Such a result, and then the right answer
    UnsolicitedAnswer,
    /// Header fields without end (over TCP: as endless-line)
    EndlessHeaders,
    /// One line without end
    EndlessLine,
    /// A chunk announced as one gigabyte, and then silence (over TCP: half a line)
    HugeChunk,
    /// The right answer, one byte each 100 ms
    Drip,
    /// Notifications without end instead of the answer
    NotificationFlood,
    /// Half of the right answer, then the end
    Cut,
}

/// What is sent for a request with this id instead of, or around, the right `answer`.
pub fn script(kind: Kind, framing: Framing, id: Option<&[u8]>, answer: Vec<u8>) -> Vec<Step> {
    let over_tcp = framing == Framing::Line;
    match kind {
        Kind::MalformedJson => {
            let id = id.unwrap_or(b"0");
            vec![send(|out| {
                let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":{\"a\":[1,"];
                reply::framed(out, framing, 200, None, &parts);
            })]
        }
        Kind::MalformedHttp if over_tcp => {
            vec![Step::Send(b"\x00\xff\xfe not json \x01\n".to_vec()), Step::Close]
        }
        Kind::MalformedHttp => {
            let garbage =
                b"HTP/7.7 twohundred\r\n: no name\r\n\x00\xff\r\nContent-Length: -5\r\n\r\n";
            vec![Step::Send(garbage.to_vec()), Step::Close]
        }
        Kind::WrongId => vec![send(|out| foreign(out, framing))],
        Kind::UnsolicitedAnswer => vec![send(|out| foreign(out, framing)), Step::Send(answer)],
        Kind::EndlessHeaders if !over_tcp => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Step::Forever(repeated(b"X-Endless: 0123456789abcdef\r\n")),
        ],
        Kind::EndlessHeaders | Kind::EndlessLine => endless_line(framing),
        Kind::HugeChunk if over_tcp => vec![Step::Send(b"{\"jsonrpc\":\"2.0\",".to_vec())],
        Kind::HugeChunk => vec![Step::Send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
              Transfer-Encoding: chunked\r\n\r\n40000000\r\n{\"jsonrpc\":\"2.0\","
                .to_vec(),
        )],
        Kind::Drip => vec![Step::Pieces { bytes: answer, size_bytes: 1, gap: DRIP_GAP }],
        Kind::NotificationFlood => flood(framing),
        Kind::Cut => {
            let half = answer.len() / 2;
            vec![Step::Send(answer[..half].to_vec()), Step::Close]
        }
    }
}

fn foreign(out: &mut Vec<u8>, framing: Framing) {
    let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", FOREIGN_ID, b",\"result\":{}}"];
    reply::framed(out, framing, 200, None, &parts);
}

fn endless_line(framing: Framing) -> Vec<Step> {
    let start: &[u8] = match framing {
        Framing::Line => b"{\"jsonrpc\":\"2.0\",\"x\":\"",
        Framing::Json => b"HTTP/1.1 200 OK\r\nX-Endless: ",
        Framing::Sse => reply::STREAM_HEAD,
    };
    let piece = match framing {
        Framing::Line | Framing::Json => vec![b'x'; PIECE_BYTES],
        // Sound chunks, and inside them one `data:` line that never ends.
        Framing::Sse => {
            let mut chunk = format!("{PIECE_BYTES:x}\r\n").into_bytes();
            chunk.resize(chunk.len() + PIECE_BYTES, b'x');
            chunk.extend_from_slice(b"\r\n");
            chunk
        }
    };
    let mut start = start.to_vec();
    if framing == Framing::Sse {
        start.extend_from_slice(b"6\r\ndata: \r\n");
    }
    vec![Step::Send(start), Step::Forever(piece)]
}

fn flood(framing: Framing) -> Vec<Step> {
    const NOTE: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"flood"}}"#;
    if framing == Framing::Line {
        return vec![Step::Forever(repeated(&[NOTE, b"\n"].concat()))];
    }
    let mut event = Vec::new();
    reply::event(&mut event, &[NOTE]);
    vec![Step::Send(reply::STREAM_HEAD.to_vec()), Step::Forever(repeated(&event))]
}

fn send(write: impl FnOnce(&mut Vec<u8>)) -> Step {
    let mut bytes = Vec::new();
    write(&mut bytes);
    Step::Send(bytes)
}

fn repeated(unit: &[u8]) -> Vec<u8> {
    unit.repeat((PIECE_BYTES / unit.len()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_sends_something_in_every_framing() {
        for &kind in Kind::value_variants() {
            for framing in [Framing::Json, Framing::Sse, Framing::Line] {
                let steps = script(kind, framing, Some(b"1"), b"HTTP/1.1 200 OK\r\n".to_vec());
                let sends = steps.iter().any(|step| match step {
                    Step::Send(bytes) | Step::Forever(bytes) | Step::Pieces { bytes, .. } => {
                        !bytes.is_empty()
                    }
                    Step::WaitUntil(_) | Step::Close | Step::Reset => false,
                });
                assert!(sends, "{kind:?} in {framing:?}");
            }
        }
    }

    #[test]
    fn the_right_answer_follows_the_unsolicited_one() {
        let steps = script(Kind::UnsolicitedAnswer, Framing::Line, Some(b"1"), b"right\n".to_vec());
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1], Step::Send(b"right\n".to_vec()));
    }
}
