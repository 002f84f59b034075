//! Virtual time and the dice of a simulation. Nothing here reads a real clock or real entropy.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::clock::Clock;

/// The time of a simulation, shared by its ring and whoever reads it. Every reading lets a little
/// time pass, as running code does.
#[derive(Clone, Debug)]
pub struct SimClock(Rc<Time>);

#[derive(Debug)]
struct Time {
    now_ns: Cell<u64>,
    tick_ns: u64,
}

impl SimClock {
    /// A clock that begins at `now_ns` and moves on by `tick_ns` with each reading.
    pub fn new(now_ns: u64, tick_ns: u64) -> Self {
        Self(Rc::new(Time { now_ns: Cell::new(now_ns), tick_ns }))
    }

    /// The time, without letting any pass.
    pub fn peek_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Moves the time on; never back.
    pub fn advance_to(&self, ns: u64) {
        self.0.now_ns.set(self.peek_ns().max(ns));
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> u64 {
        self.advance_to(self.peek_ns() + self.0.tick_ns);
        self.peek_ns()
    }
}

/// Dice with a seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed throws the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.number() % end }
    }

    /// A number of the range; its start if it is empty.
    pub fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.number() >> 11) as f64 / (1u64 << 53) as f64 <= probability
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}
