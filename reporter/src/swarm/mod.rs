//! `reporter swarm ...`: the stack on Docker Swarm, through the `docker` command line.
//!
//! `cli` is what was typed, `commands` what is done about it; `stack` holds the stack's names and
//! files, `ops` the operations that the run's backend shares with the commands. `docker` is the
//! only file that starts a client, `model` and `trouble` read its answers.
//!
//! Nothing is removed that does not carry this tool's label ([`stack::OWNER`]).

pub mod cli;
pub mod commands;
pub mod docker;
pub mod fake;
pub mod fleet;
pub mod image;
pub mod model;
pub mod ops;
pub mod remove;
pub mod stack;
pub mod trouble;
