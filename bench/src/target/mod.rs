//! The fast target: a server that answers as fast as it can, with faults to order.
//!
//! Read in this order: [`options`] (what was asked), [`server`] (threads, listeners, signals),
//! [`serve`] (one connection), [`mcp`] (what is answered), [`faults`] (what is spoiled).
//! Protocol modules ([`request`], [`reply`], [`rpc`], [`sessions`]) know no sockets.

pub mod faults;
pub mod hostile;
pub mod mcp;
pub mod options;
pub mod processes;
pub mod reply;
pub mod request;
pub mod rpc;
pub mod serve;
pub mod server;
pub mod sessions;
pub mod stats;
pub mod steps;
pub mod sweep;
pub mod worker;
