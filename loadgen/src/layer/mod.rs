//! What lies between the bytes of a connection and the protocol: TLS, WebSocket, or one in the
//! other. Without I/O: received bytes in, plain bytes out, and the other way round.
//!
//! A connection in clear has no layer at all. WebSocket text messages come out as lines, and lines
//! go in as text messages, so that whoever speaks knows lines only. Must not know sessions, rings
//! or logs.

mod tls;
mod trouble;
mod ws;

use latlog::Outcome;
use wire::Limits;

pub use tls::{BadTls, Secured, TlsOptions, TlsPeer, Transport};
pub use trouble::describe;
pub use ws::WsPeer;

use tls::Tls;
use ws::Ws;

/// How all connections to one target are wrapped.
#[derive(Clone, Debug)]
pub struct Wrapping {
    /// The TLS of a target that speaks it.
    pub tls: Option<TlsPeer>,
    /// The WebSocket handshake of a target that speaks it.
    pub ws: Option<WsPeer>,
}

impl Wrapping {
    /// The same for the connections of one worker.
    pub fn for_worker(&self) -> Self {
        Self { tls: self.tls.as_ref().map(TlsPeer::for_worker), ws: self.ws.clone() }
    }

    /// Bytes of a send buffer that takes a message of `len` bytes, or the first flight, in one.
    pub fn sealed_len(&self, len: usize) -> usize {
        let framed = match &self.ws {
            Some(ws) => (len + FRAME_BYTES).max(ws.request_bytes()),
            None => len,
        };
        match self.tls {
            // A record has up to 2^14 bytes of content (RFC 8446 section 5.1).
            Some(_) => (framed + (framed / (1 << 14) + 1) * RECORD_BYTES).max(FLIGHT_BYTES),
            None => framed,
        }
    }
}

/// A frame's head and mask (RFC 6455 section 5.2).
const FRAME_BYTES: usize = 14;
/// A record's head, content type, and what its cipher adds: 5 + 1 + 16, or 5 + 8 + 16 before 1.3.
const RECORD_BYTES: usize = 29;
/// A ClientHello; a client certificate goes into several buffers.
const FLIGHT_BYTES: usize = 512;

/// What the connections of one worker share: memory that is empty between two calls.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What TLS gave, on its way to WebSocket.
    between: Vec<u8>,
    /// A frame on its way into TLS.
    frame: Vec<u8>,
}

/// What received bytes led to, beside plain bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The TLS handshake is through.
    pub secured: Option<Secured>,
    /// Everything is agreed upon: requests may be sent.
    pub ready: bool,
    /// The peer ends the connection in good order; a WebSocket close has a code.
    pub closed: Option<u16>,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub outcome: Outcome,
    /// Its number: see [`describe`] for TLS.
    pub detail: i32,
    /// A sentence for people, where the number does not say all.
    pub text: String,
}

impl Failure {
    fn violation(violation: wire::Violation) -> Self {
        Self { outcome: Outcome::Violation, detail: violation as i32, text: String::new() }
    }
}

/// The layers of one connection, and the bytes that they want sent.
#[derive(Debug)]
pub struct Layer {
    tls: Option<Tls>,
    ws: Option<Ws>,
    /// What is to be sent as it is; with TLS, its own buffers hold it.
    out: Vec<u8>,
    sent: usize,
    ready: bool,
}

/// A sent-out buffer that is larger than this is not kept for the next message.
const KEPT_BYTES: usize = 4096;

impl Layer {
    /// For a connection that has just been made; its first bytes wait to be sent. `nonce` is a
    /// number that no other connection has had.
    ///
    /// # Errors
    /// What rustls says of a configuration that cannot work.
    pub fn begin(wrapping: &Wrapping, nonce: u64) -> Result<Self, Failure> {
        let tls = wrapping.tls.as_ref().map(Tls::begin).transpose()?;
        let ws = wrapping.ws.as_ref().map(|peer| Ws::begin(peer, nonce));
        let mut layer = Self { tls, ws, out: Vec::new(), sent: 0, ready: false };
        if layer.tls.is_none() {
            layer.begin_ws();
        }
        Ok(layer)
    }

    /// Sends the opening handshake of WebSocket, or is ready without one.
    fn begin_ws(&mut self) {
        match &mut self.ws {
            Some(ws) => {
                let request = ws.request();
                put(&mut self.tls, &mut self.out, &request);
            }
            None => self.ready = true,
        }
    }

