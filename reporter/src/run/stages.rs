//! One stage from its start to its record: start the generator, carry out the steps, let it end.

use live::board::StageState;

use super::console::Console;
use super::interrupt::Interrupt;
use super::journal::Journal;
use super::live::Live;
use super::plan::{Profile, Stage, Steps};
use super::record::StageRecord;
use super::sampler::Sampling;
use super::steps::{self, Stopped};
use crate::clock::{self, SECOND_NS};
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::folder::Folder;
use crate::generator::{Command, Finished, Generator, Setup, arguments};

/// Time that the generator gets to write its results once it was told to end.
const LAST_WORDS_NS: u64 = 30 * SECOND_NS;

/// What all stages of a run share.
pub struct Stages<'a> {
    /// The generator.
    pub setup: &'a Setup,
    /// Where results go.
    pub folder: &'a Folder,
    /// Where events go.
    pub journal: &'a Journal,
    /// Whether the run is to end.
    pub interrupt: &'a Interrupt,
    /// Where progress goes.
    pub console: Console,
    /// The sampling thread.
    pub sampling: &'a Sampling,
    /// Decides how often progress is printed.
    pub profile: Profile,
}

/// A stage that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What is written of it.
    pub record: StageRecord,
    /// Why no further stage makes sense; none if all is well.
    pub broken: Option<Failure>,
}

/// The record of a stage that has not run.
pub fn planned(number: usize, stage: &Stage) -> StageRecord {
    let Stage { name, kind, connections, rate_per_s, skipped, .. } = stage;
    let record = StageRecord::planned(number, name, *kind, *connections, *rate_per_s);
    StageRecord { skipped: skipped.clone(), ..record }
}

impl Stages<'_> {
    /// Runs one stage; `number` counts from 1 and is part of its folder's name.
    pub fn run(&self, number: usize, stage: &Stage, cluster: &mut dyn Cluster) -> Ended {
        let mut record = planned(number, stage);
        if record.skipped.is_some() {
            return Ended { record, broken: None };
        }
        self.journal.set_stage(&stage.name);
        self.console.dashboard.stage(&stage.name, StageState::Running);
        record.start_ns = clock::mono_ns();
        let urls = cluster.targets();
        let log_dir = self.folder.join(&record.log_dir);
        let json = self.folder.join(&record.json);
        let arguments = arguments(self.setup, stage, &urls, &log_dir, &json);
        let started = match cluster.generator(&arguments, &log_dir) {
            Ok(None) => Generator::start(self.setup, &arguments, &log_dir, self.interrupt),
            Ok(Some((program, arguments))) => {
                let setup = Setup { program, ..self.setup.clone() };
                Generator::start(&setup, &arguments, &log_dir, self.interrupt)
            }
            Err(failure) => Err(failure),
        };
        let broken = match started {
            Ok(generator) => {
                let pid = cluster.generator_pid().unwrap_or(generator.pid());
                self.sampling.watch_generator(Some((stage.name.clone(), pid)));
                cluster.follow(Some(generator.remote()));
                let broken = self.drive(generator, stage, cluster, &mut record);
                cluster.follow(None);
                self.sampling.watch_generator(None);
                broken
            }
            Err(failure) => Some(failure),
        };
        if record.end_ns == 0 {
            record.end_ns = clock::mono_ns();
        }
        if let (Some(failure), None) = (&broken, &record.skipped) {
            record.skipped = Some(format!("cut short: {failure}"));
        }
        self.journal.set_stage("");
        let state = if record.skipped.is_some() { StageState::Skipped } else { StageState::Done };
        self.console.dashboard.stage(&stage.name, state);
        Ended { record, broken }
    }

    fn drive(
        &self,
        generator: Generator,
        stage: &Stage,
        cluster: &mut dyn Cluster,
        record: &mut StageRecord,
    ) -> Option<Failure> {
        let progress_every_ns = match self.profile {
            Profile::Quick => 5 * SECOND_NS,
            Profile::Full => 10 * SECOND_NS,
        };
        let mut live =
            Live::new(generator, stage, self.console.clone(), self.interrupt, progress_every_ns);
        let heartbeat_ns = self.setup.heartbeat_ns;
        let stopped = steps::carry_out(&mut live, cluster, self.journal, heartbeat_ns).err();
        let until_told = !matches!(stage.steps, Steps::Hold { .. });
        let mut failed = None;
        let (early, ended_by_itself) = match stopped {
            None => (false, false),
            Some(Stopped::Ended) => (false, until_told),
            Some(Stopped::Interrupted) => (true, false),
            Some(Stopped::Failed(failure)) => {
                live.say(&failure.message);
                failed = Some(failure);
                (true, false)
            }
        };
        if until_told && !early {
            live.send(&Command::End);
        }
        let cooldown_ns_max = steps::cooldown_ns_max(stage.connections);
        let interrupted = live.let_end(clock::mono_ns() + cooldown_ns_max, early);
        if interrupted {
            record.skipped = Some("cut short: interrupted".to_owned());
        }
        let (generator, errors) = live.into_parts();
        let finished = generator.finish(clock::mono_ns() + LAST_WORDS_NS);
        record.end_ns = finished.at_ns;
        record.exit_code = finished.exit_code;
        record.stderr_tail.clone_from(&finished.stderr_tail);
        if failed.is_some() || interrupted {
            return failed;
        }
        judge(&finished, &errors, ended_by_itself)
    }
}

/// Whether the generator's end lets the run go on. A spoiled log (3) is for the report to judge.
fn judge(finished: &Finished, errors: &[String], ended_by_itself: bool) -> Option<Failure> {
    let said = errors.last().map_or(finished.stderr_tail.as_str(), String::as_str);
    match finished.exit_code {
        Some(0) if ended_by_itself => {
            Some(Failure::invalid("the generator ended before the steps of the stage were through"))
        }
        Some(0 | 3) => None,
        Some(2) => Some(Failure::usage(said)),
        Some(4) => Some(Failure::host(said)),
        Some(code) => {
            Some(Failure::invalid(format!("the generator ended with exit code {code}: {said}")))
        }
        None => Some(Failure::invalid(format!("the generator was killed: {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn finished(exit_code: Option<i32>) -> Finished {
        Finished { exit_code, stderr_tail: "tail".to_owned(), at_ns: 1 }
    }

    #[test]
    fn the_generators_exit_code_decides_whether_the_run_goes_on() {
        let exit = |code, early| judge(&finished(code), &[], early).map(|failure| failure.exit);
        assert_eq!(exit(Some(0), false), None);
        assert_eq!(exit(Some(0), true), Some(Exit::Invalid));
        assert_eq!(exit(Some(3), false), None);
        assert_eq!(exit(Some(2), false), Some(Exit::Usage));
        assert_eq!(exit(Some(4), false), Some(Exit::HostLacks));
        assert_eq!(exit(Some(101), false), Some(Exit::Invalid));
        assert_eq!(exit(None, false), Some(Exit::Invalid));
    }

    #[test]
    fn what_the_generator_said_is_the_message() {
        let errors = ["first".to_owned(), "http://a: connection refused".to_owned()];
        let failure = judge(&finished(Some(2)), &errors, false).expect("is broken");
        assert_eq!(failure.message, "http://a: connection refused");
        let failure = judge(&finished(Some(4)), &[], false).expect("is broken");
        assert_eq!(failure.message, "tail");
    }
}
