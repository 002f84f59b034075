//! A seeded generator of dice for faults: splitmix64, small enough to be one word a thread.
//!
//! Not for anything secret.

use std::cell::Cell;

/// One thread's dice. The same seed gives the same sequence.
#[derive(Debug)]
pub struct Rng {
    state: Cell<u64>,
}

impl Rng {
    /// Dice for `stream` (a thread or process number) of the run seeded with `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let rng = Self { state: Cell::new(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03)) };
        // The first output of neighbouring states is the weakest; it is thrown away.
        rng.next();
        rng
    }

    /// The next 64 bits (splitmix64, Steele, Lea and Flood 2014).
    pub fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// True with probability `share`; a share of 0 rolls no die.
    pub fn chance(&self, share: f64) -> bool {
        // 53 bits fill a double's mantissa exactly, so 1.0 is always true and 0.0 never.
        share > 0.0 && ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// Uniform in `0..=most`.
    pub fn up_to(&self, most: u64) -> u64 {
        if most == u64::MAX { self.next() } else { self.next() % (most + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_streams_differ() {
        let draw = |seed, stream| {
            let rng = Rng::new(seed, stream);
            (0..8).map(|_| rng.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
    }

    #[test]
    fn shares_are_kept_within_sampling_error() {
        let rng = Rng::new(7, 0);
        let hits = (0..100_000).filter(|_| rng.chance(0.01)).count();
        assert!((800..1200).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| rng.chance(1.0)));
        assert!((0..1000).all(|_| !rng.chance(0.0)));
    }

    #[test]
    fn up_to_reaches_both_ends_and_stays_inside() {
        let rng = Rng::new(7, 0);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.up_to(3)).collect();
        assert!((0..=3).all(|wanted| drawn.contains(&wanted)));
        assert!(drawn.iter().all(|&got| got <= 3));
    }
}
