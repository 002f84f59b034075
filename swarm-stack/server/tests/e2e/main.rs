//! The real binary on loopback ports of the kernel's choice, spoken to with the SDK's own client
//! and with raw bytes. Nothing here depends on how long anything takes.

mod client;
mod lines;
mod operation;
mod raw;
mod server;
mod sessions;
mod stateless;
