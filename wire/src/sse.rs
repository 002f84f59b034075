//! Server-Sent Events (WHATWG HTML, section 9.2.6 "Interpreting an event stream").
//!
//! Owns lines and fields; hands the data of an event on as it comes and keeps none of it. Must
//! not know what the data means.

use crate::matcher::{Matcher, Table};

const FIELDS: Table = &["data", "event", "id", "retry"];
const NAMES: Table = &["endpoint", "message"];

/// The class of an event by its `event:` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// `message`, or no `event:` at all.
    Message,
    /// `endpoint` (MCP 2024-11-05).
    Endpoint,
    /// Any other.
    Other,
}

/// What the front of the input amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Nothing yet: all input is used.
    Nothing,
    /// More of the event's data. Lines after the first are preceded by a piece of one newline.
    Data(&'a [u8]),
    /// A new `id:` begins; it replaces one given before in the same event.
    IdStart,
    /// More of the id.
    Id(&'a [u8]),
    /// The event is complete.
    Dispatch(Dispatch),
}

/// The end of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch {
    /// The class of the event. It is known only here, as `event:` may follow `data:`.
    pub name: Name,
    /// Whether there was a `data:` line, be it empty. A stream carries blank lines without one
    /// as a matter of course; they are no events, but an id in them counts.
    pub has_data: bool,
    /// Whether there was an `id:` line.
    pub has_id: bool,
}

/// Where in a line the next byte falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// At the start of the stream, after so many bytes of a byte order mark.
    Bom0,
    Bom1,
    Bom2,
    LineStart,
    /// In a field's name.
    Field,
    /// After the colon, where one space is skipped.
    Colon,
    Data,
    Event,
    Id,
    Retry,
    /// In a comment or a field of no interest.
    Ignored,
    /// Owes the newline between two lines of data.
    DataJoin,
    /// Owes the start of an id.
    IdBegin,
}

/// An event stream under way, in a few bytes.
#[derive(Debug, Clone)]
pub struct Parser {
    state: State,
    matcher: Matcher,
    name: Name,
    has_data: bool,
    has_id: bool,
    /// The line ended in CR: an LF now belongs to it.
    after_cr: bool,
    /// The line's field, while its colon and owed piece are dealt with.
    field: State,
    /// The wait that the stream wants before it is opened again, ms; [`NO_RETRY`] without one.
    retry_ms: u32,
    /// The digits of a `retry:` under way; [`NO_RETRY`] once they are no number that counts.
    digits: u32,
}

/// No reconnection time: none was given, or it was no number.
const NO_RETRY: u32 = u32::MAX;
/// A number before its first digit.
const NO_DIGIT: u32 = u32::MAX - 1;

impl Parser {
    /// A parser before the first byte of a stream.
    pub const fn new() -> Self {
        Self {
            state: State::Bom0,
            matcher: Matcher::new(),
            name: Name::Message,
            has_data: false,
            has_id: false,
            after_cr: false,
            field: State::Ignored,
            retry_ms: NO_RETRY,
            digits: NO_RETRY,
        }
    }

    /// The reconnection time that the stream gave last, ms (`retry:`).
    pub fn retry_ms(&self) -> Option<u32> {
        (self.retry_ms != NO_RETRY).then_some(self.retry_ms)
    }

    /// The class of the event under way, by what was read of it.
    pub fn name(&self) -> Name {
        self.name
    }

