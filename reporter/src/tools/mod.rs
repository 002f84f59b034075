//! Commands on finished runs: a log's content and state, two runs side by side, many runs in
//! order, and a verdict in the formats of CI systems. They read logs and `results.json`, never a
//! running process.

pub mod cli;
pub mod compare;
pub mod dump;
pub mod export;
pub mod trend;
pub mod verify;
