//! `reporter swarm loadgen`: generators as services of the swarm, on the nodes that carry a label, in
//! the stack's own network. The existing engine brings them there; they begin together, and their
//! logs come back over the same pipes that drive them, whatever node they are on.
//!
//! `plan` decides who does what, `agent` is one generator, `clocks` compares two hosts' clocks,
//! `record` is what is left behind for the report.

mod agent;
pub mod clocks;
pub mod plan;
mod record;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use self::agent::Agent;
use self::clocks::Offset;
use self::plan::Seat;
use super::cli::{Common, LoadgenArgs};
use super::docker::{Call, Docker};
use super::ops::{self, Engine};
use super::stack::{NETWORK, SERVICE_FULL};
use super::trouble::Trouble;
use super::{image, remove};
use crate::clock::{self, SECOND_NS};
use crate::exit::Failure;
use crate::generator::{Status, check_options, progress_line};
use crate::run::console::Console;
use crate::run::interrupt::Interrupt;

/// Between an order and the moment that it names: every generator has heard it by then.
const NOTICE_NS: u64 = SECOND_NS / 2;
/// After the last request is due: answers, the ends of the sessions, the last words.
const COOLDOWN_NS: u64 = 60 * SECOND_NS;
/// A session that ends takes no longer, on the average.
const END_NS: u64 = 2_000_000;
/// For each log to come over.
const FETCH_NS: u64 = 300 * SECOND_NS;
const PROGRESS_NS: u64 = 5 * SECOND_NS;
const LOOK: Duration = Duration::from_millis(5);

/// What the command did.
#[derive(Debug)]
pub struct Driven {
    /// The results folder.
    pub folder: PathBuf,
    /// Each generator: what it was given, what it ran on, what it did.
    pub generators: Vec<Value>,
    /// Why the run is not whole.
    pub failure: Option<Failure>,
    /// Whether a signal ended it.
    pub interrupted: bool,
}

/// Carries out the command up to its results folder; the report is the caller's.
///
/// # Errors
/// What kept the load from beginning.
pub fn drive(
    docker: &dyn Docker,
    args: &LoadgenArgs,
    common: &Common,
    console: &Console,
    typed: &[String],
) -> Result<Driven, Failure> {
    check_options(&args.generator)?;
    let engine = ops::manager(docker)?;
    let nodes = ops::nodes(docker)?;
    let chosen = plan::choose(&nodes, &args.nodes)?;
    let seed = args.seed.unwrap_or_else(clock::real_ns);
    let seats = plan::seats(&chosen, args, seed)?;
    let replicas = replicas(docker)?;
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::host(format!("cannot handle signals: {error}")))?;
    crate::folder::check_writable(&args.out)?;
    let deadline_ns = clock::mono_ns() + common.deadline * SECOND_NS;
    // What an earlier call left behind, if it was killed.
    remove::beside(docker)?;
    let image = image(docker, args, &nodes, common, console)?;
    let mut run = record::Run::begin(args, typed, &seats, &engine, replicas)?;
    let mut fleet =
        Fleet { docker, args, console, interrupt, seats, agents: Vec::new(), offsets: Vec::new() };
    let failure = fleet
        .stand(&image, &run, deadline_ns)
        .and_then(|()| {
            run.starts(&fleet.offsets, &fleet.seats);
            fleet.load(deadline_ns)
        })
        .err();
    if fleet.agents.iter().all(|agent| agent.ready.is_none()) {
        let why = failure.unwrap_or_else(|| Failure::invalid("no generator got ready"));
        return Err(fleet.explained(why));
    }
    let fetched = fleet.fetch(&run).err();
    let failure = failure.or(fetched).map(|failure| fleet.explained(failure));
    let generators = fleet.facts();
    let interrupted = fleet.interrupt.pending();
    let hosts: Vec<String> = chosen
        .iter()
        .filter_map(|node| {
            ops::host_of_node(&engine, &nodes, &node.id, &common.node_hosts).ok().flatten()
        })
        .collect();
    fleet.take_away(&hosts, deadline_ns.max(clock::mono_ns() + 30 * SECOND_NS))?;
    let folder = run.end(&generators, failure.as_ref(), interrupted, &nodes, &image)?;
    Ok(Driven { folder, generators, failure, interrupted })
}

/// Replicas that run; the network is there with them.
fn replicas(docker: &dyn Docker) -> Result<u32, Failure> {
    let service = ops::services(docker)?.into_iter().find(|s| s.name == SERVICE_FULL);
    let Some(service) = service else {
        return Err(Failure::usage(format!(
            "there is no stack to load, and no network {NETWORK}; run `reporter swarm deploy`"
        )));
    };
    Ok(service.replicas)
}

