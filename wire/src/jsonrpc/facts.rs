//! What is remembered while a message is scanned, and what it amounts to at the end.
//!
//! Owns the meaning of keys and values at depth 1 and 2. Must not know the grammar: the scanner
//! tells it when values begin and end.

use super::{Id, Kind, Message, Method, ResultType, TEXT_BYTES};
use crate::Violation;
use crate::matcher::Table;

pub(super) const TOP_KEYS: Table = &["error", "id", "jsonrpc", "method", "result"];
const TOP_ROLES: [Role; 5] = [Role::Error, Role::Id, Role::JsonRpc, Role::Method, Role::Result];
pub(super) const RESULT_KEYS: Table = &["isError", "protocolVersion", "resultType"];
const RESULT_ROLES: [Role; 3] = [Role::IsError, Role::Version, Role::ResultType];
pub(super) const ERROR_KEYS: Table = &["code"];
pub(super) const VERSION_WORDS: Table = &["2.0"];
pub(super) const METHODS: Table = Method::NAMES;

/// What the key or value under way means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    /// A value of no interest.
    Skip,
    /// A key of no interest.
    SkipKey,
    /// A key of the message, of `result`, of `error`.
    TopKey,
    ResultKey,
    ErrorKey,
    /// Values of the message.
    Error,
    Id,
    JsonRpc,
    Method,
    Result,
    /// Values of `result`.
    IsError,
    Version,
    ResultType,
    /// `error.code`
    Code,
}

impl Role {
    pub(super) fn is_key(self) -> bool {
        matches!(self, Self::SkipKey | Self::TopKey | Self::ResultKey | Self::ErrorKey)
    }

    /// Whether a string of this role is looked at and not just skipped.
    pub(super) fn is_read(self) -> bool {
        match self {
            Self::TopKey
            | Self::ResultKey
            | Self::ErrorKey
            | Self::Id
            | Self::JsonRpc
            | Self::Method
            | Self::Version
            | Self::ResultType => true,
            Self::Skip
            | Self::SkipKey
            | Self::Error
            | Self::Result
            | Self::IsError
            | Self::Code => false,
        }
    }
}

/// A short text kept inline; one that does not fit is not kept at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text {
    bytes: [u8; TEXT_BYTES],
    len: u8,
}

impl Text {
    const TOO_LONG: u8 = u8::MAX;

    const fn new() -> Self {
        Self { bytes: [0; TEXT_BYTES], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.len = Self::TOO_LONG,
        }
    }

    pub(super) fn get(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// How the `id` looked so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum IdForm {
    Absent,
    Number,
    Text,
    Null,
    Other,
}

const JSONRPC: u16 = 1;
const METHOD: u16 = 1 << 1;
const METHOD_IS_TEXT: u16 = 1 << 2;
const RESULT: u16 = 1 << 3;
const ERROR: u16 = 1 << 4;
const ERROR_IS_OBJECT: u16 = 1 << 5;
const TOOL_ERROR: u16 = 1 << 6;
const HAS_VERSION: u16 = 1 << 7;
const NUMBER_NEGATIVE: u16 = 1 << 8;
const NUMBER_NOT_INTEGER: u16 = 1 << 9;
const NUMBER_OVERFLOW: u16 = 1 << 10;

/// The facts of one message.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    id: u64,
    number: u64,
    code: i32,
    flags: u16,
    id_form: IdForm,
    method: Method,
    result_type: ResultType,
    /// The member of the message whose value is under way, as the role of that value.
    top: Role,
    /// The member of `result` or `error` whose value is under way.
    sub: Role,
    pub(super) text: Text,
}

impl Facts {
    pub(super) const fn new() -> Self {
        Self {
            id: 0,
            number: 0,
            code: 0,
            flags: 0,
            id_form: IdForm::Absent,
            method: Method::Other,
            result_type: ResultType::Absent,
            top: Role::Skip,
            sub: Role::Skip,
            text: Text::new(),
        }
    }

    fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    fn set(&mut self, flags: u16, on: bool) {
        if on {
            self.flags |= flags;
        } else {
            self.flags &= !flags;
        }
    }

    /// The role of a key of the object at `depth`.
    pub(super) fn key_role(&self, depth: u8) -> Role {
        match (depth, self.top) {
            (1, _) => Role::TopKey,
            (2, Role::Result) => Role::ResultKey,
            (2, Role::Error) => Role::ErrorKey,
            _ => Role::SkipKey,
        }
    }

    /// Notes that a value of any type begins and returns its role. What an earlier member of
    /// that name said is forgotten.
    pub(super) fn begin_value(&mut self, depth: u8, in_object: bool) -> Role {
        let role = match depth {
            1 => self.top,
            2 if in_object => self.sub,
            _ => Role::Skip,
        };
        match role {
            Role::JsonRpc => self.set(JSONRPC, false),
            Role::Id => self.id_form = IdForm::Other,
            Role::Method => {
                self.set(METHOD, true);
                self.set(METHOD_IS_TEXT, false);
            }
            Role::Result => {
                self.set(RESULT, true);
                self.set(TOOL_ERROR | HAS_VERSION, false);
                self.result_type = ResultType::Absent;
            }
            Role::Error => {
                self.set(ERROR, true);
                self.set(ERROR_IS_OBJECT, false);
                self.code = 0;
            }
            Role::IsError => self.set(TOOL_ERROR, false),
            Role::Version => self.set(HAS_VERSION, false),
            Role::ResultType => self.result_type = ResultType::Other,
            Role::Code => self.code = 0,
            Role::Skip | Role::SkipKey | Role::TopKey | Role::ResultKey | Role::ErrorKey => {}
        }
        if depth == 1 {
            self.sub = Role::Skip;
        }
        role
    }

