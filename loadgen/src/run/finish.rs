//! The end of a run: what the workers leave behind, the end of the log, the summary.

use std::path::Path;
use std::thread::JoinHandle;

use latlog::{End as LogEnd, WorkerTotals};

use super::{Coordinator, Ended};
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
        self.leave_screen();
        summary::hide_secrets(&mut estate.examples, &self.plan.work.secrets);
        if self.ramp_failed {
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
        if let Some(cause) = &estate.failure {
            eprintln!("loadgen: {cause}");
        }
        self.publish(&Summary {
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
        })?;
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

    /// Tells whoever drives this run, or prints; and writes the file that was asked for.
    fn publish(&self, summary: &Summary<'_>) -> Result<(), SetupError> {
        let mut stage = summary.to_json();
        let found = self.stepping.as_ref().and_then(|s| Some((s, s.found()?)));
        if let Some((s, found)) = found {
            stage["search"] = search::to_json(s.threshold(), &s.steps, found);
        }
        if let Some(link) = &self.link {
            link.say(&serde_json::json!({"type": "done", "stage": stage}));
        } else {
            println!("{}", summary.text());
            if let Some((s, found)) = found {
                println!("{}", search::to_text(s.threshold(), &s.steps, found));
            }
        }
        let Some(file) = &self.cli.json else { return Ok(()) };
        write(file, &format!("{stage:#}\n"))
    }
}

fn write(file: &Path, text: &str) -> Result<(), SetupError> {
    std::fs::write(file, text).map_err(|cause| SetupError::Unwritable {
        path: file.to_owned(),
        option: "--json",
        cause,
    })
}
