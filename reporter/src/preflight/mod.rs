//! Preflight: what a plan needs of this host, whether it is there, and the command that fixes it.
//!
//! `plan` is asked, `gather` reads and `trial` tries the host into `facts`, `needs` has the
//! formulas, `items` compares, `report` is the answer; `apply` changes the host and puts it back.
//! A run calls [`check`] first and keeps the answer as preflight.json.

pub mod apply;
mod cgroup;
pub mod cli;
pub mod counters;
pub mod emit;
pub mod facts;
mod gather;
pub mod items;
pub mod needs;
pub mod plan;
pub mod profile;
pub mod report;
pub mod table;
pub mod trial;

pub use plan::{Plan, Role, SourceSet};
pub use report::{Bound, Capacity, Evidence, Item, Report, Tuning, Verdict};
pub use table::TableStyle;

use facts::HostFacts;
use profile::Profile;

/// Descriptors that this process still may open are taken as free above those it has.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// Reads and tries this host, and compares it with the plan.
///
/// Takes a few seconds at most, opens no more than [`trial::CONNECTIONS_TRIED_MAX`] connections to
/// itself, and leaves nothing behind. What it cannot find out is an item "cannot tell".
pub fn check(plan: &Plan) -> Report {
    let profile = Profile::built_in();
    let mut host = gather::read(plan, &profile);
    let open = std::fs::read_dir(OWN_DESCRIPTORS).map_or(0, |d| d.count() as u64);
    let tracked = host.number("net.netfilter.nf_conntrack_max").zip(host.conntrack_count);
    let room = tracked.map(|(max, count)| max.saturating_sub(count));
    host.trials = trial::run(plan, host.nofile.soft.saturating_sub(open), room);
    judge(plan, host, &profile)
}

/// The comparison alone: a pure function.
pub fn judge(plan: &Plan, host: HostFacts, profile: &Profile) -> Report {
    let given = items::Given { plan, host: &host, profile };
    let (items, tuning) = (items::all(&given), items::tuning(&given));
    Report::new(plan.clone(), host, items, tuning)
}

#[cfg(test)]
pub(crate) mod fake;
