//! What the scale scenario found, as text and as JSON. Pure: figures in, text out.

use std::fmt::Write;

use serde_json::{Value, json};

use super::driven::Status;

/// Memory of everything at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory of the target's processes together.
    pub target_bytes: u64,
    /// Resident memory of loadgen.
    pub generator_bytes: u64,
    /// Kernel objects of the host.
    pub kernel_bytes: u64,
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Found {
    /// Sessions asked for.
    pub sessions: u64,
    /// Processes of the target.
    pub processes: u64,
    /// Every second's figures, from the start.
    pub seconds: Vec<Status>,
    /// Before the first connection.
    pub before: Memory,
    /// With all connections, at the end of the hold.
    pub held: Memory,
    /// The target's counters.
    pub target: Value,
    /// loadgen's own summary.
    pub generator: Value,
}

impl Found {
    /// Least number of sessions alive in the hold: what was really held.
    pub fn held_min(&self) -> u64 {
        let hold = self.seconds.iter().filter(|second| second.phase == "hold");
        hold.map(|second| second.alive).min().unwrap_or(0)
    }

    /// Whether every session was alive in every second of the hold.
    pub fn all_held(&self) -> bool {
        self.held_min() >= self.sessions
    }

    /// New connections a second, by second, until the hold: a rate that sinks shows a search for
    /// free ports, or a full backlog.
    pub fn connects_per_s(&self) -> Vec<f64> {
        let ramp: Vec<&Status> = self
            .seconds
            .iter()
            .scan(false, |stands, second| {
                // The first second of the hold ends the last one of the ramp.
                (!std::mem::replace(stands, second.phase != "ramp")).then_some(second)
            })
            .collect();
        let pairs = ramp.windows(2);
        pairs
            .map(|pair| {
                let more = pair[1].tcp_open.saturating_sub(pair[0].tcp_open) as f64;
                more * 1e9 / pair[1].t_ns.saturating_sub(pair[0].t_ns).max(1) as f64
            })
            .collect()
    }

    /// Bytes a connection: what the target grew by, all that the generator has (its tables stand
    /// before the first connection does), and what the kernel's objects grew by.
    pub fn bytes_per_connection(&self) -> [f64; 3] {
        let open = self.seconds.iter().map(|second| second.tcp_open).max().unwrap_or(0).max(1);
        let grown = |from: u64, to: u64| to as f64 - from as f64;
        let target = grown(self.before.target_bytes, self.held.target_bytes);
        let kernel = grown(self.before.kernel_bytes, self.held.kernel_bytes);
        [target, self.held.generator_bytes as f64, kernel].map(|bytes| bytes / open as f64)
    }

    /// The result as text.
    pub fn text(&self) -> String {
        let rates = self.connects_per_s();
        let [target, generator, kernel] = self.bytes_per_connection();
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<34} {value}").expect("a String takes every write");
        };
        line("sessions asked for", self.sessions.to_string());
        line("sessions alive, least in the hold", self.held_min().to_string());
        line("target processes", self.processes.to_string());
        line("target bytes/connection", format!("{target:.0} (resident, growth)"));
        line("generator bytes/connection", format!("{generator:.0} (resident, all of it)"));
        line("kernel bytes/connection", format!("{kernel:.0} (both ends; Slab)"));
        let mut sorted = rates.clone();
        sorted.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (sorted.first(), sorted.last()) {
            let median = sorted[sorted.len() / 2];
            line("connects/s", format!("least {least:.0}, median {median:.0}, most {most:.0}"));
        }
        let list: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        line("connects/s by second", list.join(" "));
        let verdict =
            if self.all_held() { "all sessions were held" } else { "sessions are missing" };
        line("result", verdict.into());
        text
    }

    /// The result as JSON.
    pub fn json(&self, conditions: &[(&str, String)]) -> Value {
        let [target, generator, kernel] = self.bytes_per_connection();
        let conditions: serde_json::Map<String, Value> =
            conditions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "sessions": self.sessions,
            "sessions_alive_min": self.held_min(),
            "all_held": self.all_held(),
            "target_processes": self.processes,
            "target_bytes_per_connection": target,
            "generator_bytes_per_connection": generator,
            "kernel_bytes_per_connection": kernel,
            "connects_per_s": self.connects_per_s(),
            "target": self.target,
            "generator": self.generator,
            "conditions": conditions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(t_s: u64, phase: &str, open: u64, alive: u64) -> Status {
        Status {
            t_ns: t_s * 1_000_000_000,
            phase: phase.into(),
            tcp_open: open,
            established: open,
            alive,
            failed: 0,
        }
    }

    fn found(hold_alive: u64) -> Found {
        Found {
            sessions: 300,
            processes: 2,
            seconds: vec![
                second(0, "ramp", 0, 0),
                second(1, "ramp", 100, 90),
                second(2, "ramp", 250, 240),
                second(3, "hold", 300, 300),
                second(4, "hold", 300, hold_alive),
                second(5, "cooldown", 10, 10),
            ],
            before: Memory { target_bytes: 1000, generator_bytes: 0, kernel_bytes: 5000 },
            held: Memory { target_bytes: 31_000, generator_bytes: 3000, kernel_bytes: 305_000 },
            target: Value::Null,
            generator: Value::Null,
        }
    }

    #[test]
    fn rates_cover_the_ramp_and_memory_is_split() {
        let found = found(300);
        assert_eq!(found.connects_per_s(), [100.0, 150.0, 50.0]);
        assert_eq!(found.bytes_per_connection(), [100.0, 10.0, 1000.0]);
        assert!(found.all_held());
    }

    #[test]
    fn one_session_missing_in_one_second_is_a_failure() {
        assert_eq!(found(299).held_min(), 299);
        assert!(!found(299).all_held());
        assert!(found(299).text().contains("sessions are missing"));
        let mut never = found(300);
        never.seconds.retain(|second| second.phase == "ramp");
        assert!(!never.all_held(), "a hold that never began holds nothing");
    }
}
