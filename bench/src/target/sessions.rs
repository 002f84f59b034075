//! The sessions that live: given out, looked up, ended, forgotten, limited and timed out.
//!
//! An identifier names a slot and the slot's generation, so that a look-up is one index and an
//! idle session costs 12 bytes. It knows neither HTTP nor a clock: the caller passes the time.

/// What is asked of the table, fixed at the start.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most sessions alive at once.
    pub alive_max: usize,
    /// A session unused for this long is gone; `u64::MAX` keeps it forever.
    pub ttl_ns: u64,
    /// Marks this process's identifiers: those of an earlier process are unknown.
    pub nonce: u32,
}

/// One slot; `generation` is odd while a session lives in it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    used_ms: u32,
}

/// What happened to sessions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Alive at present, expired ones included until somebody asks for them.
    pub alive: u64,
    /// Most alive at once.
    pub alive_peak: u64,
    /// Given out.
    pub created: u64,
    /// Ended by DELETE.
    pub deleted: u64,
    /// Gone because unused for longer than the limit.
    pub expired: u64,
    /// Dropped by a fault to order.
    pub forgotten: u64,
    /// Refused because of the limit.
    pub refused: u64,
}

/// Why a session is taken out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The client ended it.
    Deleted,
    /// A fault dropped it.
    Forgotten,
}

/// The table of one process, shared by its threads.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    totals: Totals,
}

/// Length of an identifier's text.
const ID_CHARS: usize = 24;

impl Sessions {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self { limits, slots: Vec::new(), free: Vec::new(), totals: Totals::default() }
    }

    /// What happened so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether look-ups need the time.
    pub fn needs_time(&self) -> bool {
        self.limits.ttl_ns != u64::MAX
    }

    /// A new session's identifier, or `None` at the limit.
    pub fn create(&mut self, now_ns: u64) -> Option<String> {
        if self.totals.alive as usize >= self.limits.alive_max {
            self.expire_all(now_ns);
            if self.totals.alive as usize >= self.limits.alive_max {
                self.totals.refused += 1;
                return None;
            }
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, used_ms: 0 });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.used_ms = ms(now_ns);
        self.totals.created += 1;
        self.totals.alive += 1;
        self.totals.alive_peak = self.totals.alive_peak.max(self.totals.alive);
        Some(format!("{:08x}{index:08x}{:08x}", self.limits.nonce, slot.generation))
    }

    /// Whether the identifier names a living session; it then counts as used.
    pub fn touch(&mut self, id: &[u8], now_ns: u64) -> bool {
        let Some(index) = self.find(id) else { return false };
        if self.is_stale(index, now_ns) {
            self.expire(index);
            return false;
        }
        self.slots[index as usize].used_ms = ms(now_ns);
        true
    }

    /// Ends a session; false if there is none of that name.
    pub fn remove(&mut self, id: &[u8], why: Removal) -> bool {
        let Some(index) = self.find(id) else { return false };
        self.release(index);
        match why {
            Removal::Deleted => self.totals.deleted += 1,
            Removal::Forgotten => self.totals.forgotten += 1,
        }
        true
    }

    fn find(&self, id: &[u8]) -> Option<u32> {
        if id.len() != ID_CHARS {
            return None;
        }
        let word = |at: usize| {
            let text = std::str::from_utf8(&id[at..at + 8]).ok()?;
            u32::from_str_radix(text, 16).ok()
        };
        let (nonce, index, generation) = (word(0)?, word(8)?, word(16)?);
        let slot = self.slots.get(index as usize)?;
        let living = generation % 2 == 1 && slot.generation == generation;
        (nonce == self.limits.nonce && living).then_some(index)
    }

    fn is_stale(&self, index: u32, now_ns: u64) -> bool {
        let idle_ms = ms(now_ns).wrapping_sub(self.slots[index as usize].used_ms);
        self.needs_time() && u64::from(idle_ms) * 1_000_000 > self.limits.ttl_ns
    }

    fn expire_all(&mut self, now_ns: u64) {
        for index in 0..self.slots.len() as u32 {
            if self.slots[index as usize].generation % 2 == 1 && self.is_stale(index, now_ns) {
                self.expire(index);
            }
        }
    }

    fn expire(&mut self, index: u32) {
        self.release(index);
        self.totals.expired += 1;
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.totals.alive -= 1;
    }
}

/// Milliseconds that wrap after 49 days, which is longer than any idle session is kept.
fn ms(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn table(alive_max: usize, ttl_ns: u64) -> Sessions {
        Sessions::new(Limits { alive_max, ttl_ns, nonce: 0xfeed })
    }

    #[test]
    fn a_session_lives_until_it_is_removed_and_its_name_is_not_reused() {
        let mut sessions = table(usize::MAX, u64::MAX);
        let first = sessions.create(0).unwrap();
        assert!(sessions.touch(first.as_bytes(), 0));
        assert!(sessions.remove(first.as_bytes(), Removal::Deleted));
        assert!(!sessions.remove(first.as_bytes(), Removal::Deleted));
        let second = sessions.create(0).unwrap();
        assert_ne!(first, second);
        assert!(!sessions.touch(first.as_bytes(), 0));
        assert!(sessions.touch(second.as_bytes(), 0));
        let totals = sessions.totals();
        assert_eq!((totals.alive, totals.created, totals.deleted), (1, 2, 1));
    }

    #[test]
    fn the_limit_refuses_until_somebody_leaves() {
        let mut sessions = table(2, u64::MAX);
        let first = sessions.create(0).unwrap();
        assert!(sessions.create(0).is_some());
        assert!(sessions.create(0).is_none());
        sessions.remove(first.as_bytes(), Removal::Forgotten);
        assert!(sessions.create(0).is_some());
        let totals = sessions.totals();
        assert_eq!((totals.refused, totals.forgotten, totals.alive_peak), (1, 1, 2));
    }

    #[test]
    fn unused_sessions_expire_and_make_room() {
        let mut sessions = table(1, 10 * SECOND);
        let first = sessions.create(0).unwrap();
        assert!(sessions.touch(first.as_bytes(), 9 * SECOND));
        assert!(sessions.touch(first.as_bytes(), 18 * SECOND));
        assert!(!sessions.touch(first.as_bytes(), 29 * SECOND));
        let second = sessions.create(29 * SECOND).unwrap();
        assert!(sessions.create(30 * SECOND).is_none());
        assert!(sessions.create(60 * SECOND).is_some());
        assert!(!sessions.touch(second.as_bytes(), 60 * SECOND));
        assert_eq!(sessions.totals().expired, 2);
    }

    #[test]
    fn foreign_and_broken_names_are_unknown() {
        let mut sessions = table(1, u64::MAX);
        let own = sessions.create(0).unwrap();
        let foreign = own.replace("0000feed", "0000beef");
        for id in ["", "x", foreign.as_str(), &own[1..], "zzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert!(!sessions.touch(id.as_bytes(), 0), "{id:?}");
        }
    }
}
