//! A run: its plan, its stages, and the record that it leaves behind.

pub mod record;
