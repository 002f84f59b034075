//! The streaming validator and extractor behind [`Scanner`].

use super::Message;
use crate::{Limits, Violation};

/// Reads one JSON-RPC message in chunks of any size and keeps none of it.
#[derive(Debug, Clone)]
pub struct Scanner {
    len_bytes: u32,
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
        Self { len_bytes: 0 }
    }

    /// Takes the next bytes of the message.
    ///
    /// # Errors
    /// The first violation, once; the scanner must be reset after it.
    pub fn feed(&mut self, chunk: &[u8], limits: &Limits) -> Result<(), Violation> {
        let _ = limits;
        self.len_bytes += chunk.len() as u32;
        Ok(())
    }

    /// Ends the message and makes the scanner ready for the next; [`Scanner::text`] stays.
    ///
    /// # Errors
    /// [`Violation::TruncatedJson`] or [`Violation::NotJsonRpc`].
    pub fn finish(&mut self) -> Result<Message, Violation> {
        Err(Violation::TruncatedJson)
    }

    /// Whether nothing but white space has been taken yet.
    pub fn is_blank(&self) -> bool {
        true
    }

    /// The text kept of the message: `result.protocolVersion`, or the raw token of a text id.
    pub fn text(&self) -> &[u8] {
        &[]
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}
