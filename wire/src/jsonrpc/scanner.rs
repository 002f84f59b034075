//! The streaming validator and extractor behind [`Scanner`].
//!
//! Owns the JSON grammar (RFC 8259) as a push-down automaton whose stack is one word. Must not
//! keep text, except the few bytes of [`Scanner::text`].

use super::facts::{ERROR_KEYS, Facts, METHODS, RESULT_KEYS, Role, TOP_KEYS, VERSION_WORDS};
use super::utf8::{Utf8, plain_run};
use super::{Message, TYPE_WORDS};
use crate::matcher::{Matcher, Table};
use crate::{Limits, Violation};

/// Where in the grammar the next byte falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Lex {
    /// Before the message.
    Start,
    /// A value must follow.
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    Colon,
    CommaOrEnd,
    Str,
    /// After a backslash.
    Escape,
    /// In the four digits after `\u`.
    Hex,
    /// After `-`.
    Minus,
    /// After a leading `0`.
    Zero,
    Int,
    /// After `.`.
    Point,
    Frac,
    /// After `e`.
    Exp,
    /// After the sign of an exponent.
    ExpSign,
    ExpDigits,
    /// In `true`, `false` or `null`.
    Literal,
    /// After the message.
    End,
}

const LITERALS: [&[u8]; 3] = [b"true", b"false", b"null"];
const TRUE: u8 = 0;
const NULL: u8 = 2;

/// Reads one JSON-RPC message in chunks of any size and keeps none of it.
///
/// Strings with lone surrogate escapes pass, as the grammar has it (RFC 8259 section 8.2). Of
/// several members with one name the last counts.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// One bit a level, 1 for an object; the innermost is the lowest.
    stack: u64,
    facts: Facts,
    len_bytes: u32,
    /// The code unit of a `\u` escape, as far as read.
    unit: u16,
    lex: Lex,
    depth: u8,
    role: Role,
    matcher: Matcher,
    /// Which literal, or how many digits of `\u` are read.
    literal: u8,
    /// Bytes of the literal read.
    literal_at: u8,
    utf8: Utf8,
}

/// Reads one whole message.
///
/// # Errors
/// As [`Scanner::feed`] and [`Scanner::finish`].
pub fn scan(text: &[u8], limits: &Limits) -> Result<Message, Violation> {
    let mut scanner = Scanner::new();
    scanner.feed(text, limits)?;
    scanner.finish()
}

impl Scanner {
    /// A scanner before the first byte of a message.
    pub const fn new() -> Self {
        Self {
            stack: 0,
            facts: Facts::new(),
            len_bytes: 0,
            unit: 0,
            lex: Lex::Start,
            depth: 0,
            role: Role::Skip,
            matcher: Matcher::new(),
            literal: 0,
            literal_at: 0,
            utf8: Utf8::Start,
        }
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// The first violation, once; the scanner must be [reset](Scanner::reset) after it.
    pub fn feed(&mut self, chunk: &[u8], limits: &Limits) -> Result<(), Violation> {
        // What comes before the bound is read first: the reason does not depend on how the message
        // is cut.
        let room = limits.message_bytes.saturating_sub(self.len_bytes) as usize;
        let (mut rest, beyond) = chunk.split_at(chunk.len().min(room));
        self.len_bytes += rest.len() as u32;
        while let Some(&byte) = rest.first() {
            let used = match self.lex {
                Lex::Str => self.string(rest)?,
                _ => self.step(byte, limits)?,
            };
            rest = &rest[used..];
        }
        if !beyond.is_empty() {
            return Err(Violation::MessageTooLong);
        }
        Ok(())
    }

    /// Ends the message and makes the scanner ready for the next; [`Scanner::text`] stays.
    ///
    /// # Errors
    /// [`Violation::TruncatedJson`] or [`Violation::NotJsonRpc`].
    pub fn finish(&mut self) -> Result<Message, Violation> {
        let message = match self.lex {
            Lex::End => self.facts.message(self.len_bytes),
            _ => Err(Violation::TruncatedJson),
        };
        self.reset();
        message
    }

    /// Forgets the message under way; [`Scanner::text`] stays.
    pub fn reset(&mut self) {
        let text = self.facts.text;
        *self = Self::new();
        self.facts.text = text;
    }

    /// Whether nothing but white space has been taken since the last message.
    pub fn is_blank(&self) -> bool {
        self.lex == Lex::Start
    }

    /// The text kept of the message: `result.protocolVersion`, or the raw token of a text id.
    /// Empty if there was none, or none that fits.
    pub fn text(&self) -> &[u8] {
        self.facts.text.get()
    }

    /// Takes one byte outside a string's plain part; returns 0 if the byte ended a number and
    /// has to be seen again.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<usize, Violation> {
        const SPACE: [u8; 4] = *b" \t\n\r";
        match self.lex {
            Lex::Str | Lex::Escape | Lex::Hex => self.escape(byte)?,
            Lex::Minus
            | Lex::Zero
            | Lex::Int
            | Lex::Point
            | Lex::Frac
            | Lex::Exp
            | Lex::ExpSign
            | Lex::ExpDigits => return self.number(byte),
            Lex::Literal => self.literal(byte)?,
            _ if SPACE.contains(&byte) => {}
            Lex::Start => self.start(byte, limits)?,
            Lex::Value => self.value(byte, limits)?,
            Lex::ValueOrEnd if byte == b']' => self.close(),
            Lex::ValueOrEnd => self.value(byte, limits)?,
            Lex::KeyOrEnd if byte == b'}' => self.close(),
            Lex::KeyOrEnd | Lex::Key if byte == b'"' => {
                self.begin_string(self.facts.key_role(self.depth));
            }
            Lex::Colon if byte == b':' => self.lex = Lex::Value,
            Lex::CommaOrEnd => match (byte, self.in_object()) {
                (b',', true) => self.lex = Lex::Key,
                (b',', false) => self.lex = Lex::Value,
                (b'}', true) | (b']', false) => self.close(),
                _ => return Err(Violation::MalformedJson),
            },
            Lex::KeyOrEnd | Lex::Key | Lex::Colon => return Err(Violation::MalformedJson),
            Lex::End => return Err(Violation::TrailingJson),
        }
        Ok(1)
    }

