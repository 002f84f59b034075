//! A bare absolute-time sleeper.
#![forbid(unsafe_code)]

fn main() {}