fn image(
    docker: &dyn Docker,
    args: &LoadgenArgs,
    nodes: &[super::model::Node],
    common: &Common,
    console: &Console,
) -> Result<String, Failure> {
    if let Some(name) = &args.image {
        return Ok(image::id(docker, name)?.filter(|_| nodes.len() == 1).unwrap_or(name.clone()));
    }
    console.progress("building the image of the generator");
    let image = image::build(docker)?;
    image::spread(docker, &image, nodes, &common.node_hosts, &mut |line| console.progress(line))?;
    Ok(image)
}

struct Fleet<'a> {
    docker: &'a dyn Docker,
    args: &'a LoadgenArgs,
    console: &'a Console,
    interrupt: Interrupt,
    seats: Vec<Seat>,
    agents: Vec<Agent>,
    offsets: Vec<Option<Offset>>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Met,
    Deadline,
    Interrupted,
}

impl Fleet<'_> {
    /// Creates the services, joins a pipe to each generator, and waits until all have asked their
    /// targets.
    fn stand(&mut self, image: &str, run: &record::Run, deadline_ns: u64) -> Result<(), Failure> {
        for seat in &self.seats {
            self.docker.run(&plan::service(seat, self.args, image))?;
        }
        let program = std::env::var("DOCKER").unwrap_or_else(|_| "docker".to_owned());
        for seat in self.seats.clone() {
            let console = self.console;
            let tasks = ops::wait_for(self.docker, &seat.name, 1, deadline_ns, |line| {
                console.progress(line);
            })?;
            let address = tasks.iter().find(|task| task.runs()).map(|task| task.address.clone());
            let relay = plan::relay(&seat, image, &address.unwrap_or_default());
            let dir = run.log_dir(&seat);
            self.agents.push(Agent::start(program.as_ref(), &relay, &dir, &self.interrupt)?);
        }
        self.wait("to ask their targets", deadline_ns, |agent| agent.ready.is_some())?;
        for (seat, agent) in self.seats.iter().zip(&self.agents) {
            let told = agent.ready.clone().unwrap_or_default();
            let because = match told["engine_because"].as_str() {
                Some(cause) => format!(", because io_uring does not work there: {cause}"),
                None => String::new(),
            };
            self.console.progress(&format!(
                "{} on {}: {} connections to {} targets on {}{because}",
                seat.name,
                seat.host,
                seat.connections,
                told["targets"],
                told["engine"].as_str().unwrap_or("?")
            ));
        }
        Ok(())
    }

    /// All begin together, all begin to count together, and end by themselves.
    fn load(&mut self, deadline_ns: u64) -> Result<(), Failure> {
        self.offsets = self.agents.iter_mut().map(Agent::compare_clocks).collect();
        for (seat, offset) in self.seats.iter().zip(&self.offsets) {
            let Some(offset) = offset else {
                return Err(Failure::invalid(format!("{} does not tell its clock", seat.name)));
            };
            self.console.progress(&format!(
                "{}: its clock is {:+.3} ms from this one's, give or take {:.3} ms",
                seat.host,
                offset.offset_ns as f64 / 1e6,
                offset.error_ns as f64 / 1e6
            ));
        }
        let start_real_ns = clock::real_ns() + NOTICE_NS;
        self.order_at("start", start_real_ns, false);
        let ramp_ns = (self.args.connections as f64 / self.args.ramp * 1e9) as u64;
        // A server slower than the ramp still gets its sessions: the generators see a ramp that
        // stands still, and say so.
        let ramp_deadline_ns = deadline_ns.max(clock::mono_ns()) + 10 * ramp_ns + 60 * SECOND_NS;
        self.wait("to make their connections", ramp_deadline_ns, |agent| agent.ramped)?;
        self.order_at("hold", clock::real_ns() + NOTICE_NS, true);
        let ends_ns = self.args.connections * END_NS / self.seats.len() as u64;
        let held_ns = self.args.load_ns() + COOLDOWN_NS + ends_ns;
        self.wait("to end the load", clock::mono_ns() + held_ns, |agent| agent.done.is_some())
    }

    /// Orders something for one moment, which each generator hears in the time of its own clock.
    fn order_at(&mut self, command: &str, at_real_ns: u64, interleaved: bool) {
        let all = self.agents.iter_mut().zip(&self.seats).zip(&self.offsets);
        for ((agent, seat), offset) in all {
            let phase_ns = if interleaved { seat.phase_ns } else { 0 };
            let there_ns = offset.map_or(at_real_ns, |offset| offset.there(at_real_ns));
            agent.order(&json!({"cmd": command, "at_real_ns": there_ns + phase_ns}));
        }
    }

    /// Waits until it holds of all; a generator that ends before, a deadline or a signal is a
    /// failure, after which all are told to end.
    fn wait(
        &mut self,
        what: &str,
        deadline_ns: u64,
        met: impl Fn(&Agent) -> bool,
    ) -> Result<(), Failure> {
        let waited = self.wait_for(deadline_ns, &met);
        let lost = self.agents.iter().position(|agent| agent.ended && !met(agent));
        let failure = match (lost, waited) {
            (Some(at), _) => {
                let said = self.agents[at].errors.last();
                let said = said.map_or_else(String::new, |said| format!(": {said}"));
                Failure::invalid(format!(
                    "{} ended before it was through{said}",
                    self.seats[at].name
                ))
            }
            (None, Waited::Met) => return Ok(()),
            (None, Waited::Deadline) => {
                let late = self.agents.iter().filter(|agent| !met(agent)).count();
                Failure::invalid(format!(
                    "{late} of {} generators did not manage {what} in time",
                    self.agents.len()
                ))
            }
            (None, Waited::Interrupted) => {
                Failure { exit: crate::exit::Exit::Interrupted, message: "interrupted".to_owned() }
            }
        };
        self.agents.iter_mut().for_each(|agent| agent.order(&json!({"cmd": "end"})));
        // What was measured up to here is kept.
        let _ = self.wait_for(clock::mono_ns() + COOLDOWN_NS, &|agent| {
            agent.done.is_some() || agent.ready.is_none()
        });
        Err(failure)
    }

    fn wait_for(&mut self, deadline_ns: u64, met: &impl Fn(&Agent) -> bool) -> Waited {
        let begun_ns = clock::mono_ns();
        let interrupted_before = self.interrupt.pending();
        let mut due_ns = begun_ns + PROGRESS_NS;
        loop {
            self.agents.iter_mut().for_each(|agent| agent.look(LOOK));
            let ended = self.agents.iter().any(|agent| agent.ended && !met(agent));
            if ended || self.agents.iter().all(met) {
                return Waited::Met;
            }
            if self.interrupt.pending() && !interrupted_before {
                return Waited::Interrupted;
            }
            let now_ns = clock::mono_ns();
            if now_ns >= deadline_ns {
                return Waited::Deadline;
            }
            if now_ns >= due_ns && self.agents.iter().any(|agent| agent.status.planned > 0) {
                due_ns = now_ns + PROGRESS_NS;
                let elapsed_s = (now_ns - begun_ns) / SECOND_NS;
                let sum = sum(self.agents.iter().map(|agent| &agent.status));
                self.console.progress(&progress_line(&sum.phase, elapsed_s, &sum));
            }
        }
    }

    /// Brings the logs here.
    fn fetch(&mut self, run: &record::Run) -> Result<(), Failure> {
        for agent in self.agents.iter_mut().filter(|agent| agent.done.is_some()) {
            agent.order(&json!({"cmd": "fetch"}));
        }
        let deadline_ns = clock::mono_ns() + FETCH_NS;
        let here = |agent: &Agent| agent.file.is_some() || agent.done.is_none() || agent.ended;
        while !self.agents.iter().all(here) && clock::mono_ns() < deadline_ns {
            self.agents.iter_mut().for_each(|agent| agent.look(LOOK));
        }
        for (seat, agent) in self.seats.iter().zip(&self.agents) {
            if let Some(done) = &agent.done {
                run.keep_summary(seat, done)?;
            }
        }
        match self.agents.iter().position(|agent| agent.file.is_none()) {
            None => Ok(()),
            Some(at) => Err(Failure::invalid(format!(
                "the log of {} did not come back{}",
                self.seats[at].name,
                self.agents[at].errors.last().map_or_else(String::new, |why| format!(": {why}"))
            ))),
        }
    }

    /// Adds what the generators wrote to a failure that they do not explain themselves.
    fn explained(&self, failure: Failure) -> Failure {
        // One that stands and is late has said nothing about why.
        let standing = |agent: &Agent| agent.ready.is_some() && !agent.ended;
        let told = self.agents.iter().any(|agent| !agent.errors.is_empty());
        if told || (!self.agents.is_empty() && self.agents.iter().all(standing)) {
            return failure;
        }
        let said = self.seats.iter().find_map(|seat| {
            let args = ["service", "logs", "--raw", "--tail", "3", &seat.name];
            let answer = self.docker.answer(&Call::new(args));
            let text = format!("{}{}", answer.stdout, answer.stderr);
            let line = text.lines().rfind(|line| line.starts_with("loadgen: "))?;
            Some(format!("{}; {} said: {line}", failure.message, seat.name))
        });
        Failure { exit: failure.exit, message: said.unwrap_or(failure.message) }
    }

    fn facts(&self) -> Vec<Value> {
        let all = self.seats.iter().zip(&self.agents).enumerate();
        all.map(|(index, (seat, agent))| {
            let told = agent.ready.clone().unwrap_or_default();
            let done = agent.done.clone().unwrap_or_default();
            let offset = self.offsets.get(index).copied().flatten();
            json!({
                "name": seat.name, "host": seat.host, "connections": seat.connections,
                "rate_per_s": seat.rate_per_s, "targets": told["targets"],
                "engine": told["engine"], "engine_because": told["engine_because"],
                "clock_offset_ns": offset.map(|offset| offset.offset_ns),
                "clock_error_ns": offset.map(|offset| offset.error_ns),
                "session_alive_peak": done["connections"]["session_alive_peak"],
                "requests_ok": done["requests"]["ok"],
            })
        })
        .collect()
    }

    /// Ends and removes all of it, and proves that it is gone from here and from the other nodes that
    /// can be reached.
    fn take_away(&mut self, hosts: &[String], deadline_ns: u64) -> Result<(), Trouble> {
        self.agents.iter_mut().for_each(|agent| agent.order(&json!({"cmd": "end"})));
        self.agents.clear();
        remove::beside(self.docker)?;
        let engine = Engine { manager: true, ..ops::engine(self.docker)? };
        loop {
            let mut left = remove::left_beside(self.docker, &engine)?;
            for host in hosts {
                left.extend(remove::containers_beside(self.docker, Some(host.clone()))?);
            }
            if left.is_empty() {
                return Ok(());
            }
            if clock::mono_ns() >= deadline_ns {
                return Err(Trouble::Late(format!("not gone in time: {}", left.join(", "))));
            }
            clock::sleep_ns(SECOND_NS / 4);
            remove::beside(self.docker)?;
        }
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        self.agents.clear();
        if let Err(trouble) = remove::beside(self.docker) {
            eprintln!("{trouble}; see `reporter swarm rm`");
        }
    }
}

