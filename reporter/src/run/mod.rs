//! `reporter run`, end to end: preflight, cluster, stages, report.
//!
//! [`run`] is the order of events. What is planned is in `plan`, what a stage does in `steps`;
//! `record` is what is left behind for the report.

pub mod console;
pub mod dashboard;
pub mod from_logs;
pub mod interrupt;
pub mod journal;
pub mod live;
pub mod outcome;
pub mod plan;
pub mod procfs;
pub mod record;
pub mod sampler;
pub mod stages;
pub mod steps;
pub mod target;

use anyhow::{Context, anyhow};

use crate::cli::{Failover, ProfileArg, RunArgs};
use crate::clock::{self, SECOND_NS};
use crate::cluster::launch::{Launcher, own_binary};
use crate::cluster::local::program_version;
use crate::cluster::{Cluster, Disturbance};
use crate::exit::{Exit, Failure};
use crate::folder::{self, Folder};
use crate::generator::{Setup, check_options};
use console::Console;
use interrupt::Interrupt;
use journal::Journal;
use plan::{Blow, Profile, Stage, Wanted};
use record::{EventRecord, EventRecordKind, HostRecord, RUN_FILE, RunRecord};
use sampler::{BALANCER_CSV, Sampling};
use stages::{Stages, planned};
use target::Target;

/// The preflight's answer inside the results folder.
pub const PREFLIGHT_FILE: &str = "preflight.json";

/// Longest time for all replicas to become healthy at the start.
const DEPLOY_NS_MAX: u64 = 60 * SECOND_NS;

/// Carries out a run and makes its report.
///
/// # Errors
/// What kept the run from being carried out; the exit code is in it (see [`crate::exit::of`]).
pub fn run(args: &RunArgs, typed: &[String], launcher: &Launcher) -> anyhow::Result<Exit> {
    folder::check_writable(&args.out)?;
    let args = &RunArgs { thresholds: args.judged.all()?, ..args.clone() };
    let console = Console::new(args.quiet, args.json);
    let setup = setup(args, launcher)?;
    let target = Target::resolve(args)?;
    procfs::raise_nofile();
    let host = procfs::host();
    let stages = plan::plan(&wanted(args, &target));
    if target.fixed().is_none() {
        plan::check_descriptors(&stages, args.replicas, host.nofile_hard).map_err(Failure::host)?;
    }
    let interrupt = Interrupt::install().context("cannot handle signals")?;
    let folder = Folder::create(&args.out, args.connections, clock::real_ns())?;
    console.progress(&format!("results go to {}", folder.path().display()));
    let mut run = Run {
        record: first_record(args, typed, &setup, &target, host, &stages),
        journal: Journal::default(),
        folder,
        console,
        interrupt,
    };
    run.save()?;
    if args.tui {
        run.open_dashboard(&stages);
    }
    let measured = run.measure(args, &setup, &target, &stages, launcher);
    run.console.close();
    run.finish(args, measured?)
}

fn setup(args: &RunArgs, launcher: &Launcher) -> Result<Setup, Failure> {
    check_options(&args.generator_option)?;
    Ok(Setup {
        program: own_binary("loadgen", "LOADGEN")?,
        launcher: launcher.clone(),
        protocol: args.protocol.into(),
        mcp_revision: args.mcp_revision.clone(),
        heartbeat_ns: args.heartbeat,
        options: args.generator_option.clone(),
    })
}

fn wanted(args: &RunArgs, target: &Target) -> Wanted {
    Wanted {
        profile: match args.profile {
            ProfileArg::Quick => Profile::Quick,
            ProfileArg::Full => Profile::Full,
        },
        connections: args.connections,
        replicas: target.replicas(args.replicas),
        rate_per_s: args.rate,
        heartbeat_ns: args.heartbeat,
        fixed: target.fixed(),
        failover: match args.failover {
            Failover::Kill => Some(Blow::Kill),
            Failover::Drain => Some(Blow::Many(Disturbance::NodeDrain)),
            Failover::NodeLoss => Some(Blow::Many(Disturbance::NodeLoss)),
            Failover::None => None,
        },
        rolling_update: args.swarm.rolling_update,
        scaling: !args.no_scaling,
    }
}

/// The record before anything has run: every stage is there, and none is recorded. If the run is cut
/// off, that is what is left of those that it did not come to.
fn first_record(
    args: &RunArgs,
    typed: &[String],
    setup: &Setup,
    target: &Target,
    host: HostRecord,
    stages: &[Stage],
) -> RunRecord {
    let server = target.record();
    let mut record = RunRecord::new(target.backend(), host).typed_now(typed);
    record.add_version("reporter", concat!("reporter ", env!("CARGO_PKG_VERSION")));
    record.add_version("loadgen", program_version(&setup.program));
    record.add_version("server", server.version.as_str());
    RunRecord {
        profile: wanted(args, target).profile.name().to_owned(),
        server,
        thresholds: args.thresholds.clone(),
        replicas_planned: target.replicas(args.replicas),
        connections_planned: args.connections,
        heartbeat_ns: args.heartbeat,
        restart_delay_ns: if target.fixed().is_some() { 0 } else { args.restart_delay },
        stages: stages.iter().enumerate().map(|(at, stage)| planned(at + 1, stage)).collect(),
        balancer_csv: target.through_balancer(args).then(|| BALANCER_CSV.to_owned()),
        ..record
    }
}

