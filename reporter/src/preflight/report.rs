//! What preflight answers: items, verdicts, capacity. It knows no host and no formula.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::facts::HostFacts;
use super::plan::Plan;
use super::profile::{Rule, Scope};

/// Version of preflight.json; readers of version 1 may ignore unknown keys.
pub const REPORT_VERSION: u32 = 1;

/// Whether a plan fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It fits.
    Ok,
    /// It does not.
    DoesNotFit,
    /// This process cannot find out.
    CannotTell,
}

impl Verdict {
    /// The words in the table.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::DoesNotFit => "does not fit",
            Verdict::CannotTell => "cannot tell",
        }
    }
}

/// How an item's actual value is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// It was done.
    Tried,
    /// It is what the system says.
    Read,
}

/// Which end of the connections an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The load generator.
    Generator,
    /// The server.
    Server,
    /// The machine, whoever uses it.
    Host,
}

/// One thing that the plan needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// A stable name.
    pub id: &'static str,
    /// What it is, for people.
    pub title: String,
    /// Whose need it is.
    pub side: Side,
    /// What is needed.
    pub needed: String,
    /// How that was computed.
    pub formula: String,
    /// What is there.
    pub actual: String,
    /// The comparison.
    pub verdict: Verdict,
    /// Whether the plan fails without it; else it is advice and does not decide.
    pub required: bool,
    /// How `actual` is known.
    pub evidence: Evidence,
    /// The reason for "cannot tell", or what else to know.
    pub note: Option<String>,
    /// The command that fixes it.
    pub fix: Option<String>,
    /// Connections that this item allows as the host is; `None`: it sets no bound.
    pub holds: Option<u64>,
    /// Connections that it would allow after the fix; `None`: no bound.
    pub could_hold: Option<u64>,
}

impl Item {
    /// An item that is fine, read and required until told otherwise.
    pub fn new(id: &'static str, title: &str, side: Side) -> Item {
        Item {
            id,
            title: title.to_owned(),
            side,
            needed: String::new(),
            formula: String::new(),
            actual: String::new(),
            verdict: Verdict::Ok,
            required: true,
            evidence: Evidence::Read,
            note: None,
            fix: None,
            holds: None,
            could_hold: None,
        }
    }

    /// States the need and where it comes from.
    pub fn needs(mut self, needed: impl Into<String>, formula: impl Into<String>) -> Item {
        self.needed = needed.into();
        self.formula = formula.into();
        self
    }

    /// States what is there.
    pub fn has(mut self, actual: impl Into<String>) -> Item {
        self.actual = actual.into();
        self
    }

    /// Fits or not.
    pub fn fits(mut self, fits: bool) -> Item {
        self.verdict = if fits { Verdict::Ok } else { Verdict::DoesNotFit };
        self
    }

    /// Cannot be found out, and why.
    pub fn unknown(mut self, reason: impl Into<String>) -> Item {
        self.verdict = Verdict::CannotTell;
        if self.actual.is_empty() {
            self.actual = "?".to_owned();
        }
        self.noted(reason)
    }

    /// It was tried.
    pub fn tried(mut self) -> Item {
        self.evidence = Evidence::Tried;
        self
    }

    /// It does not decide.
    pub fn advice(mut self) -> Item {
        self.required = false;
        self
    }

    /// Adds a remark.
    pub fn noted(mut self, note: impl Into<String>) -> Item {
        let note = note.into();
        self.note = Some(match self.note.take() {
            Some(before) if !note.is_empty() => format!("{before}; {note}"),
            Some(before) => before,
            None => note,
        });
        self.note = self.note.filter(|n| !n.is_empty());
        self
    }

    /// Names the command, where something is to be fixed.
    pub fn fixed_by(mut self, command: impl Into<String>) -> Item {
        if self.verdict == Verdict::DoesNotFit {
            self.fix = Some(command.into());
        }
        self
    }

    /// Bounds the connections, as it is and after the fix. A number that a double cannot hold
    /// exactly bounds nothing, and is none.
    pub fn bounds(mut self, holds: u64, could_hold: Option<u64>) -> Item {
        let real = |n: &u64| *n < 1 << f64::MANTISSA_DIGITS;
        self.holds = Some(holds).filter(real);
        self.could_hold = could_hold.filter(real);
        self
    }
}

/// A largest plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// Connections; `None`: no bound is known.
    pub connections: Option<u64>,
    /// The id of the item that sets it; empty without one.
    pub by: String,
}

/// The largest plans of this shape (role, sources, targets, replicas) that this host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// As the host is.
    pub as_is: Bound,
    /// After the fixes that can be made from here.
    pub could_be: Bound,
}

impl Capacity {
    /// The minimum over the items that decide.
    pub fn of(items: &[Item]) -> Capacity {
        let least = |pick: &dyn Fn(&Item) -> Option<u64>| {
            let found = items
                .iter()
                .filter(|i| i.required)
                .filter_map(|i| Some((pick(i)?, i.id)))
                .min_by_key(|(connections, _)| *connections);
            Bound {
                connections: found.map(|(c, _)| c),
                by: found.map(|(_, id)| id.to_owned()).unwrap_or_default(),
            }
        };
        Capacity { as_is: least(&|i| i.holds), could_be: least(&|i| i.could_hold) }
    }
}