/// All generators' status as one.
fn sum<'s>(all: impl Iterator<Item = &'s Status>) -> Status {
    let mut sum = Status::default();
    let mut answered = 0;
    for status in all {
        // The slowest one's phase is the fleet's.
        if sum.phase.is_empty() || rank(&status.phase) < rank(&sum.phase) {
            sum.phase.clone_from(&status.phase);
        }
        sum.planned += status.planned;
        sum.tcp_open += status.tcp_open;
        sum.session_established += status.session_established;
        sum.session_alive += status.session_alive;
        sum.stream_open += status.stream_open;
        sum.sent += status.sent;
        sum.ok += status.ok;
        sum.failed += status.failed;
        sum.dropped += status.dropped;
        sum.queued += status.queued;
        sum.p99_ns = sum.p99_ns.max(status.p99_ns);
        if let Some(avg_ns) = status.avg_ns {
            sum.avg_ns = Some((sum.avg_ns.unwrap_or(0) * answered + avg_ns) / (answered + 1));
            answered += 1;
        }
    }
    sum
}

fn rank(phase: &str) -> usize {
    ["ramp", "warmup", "hold"].iter().position(|own| *own == phase).unwrap_or(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleets_status_is_the_sum_and_the_slowest_ones_phase() {
        let status = |phase: &str, alive, avg_ns| Status {
            phase: phase.to_owned(),
            session_alive: alive,
            avg_ns,
            p99_ns: avg_ns.map(|ns: u64| ns * 2),
            ..Status::default()
        };
        let all =
            [status("hold", 3, Some(10)), status("ramp", 4, None), status("hold", 5, Some(20))];
        let sum = sum(all.iter());
        assert_eq!((sum.phase.as_str(), sum.session_alive), ("ramp", 12));
        assert_eq!((sum.avg_ns, sum.p99_ns), (Some(15), Some(40)));
    }
}
