//! Whatever a peer sends, in whatever pieces: see the checks in `play`.
#![no_main]

#[path = "../../wire/tests/mutation/play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|input: &[u8]| play::check(input));
