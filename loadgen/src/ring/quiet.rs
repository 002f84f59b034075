//! Sends that say nothing if they succeed: which of them are through, and what became of the rest.
//!
//! The kernel either carries such a send out or posts a failure while it takes the send from the
//! queue (see [`super::entry::quiet_send`]). Once the queue is empty and all completions are read,
//! those that did not fail are through. A completion less for each request, and no wait that ends
//! only to say that a request is on its way.

use std::collections::VecDeque;

use io_uring::cqueue;

use super::entry::from_user_data;
use super::{Completion, Handle, OpKind, SendBuffer};

/// A quiet send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuietSend {
    pub handle: Handle,
    pub buffer: SendBuffer,
    pub from: u32,
    pub to: u32,
}

/// The quiet sends of a ring. Allocates only when it is made.
pub(super) struct QuietSends {
    /// As many as one queue can hold; 0 where the kernel has none (before 5.17).
    most: usize,
    /// Pushed, and not yet known to be through.
    under_way: VecDeque<QuietSend>,
    /// Found the socket without room: to be sent as any other.
    pub again: Vec<QuietSend>,
    /// Through, and not yet said.
    through: VecDeque<QuietSend>,
    /// Completions that were read while failures were looked for.
    taken: VecDeque<cqueue::Entry>,
}

impl QuietSends {
    /// For a ring with so many submission entries, and four times as many completion entries.
    pub fn new(entries: u32, supported: bool) -> Self {
        let most = if supported { entries as usize } else { 0 };
        Self {
            most,
            under_way: VecDeque::with_capacity(most),
            again: Vec::with_capacity(most),
            through: VecDeque::with_capacity(most),
            taken: VecDeque::with_capacity(4 * entries as usize),
        }
    }

    /// Whether another one can be kept.
    pub fn has_room(&self) -> bool {
        self.under_way.len() + self.again.len() + self.through.len() < self.most
    }

    /// Keeps one that was pushed.
    pub fn pushed(&mut self, send: QuietSend) {
        self.under_way.push_back(send);
    }

    /// Whether any holds its buffer.
    pub fn any(&self) -> bool {
        !self.under_way.is_empty() || !self.again.is_empty() || !self.through.is_empty()
    }

    /// Whether completions wait to be popped that a wait would have ended with.
    pub fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Reads completions while sends are under way, and takes out those that have failed; whether
    /// all were read. What found no room is kept in `again`; all else is to be popped.
    pub fn take(&mut self, mut completions: impl Iterator<Item = cqueue::Entry>) -> bool {
        while !self.under_way.is_empty() {
            if self.taken.len() == self.taken.capacity() {
                return false;
            }
            let Some(cqe) = completions.next() else { return true };
            let failed = match from_user_data(cqe.user_data()) {
                Some((OpKind::Send, handle)) => {
                    self.under_way.iter().position(|send| send.handle == handle)
                }
                _ => None,
            };
            let failed = failed.and_then(|at| self.under_way.remove(at));
            match failed {
                Some(send) if cqe.result() == -nix::libc::EAGAIN => self.again.push(send),
                _ => self.taken.push_back(cqe),
            }
        }
        true
    }

    /// With `all_said`, nothing can be said any more about those under way: they are through.
    pub fn settle(&mut self, all_said: bool) {
        if all_said {
            self.through.append(&mut self.under_way);
        }
    }

    /// The completion of one that is through.
    pub fn pop_through(&mut self) -> Option<Completion> {
        let QuietSend { handle, from, to, .. } = self.through.pop_front()?;
        let result = Ok(to - from);
        Some(Completion { handle, kind: OpKind::Send, result, more: false, buffer: None })
    }

    /// The next completion that was read here.
    pub fn pop_taken(&mut self) -> Option<cqueue::Entry> {
        self.taken.pop_front()
    }
}
