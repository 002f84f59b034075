//! A run: its plan, its stages, and the record that it leaves behind.

pub mod console;
pub mod interrupt;
pub mod journal;
pub mod live;
pub mod plan;
pub mod procfs;
pub mod record;
pub mod sampler;
pub mod stages;
pub mod steps;
