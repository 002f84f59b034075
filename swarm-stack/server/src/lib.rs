//! The MCP server that the stack deploys where the user brings no image.
//!
//! The protocol is the official SDK's (`rmcp`); this crate owns what surrounds it: sockets, limits,
//! counters, health and the orderly end. Read in this order: [`cli`], [`server`], [`web`],
//! [`lines`], [`sessions`], [`handler`], [`tools`].

#![forbid(unsafe_code)]

pub mod answers;
pub mod call;
pub mod cli;
pub mod clock;
pub mod handler;
pub mod limits;
pub mod lines;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod server;
pub mod sessions;
pub mod tools;
pub mod web;
