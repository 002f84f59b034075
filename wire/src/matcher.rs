//! Exact recognition of a few known words, byte by byte, in two bytes of state.
//!
//! The words of a table are sorted, so those that share the prefix read so far stand together and
//! the state is the first of them and the prefix length. Knows nothing of what the words mean.

/// A sorted list of distinct words of at most 254 bytes.
pub(crate) type Table = &'static [&'static str];

const NONE: u8 = u8::MAX;

/// Progress through one word. Every call must be given the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matcher {
    first: u8,
    len: u8,
}

impl Matcher {
    pub(crate) const fn new() -> Self {
        Self { first: 0, len: 0 }
    }

    /// Whether no byte was taken yet.
    pub(crate) fn is_new(self) -> bool {
        self == Self::new()
    }

    /// Takes the next byte of the word.
    pub(crate) fn push(&mut self, table: Table, byte: u8) {
        if self.first == NONE {
            return;
        }
        let len = usize::from(self.len);
        let (index, first) = (usize::from(self.first), table[usize::from(self.first)].as_bytes());
        if first.get(len) == Some(&byte) {
            self.len += 1;
            return;
        }
        let prefix = &first[..len];
        for (index, word) in table.iter().enumerate().skip(index + 1) {
            let word = word.as_bytes();
            if !word.starts_with(prefix) {
                break;
            }
            if word.get(len) == Some(&byte) {
                self.first = index as u8;
                self.len += 1;
                return;
            }
        }
        self.first = NONE;
    }

    /// The table's index of the word that was read, if it is exactly one of them.
    pub(crate) fn finish(self, table: Table) -> Option<u8> {
        let word = table.get(usize::from(self.first))?;
        (word.len() == usize::from(self.len)).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Table = &["a", "ab", "abc", "b", "id", "isError"];

    fn find(word: &[u8]) -> Option<u8> {
        let mut matcher = Matcher::new();
        word.iter().for_each(|&byte| matcher.push(WORDS, byte));
        matcher.finish(WORDS)
    }

    #[test]
    fn finds_exactly_the_words_of_the_table() {
        for (index, word) in WORDS.iter().enumerate() {
            assert_eq!(find(word.as_bytes()), Some(index as u8));
        }
        for other in ["", "abcd", "ac", "i", "idx", "isErro", "isErrors", "z", "\u{ff}"] {
            assert_eq!(find(other.as_bytes()), None, "{other}");
        }
        assert_eq!(find(&[b'x'; 1000]), None);
    }
}
