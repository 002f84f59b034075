//! The operations that a session performs, with their numbers and names in the log.

use serde_json::{Value, json};

use crate::mix::Mix;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `initialize`: opens a session (sessions era).
    Initialize,
    /// `notifications/initialized`: the session may be used.
    Initialized,
    /// `server/discover`: the first request of a connection (stateless era).
    Discover,
    /// Ends the session.
    Delete,
    /// Keeps a session alive that has nothing to do: `ping`, or `server/discover`.
    Ping,
    /// The scheduled work: a tool call, `tools/list`, or a plain HTTP request; which of the mix.
    Call(u8),
    /// Asks whether the server still knows a session whose connection was lost.
    Verify,
    /// Opens the event stream beside a session: a GET, or `subscriptions/listen`.
    Stream,
    /// Answers a `ping` of the server.
    Pong,
    /// Answers any other request of the server: with an error, as this client has nothing to give.
    Decline,
}

impl Op {
    /// The operations that every run has, in the order of their numbers; further calls of a mix
    /// come after them.
    const FIXED: [Op; 10] = [
        Op::Initialize,
        Op::Initialized,
        Op::Discover,
        Op::Delete,
        Op::Ping,
        Op::Call(0),
        Op::Verify,
        Op::Stream,
        Op::Pong,
        Op::Decline,
    ];

    /// All operations of a run with so many calls, in the order of their numbers.
    pub fn all(calls: u8) -> impl Iterator<Item = Op> {
        Self::FIXED.into_iter().chain((1..calls).map(Op::Call))
    }

    /// The number in the log: the place in [`Op::all`].
    pub fn number(self) -> u8 {
        match self {
            Op::Initialize => 0,
            Op::Initialized => 1,
            Op::Discover => 2,
            Op::Delete => 3,
            Op::Ping => 4,
            Op::Call(0) => 5,
            Op::Verify => 6,
            Op::Stream => 7,
            Op::Pong => 8,
            Op::Decline => 9,
            Op::Call(call) => 9 + call,
        }
    }

    /// The name in the log and the report.
    pub fn name(self, mix: &Mix) -> String {
        match self {
            Op::Initialize => "initialize".into(),
            Op::Initialized => "initialized".into(),
            Op::Discover => "discover".into(),
            Op::Delete => "delete".into(),
            Op::Ping => "ping".into(),
            Op::Call(call) => mix.name(call),
            Op::Verify => "verify".into(),
            Op::Stream => "stream".into(),
            Op::Pong => "pong".into(),
            Op::Decline => "decline".into(),
        }
    }

    /// Whether it counts as load: it is what the schedule asks for, and not what sessions need to
    /// come, stay and go. What is offered is then what the schedule says, to the unit.
    pub fn is_load(self) -> bool {
        matches!(self, Op::Call(_))
    }
}

/// The table in the log's header.
pub fn table(mix: &Mix) -> Value {
    let kind = |op: Op| if op.is_load() { "load" } else { "session" };
    Op::all(mix.count()).map(|op| json!({"name": op.name(mix), "kind": kind(op)})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_table() {
        let calls = ["a".to_owned(), "b=2".to_owned(), "c".to_owned()];
        let mix = Mix::parse(&calls, &[], 0).expect("parses");
        let table = table(&mix);
        for (number, op) in Op::all(mix.count()).enumerate() {
            assert_eq!(usize::from(op.number()), number);
            assert_eq!(table[number]["name"], op.name(&mix));
        }
        assert_eq!(table.as_array().map(Vec::len), Some(12));
        assert_eq!(table[5]["name"], "call:a");
        assert_eq!(table[11], json!({"name": "call:c", "kind": "load"}));
    }
}
