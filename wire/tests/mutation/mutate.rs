//! Mutations as a fuzzer makes them, without its feedback: drawn by a seed. Shared by the tests of
//! several crates; knows nothing of what the bytes are.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// No mutation grows beyond this.
const BYTES_MAX: usize = 16 * 1024;

/// The files of a folder by name.
pub fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("can be listed").path()).collect();
    paths.sort();
    let files: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("is read")).collect();
    assert!(!files.is_empty(), "an empty corpus tests nothing");
    files
}

/// Checks every file as it is and so many mutations of it.
pub fn each(corpus: &[Vec<u8>], iterations: u64, check: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let iterations = number("FUZZ_ITERATIONS").unwrap_or(iterations);
    let seed = number("FUZZ_SEED").unwrap_or(1);
    for (at, file) in corpus.iter().enumerate() {
        check(file);
        for iteration in 0..iterations {
            let mut dice = Dice(seed << 48 ^ (at as u64) << 40 ^ iteration);
            let input = mutated(file, corpus, &mut dice);
            let checked = catch_unwind(AssertUnwindSafe(|| check(&input)));
            if let Err(cause) = checked {
                eprintln!(
                    "FUZZ_SEED={seed}, file {at}, iteration {iteration}: {}",
                    input.escape_ascii()
                );
                resume_unwind(cause);
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

fn mutated(file: &[u8], corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const TOKENS: [&[u8]; 16] = [
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"data: ",
        b"id: ",
        b"event: endpoint\n",
        b"0\r\n\r\n",
        b"{",
        b"}",
        b"\"",
        b"\\u",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"ffffffffffffffff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    let mut bytes = file.to_vec();
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let len = dice.below(24.min(bytes.len() - at + 1));
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            2 => drop(bytes.drain(at..at + len)),
            3 => bytes.truncate(at),
            4 => insert(&mut bytes, at, TOKENS[dice.below(TOKENS.len())]),
            5 => {
                let again = bytes[at..at + len].repeat(1 + dice.below(40));
                insert(&mut bytes, at, &again);
            }
            6 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                insert(&mut bytes, at, &other[from..]);
            }
            _ if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
            _ => {}
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let room = BYTES_MAX.saturating_sub(bytes.len());
    drop(bytes.splice(at..at, new[..new.len().min(room)].iter().copied()));
}