    pub(super) fn object(&mut self, role: Role) {
        if role == Role::Error {
            self.set(ERROR_IS_OBJECT, true);
        }
    }

    pub(super) fn truth(&mut self, role: Role) {
        if role == Role::IsError {
            self.set(TOOL_ERROR, true);
        }
    }

    /// A null `error` beside a `result` is what JSON-RPC 1.0 servers send; it says nothing.
    pub(super) fn null(&mut self, role: Role) {
        match role {
            Role::Id => self.id_form = IdForm::Null,
            Role::Error => self.set(ERROR, false),
            _ => {}
        }
    }

    pub(super) fn begin_number(&mut self, negative: bool) {
        self.number = 0;
        self.set(NUMBER_NOT_INTEGER | NUMBER_OVERFLOW, false);
        self.set(NUMBER_NEGATIVE, negative);
    }

    pub(super) fn digit(&mut self, role: Role, byte: u8) {
        if !matches!(role, Role::Id | Role::Code) {
            return;
        }
        let next = self.number.checked_mul(10);
        match next.and_then(|number| number.checked_add(u64::from(byte - b'0'))) {
            Some(number) => self.number = number,
            None => self.set(NUMBER_OVERFLOW, true),
        }
    }

    pub(super) fn not_integer(&mut self) {
        self.set(NUMBER_NOT_INTEGER, true);
    }

    pub(super) fn end_number(&mut self, role: Role) {
        let odd = NUMBER_NEGATIVE | NUMBER_NOT_INTEGER | NUMBER_OVERFLOW;
        match role {
            Role::Id if self.flags & odd == 0 => {
                self.id = self.number;
                self.id_form = IdForm::Number;
            }
            Role::Code if !self.has(NUMBER_NOT_INTEGER) => {
                let size = if self.has(NUMBER_OVERFLOW) { u64::MAX } else { self.number };
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                let code = if self.has(NUMBER_NEGATIVE) { -size } else { size };
                self.code = code.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            }
            _ => {}
        }
    }

    pub(super) fn begin_string(&mut self, role: Role) {
        match role {
            Role::Id => {
                self.text = Text::new();
                self.text.push(b'"');
                self.set(HAS_VERSION, false);
            }
            Role::Version => self.text = Text::new(),
            _ => {}
        }
    }

    /// A byte of a string as it stands.
    pub(super) fn raw(&mut self, role: Role, byte: u8) {
        if role == Role::Id {
            self.text.push(byte);
        }
    }

    /// A byte of a string after its escapes are undone.
    pub(super) fn decoded(&mut self, role: Role, byte: u8) {
        if role == Role::Version {
            self.text.push(byte);
        }
    }

    /// `word` is the index in the table that belongs to `role`.
    pub(super) fn end_string(&mut self, role: Role, word: Option<u8>) {
        let pick = |roles: &[Role]| word.map_or(Role::Skip, |index| roles[usize::from(index)]);
        match role {
            Role::TopKey => self.top = pick(&TOP_ROLES),
            Role::ResultKey => self.sub = pick(&RESULT_ROLES),
            Role::ErrorKey => self.sub = pick(&[Role::Code]),
            Role::JsonRpc => self.set(JSONRPC, word.is_some()),
            Role::Method => {
                self.set(METHOD_IS_TEXT, true);
                self.method = Method::from_index(word);
            }
            Role::ResultType => self.result_type = ResultType::from_index(word),
            Role::Id => {
                self.text.push(b'"');
                self.id_form = IdForm::Text;
            }
            Role::Version => self.set(HAS_VERSION, true),
            Role::Skip
            | Role::SkipKey
            | Role::Error
            | Role::Result
            | Role::IsError
            | Role::Code => {}
        }
    }

    /// Judges the whole message by JSON-RPC 2.0, sections 4 and 5.
    pub(super) fn message(&self, len_bytes: u32) -> Result<Message, Violation> {
        let id = match self.id_form {
            IdForm::Absent => None,
            IdForm::Number => Some(Id::Number(self.id)),
            IdForm::Text => Some(Id::Text),
            IdForm::Null => Some(Id::Null),
            IdForm::Other => Some(Id::Other),
        };
        let answers = (self.has(RESULT), self.has(ERROR));
        let kind = match (self.has(METHOD), answers, id) {
            _ if !self.has(JSONRPC) => return Err(Violation::NotJsonRpc),
            (false, (true, false), _) if self.has(TOOL_ERROR) => Kind::ToolError,
            (false, (true, false), _) => Kind::Result,
            (false, (false, true), _) if self.has(ERROR_IS_OBJECT) => Kind::Error(self.code),
            (true, (false, false), None) if self.has(METHOD_IS_TEXT) => {
                Kind::Notification(self.method)
            }
            // MCP: a request's id must not be null.
            (true, (false, false), Some(Id::Number(_) | Id::Text | Id::Other))
                if self.has(METHOD_IS_TEXT) =>
            {
                Kind::Request(self.method)
            }
            _ => return Err(Violation::NotJsonRpc),
        };
        let has_version = self.has(HAS_VERSION);
        Ok(Message { id, kind, result_type: self.result_type, has_version, len_bytes })
    }
}
