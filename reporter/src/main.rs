//! The reporter's entry point.

fn main() {}
