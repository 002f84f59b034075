//! Queues of session indices threaded through arrays: push, pop front and remove from the middle in
//! constant time, without allocation.
//!
//! Every wait in a worker has one constant length (a timeout, a heartbeat, a step of the
//! back-off), so that a queue in order of arrival is a queue in order of deadline, and looking at
//! its front is the whole timer.

use crate::schedule::BACKOFF_STEPS;

/// Sessions that are free, in the order in which they became so.
pub const IDLE: usize = 0;
/// Sessions whose TCP connect is under way.
pub const CONNECTING: usize = 1;
/// Sessions whose request was sent.
pub const ANSWERING: usize = 2;
/// Sessions whose request waits to be put into the ring.
pub const OUTBOX: usize = 3;
/// Sessions whose connection stands and whose TLS or WebSocket handshake is under way.
pub const HANDSHAKING: usize = 4;
/// The first of the queues of sessions that wait before another attempt, one a wait.
pub const BACKOFF: usize = 5;
/// How many queues there are.
pub const QUEUES: usize = BACKOFF + BACKOFF_STEPS as usize;

/// No session.
pub const NONE: u32 = u32::MAX;

/// The links of all sessions of a worker; each is in at most one queue that uses these links.
#[derive(Debug)]
pub struct Links {
    next: Vec<u32>,
    previous: Vec<u32>,
    queue: Vec<u8>,
}

/// The ends of one queue over some [`Links`].
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    id: u8,
    front: u32,
    back: u32,
    len: u32,
}

const IN_NO_QUEUE: u8 = u8::MAX;

impl Links {
    /// Links for `count` sessions, all in no queue.
    pub fn new(count: u32) -> Self {
        let count = count as usize;
        Self {
            next: vec![NONE; count],
            previous: vec![NONE; count],
            queue: vec![IN_NO_QUEUE; count],
        }
    }
}

impl Links {
    /// The id of the queue that a session is in.
    pub fn queue_of(&self, item: u32) -> Option<u8> {
        let id = self.queue[item as usize];
        (id != IN_NO_QUEUE).then_some(id)
    }
}

impl Queue {
    /// An empty queue; `id` tells the queues over the same links apart.
    pub const fn new(id: u8) -> Self {
        Self { id, front: NONE, back: NONE, len: 0 }
    }

    /// Sessions in the queue.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The one that has waited longest.
    pub fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    /// Adds a session that is in no queue.
    pub fn push_back(&mut self, links: &mut Links, item: u32) {
        self.insert(links, item, self.back, NONE);
    }

    /// Adds a session that is in no queue before all others.
    pub fn push_front(&mut self, links: &mut Links, item: u32) {
        self.insert(links, item, NONE, self.front);
    }

    /// Adds a session that is in no queue between two neighbours.
    fn insert(&mut self, links: &mut Links, item: u32, previous: u32, next: u32) {
        let at = item as usize;
        assert_eq!(links.queue[at], IN_NO_QUEUE, "session {item} is in a queue already");
        links.queue[at] = self.id;
        links.previous[at] = previous;
        links.next[at] = next;
        match previous {
            NONE => self.front = item,
            previous => links.next[previous as usize] = item,
        }
        match next {
            NONE => self.back = item,
            next => links.previous[next as usize] = item,
        }
        self.len += 1;
    }

    /// Removes a session; whether it was in this queue.
    pub fn remove(&mut self, links: &mut Links, item: u32) -> bool {
        let at = item as usize;
        if links.queue[at] != self.id {
            return false;
        }
        let (next, previous) = (links.next[at], links.previous[at]);
        match previous {
            NONE => self.front = next,
            previous => links.next[previous as usize] = next,
        }
        match next {
            NONE => self.back = previous,
            next => links.previous[next as usize] = previous,
        }
        links.queue[at] = IN_NO_QUEUE;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn behaves_like_deques(steps in prop::collection::vec((0u8..4, 0usize..2, 0u32..12), 0..300)) {
            let mut links = Links::new(12);
            let mut queues = [Queue::new(0), Queue::new(1)];
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (step, q, item) in steps {
                match step {
                    0 if !model.iter().any(|m| m.contains(&item)) => {
                        queues[q].push_back(&mut links, item);
                        model[q].push_back(item);
                    }
                    3 if !model.iter().any(|m| m.contains(&item)) => {
                        queues[q].push_front(&mut links, item);
                        model[q].push_front(item);
                    }
                    0 | 3 => {}
                    1 => {
                        let expected = model[q].contains(&item);
                        prop_assert_eq!(queues[q].remove(&mut links, item), expected);
                        model[q].retain(|&i| i != item);
                    }
                    _ => {
                        let front = queues[q].front();
                        prop_assert_eq!(front, model[q].pop_front());
                        front.map(|f| queues[q].remove(&mut links, f));
                    }
                }
                for (queue, model) in queues.iter().zip(&model) {
                    prop_assert_eq!(queue.front(), model.front().copied());
                    prop_assert_eq!(queue.len() as usize, model.len());
                }
            }
        }
    }
}
