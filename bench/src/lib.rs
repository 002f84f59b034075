//! What measures the generator: the fast target (a server with faults to order) and small
//! references to hold its numbers against.
//!
//! Nothing here is ever a product claim, and nothing here shares code with the generator: the
//! target speaks through `tokio-uring`, an implementation of io_uring that the generator does
//! not use, so that the two cannot agree with each other's mistakes.
#![forbid(unsafe_code)]

pub mod clock;
pub mod compare;
pub mod fidelity;
pub mod freeze;
pub mod host;
pub mod net;
pub mod own_network;
pub mod rng;
pub mod scale;
pub mod sleeper;
pub mod target;
pub mod target_process;
pub mod units;
pub mod usage;