/// One setting of the host beside the profile's: the tuning that goes with a run's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// Name.
    pub key: String,
    /// The profile's value for this host and plan.
    pub wanted: String,
    /// The host's; `None`: not visible here.
    pub actual: Option<String>,
    /// How they are compared.
    pub rule: Rule,
    /// Whether the host's value does not satisfy the wanted one.
    pub differs: bool,
    /// Whether this process could write it.
    pub writable: bool,
    /// Whose setting it is.
    pub scope: Scope,
    /// Why it is wanted.
    pub reason: String,
    /// Where that is written.
    pub source: String,
}

/// Preflight's whole answer; serialises to preflight.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// What was asked.
    pub plan: Plan,
    /// The answer.
    pub verdict: Verdict,
    /// The largest plans.
    pub capacity: Capacity,
    /// Each need.
    pub items: Vec<Item>,
    /// The host's tuning.
    pub tuning: Vec<Tuning>,
    /// Everything that was read and tried.
    pub host: HostFacts,
}

impl Report {
    /// Puts the answer together.
    pub fn new(plan: Plan, host: HostFacts, items: Vec<Item>, tuning: Vec<Tuning>) -> Report {
        let any = |v| items.iter().any(|i| i.required && i.verdict == v);
        let verdict = if any(Verdict::DoesNotFit) {
            Verdict::DoesNotFit
        } else if any(Verdict::CannotTell) {
            Verdict::CannotTell
        } else {
            Verdict::Ok
        };
        let capacity = Capacity::of(&items);
        Report { version: REPORT_VERSION, plan, verdict, capacity, items, tuning, host }
    }

    /// 0 fits, 1 does not fit, 4 cannot tell.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Ok => 0,
            Verdict::DoesNotFit => 1,
            Verdict::CannotTell => 4,
        }
    }

    /// An item by its id.
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.id == id)
    }

    /// Items that keep the plan from fitting.
    pub fn problems(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|i| i.required && i.verdict == Verdict::DoesNotFit)
    }

    /// preflight.json.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Writes preflight.json.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        std::fs::write(path, text)
    }

    /// One line: the largest plans.
    pub fn summary(&self) -> String {
        let show = |b: &Bound| match b.connections {
            Some(n) => format!("{} connections ({})", grouped(n), b.by),
            None => "no bound found".to_owned(),
        };
        let c = &self.capacity;
        format!(
            "{}: {} connections, role {}. This host holds {} as it is, {} as it could be.",
            match self.verdict {
                Verdict::Ok => "fits",
                Verdict::DoesNotFit => "does not fit",
                Verdict::CannotTell => "cannot tell",
            },
            grouped(self.plan.connections),
            self.plan.role.name(),
            show(&c.as_is),
            show(&c.could_be),
        )
    }
}

/// A number with its thousands apart: `100,000`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Bytes for people: `5.1 GB`, `430 MB`, `4.2 KB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if n < 1_000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A limit for people.
pub fn limit(n: u64) -> String {
    if n == u64::MAX { "unlimited".to_owned() } else { grouped(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!((grouped(0), grouped(999)), ("0".into(), "999".into()));
        assert_eq!((grouped(1_000), grouped(1_234_567)), ("1,000".into(), "1,234,567".into()));
        assert_eq!(
            (bytes(999), bytes(4_200), bytes(430_000_000)),
            ("999 B".into(), "4.2 KB".into(), "430 MB".into())
        );
        assert_eq!((bytes(999_600), bytes(u64::MAX)), ("1.0 MB".into(), "18447 PB".into()));
        assert_eq!(limit(u64::MAX), "unlimited");
    }

    #[test]
    fn only_required_items_set_the_capacity() {
        let item = |id, n, could| Item::new(id, id, Side::Host).bounds(n, could);
        let c = Capacity::of(&[
            item("a", 10, Some(30)),
            item("b", 5, None),
            item("c", 1, Some(1)).advice(),
            Item::new("d", "d", Side::Host),
        ]);
        assert_eq!((c.as_is.connections, c.as_is.by.as_str()), (Some(5), "b"));
        assert_eq!((c.could_be.connections, c.could_be.by.as_str()), (Some(30), "a"));
        assert_eq!(Capacity::of(&[]).as_is.connections, None);
    }

    #[test]
    fn a_fix_belongs_to_something_broken_and_notes_add_up() {
        let item = Item::new("a", "a", Side::Host).fits(true).fixed_by("x");
        assert_eq!(item.fix, None);
        let item = item.fits(false).fixed_by("x").noted("one").noted("").noted("two");
        assert_eq!(item.fix.as_deref(), Some("x"));
        assert_eq!(item.note.as_deref(), Some("one; two"));
    }
}