struct Run {
    record: RunRecord,
    journal: Journal,
    folder: Folder,
    console: Console,
    interrupt: Interrupt,
}

impl Run {
    fn open_dashboard(&self, stages: &[Stage]) {
        let server = match self.record.server.version.as_str() {
            "" => &self.record.server.program,
            version => version,
        };
        let title = format!(
            "reporter · {server} · {} connections · {} replicas",
            ::live::units::count(self.record.connections_planned),
            self.record.replicas_planned
        );
        let opened = self.console.dashboard.open(title, stages, &self.journal, &self.interrupt);
        if let Err(why) = opened {
            self.console.warn(&format!("no dashboard, plain lines instead: {why}"));
        }
    }

    /// Everything up to the last sample. The failure that ended it early, if one did, is a value:
    /// what was measured before it is still reported.
    fn measure(
        &mut self,
        args: &RunArgs,
        setup: &Setup,
        target: &Target,
        stages: &[Stage],
        launcher: &Launcher,
    ) -> anyhow::Result<Option<Failure>> {
        if let Err(failure) = self.preflight(args, target, stages) {
            return Ok(Some(failure));
        }
        let logs = self.folder.join("logs");
        let made = target.cluster(args, launcher, logs, &self.journal, &self.interrupt);
        let mut cluster = match made {
            Ok(cluster) => cluster,
            Err(failure) => return Ok(Some(failure)),
        };
        if let Err(failure) = self.deploy(cluster.as_mut()) {
            cluster.teardown();
            return Ok(Some(failure));
        }
        let expected_s = plan::expected_ns(stages) / SECOND_NS;
        self.console.progress(&format!("{} stages, about {expected_s} s", stages.len()));
        let through_balancer = self.record.balancer_csv.is_some();
        let dashboard = self.console.dashboard.clone();
        let sampling =
            Sampling::start(&self.folder, cluster.sampler(), through_balancer, dashboard)
                .context("cannot write samples to the results folder")?;
        let failure = self.walk(args, setup, stages, cluster.as_mut(), &sampling)?;
        cluster.teardown();
        if let Err(error) = sampling.stop() {
            self.console.warn(&format!("samples are incomplete: {error}"));
            self.journal.mark(format!("samples are incomplete: {error}"));
        }
        Ok(failure)
    }

    fn preflight(
        &mut self,
        args: &RunArgs,
        target: &Target,
        stages: &[Stage],
    ) -> Result<(), Failure> {
        let top = stages.iter().max_by_key(|stage| stage.connections);
        let Some(top) = top else { return Ok(()) };
        let asked = outcome::PreflightPlan {
            connections: top.connections,
            rate_per_s: top.rate_per_s,
            ramp_per_s: top.ramp_per_s,
            replicas: self.record.replicas_planned,
            urls: match target {
                Target::Addresses(urls) => urls.clone(),
                Target::Program { .. } | Target::Swarm { .. } => Vec::new(),
            },
            bundled: matches!(
                target,
                Target::Program { bundled: true, .. } | Target::Swarm { bundled: true, .. }
            ),
        };
        let file = self.folder.join(PREFLIGHT_FILE);
        let fits = outcome::preflight(&asked, &file, &self.console, args.force);
        self.record.preflight = file.is_file().then(|| PREFLIGHT_FILE.to_owned());
        fits
    }

    fn deploy(&mut self, cluster: &mut dyn Cluster) -> Result<(), Failure> {
        if cluster.fixed().is_some() {
            return Ok(());
        }
        let to = self.record.replicas_planned;
        let start_ns = clock::mono_ns();
        let event = EventRecord::at(start_ns, EventRecordKind::ScaleCommand);
        self.journal.note(EventRecord { to, ..event });
        cluster.scale(to)?;
        let scaled_ns = clock::mono_ns();
        while !cluster.settled()? {
            if self.interrupt.pending() {
                return Ok(());
            }
            if clock::mono_ns() > scaled_ns + DEPLOY_NS_MAX {
                let late = cluster
                    .status()
                    .into_iter()
                    .find(|s| s.phase != crate::cluster::Phase::Healthy);
                return Err(Failure::host(format!(
                    "replica {} is not healthy after {} s: it runs, and its health check does not \
                     answer; see its log in {}",
                    late.map_or_else(String::new, |status| status.replica),
                    DEPLOY_NS_MAX / SECOND_NS,
                    self.folder.join("logs").display()
                )));
            }
            clock::sleep_ns(SECOND_NS / 100);
        }
        let end_ns = clock::mono_ns();
        self.record.cluster = cluster.facts();
        let event = EventRecord::at(end_ns, EventRecordKind::ScaleConverged);
        self.journal.note(EventRecord { to, ..event });
        let took_s = (end_ns - start_ns) as f64 / SECOND_NS as f64;
        self.console.progress(&format!("deployed {to} replicas, healthy after {took_s:.1} s"));
        Ok(())
    }

