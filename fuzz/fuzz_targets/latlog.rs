//! Whatever a file holds: see the checks in `check`.
#![no_main]

#[path = "../../latlog/tests/mutation/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|input: &[u8]| check::check(input));
