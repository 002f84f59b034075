//! What each replica holds over time: its share before a blow and after it, when those that hold any
//! held it evenly again, and which hold none. Pure functions on courses of counts and on events.

use std::collections::BTreeSet;

use super::failover::is_of;
use super::frame::Buckets;
use super::replicas::ByReplica;
use crate::cluster::even;
use crate::results::ShareResult;
use crate::run::record::{EventRecord, EventRecordKind};

/// How far from the mean a replica's share may be and still count as even.
const EVEN_TOLERANCE: f64 = 0.1;
/// Share of what was held before that must be held again.
const WHOLE_SHARE: f64 = 0.99;

/// What one replica holds at the end of each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Its name.
    pub replica: String,
    /// Sessions, or descriptors beyond those that it has without load.
    pub held: Vec<u64>,
}

/// Courses of descriptors, where sessions cannot be told apart by replica.
pub fn by_descriptors(processes: &ByReplica, buckets: &Buckets) -> Vec<Course> {
    let course = |(replica, samples): (&String, &Vec<super::replicas::ProcessSample>)| {
        let known = samples.iter().map(|sample| sample.fds).filter(|fds| fds.is_finite());
        let idle = known.fold(f64::INFINITY, f64::min);
        let mut held = vec![0; buckets.count];
        for sample in samples {
            if let Some(bucket) = buckets.of(sample.at_ns) {
                held[bucket] = (sample.fds - idle).max(0.0) as u64;
            }
        }
        Course { replica: replica.clone(), held }
    };
    processes.iter().map(course).collect()
}

/// Each replica's share at two moments; one that held nothing at both has none.
pub fn shares(courses: &[Course], before: usize, after: usize) -> Vec<ShareResult> {
    courses
        .iter()
        .map(|course| ShareResult {
            replica: course.replica.clone(),
            before: course.held[before],
            after: course.held[after],
        })
        .filter(|share| share.before + share.after > 0)
        .collect()
}

/// The first bucket from which on, up to `last`, the replicas that hold something at the end hold
/// it evenly, and as much as all held in bucket `before`.
pub fn balanced(courses: &[Course], before: usize, last: usize) -> Option<usize> {
    let whole: u64 = courses.iter().map(|course| course.held[before]).sum();
    let staying: Vec<&Course> = courses.iter().filter(|course| course.held[last] > 0).collect();
    let well = |bucket: &usize| {
        let held: Vec<u64> = staying.iter().map(|course| course.held[*bucket]).collect();
        let all = held.iter().sum::<u64>();
        all as f64 >= whole as f64 * WHOLE_SHARE && even(&held, EVEN_TOLERANCE)
    };
    let from = before + 1;
    (from..=last).rev().take_while(well).last().filter(|_| !staying.is_empty())
}

/// The replicas that are healthy at a moment and hold nothing in bucket `last`: nobody moves a
/// session to one that has come back. The events are in the order of their time.
pub fn idle(courses: &[Course], last: usize, events: &[EventRecord], at_ns: u64) -> Vec<String> {
    let mut healthy = BTreeSet::new();
    for event in events.iter().filter(|event| event.at_ns <= at_ns) {
        match event.kind {
            EventRecordKind::ReplicaHealthy => {
                healthy.insert(event.own_address());
            }
            EventRecordKind::ReplicaStart
            | EventRecordKind::ReplicaExit
            | EventRecordKind::Kill
            | EventRecordKind::Stop => {
                healthy.remove(event.own_address());
            }
            EventRecordKind::NodeDrain
            | EventRecordKind::NodeLoss
            | EventRecordKind::UpdateCommand
            | EventRecordKind::Recovered
            | EventRecordKind::ScaleCommand
            | EventRecordKind::ScaleConverged
            | EventRecordKind::Drain
            | EventRecordKind::SessionsConverged
            | EventRecordKind::Mark => {}
        }
    }
    for course in courses.iter().filter(|course| course.held[last] > 0) {
        healthy.retain(|replica| !is_of(&course.replica, replica));
    }
    healthy.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn courses(rows: &[(&str, &[u64])]) -> Vec<Course> {
        let course = |(name, held): &(&str, &[u64])| Course {
            replica: (*name).to_owned(),
            held: held.to_vec(),
        };
        rows.iter().map(course).collect()
    }

    #[test]
    fn balanced_is_when_the_last_unevenness_has_gone() {
        let back = courses(&[("a", &[50, 99, 60, 51, 50]), ("b", &[50, 0, 39, 49, 50])]);
        assert_eq!(balanced(&back, 0, 4), Some(3));
        let never = courses(&[("a", &[50, 99, 90]), ("b", &[50, 0, 9])]);
        assert_eq!(balanced(&never, 0, 2), None);
        let fewer = courses(&[("a", &[50, 60]), ("b", &[50, 0])]);
        assert_eq!(balanced(&fewer, 0, 1), None, "40 of 100 are not held at all");
    }

    #[test]
    fn a_replica_that_came_or_went_has_a_share_on_one_side() {
        let courses =
            courses(&[("a", &[50, 0]), ("b", &[50, 52]), ("c", &[0, 48]), ("d", &[0, 0])]);
        let shares: Vec<(String, u64, u64)> = shares(&courses, 0, 1)
            .into_iter()
            .map(|share| (share.replica, share.before, share.after))
            .collect();
        let expected = [("a", 50, 0), ("b", 50, 52), ("c", 0, 48)];
        assert_eq!(shares, expected.map(|(name, b, a)| (name.to_owned(), b, a)));
    }

    #[test]
    fn a_healthy_replica_that_holds_none_is_idle_until_it_ends() {
        use EventRecordKind::{Kill, ReplicaExit, ReplicaHealthy, ReplicaStart};
        let event = |at_ns, kind, replica: &str| EventRecord {
            replica: replica.to_owned(),
            ..EventRecord::at(at_ns, kind)
        };
        let successor = |at_ns, kind, address: &str| EventRecord {
            address: address.to_owned(),
            ..event(at_ns, kind, "b")
        };
        let events = [
            event(1, ReplicaHealthy, "a"),
            event(1, ReplicaHealthy, "b"),
            event(10, Kill, "b"),
            event(11, ReplicaExit, "b"),
            event(20, ReplicaStart, "b"),
            event(26, ReplicaHealthy, "b"),
            // In the place of one that was killed, and told under its name.
            successor(30, ReplicaHealthy, "new"),
            event(50, ReplicaExit, "new"),
        ];
        let courses = courses(&[("a", &[50, 99]), ("b", &[50, 0])]);
        let at = |at_ns| idle(&courses, 1, &events, at_ns);
        assert_eq!(at(25), [""; 0], "it was started and is not healthy yet");
        assert_eq!(at(40), ["b", "new"], "one that the generator never knew is there too");
        assert_eq!(at(60), ["b"]);
    }
}
