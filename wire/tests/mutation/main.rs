//! The corpora of the fuzz targets `exchange` and `pieces`, mutated by a seed: bounded by count and the same on
//! every machine. `FUZZ_ITERATIONS=n` makes n of each file, `FUZZ_SEED=x` others.

mod mutate;
mod pieces;
mod play;

use std::path::Path;

#[test]
fn whatever_a_peer_sends_keeps_the_rules() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/exchange");
    mutate::each(&mutate::corpus(&corpus), 3_000, play::check);
}

#[test]
fn whatever_a_parser_is_given_keeps_the_rules() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/pieces");
    mutate::each(&mutate::corpus(&corpus), 3_000, pieces::check);
}
