//! The end of a run: what the workers leave behind, the end of the log, the summary.

use std::path::Path;
use std::thread::JoinHandle;

use latlog::{End as LogEnd, WorkerTotals};
use serde_json::Value;

use super::{Coordinator, Ended, ending_signals};
use crate::clock::anchor;
use crate::fleet::Fleet;
use crate::search;
use crate::setup::SetupError;
use crate::summary::{self, Summary};
use crate::worker::sample::Sample;
use crate::worker::{Example, Handshakes, Remains, StreamCounts, Tally};

/// What all workers leave behind, put together.
#[derive(Default)]
struct Estate {
    tally: Tally,
    last: Sample,
    totals: Vec<WorkerTotals>,
    streams: StreamCounts,
    handshakes: Handshakes,
    examples: Vec<Example>,
    /// Why one of them failed.
    failure: Option<String>,
}

impl Estate {
    /// Waits for the threads to end.
    fn of(threads: Vec<JoinHandle<Result<Remains, String>>>) -> Self {
        let mut all = Self::default();
        for thread in threads {
            match thread.join() {
                Ok(Ok(remains)) => all.add(remains),
                Ok(Err(cause)) => all.failure = Some(cause),
                Err(_) => all.failure = Some("a worker panicked".into()),
            }
        }
        all.examples = summary::first_of_each(all.examples);
        all
    }

    fn add(&mut self, remains: Remains) {
        self.tally.merge(&remains.tally);
        self.streams.merge(&remains.streams);
        self.last.add(&remains.last);
        self.handshakes.merge(&remains.handshakes);
        self.totals.push(remains.totals);
        self.examples.extend(remains.examples);
    }
}

impl Coordinator<'_> {
    /// Joins the workers, ends the log, prints and writes the summary.
    pub(super) fn finish(mut self, fleet: Fleet) -> Result<Ended, SetupError> {
        let mut estate = Estate::of(fleet.threads);
        summary::hide_secrets(&mut estate.examples, &self.plan.work.secrets);
        if self.ramp_failed {
            self.leave_screen();
            return Err(SetupError::NothingStands(self.why_nothing_stands(&estate.examples)));
        }
        self.note_examples(&estate.examples);
        let mut hold = self.orders.hold();
        let steps = self.stepping.as_ref().map_or(&[][..], |s| &s.steps);
        for step in steps {
            estate.tally.merge(&step.seen.tally);
            hold.start = hold.start.min(step.from_ns);
        }
        let path = self.log.as_ref().map(|l| l.path.clone());
        let totals = std::mem::take(&mut estate.totals);
        let written = self.log.take().map(|log| log.finish(LogEnd { anchor: anchor(), totals }));
        let log_error = written.and_then(|written| written.error);
        let spoiled =
            estate.failure.is_some() || estate.last.log_lost_records > 0 || log_error.is_some();
        let (stage, text) = self.put_together(&Summary {
            plan: &self.plan,
            host: &self.setup.host,
            hold,
            tally: &estate.tally,
            handshakes: &estate.handshakes,
            streams: &estate.streams,
            last: &estate.last,
            observed: &self.observed,
            examples: &estate.examples,
            targets: &self.known.known,
            log: path.clone(),
            log_error,
        });
        // All files first: what is said to a terminal waits for as long as the terminal is stopped.
        let kept = self.cli.json.as_ref().map_or(Ok(()), |file| write(file, &stage));
        self.give_signals_back();
        self.leave_screen();
        if let Some(cause) = &estate.failure {
            eprintln!("loadgen: {cause}");
        }
        match &self.link {
            Some(link) => link.say(&serde_json::json!({"type": "done", "stage": stage})),
            None => println!("{text}"),
        }
        kept?;
        if let Some(link) = &self.link {
            link.hand_over(path.as_deref());
        }
        Ok(match (self.interrupts > 0, spoiled) {
            (true, _) => Ended::Interrupted,
            (false, true) => Ended::Spoiled,
            (false, false) => Ended::Whole,
        })
    }

    fn why_nothing_stands(&self, examples: &[Example]) -> String {
        examples.first().map_or_else(
            || "no attempt came to an end in the time of the ramp".into(),
            |e| summary::describe_example(e, &self.known.known, &self.plan.work.mix),
        )
    }

    fn note_examples(&mut self, examples: &[Example]) {
        let Some(log) = &mut self.log else { return };
        for example in examples {
            let json = summary::example_json(example, &self.known.known, &self.plan.work.mix);
            log.note(example.at_ns, "example", &json.to_string());
        }
    }

    /// The summary for programs and for people.
    fn put_together(&self, summary: &Summary<'_>) -> (Value, String) {
        let (mut stage, mut text) = (summary.to_json(), summary.text());
        let found = self.stepping.as_ref().and_then(|s| Some((s, s.found()?)));
        if let Some((s, found)) = found {
            stage["search"] = search::to_json(s.threshold(), &s.steps, found);
            text = format!("{text}\n{}", search::to_text(s.threshold(), &s.steps, found));
        }
        (stage, text)
    }

    /// Lets a signal end the program, which has nothing left to do but to print.
    fn give_signals_back(&mut self) {
        if self.link.is_none() {
            // Those that came before were meant for the run.
            while let Ok(Some(_)) = self.signals.read_signal() {}
            let _ = ending_signals().thread_unblock();
        }
    }
}

fn write(file: &Path, stage: &Value) -> Result<(), SetupError> {
    std::fs::write(file, format!("{stage:#}\n")).map_err(|cause| SetupError::Unwritable {
        path: file.to_owned(),
        option: "--json",
        cause,
    })
}
