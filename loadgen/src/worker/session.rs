//! One session and the connection that carries it: state as data, no behaviour.

use latlog::Outcome;
use wire::client::Exchange;

use crate::layer::Layer;
use crate::ops::Op;
use crate::ring::{OpKind, SendBuffer};

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Has not had its turn in the ramp.
    Waiting,
    /// Waits before the next attempt to connect.
    BackingOff,
    /// TCP connect under way.
    Connecting,
    /// TLS or WebSocket handshake under way.
    Handshaking,
    /// A request that opens or verifies the session is queued or under way.
    Opening,
    /// Free for a request.
    Idle,
    /// A load request is queued or under way.
    Busy,
    /// The event stream that it was made for is open.
    Streaming,
    /// Its DELETE is queued or under way.
    Deleting,
    /// FIN is sent; waits for the peer's.
    Finishing,
    /// The socket is being dropped.
    Closing,
    /// Nothing more will happen.
    Ended,
}

/// What follows when a connection has been closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another connection, after a back-off.
    Reconnect,
    /// The same attempt from another pair of address and port, at once: the planned one is taken.
    OtherPair,
    /// What was decided when its last request was answered, over another connection once there is
    /// something to send.
    Renew,
    /// The end.
    End,
}

/// What follows when the exchange of a request is over and its connection is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The session is accepted: confirm it.
    Confirm,
    /// The session stands.
    Establish,
    /// The session is free for another request.
    Free,
    /// The server has forgotten the session: open another one.
    OpenAgain,
    /// The answer broke off to be resumed: ask for the rest.
    Resume,
    /// The server has forgotten the session too often: it ends.
    GiveUp,
    /// Close, and then what [`Session::next`] says.
    Close,
}

/// What the server has said about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that is still true.
    Unknown,
    /// `initialize` was answered; it has to be confirmed.
    Accepted,
    /// The session may be used, over another connection too.
    Confirmed,
}

/// The request of a session that is queued or under way.
#[derive(Clone, Copy, Debug)]
pub struct Current {
    /// What it asks for.
    pub op: Op,
    /// When it was due.
    pub intended_ns: u64,
    /// Its number in the fleet's schedule; 0 where it is not scheduled.
    pub index: u64,
    /// When it was handed to the kernel; 0 before.
    pub sent_ns: u64,
    /// When the first byte of the answer was read; 0 before.
    pub first_byte_ns: u64,
    /// How long its connection had been idle when it was begun.
    pub idle_ns: u64,
    /// Whether it was sent before, over a connection that the server was closing.
    pub again: bool,
}

/// A request whose connection ended before a byte of an answer came, after it had been idle. It may
/// only have crossed the server's close of an idle connection: that shows once the session stands
/// again.
#[derive(Clone, Copy, Debug)]
pub struct Crossed {
    /// The request.
    pub current: Current,
    /// Why it has failed, if that was no such close.
    pub outcome: Outcome,
    /// The errno.
    pub detail: i32,
    /// When its connection was lost.
    pub lost_ns: u64,
}

/// Operations of a connection that the kernel has not completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed(u8);

impl Armed {
    /// Notes that an operation was queued.
    pub fn set(&mut self, kind: OpKind) {
        self.0 |= 1 << kind as u8;
    }

    /// Notes that it will bring no further completion.
    pub fn clear(&mut self, kind: OpKind) {
        self.0 &= !(1 << kind as u8);
    }

    /// Whether it is under way.
    pub fn has(self, kind: OpKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether nothing is under way, so that the slot may be used again.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The bytes of a request that are being sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Where they are.
    pub buffer: SendBuffer,
    /// Bytes already taken by the kernel.
    pub from: u32,
    /// Bytes of the request.
    pub to: u32,
    /// Whether it answers a request of the server, and so is none.
    pub answer: bool,
}

/// A session with its connection; or a connection beside those of the sessions, see `slots`.
#[derive(Debug)]
pub struct Session {
    /// What it is doing.
    pub state: State,
    /// What follows its closing.
    pub next: Next,
    /// How often its slot has been used.
    pub generation: u32,
    /// Index of its target; `NO_TARGET` before the first attempt.
    pub target: u16,
    /// Failed attempts in a row.
    pub attempt: u8,
    /// Pairs of address and port that this attempt found taken.
    pub pairs_taken: u8,
    /// Whether its TCP connection stands.
    pub open: bool,
    /// Whether the server has accepted it as a session.
    pub established: bool,
    /// Whether it has been established at some time.
    pub stood: bool,
    /// Whether it counts among its target's sessions.
    pub assigned: bool,
    /// How far it has come with the server.
    pub standing: Standing,
    /// Whether the server has to be asked if it still knows the session.
    pub in_doubt: bool,
    /// What follows the exchange whose answer has been read.
    pub after: Option<After>,
    /// Whether part of an answer's head waits in the worker's spill store.
    pub spilled: bool,
    /// Whether its layer waits for a send buffer.
    pub unsent: bool,
    /// Whether the answer under way can be resumed from an event that the worker keeps.
    pub marked: bool,
    /// How often in a row the server has forgotten it before it answered a request.
    pub lapses: u8,
    /// How often the server has forgotten it.
    pub forgotten: u16,
    /// Operations under way.
    pub armed: Armed,
    /// Request bytes under way.
    pub sending: Option<Sending>,
    /// The request under way; answered ones are taken out.
    pub current: Option<Current>,
    /// A request whose fate is open while its session comes back.
    pub crossed: Option<Crossed>,
    /// When the state that a queue times began.
    pub since_ns: u64,
    /// When the present attempt at a session began.
    pub attempt_ns: u64,
    /// When a request on it was last answered.
    pub answered_ns: u64,
    /// JSON-RPC id of the latest request.
    pub request_id: u32,
    /// The `Mcp-Session-Id`, empty where there is none; over HTTP+SSE the address of its messages.
    /// Of a stream, the id of its last event.
    pub id: Vec<u8>,
    /// Reads the answers.
    pub exchange: Exchange,
    /// What lies between the connection and its messages; nothing over TCP in clear.
    pub layer: Option<Box<Layer>>,
}

/// Before the first attempt a session has no target.
pub const NO_TARGET: u16 = u16::MAX;

impl Session {
    /// A session that has not begun; room for an id is taken here and not under load.
    pub fn new(id_bytes: usize) -> Self {
        Self {
            state: State::Waiting,
            next: Next::End,
            generation: 0,
            target: NO_TARGET,
            attempt: 0,
            pairs_taken: 0,
            open: false,
            established: false,
            stood: false,
            assigned: false,
            standing: Standing::Unknown,
            in_doubt: false,
            after: None,
            spilled: false,
            unsent: false,
            marked: false,
            lapses: 0,
            forgotten: 0,
            armed: Armed::default(),
            sending: None,
            current: None,
            crossed: None,
            since_ns: 0,
            attempt_ns: 0,
            answered_ns: 0,
            request_id: 0,
            id: Vec::with_capacity(id_bytes),
            exchange: Exchange::http(),
            layer: None,
        }
    }
}
