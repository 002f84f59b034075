//! Server-Sent Events (WHATWG HTML, section 9.2.6 "Interpreting an event stream").
//!
//! Owns lines and fields; hands the data of an event on as it comes and keeps none of it. Must
//! not know what the data means.

use crate::matcher::{Matcher, Table};

const FIELDS: Table = &["data", "event", "id"];
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
    /// In a comment or a field of no interest; `retry` is one, as reconnects have a schedule of
    /// their own.
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
}

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
        }
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

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}