    /// All stages in their order, saved after each.
    fn walk(
        &mut self,
        args: &RunArgs,
        setup: &Setup,
        stages: &[Stage],
        cluster: &mut dyn Cluster,
        sampling: &Sampling,
    ) -> anyhow::Result<Option<Failure>> {
        let profile = match args.profile {
            ProfileArg::Quick => Profile::Quick,
            ProfileArg::Full => Profile::Full,
        };
        for (at, stage) in stages.iter().enumerate() {
            if self.interrupt.pending() {
                return Ok(None);
            }
            let runner = Stages {
                setup,
                folder: &self.folder,
                journal: &self.journal,
                interrupt: &self.interrupt,
                console: self.console.clone(),
                sampling,
                profile,
            };
            if let Some(reason) = &stage.skipped {
                self.console.progress(&format!("{}: skipped: {reason}", stage.name));
            }
            let ended = runner.run(at + 1, stage, cluster);
            self.record.stages[at] = ended.record;
            self.save_measured()?;
            if ended.broken.is_some() {
                return Ok(ended.broken);
            }
        }
        Ok(None)
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.record.events = self.journal.events();
        self.record.interrupted = self.interrupt.pending();
        let ends = self.record.stages.iter().map(|stage| stage.end_ns);
        self.record.ended_mono_ns = ends.max().unwrap_or(0);
        let file = self.folder.join(RUN_FILE);
        let unwritten = || format!("cannot write {}", file.display());
        self.folder.write_record(&self.record).with_context(unwritten)
    }

    /// As [`Self::save`]; an error says what becomes of the stages that were recorded before.
    fn save_measured(&mut self) -> anyhow::Result<()> {
        self.save().map_err(|error| {
            anyhow!(
                "{error:#}; free space, then `reporter report {}` makes the report of what was \
                 recorded",
                self.folder.path().display()
            )
        })
    }

    /// Closes the record, makes the report, and says how it all ended.
    fn finish(mut self, args: &RunArgs, failure: Option<Failure>) -> anyhow::Result<Exit> {
        let interrupted = self.interrupt.pending();
        let reason = match &failure {
            Some(failure) => format!("the run broke before: {}", first_line(&failure.message)),
            None => "interrupted before it began".to_owned(),
        };
        for stage in &mut self.record.stages {
            if stage.start_ns == 0 && stage.skipped.is_none() {
                stage.skipped = Some(reason.clone());
            }
        }
        self.record.broken = failure.as_ref().map(|failure| failure.message.clone());
        self.save_measured()?;
        let measured = self.record.stages.iter().any(|stage| stage.exit_code.is_some());
        if let Some(failure) = failure
            && !interrupted
        {
            if !measured || self.nothing_held() {
                return Err(failure.into());
            }
            self.console.warn(&format!("error: {failure}"));
        }
        if !measured {
            self.console.warn("interrupted before anything was measured");
            return Ok(Exit::Interrupted);
        }
        let exit = outcome::report(self.folder.path(), &self.console, args.json)?;
        Ok(if interrupted { Exit::Interrupted } else { exit })
    }

    /// True if not one stage ran to its end: then the failure is the result.
    fn nothing_held(&self) -> bool {
        !self.record.stages.iter().any(|stage| stage.exit_code == Some(0))
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_written_says_how_to_report_what_there_is() {
        let out = tempfile::tempdir().expect("a folder");
        let folder = Folder::create(out.path(), 1_000, 0).expect("a results folder");
        // No user may write to it, as on a full disk.
        std::fs::create_dir(folder.join("run.json.next")).expect("takes the file's name");
        let mut run = Run {
            record: RunRecord::new("local", HostRecord::default()),
            journal: Journal::default(),
            folder: folder.clone(),
            console: Console::default(),
            interrupt: Interrupt::default(),
        };
        let error = run.save_measured().expect_err("cannot be written").to_string();
        let shown = folder.path().display();
        assert!(error.starts_with(&format!("cannot write {shown}/run.json: ")), "{error}");
        assert!(error.contains(&format!("free space, then `reporter report {shown}`")), "{error}");
    }
}