    /// Takes the front of `input`; returns how much was used and what it is. To be called until
    /// it returns [`Piece::Nothing`].
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        let mut used = 0;
        loop {
            // What is owed from the byte before needs no further byte.
            match self.state {
                State::DataJoin => {
                    self.state = State::Colon;
                    return (used, Piece::Data(b"\n"));
                }
                State::IdBegin => {
                    self.state = State::Colon;
                    return (used, Piece::IdStart);
                }
                _ => {}
            }
            let Some(&byte) = input.get(used) else { return (used, Piece::Nothing) };
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                used += 1;
                continue;
            }
            let line_end = matches!(byte, b'\r' | b'\n');
            match self.state {
                State::Data | State::Id | State::Ignored if !line_end => {
                    let rest = &input[used..];
                    let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    let piece = match self.state {
                        State::Data => Piece::Data(&rest[..len]),
                        State::Id => Piece::Id(&rest[..len]),
                        _ => Piece::Nothing,
                    };
                    used += len;
                    if piece != Piece::Nothing {
                        return (used, piece);
                    }
                }
                _ if line_end => {
                    if self.needs_value() {
                        continue;
                    }
                    used += 1;
                    self.after_cr = byte == b'\r';
                    if let Some(dispatch) = self.end_line() {
                        return (used, Piece::Dispatch(dispatch));
                    }
                }
                _ => used += self.take(byte),
            }
        }
    }

    /// At the end of a line that is a field's bare name: gives it its empty value.
    fn needs_value(&mut self) -> bool {
        self.state == State::Field && {
            self.begin_value();
            self.state != State::Ignored && self.state != State::Colon
        }
    }

    /// Takes a byte that ends no line; returns 0 if it has to be seen again.
    fn take(&mut self, byte: u8) -> usize {
        self.state = match (self.state, byte) {
            (State::Bom0, 0xef) => State::Bom1,
            (State::Bom1, 0xbb) => State::Bom2,
            (State::Bom2, 0xbf) => State::LineStart,
            (State::Bom1 | State::Bom2, _) => State::Ignored,
            (State::Bom0 | State::LineStart, b':') => State::Ignored,
            (State::Bom0 | State::LineStart, _) => {
                self.matcher = Matcher::new();
                self.matcher.push(FIELDS, byte);
                State::Field
            }
            (State::Field, b':') => {
                self.begin_value();
                return 1;
            }
            (State::Field, _) => {
                self.matcher.push(FIELDS, byte);
                State::Field
            }
            (State::Colon, b' ') => self.field,
            (State::Colon, _) => {
                self.state = self.field;
                return 0;
            }
            (State::Event, _) => {
                self.matcher.push(NAMES, byte);
                State::Event
            }
            (State::Retry, _) => {
                self.digits = next_digit(self.digits, byte);
                State::Retry
            }
            (state, _) => state,
        };
        1
    }

    /// The field's name has ended.
    fn begin_value(&mut self) {
        let field = self.matcher.finish(FIELDS).map(|index| FIELDS[usize::from(index)]);
        (self.field, self.state) = match field {
            Some("data") => {
                let join = std::mem::replace(&mut self.has_data, true);
                (State::Data, if join { State::DataJoin } else { State::Colon })
            }
            Some("event") => (State::Event, State::Colon),
            Some("id") => {
                self.has_id = true;
                (State::Id, State::IdBegin)
            }
            Some("retry") => {
                self.digits = NO_DIGIT;
                (State::Retry, State::Colon)
            }
            _ => (State::Ignored, State::Ignored),
        };
        self.matcher = Matcher::new();
    }

    /// Ends the line; an empty one completes the event.
    fn end_line(&mut self) -> Option<Dispatch> {
        let state = std::mem::replace(&mut self.state, State::LineStart);
        match state {
            State::Colon | State::Event if self.field == State::Event => {
                self.name = match self.matcher.finish(NAMES).map(|i| NAMES[usize::from(i)]) {
                    Some("endpoint") => Name::Endpoint,
                    Some("message") => Name::Message,
                    // An empty name is no name.
                    _ if self.matcher.is_new() => Name::Message,
                    _ => Name::Other,
                };
                None
            }
            // Only digits make it one (WHATWG HTML 9.2.6); an empty value has none.
            State::Retry => {
                if self.digits < NO_DIGIT {
                    self.retry_ms = self.digits;
                }
                None
            }
            State::Bom0 | State::LineStart => {
                let dispatch =
                    Dispatch { name: self.name, has_data: self.has_data, has_id: self.has_id };
                self.name = Name::Message;
                self.has_data = false;
                self.has_id = false;
                (dispatch.has_data || dispatch.has_id).then_some(dispatch)
            }
            _ => None,
        }
    }
}

