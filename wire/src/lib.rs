//! Protocols without I/O: bytes in, events out.
//!
//! Owns how HTTP/1.1 answers, Server-Sent Events, newline-delimited JSON-RPC and MCP messages look
//! on the wire. Knows no socket, no clock, no thread and no log format, and contains no `unsafe`.
//!
//! Every parser is a push parser that keeps a few words of state and never the body, so that a
//! process can hold a million of them and a hostile server cannot make one grow. Nothing here
//! allocates per message; the only memory that grows is what the caller lends (see
//! [`client::Side`]), and each such buffer is bounded by a field of [`Limits`].
//!
//! Read in this order: [`client`] (the receive side of one connection), [`mcp`] (what is sent and
//! how an answer is judged), [`http1`], [`sse`], [`ndjson`], [`jsonrpc`], [`ws`] (whose messages
//! the caller hands to [`client`] as lines).

#![forbid(unsafe_code)]

pub mod client;
pub mod http1;
pub mod jsonrpc;
mod limits;
mod matcher;
pub mod mcp;
pub mod ndjson;
pub mod sse;
mod violation;
pub mod ws;

pub use limits::Limits;
pub use violation::Violation;
