//! A run: its plan, its stages, and the record that it leaves behind.

pub mod interrupt;
pub mod journal;
pub mod plan;
pub mod procfs;
pub mod record;