    /// What TLS agreed upon, for people.
    pub fn terms(&self) -> Option<String> {
        self.tls.as_ref().and_then(Tls::terms)
    }

    /// Whether requests may be sent.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the TLS handshake is under way.
    pub fn is_securing(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Takes received bytes; appends what they hold for the protocol to `plain`. Between two calls
    /// it keeps no more than an unfinished record or frame, whatever the peer sends.
    ///
    /// # Errors
    /// The connection cannot go on; bytes that say so to the peer may wait to be sent.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        plain: &mut Vec<u8>,
        scratch: &mut Scratch,
        limits: &Limits,
    ) -> Result<Progress, Failure> {
        let mut progress = Progress::default();
        let Some(tls) = &mut self.tls else {
            self.feed_ws(input, plain, limits, &mut progress)?;
            return Ok(progress);
        };
        let was_handshaking = tls.is_handshaking();
        let into = if self.ws.is_some() { &mut scratch.between } else { &mut *plain };
        // What came before a failure counts, however the bytes were cut.
        let fed = tls.feed(&mut input, into);
        if was_handshaking && !tls.is_handshaking() {
            progress.secured = Some(tls.secured());
            self.begin_ws();
            progress.ready = self.ready;
        }
        if self.ws.is_some() && !scratch.between.is_empty() {
            let mut between = std::mem::take(&mut scratch.between);
            let fed = self.feed_ws(&between, plain, limits, &mut progress);
            between.clear();
            scratch.between = between;
            fed?;
        }
        let closed = fed?;
        if closed && progress.closed.is_none() {
            progress.closed = Some(0);
        }
        Ok(progress)
    }

    fn feed_ws(
        &mut self,
        input: &[u8],
        plain: &mut Vec<u8>,
        limits: &Limits,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let Some(ws) = &mut self.ws else { return Ok(()) };
        let answers_wait =
            self.sent < self.out.len() || self.tls.as_ref().is_some_and(Tls::has_output);
        let mut answer = Vec::new();
        progress.closed = ws.feed(input, plain, &mut answer, answers_wait, limits)?;
        progress.ready = !self.ready && ws.is_open();
        self.ready |= progress.ready;
        if !answer.is_empty() {
            put(&mut self.tls, &mut self.out, &answer);
        }
        Ok(())
    }

    /// Takes a message of the protocol to be sent: for WebSocket, one line.
    pub fn seal(&mut self, plain: &[u8], scratch: &mut Scratch) {
        let Some(ws) = &mut self.ws else { return put(&mut self.tls, &mut self.out, plain) };
        match &mut self.tls {
            None => ws.frame(plain, &mut self.out),
            Some(tls) => {
                scratch.frame.clear();
                ws.frame(plain, &mut scratch.frame);
                tls.seal(&scratch.frame);
            }
        }
    }

    /// Says that nothing more will be sent, in the way of each layer: a WebSocket close with code
    /// 1000, and `close_notify`.
    pub fn close(&mut self) {
        if let Some(frame) = self.ws.as_mut().filter(|ws| ws.is_open()).and_then(Ws::close) {
            put(&mut self.tls, &mut self.out, &frame);
        }
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
    }

    /// Whether the peer ends the connection by a message of its own, once it has been asked to.
    pub fn is_closed_by_peer(&self) -> bool {
        self.ws.is_some()
    }

    /// Whether bytes wait to be sent.
    pub fn has_output(&self) -> bool {
        self.sent < self.out.len() || self.tls.as_ref().is_some_and(Tls::has_output)
    }

    /// Moves waiting bytes to the front of `into`; how many.
    pub fn take_output(&mut self, into: &mut [u8]) -> usize {
        if let Some(tls) = &mut self.tls {
            return tls.take_output(into);
        }
        let rest = &self.out[self.sent..];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.sent += len;
        if self.sent == self.out.len() {
            self.sent = 0;
            self.out.clear();
            self.out.shrink_to(KEPT_BYTES);
        }
        len
    }
}

fn put(tls: &mut Option<Tls>, out: &mut Vec<u8>, bytes: &[u8]) {
    match tls {
        Some(tls) => tls.seal(bytes),
        None => out.extend_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests;
