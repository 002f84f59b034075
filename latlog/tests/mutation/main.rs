//! The corpus of the fuzz target `latlog`, mutated by a seed: bounded by count and the same on every
//! machine. `FUZZ_ITERATIONS=n` makes n of each file, `FUZZ_SEED=x` others.

mod check;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../wire/tests/mutation/mutate.rs"]
mod mutate;

use std::path::Path;

#[test]
fn whatever_a_file_holds_keeps_the_rules() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/latlog");
    mutate::each(&mutate::corpus(&corpus), 3_000, check::check);
}

/// The first file of the corpus is a log as it is written today.
#[test]
fn the_corpus_is_of_this_version() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/latlog/all_kinds");
    let log = common::log();
    if std::env::var_os("FUZZ_WRITE_CORPUS").is_some() {
        std::fs::write(&path, &log).expect("is written");
    }
    assert_eq!(std::fs::read(path).expect("is there"), log, "FUZZ_WRITE_CORPUS=1 writes it anew");
}
