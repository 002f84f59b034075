//! Crate root.
fn main() {}
