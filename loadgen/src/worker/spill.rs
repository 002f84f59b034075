//! The beginnings of answers' heads that are split over receives: where they wait for the rest.
//!
//! Few sessions have one at any time, so that they are kept beside the sessions; emptied buffers
//! are used again.

use std::collections::HashMap;

/// Buffers that are there from the start; more are made when more heads are split at one time.
const READY: usize = 64;
/// Bytes of one, at first: the head of an ordinary answer.
const BUFFER_BYTES: usize = 512;

/// Kept heads by session.
#[derive(Debug)]
pub struct Spills {
    kept: HashMap<u32, Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Spills {
    /// Nothing kept.
    pub fn new() -> Self {
        let spare = (0..READY).map(|_| Vec::with_capacity(BUFFER_BYTES)).collect();
        Self { kept: HashMap::with_capacity(READY), spare }
    }

    /// Keeps what is in `scratch`, and leaves it empty.
    pub fn keep(&mut self, session: u32, scratch: &mut Vec<u8>) {
        let spare = self.spare.pop().unwrap_or_default();
        self.kept.insert(session, std::mem::replace(scratch, spare));
    }

    /// Puts what was kept into `scratch`, which is empty.
    pub fn take(&mut self, session: u32, scratch: &mut Vec<u8>) {
        if let Some(kept) = self.kept.remove(&session) {
            self.put_back(std::mem::replace(scratch, kept));
        }
    }

    /// Drops what was kept.
    pub fn forget(&mut self, session: u32) {
        if let Some(kept) = self.kept.remove(&session) {
            self.put_back(kept);
        }
    }

    fn put_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_to_its_session() {
        let (mut spills, mut scratch) = (Spills::new(), Vec::new());
        for session in 0..100 {
            scratch.extend_from_slice(&[session; 3]);
            spills.keep(u32::from(session), &mut scratch);
            assert!(scratch.is_empty());
        }
        spills.forget(7);
        spills.take(7, &mut scratch);
        assert!(scratch.is_empty());
        spills.take(9, &mut scratch);
        assert_eq!(scratch, [9; 3]);
    }
}
