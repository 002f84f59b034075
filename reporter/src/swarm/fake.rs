//! Docker from recorded answers, for tests: no engine, no process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::docker::{Answer, Call, Docker};

/// One recorded call. The answers are given in their order, the last one for ever.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// The arguments; `*` at the end stands for any others.
    pub args: Vec<String>,
    /// What it said.
    pub answers: Vec<RecordedAnswer>,
}

/// How a recorded call ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RecordedAnswer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Recorded {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<(Vec<String>, VecDeque<RecordedAnswer>)>,
    calls: Vec<Vec<String>>,
}

impl Recorded {
    /// From a JSON list of [`Record`].
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let records: Vec<Record> = serde_json::from_str(json)?;
        let fake = Self::default();
        records.into_iter().for_each(|record| fake.add(record));
        Ok(fake)
    }

    /// Adds a call. Later ones go before earlier ones.
    pub fn add(&self, record: Record) {
        self.with(|state| state.records.insert(0, (record.args, record.answers.into())));
    }

    /// Adds a call that ends well.
    pub fn says(&self, args: &[&str], stdout: &str) {
        self.add(Record {
            args: args.iter().map(|&word| word.to_owned()).collect(),
            answers: vec![RecordedAnswer { stdout: stdout.to_owned(), ..Default::default() }],
        });
    }

    /// The calls that were made, in their order.
    pub fn calls(&self) -> Vec<String> {
        self.with(|state| state.calls.iter().map(|call| call.join(" ")).collect())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn matches(pattern: &[String], args: &[String]) -> bool {
    match pattern.split_last() {
        Some((last, rest)) if last == "*" => args.starts_with(rest),
        _ => pattern == args,
    }
}

impl Docker for Recorded {
    fn answer(&self, call: &Call) -> Answer {
        self.with(|state| {
            state.calls.push(call.args.clone());
            let found = state.records.iter_mut().find(|(pattern, _)| matches(pattern, &call.args));
            let Some((_, answers)) = found else {
                let stderr = format!("nothing recorded for: docker {}", call.args.join(" "));
                return Answer { code: 125, stderr, ..Answer::default() };
            };
            let recorded = match answers.len() {
                0 | 1 => answers.front().cloned(),
                _ => answers.pop_front(),
            };
            let recorded = recorded.unwrap_or_default();
            Answer { code: recorded.code, stdout: recorded.stdout, stderr: recorded.stderr }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_the_last_one_stays() {
        let fake = Recorded::parse(
            r#"[{"args":["service","ps","*"],"answers":[{"stdout":"a"},{"stdout":"b"}]}]"#,
        )
        .expect("parses");
        for expected in ["a", "b", "b"] {
            assert_eq!(fake.ask(&["service", "ps", "-q", "x"]).expect("is recorded"), expected);
        }
        assert!(fake.ask(&["service", "rm"]).is_err());
        assert_eq!(fake.calls().last().map(String::as_str), Some("service rm"));
    }
}
