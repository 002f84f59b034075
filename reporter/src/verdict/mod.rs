//! x
pub mod threshold;