    fn start(&mut self, byte: u8, limits: &Limits) -> Result<(), Violation> {
        match byte {
            b'{' => self.open(true, limits),
            b'[' => Err(Violation::Batch),
            b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Err(Violation::NotJsonRpc),
            _ => Err(Violation::MalformedJson),
        }
    }

    fn in_object(&self) -> bool {
        self.stack & 1 == 1
    }

    fn open(&mut self, object: bool, limits: &Limits) -> Result<(), Violation> {
        if self.depth >= limits.depth.min(Limits::DEPTH_MAX) {
            return Err(Violation::JsonTooDeep);
        }
        self.depth += 1;
        self.stack = self.stack << 1 | u64::from(object);
        self.lex = if object { Lex::KeyOrEnd } else { Lex::ValueOrEnd };
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.stack >>= 1;
        self.after_value();
    }

    fn after_value(&mut self) {
        self.lex = if self.depth == 0 { Lex::End } else { Lex::CommaOrEnd };
    }

    fn value(&mut self, byte: u8, limits: &Limits) -> Result<(), Violation> {
        let role = self.facts.begin_value(self.depth, self.in_object());
        self.role = role;
        match byte {
            b'{' => {
                self.facts.object(role);
                return self.open(true, limits);
            }
            b'[' => return self.open(false, limits),
            b'"' => self.begin_string(role),
            b'-' => {
                self.facts.begin_number(true);
                self.lex = Lex::Minus;
            }
            b'0'..=b'9' => {
                self.facts.begin_number(false);
                self.facts.digit(role, byte);
                self.lex = if byte == b'0' { Lex::Zero } else { Lex::Int };
            }
            b't' | b'f' | b'n' => {
                self.literal = match byte {
                    b't' => TRUE,
                    b'f' => 1,
                    _ => NULL,
                };
                self.literal_at = 1;
                self.lex = Lex::Literal;
            }
            _ => return Err(Violation::MalformedJson),
        }
        Ok(())
    }

    fn literal(&mut self, byte: u8) -> Result<(), Violation> {
        let word = LITERALS[usize::from(self.literal)];
        if word[usize::from(self.literal_at)] != byte {
            return Err(Violation::MalformedJson);
        }
        self.literal_at += 1;
        if usize::from(self.literal_at) == word.len() {
            match self.literal {
                TRUE => self.facts.truth(self.role),
                NULL => self.facts.null(self.role),
                _ => {}
            }
            self.after_value();
        }
        Ok(())
    }

