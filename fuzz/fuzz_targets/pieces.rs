//! Whatever each parser by itself is given: see the checks in `pieces`.
#![no_main]

#[path = "../../wire/tests/mutation/pieces.rs"]
mod pieces;

libfuzzer_sys::fuzz_target!(|input: &[u8]| pieces::check(input));
