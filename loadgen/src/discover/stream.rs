//! A blocking connection to a target that is being asked, with the same layers as under load.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use socket2::Socket;

use crate::chance::fresh_seed;
use crate::layer::{Failure, Layer, Progress, Scratch, Wrapping};
use crate::ring::Address;
use crate::summary::reason;

/// See the module.
pub(super) struct Stream {
    socket: Socket,
    address: Address,
    layer: Option<Layer>,
    scratch: Scratch,
    /// Plain bytes that were received and not read yet.
    plain: Vec<u8>,
    closed: bool,
}

impl Stream {
    /// Connects to the first address that lets it, and shakes hands; else says why in a sentence.
    pub(super) fn connect(
        addresses: &[Address],
        wrapping: Option<&Wrapping>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let (address, socket) = connect(addresses, timeout)?;
        let timed =
            socket.set_read_timeout(Some(timeout)).and(socket.set_write_timeout(Some(timeout)));
        timed.map_err(|e| format!("the connection failed: {e}"))?;
        let layer = wrapping.map(|w| Layer::begin(w, fresh_seed())).transpose();
        let layer = layer.map_err(|failure| words(&failure))?;
        let (scratch, plain) = (Scratch::default(), Vec::new());
        let mut stream = Self { socket, address, layer, scratch, plain, closed: false };
        stream.shake_hands().map_err(|e| stream.no_handshake(&e, timeout))?;
        Ok(stream)
    }

    /// Where it leads.
    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    /// What TLS agreed upon.
    pub(super) fn terms(&self) -> Option<String> {
        self.layer.as_ref().and_then(Layer::terms)
    }

    /// Whether it is spoken to in clear.
    pub(super) fn is_clear(&self) -> bool {
        self.layer.is_none()
    }

    /// Sends a message.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.layer {
            None => self.socket.write_all(bytes),
            Some(layer) => {
                layer.seal(bytes, &mut self.scratch);
                self.flush()
            }
        }
    }

    /// Reads some bytes; 0 at the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.layer.is_none() {
            return self.socket.read(into);
        }
        while self.plain.is_empty() && !self.closed {
            self.receive()?;
        }
        let len = self.plain.len().min(into.len());
        into[..len].copy_from_slice(&self.plain[..len]);
        self.plain.drain(..len);
        Ok(len)
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        while self.layer.as_ref().is_some_and(|layer| !layer.is_ready()) {
            self.flush()?;
            if self.closed {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.receive()?;
        }
        self.flush()
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let len = match self.socket.read(&mut chunk) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        self.closed |= len == 0;
        let Some(layer) = &mut self.layer else { return Ok(()) };
        let limits = wire::Limits::default();
        let mut plain = Vec::new();
        let fed = layer.feed(&chunk[..len], &mut plain, &mut self.scratch, &limits);
        self.plain.append(&mut plain);
        // An alert, or an answer of the layer's own.
        let flushed = self.flush();
        let Progress { closed, .. } = fed.map_err(|failure| io::Error::other(words(&failure)))?;
        self.closed |= closed.is_some();
        flushed
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        let mut chunk = [0; 4096];
        while layer.has_output() {
            let len = layer.take_output(&mut chunk);
            self.socket.write_all(&chunk[..len])?;
        }
        Ok(())
    }

    /// Why no handshake came about.
    fn no_handshake(&self, e: &io::Error, timeout: Duration) -> String {
        let tls = self.layer.as_ref().is_some_and(Layer::is_securing);
        let what = if tls { "TLS handshake" } else { "WebSocket handshake" };
        match e.kind() {
            ErrorKind::Other => format!("the {what} failed: {e}"),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "accepted the connection and did not answer the {what} within {timeout:?}: is this \
                 the right port?"
            ),
            ErrorKind::UnexpectedEof => format!(
                "closed the connection in the middle of the {what}: is this the right port?"
            ),
            _ => format!("the {what} failed: {e}: is this the right port?"),
        }
    }
}

impl Drop for Stream {
    /// Ends in good order, as far as that takes no waiting.
    fn drop(&mut self) {
        if let Some(layer) = self.layer.as_mut().filter(|layer| layer.is_ready()) {
            layer.close();
            let _ = self.flush();
        }
    }
}

/// A failure in words.
fn words(failure: &Failure) -> String {
    match failure.text.is_empty() {
        true => reason(failure.outcome, failure.detail),
        false => failure.text.clone(),
    }
}

fn connect(addresses: &[Address], timeout: Duration) -> Result<(Address, Socket), String> {
    let mut cause = "the name has no address".to_owned();
    for address in addresses {
        match crate::ring::connect(address, timeout) {
            Ok(socket) => return Ok((address.clone(), socket)),
            Err(e) => {
                cause = match e.kind() {
                    ErrorKind::ConnectionRefused => format!(
                        "connection refused by {address}: is the server running, and is this its \
                         port?"
                    ),
                    ErrorKind::NotFound => {
                        format!("there is no socket {address}: is the server running?")
                    }
                    ErrorKind::TimedOut => {
                        format!(
                            "no answer from {address}: is it up, and does a firewall let you in?"
                        )
                    }
                    _ => format!("cannot connect to {address}: {e}"),
                };
            }
        }
    }
    Err(cause)
}
