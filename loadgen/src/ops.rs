//! The operations that a session performs, with their numbers and names in the log.

use serde_json::{Value, json};

/// What a request asks for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `initialize`: opens a session (sessions era).
    Initialize = 0,
    /// `notifications/initialized`: the session may be used.
    Initialized = 1,
    /// `server/discover`: the first request of a connection (stateless era).
    Discover = 2,
    /// Ends the session.
    Delete = 3,
    /// Keeps a session alive that has nothing to do: `ping`, or `server/discover`.
    Ping = 4,
    /// The scheduled work: a tool call, `tools/list`, or a plain HTTP request.
    Call = 5,
    /// Asks whether the server still knows a session whose connection was lost.
    Verify = 6,
}

impl Op {
    /// All operations, in the order of their numbers.
    pub const ALL: [Op; 7] =
        [Op::Initialize, Op::Initialized, Op::Discover, Op::Delete, Op::Ping, Op::Call, Op::Verify];

    /// The name in the log and the report.
    pub fn name(self) -> &'static str {
        match self {
            Op::Initialize => "initialize",
            Op::Initialized => "initialized",
            Op::Discover => "discover",
            Op::Delete => "delete",
            Op::Ping => "ping",
            Op::Call => "call",
            Op::Verify => "verify",
        }
    }

    /// Whether it counts as load: it is what the schedule asks for, and not what sessions need to
    /// come, stay and go. What is offered is then what the schedule says, to the unit.
    pub fn is_load(self) -> bool {
        matches!(self, Op::Call)
    }
}

/// The table in the log's header.
pub fn table() -> Value {
    let row =
        |op: Op| json!({"name": op.name(), "kind": if op.is_load() { "load" } else { "session" }});
    Op::ALL.iter().map(|&op| row(op)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_table() {
        for (number, op) in Op::ALL.iter().enumerate() {
            assert_eq!(*op as usize, number);
            assert_eq!(table()[number]["name"], op.name());
        }
    }
}
