//! What a person sees while a run goes on: the dashboard of `--tui`, for the generator and for the
//! reporter, which feeds it from its generator's status lines.
//!
//! Three parts that do not know each other's inside: [`reading`] is what the generator says of
//! itself once a second, [`board`] is the state that readings and events add up to, and [`draw`]
//! makes a picture of a board, each without I/O. [`screen`] alone touches the terminal, from a
//! thread of its own. [`units`] is how figures are written for people, in reports too.

#![forbid(unsafe_code)]

pub mod board;
pub mod draw;
pub mod reading;
pub mod screen;
pub mod units;

pub use board::Board;
pub use reading::{Latency, Reading, WorkerLoad};
pub use screen::Screen;
