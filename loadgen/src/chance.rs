//! Chance as a pure function: number `index` of a stream that a seed names. Knows no clock and no
//! entropy but [`fresh_seed`]; whoever knows the seed can say what any request drew.

use std::hash::{BuildHasher, RandomState};

/// What a stream decides: streams of one seed have nothing to do with each other.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// The time between two arrivals.
    Arrivals = 1,
    /// Which call a request makes.
    Mix = 2,
}

/// An endless sequence of numbers of which any can be had at once: SplitMix64 (Steele, Lea and
/// Flood 2014), whose state after `n` steps is a product.
#[derive(Clone, Copy, Debug)]
pub struct Stream(u64);

/// The step of SplitMix64: 2^64 over the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Stream {
    /// The stream of a seed about a topic.
    pub fn new(seed: u64, topic: Topic) -> Self {
        Self(scramble(scramble(seed) ^ (topic as u64).wrapping_mul(STEP)))
    }

    /// Number `index`, of 64 bits.
    pub fn at(self, index: u64) -> u64 {
        scramble(self.0.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// Number `index` as one of the 2^53 evenly spaced in `(0, 1]`.
    pub fn unit_at(self, index: u64) -> f64 {
        ((self.at(index) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

/// Mixes the bits of a number.
pub(crate) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A seed for a run that was given none: of 32 bits, so that every reader of JSON keeps it. No two
/// processes are likely to have the same, which matters: arrivals of several generators add up to
/// Poisson arrivals only if they are independent.
pub fn fresh_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_even_and_streams_differ() {
        let (arrivals, mix) = (Stream::new(7, Topic::Arrivals), Stream::new(7, Topic::Mix));
        let n = 100_000;
        let mean = (0..n).map(|i| arrivals.unit_at(i)).sum::<f64>() / n as f64;
        // Five standard deviations of the mean of n even numbers.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt(), "{mean}");
        assert!((0..n).all(|i| arrivals.unit_at(i) > 0.0 && arrivals.unit_at(i) <= 1.0));
        let both = |i: &u64| arrivals.unit_at(*i) < 0.5 && mix.unit_at(*i) < 0.5;
        let share = (0..n).filter(both).count() as f64 / n as f64;
        assert!((share - 0.25).abs() < 0.01, "independent: {share}");
        assert_ne!(arrivals.at(3), Stream::new(8, Topic::Arrivals).at(3));
        assert_eq!(arrivals.at(3), Stream::new(7, Topic::Arrivals).at(3));
    }
}