/// A number that grows by a digit; what is no number, or none that fits, stays that.
fn next_digit(number: u32, byte: u8) -> u32 {
    match number {
        NO_RETRY => NO_RETRY,
        _ if !byte.is_ascii_digit() => NO_RETRY,
        NO_DIGIT => u32::from(byte - b'0'),
        _ => {
            let grown = number.checked_mul(10).and_then(|n| n.checked_add(u32::from(byte - b'0')));
            grown.filter(|&n| n < NO_DIGIT).unwrap_or(NO_RETRY)
        }
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry(input: &str) -> Option<u32> {
        let mut parser = Parser::new();
        let mut rest = input.as_bytes();
        loop {
            let (used, piece) = parser.next(rest);
            rest = &rest[used..];
            if piece == Piece::Nothing {
                return parser.retry_ms();
            }
        }
    }

    #[test]
    fn a_reconnection_time_is_digits_and_the_last_one_counts() {
        assert_eq!(retry("retry: 3000\nid: 1\ndata:\n\n"), Some(3000));
        assert_eq!(retry("retry:0\r\n\r\n"), Some(0));
        assert_eq!(retry("retry: 10\nretry: 20\n"), Some(20));
        assert_eq!(retry("retry: 10\nretry: 2x\n"), Some(10), "no number: ignored");
        let none = ["", "retry\n", "retry:\n", "retry: \n", "retry: -5\n", "retry: 99999999999\n"];
        for text in none {
            assert_eq!(retry(text), None, "{text:?}");
        }
        assert_eq!(retry("data: retry: 7\n\n"), None);
    }

    #[derive(Debug, Default, Clone, PartialEq)]
    struct Event {
        data: Option<String>,
        id: Option<String>,
        name: Option<Name>,
    }

    fn read(input: &[u8], size: usize) -> Vec<Event> {
        let mut parser = Parser::new();
        let mut events = Vec::new();
        let (mut data, mut id) = (Vec::new(), Vec::new());
        for mut chunk in input.chunks(size) {
            loop {
                let (used, piece) = parser.next(chunk);
                chunk = &chunk[used..];
                match piece {
                    Piece::Nothing => break,
                    Piece::Data(text) => data.extend_from_slice(text),
                    Piece::IdStart => id.clear(),
                    Piece::Id(text) => id.extend_from_slice(text),
                    Piece::Dispatch(end) => {
                        let text = |bytes: &mut Vec<u8>| {
                            String::from_utf8_lossy(&std::mem::take(bytes)).into_owned()
                        };
                        events.push(Event {
                            data: end.has_data.then(|| text(&mut data)),
                            id: end.has_id.then(|| text(&mut id)),
                            name: Some(end.name),
                        });
                    }
                }
            }
            assert!(chunk.is_empty());
        }
        events
    }

    fn one(input: &str) -> Event {
        for size in 1..=input.len() {
            assert_eq!(read(input.as_bytes(), size), read(input.as_bytes(), 1), "{input}");
        }
        let mut events = read(input.as_bytes(), input.len());
        assert_eq!(events.len(), 1, "{input}");
        events.remove(0)
    }

    fn event(data: Option<&str>, id: Option<&str>, name: Name) -> Event {
        Event { data: data.map(str::to_owned), id: id.map(str::to_owned), name: Some(name) }
    }

    #[test]
    fn reads_what_real_servers_send() {
        for (input, expected) in [
            ("event: message\r\ndata: {}\r\n\r\n", event(Some("{}"), None, Name::Message)),
            ("data: {}\nid: 7\n\n", event(Some("{}"), Some("7"), Name::Message)),
            ("\u{feff}data:{}\r\r", event(Some("{}"), None, Name::Message)),
            ("id: 0\nretry: 3000\ndata:\n\n", event(Some(""), Some("0"), Name::Message)),
            ("id: x/1\nretry: 3000\ndata: \n\n", event(Some(""), Some("x/1"), Name::Message)),
            (": ping - 2026\r\n\r\ndata\n\n", event(Some(""), None, Name::Message)),
            ("data: a\ndata:  b\n:c\ndata\n\n", event(Some("a\n b\n"), None, Name::Message)),
            ("event: endpoint\ndata: /m?s=1\n\n", event(Some("/m?s=1"), None, Name::Endpoint)),
            ("data: 1\nevent: ping\n\n", event(Some("1"), None, Name::Other)),
            ("event:\ndata: 1\n\n", event(Some("1"), None, Name::Message)),
            ("event: \ndata: 1\n\n", event(Some("1"), None, Name::Message)),
            ("datas: x\ndat: y\nid\n\n", event(None, Some(""), Name::Message)),
            ("id: a\nid: b\ndata: 1\n\n", event(Some("1"), Some("b"), Name::Message)),
        ] {
            assert_eq!(one(input), expected, "{input:?}");
        }
        let none = b": keep-alive\n\n\r\n\r\nretry: 5\n\ndata: not ended\n";
        for size in 1..none.len() {
            assert_eq!(read(none, size), []);
        }
    }

    #[test]
    fn the_name_does_not_outlive_its_event() {
        let events = read(b"event: endpoint\ndata: a\n\ndata: b\n\n", 3);
        assert_eq!(events[1], event(Some("b"), None, Name::Message));
    }

    /// A plain reading of WHATWG HTML 9.2.6 over the whole text.
    fn oracle(text: &str) -> Vec<Event> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let mut event = Event::default();
        // What follows the last line end is no line.
        let Some(end) = text.rfind('\n') else { return events };
        for line in text[..end].split('\n') {
            if line.is_empty() {
                let mut done = std::mem::take(&mut event);
                done.name = Some(done.name.unwrap_or(Name::Message));
                if done.data.is_some() || done.id.is_some() {
                    events.push(done);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    event.data = Some(match event.data.take() {
                        Some(data) => data + "\n" + value,
                        None => value.to_owned(),
                    });
                }
                "id" => event.id = Some(value.to_owned()),
                "event" => {
                    event.name = Some(match value {
                        "" | "message" => Name::Message,
                        "endpoint" => Name::Endpoint,
                        _ => Name::Other,
                    });
                }
                _ => {}
            }
        }
        events
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_reading_in_every_chunking(
            parts in prop::collection::vec(prop::sample::select(vec![
                "data", "id", "event", "retry", ":", ": ", " ", "\n", "\n\n", "\r\n", "\r", "x",
                "message", "endpoint", "\u{feff}", "日", "{}", "data: ", "id: ",
            ]), 0..40),
            size in 1usize..9,
        ) {
            // A line end, so that the last line counts whether CR or LF follows.
            let text = parts.concat() + "\n";
            prop_assert_eq!(read(text.as_bytes(), size), oracle(&text), "{:?}", text);
        }
    }
}