    fn number(&mut self, byte: u8) -> Result<usize, Violation> {
        let next = match (self.lex, byte) {
            (Lex::Minus, b'0') => Lex::Zero,
            (Lex::Minus, b'1'..=b'9') | (Lex::Int, b'0'..=b'9') => Lex::Int,
            (Lex::Zero | Lex::Int, b'.') => Lex::Point,
            (Lex::Point | Lex::Frac, b'0'..=b'9') => Lex::Frac,
            (Lex::Zero | Lex::Int | Lex::Frac, b'e' | b'E') => Lex::Exp,
            (Lex::Exp, b'+' | b'-') => Lex::ExpSign,
            (Lex::Exp | Lex::ExpSign | Lex::ExpDigits, b'0'..=b'9') => Lex::ExpDigits,
            (Lex::Zero | Lex::Int | Lex::Frac | Lex::ExpDigits, _) => {
                self.facts.end_number(self.role);
                self.after_value();
                return Ok(0);
            }
            _ => return Err(Violation::MalformedJson),
        };
        match next {
            Lex::Zero | Lex::Int => self.facts.digit(self.role, byte),
            _ => self.facts.not_integer(),
        }
        self.lex = next;
        Ok(1)
    }

    fn begin_string(&mut self, role: Role) {
        self.role = role;
        self.matcher = Matcher::new();
        self.lex = Lex::Str;
        self.facts.begin_string(role);
    }

    /// Takes the front of `rest` up to the string's end or its next escape.
    fn string(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        if let Some(words) = table(self.role) {
            // Nearly always the whole word is there, and can be looked up at once.
            let len = if self.matcher.is_new() { plain_run(rest) } else { rest.len() };
            if rest.get(len) == Some(&b'"') {
                let word = words.iter().position(|word| word.as_bytes() == &rest[..len]);
                self.end_string(word.map(|index| index as u8));
                return Ok(len + 1);
            }
        }
        let skip = !self.role.is_read();
        let mut at = 0;
        while at < rest.len() {
            let byte = rest[at];
            if self.utf8 != Utf8::Start || byte >= 0x80 {
                self.utf8 = self.utf8.push(byte).ok_or(Violation::MalformedJson)?;
                self.keep(byte);
                at += 1;
                continue;
            }
            match byte {
                b'"' => {
                    let word = table(self.role).and_then(|words| self.matcher.finish(words));
                    self.end_string(word);
                    return Ok(at + 1);
                }
                b'\\' => {
                    self.facts.raw(self.role, byte);
                    self.lex = Lex::Escape;
                    return Ok(at + 1);
                }
                0..0x20 => return Err(Violation::MalformedJson),
                _ if skip => at += plain_run(&rest[at..]),
                _ => {
                    self.keep(byte);
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    fn keep(&mut self, byte: u8) {
        self.facts.raw(self.role, byte);
        self.decoded(byte);
    }

    fn decoded(&mut self, byte: u8) {
        match table(self.role) {
            Some(words) => self.matcher.push(words, byte),
            None => self.facts.decoded(self.role, byte),
        }
    }

    fn escape(&mut self, byte: u8) -> Result<(), Violation> {
        self.facts.raw(self.role, byte);
        if self.lex == Lex::Hex {
            let digit = char::from(byte).to_digit(16).ok_or(Violation::MalformedJson)?;
            self.unit = self.unit << 4 | digit as u16;
            self.literal += 1;
            if self.literal == 4 {
                // No word that is looked for holds anything but ASCII, so any other character
                // may be stood for by a byte that never matches.
                self.decoded(u8::try_from(self.unit).ok().filter(u8::is_ascii).unwrap_or(0xff));
                self.lex = Lex::Str;
            }
            return Ok(());
        }
        let decoded = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.unit = 0;
                self.literal = 0;
                self.lex = Lex::Hex;
                return Ok(());
            }
            _ => return Err(Violation::MalformedJson),
        };
        self.decoded(decoded);
        self.lex = Lex::Str;
        Ok(())
    }

    fn end_string(&mut self, word: Option<u8>) {
        self.facts.end_string(self.role, word);
        if self.role.is_key() {
            self.lex = Lex::Colon;
        } else {
            self.after_value();
        }
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

/// The words looked for in a string of this role.
fn table(role: Role) -> Option<Table> {
    match role {
        Role::TopKey => Some(TOP_KEYS),
        Role::ResultKey => Some(RESULT_KEYS),
        Role::ErrorKey => Some(ERROR_KEYS),
        Role::JsonRpc => Some(VERSION_WORDS),
        Role::Method => Some(METHODS),
        Role::ResultType => Some(TYPE_WORDS),
        Role::Skip
        | Role::SkipKey
        | Role::Id
        | Role::Result
        | Role::Error
        | Role::IsError
        | Role::Version
        | Role::Code => None,
    }
}
