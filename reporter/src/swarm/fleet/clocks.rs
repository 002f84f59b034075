//! How far another host's clock is from this one's, from a few questions and answers (the symmetric
//! estimate of RFC 5905 section 8). Pure functions.

/// One question and its answer, all three in `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When it was asked, here.
    pub asked_ns: u64,
    /// What the other clock showed.
    pub there_ns: u64,
    /// When the answer came, here.
    pub heard_ns: u64,
}

/// The other clock minus this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The estimate.
    pub offset_ns: i64,
    /// How far it may be from the truth, either way.
    pub error_ns: u64,
}

/// The estimate of the exchange that took the shortest time: the other clock was read somewhere
/// between question and answer. None without an exchange.
pub fn estimate(exchanges: &[Exchange]) -> Option<Offset> {
    let took = |exchange: &&Exchange| exchange.heard_ns.saturating_sub(exchange.asked_ns);
    let best = exchanges.iter().min_by_key(took)?;
    let error_ns = took(&best).div_ceil(2);
    let middle_ns = i128::from(best.asked_ns) + i128::from(took(&best) / 2);
    let offset_ns = i64::try_from(i128::from(best.there_ns) - middle_ns).ok()?;
    Some(Offset { offset_ns, error_ns })
}

impl Offset {
    /// A time of this host on the other clock.
    pub fn there(&self, here_ns: u64) -> u64 {
        here_ns.saturating_add_signed(self.offset_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_quickest_exchange_is_taken_and_half_of_it_is_the_error() {
        let slow = Exchange { asked_ns: 1_000, there_ns: 9_000, heard_ns: 2_000 };
        let quick = Exchange { asked_ns: 5_000, there_ns: 9_100, heard_ns: 5_101 };
        let offset = estimate(&[slow, quick]).expect("two");
        assert_eq!(offset, Offset { offset_ns: 4_050, error_ns: 51 });
        assert_eq!(offset.there(10_000), 14_050);
        assert_eq!(estimate(&[]), None);
    }

    proptest! {
        #[test]
        fn the_truth_lies_within_the_error(
            truth in -1_000_000_000_i64..1_000_000_000,
            there in 0_u64..10_000,
            back in 0_u64..10_000,
        ) {
            let asked_ns = 5_000_000_000;
            let exchange = Exchange {
                asked_ns,
                there_ns: (asked_ns + there).saturating_add_signed(truth),
                heard_ns: asked_ns + there + back,
            };
            let offset = estimate(&[exchange]).expect("one");
            prop_assert!(offset.offset_ns.abs_diff(truth) <= offset.error_ns);
        }
    }
}
