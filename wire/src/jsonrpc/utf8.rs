//! UTF-8 well-formedness in one byte of state (Unicode 17, table 3-7), and the fast skip of the
//! plain part of a JSON string. Knows nothing of JSON beyond which bytes are special in a string.

/// What the next byte must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Utf8 {
    /// The first byte of a character.
    Start,
    /// The last of its continuation bytes.
    Tail1,
    /// One of two continuation bytes.
    Tail2,
    /// One of three continuation bytes.
    Tail3,
    /// A second byte that rules out overlong three-byte forms.
    AfterE0,
    /// A second byte that rules out surrogates.
    AfterEd,
    /// A second byte that rules out overlong four-byte forms.
    AfterF0,
    /// A second byte that rules out what lies above U+10FFFF.
    AfterF4,
}

impl Utf8 {
    /// The state after `byte`, or `None` if it is not allowed here.
    pub(super) fn push(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, 0x00..=0x7f) | (Self::Tail1, 0x80..=0xbf) => Some(Self::Start),
            (Self::Start, 0xc2..=0xdf)
            | (Self::Tail2, 0x80..=0xbf)
            | (Self::AfterE0, 0xa0..=0xbf)
            | (Self::AfterEd, 0x80..=0x9f) => Some(Self::Tail1),
            (Self::Start, 0xe1..=0xec | 0xee..=0xef)
            | (Self::Tail3, 0x80..=0xbf)
            | (Self::AfterF0, 0x90..=0xbf)
            | (Self::AfterF4, 0x80..=0x8f) => Some(Self::Tail2),
            (Self::Start, 0xe0) => Some(Self::AfterE0),
            (Self::Start, 0xed) => Some(Self::AfterEd),
            (Self::Start, 0xf0) => Some(Self::AfterF0),
            (Self::Start, 0xf1..=0xf3) => Some(Self::Tail3),
            (Self::Start, 0xf4) => Some(Self::AfterF4),
            _ => None,
        }
    }
}

/// The length of the run at the front of `bytes` that a JSON string holds as it is: no quote, no
/// backslash, no control character, nothing outside ASCII. Eight bytes at a time.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        // A byte's high bit is set where the byte is special. Borrows only spoil bytes above
        // (after) a true one, so the lowest bit set is exact.
        let special = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word)
            | word;
        let hits = special & HIGH;
        if hits != 0 {
            return index * 8 + (hits.trailing_zeros() / 8) as usize;
        }
    }
    let plain = |byte: &&u8| matches!(byte, 0x20..=0x7f) && **byte != b'"' && **byte != b'\\';
    words.len() * 8 + tail.iter().take_while(plain).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(bytes: &[u8]) -> bool {
        let end = bytes.iter().try_fold(Utf8::Start, |state, &byte| state.push(byte));
        end == Some(Utf8::Start)
    }

    #[test]
    fn every_sequence_of_boundary_bytes_is_judged_as_by_the_standard_library() {
        let edges = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
            0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        let count = edges.len();
        for index in 0..count.pow(4) {
            let bytes: Vec<u8> = (0..4).map(|n| edges[index / count.pow(n) % count]).collect();
            for len in 1..=4 {
                let text = &bytes[..len];
                assert_eq!(valid(text), std::str::from_utf8(text).is_ok(), "{text:x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn plain_run_stops_at_the_first_special_byte(
            bytes in prop::collection::vec(
                prop_oneof![8 => 0x20u8..0x7f, 1 => any::<u8>()], 0..64),
        ) {
            let special = |b: &u8| *b < 0x20 || *b >= 0x80 || *b == b'"' || *b == b'\\';
            let expected = bytes.iter().position(special).unwrap_or(bytes.len());
            prop_assert_eq!(plain_run(&bytes), expected);
        }
    }
}
