//! A load generator that holds MCP connections with io_uring and sends requests by schedule.
//!
//! Read in this order: `main` (parse, plan, run, exit code), [`plan`] (what was typed, held
//! against the host), [`run`] (threads and stages), [`worker`] (the loop), `ring` (the kernel).
//! `unsafe` is allowed in `ring` only.

#![deny(unsafe_code)]

pub mod chance;
pub mod cli;
pub mod clock;
pub mod control;
pub mod curve;
pub mod dialect;
pub mod discover;
pub mod fleet;
pub mod headers;
pub mod layer;
pub mod metrics;
pub mod mix;
pub mod names;
pub mod observed;
pub mod ops;
pub mod orders;
pub mod plan;
#[allow(unsafe_code, reason = "the kernel reads and writes memory that this module owns")]
pub mod ring;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod search;
pub mod setup;
pub mod stepping;
pub mod summary;
pub mod watch;
pub mod worker;
pub mod writer;
