//! The orchestrator's events, gathered from all threads in one list.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{EventRecord, EventRecordKind};
use crate::clock;

/// A handle on the list; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    shared: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    stage: String,
    events: Vec<EventRecord>,
}

/// Events kept of one run; a replica in a crash loop must not fill the memory.
const EVENTS_MAX: usize = 100_000;

impl Journal {
    /// Names the stage that later events belong to; empty between stages.
    pub fn set_stage(&self, name: &str) {
        name.clone_into(&mut self.lock().stage);
    }

    /// The stage that is running; empty between stages.
    pub fn stage(&self) -> String {
        self.lock().stage.clone()
    }

    /// Adds an event to the running stage.
    pub fn note(&self, mut event: EventRecord) {
        let mut entries = self.lock();
        if entries.events.len() < EVENTS_MAX {
            entries.stage.clone_into(&mut event.stage);
            entries.events.push(event);
        }
    }

    /// Adds a line for the charts, at this moment.
    pub fn mark(&self, text: impl Into<String>) {
        let event = EventRecord::at(clock::mono_ns(), EventRecordKind::Mark);
        self.note(EventRecord { text: text.into(), ..event });
    }

    /// The events after the first `seen`, in the order in which they were noted.
    pub fn since(&self, seen: usize) -> Vec<EventRecord> {
        self.lock().events.get(seen..).map_or_else(Vec::new, <[EventRecord]>::to_vec)
    }

    /// All events so far, in order of their time.
    pub fn events(&self) -> Vec<EventRecord> {
        let mut events = self.lock().events.clone();
        // Threads append as they come to it; what they saw carries its own time.
        events.sort_by_key(|event| event.at_ns);
        events
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_their_stage_and_come_out_in_order_of_time() {
        let journal = Journal::default();
        journal.set_stage("failover");
        journal.note(EventRecord::at(20, EventRecordKind::ReplicaExit));
        journal.note(EventRecord::at(10, EventRecordKind::Kill));
        journal.set_stage("");
        journal.note(EventRecord::at(30, EventRecordKind::ReplicaStart));
        let events = journal.events();
        assert_eq!(events.iter().map(|event| event.at_ns).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(events[0].stage, "failover");
        assert_eq!(events[2].stage, "");
    }
}
