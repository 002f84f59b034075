//! The commands of `reporter swarm`: what is asked for, done once, and told as text or JSON.

use std::io::Read;

use serde_json::{Value, json};

use super::cli::{Command, Common, DeployArgs, LoadgenArgs, SwarmArgs};
use super::docker::{Call, CommandLine, Docker};
use super::model::{Task, seconds};
use super::ops::{self, CREATED};
use super::stack::{
    Files, GRAFANA_SECRET, OWNER, OWNER_VALUE, SERVICE_FULL, STACK, Wanted, deploy_call,
};
use super::trouble::Trouble;
use super::{fleet, image, remove};
use crate::clock::{self, SECOND_NS};
use crate::exit::{Exit, Failure};
use crate::run::console::Console;
use crate::run::outcome as results_of;

/// Carries out `reporter swarm` and gives the exit code.
///
/// # Errors
/// What is wrong, with the next step; with `--json` it is printed as well.
pub fn main(args: &SwarmArgs) -> Result<u8, Failure> {
    if let Command::Loadgen(loadgen) = &args.command {
        return load(loadgen, &args.common, &CommandLine::default());
    }
    match carry_out(args, &CommandLine::default()) {
        Ok(outcome) if args.common.json => println!("{}", outcome.json),
        Ok(outcome) => println!("{}", outcome.text),
        Err(failure) => {
            if args.common.json {
                println!("{}", json!({"ok": false, "error": failure.message}));
            }
            return Err(failure);
        }
    }
    Ok(Exit::Pass.code())
}

/// Loads the stack from within, and makes the report; its exit code is that of `reporter run`.
fn load(args: &LoadgenArgs, common: &Common, docker: &dyn Docker) -> Result<u8, Failure> {
    let told = |failure: Failure| {
        if common.json {
            println!("{}", json!({"ok": false, "error": failure.message}));
        }
        failure
    };
    let console = Console::new(common.quiet, common.json);
    let typed: Vec<String> = std::env::args().skip(1).collect();
    results_of::check_thresholds(&args.thresholds).map_err(told)?;
    let driven = fleet::drive(docker, args, common, &console, &typed).map_err(told)?;
    let made = results_of::report(driven.folder.as_path(), &console, false);
    let exit = made.map_err(|error| told(Failure::invalid(format!("{error:#}"))))?;
    let exit = driven.failure.as_ref().map_or(exit, |failure| failure.exit);
    if common.json {
        let error = driven.failure.as_ref().map(|failure| failure.message.clone());
        println!(
            "{}",
            json!({"ok": driven.failure.is_none(), "error": error, "exit_code": exit.code(),
                   "results_dir": driven.folder, "generators": driven.generators})
        );
    }
    match driven.failure {
        Some(failure) if !driven.interrupted => Err(failure),
        _ => Ok(exit.code()),
    }
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For a person.
    pub text: String,
    /// For a program: `ok`, `changed`, and what the command is about.
    pub json: Value,
}

fn outcome(changed: bool, text: impl Into<String>, more: Value) -> Outcome {
    let text = text.into();
    let mut json = json!({"ok": true, "changed": changed, "text": text});
    if let (Some(all), Value::Object(more)) = (json.as_object_mut(), more) {
        all.extend(more);
    }
    Outcome { text, json }
}

/// Carries out one command.
///
/// # Errors
/// What is wrong, with the next step.
pub fn carry_out(args: &SwarmArgs, docker: &dyn Docker) -> Result<Outcome, Failure> {
    let job = Job {
        docker,
        common: &args.common,
        console: Console::new(args.common.quiet, true),
        start_ns: clock::mono_ns(),
    };
    match &args.command {
        Command::Init { advertise_addr } => job.init(advertise_addr.as_deref()),
        Command::Deploy(deploy) => job.deploy(deploy),
        Command::Status => job.status(),
        Command::Scale { replicas } => job.scale(*replicas),
        Command::KillReplica { slot } => job.kill(*slot),
        Command::Drain { node } => job.availability(node, "drain"),
        Command::Undrain { node } => job.availability(node, "active"),
        Command::Loadgen(_) => Err(Failure::usage("it has a report of its own, not an outcome")),
        Command::Logs { tail, service } => job.logs(*tail, service),
        Command::Rm { volumes } => job.rm(*volumes),
        Command::Leave => job.leave(),
    }
}

struct Job<'a> {
    docker: &'a dyn Docker,
    common: &'a Common,
    console: Console,
    start_ns: u64,
}

impl Job<'_> {
    fn deadline_ns(&self) -> u64 {
        self.start_ns + self.common.deadline * SECOND_NS
    }

    fn took(&self) -> u64 {
        clock::mono_ns() - self.start_ns
    }

    fn took_ms(&self) -> u64 {
        self.took() / 1_000_000
    }

    fn init(&self, advertise: Option<&str>) -> Result<Outcome, Failure> {
        let engine = ops::engine(self.docker)?;
        if engine.swarm == "active" {
            let own = engine.manager && self.created(&engine.node)?;
            let text = match (engine.manager, own) {
                (true, true) => "this engine is the manager of the swarm made by this tool",
                (true, false) => "this engine is a manager of a swarm that somebody else made",
                (false, _) => return Err(Trouble::NotManager.into()),
            };
            return Ok(outcome(false, text, json!({"node": engine.node, "created": own})));
        }
        let mut args = vec!["swarm", "init"];
        if let Some(address) = advertise {
            args.extend(["--advertise-addr", address]);
        }
        self.docker.ask(&args)?;
        let engine = ops::manager(self.docker)?;
        let label = format!("{CREATED}=created");
        self.docker.ask(&["node", "update", "--label-add", &label, &engine.node])?;
        let text = format!("swarm made; this node is {}", engine.name);
        Ok(outcome(true, text, json!({"node": engine.node, "created": true})))
    }

    fn created(&self, node: &str) -> Result<bool, Trouble> {
        let nodes = ops::nodes(self.docker)?;
        Ok(nodes.iter().any(|own| own.id == node && own.label(CREATED).is_some()))
    }

    fn leave(&self) -> Result<Outcome, Failure> {
        let engine = ops::engine(self.docker)?;
        if engine.swarm != "active" {
            return Ok(outcome(false, "this engine is in no swarm", json!({})));
        }
        if !engine.manager || !self.created(&engine.node)? {
            return Err(Trouble::NotOurs("this swarm".to_owned()).into());
        }
        let others = self.docker.ask(&["service", "ls", "--format", "{{.Name}}"])?;
        if let Some(service) = others.split_whitespace().next() {
            return Err(Failure::usage(format!(
                "the swarm still runs {service}; remove it first (`reporter swarm rm` removes \
                 what this tool deployed)"
            )));
        }
        self.docker.ask(&["swarm", "leave", "--force"])?;
        Ok(outcome(true, "left the swarm", json!({"took_ms": self.took_ms()})))
    }

    fn deploy(&self, args: &DeployArgs) -> Result<Outcome, Failure> {
        let deployed =
            deploy(self.docker, args, None, &self.common.node_hosts, self.deadline_ns(), |line| {
                self.console.progress(line)
            })?;
        let mut text = format!(
            "{} replicas run after {}; network {}",
            args.replicas,
            seconds(self.took()),
            super::stack::NETWORK
        );
        if let Some(password) = &deployed.grafana_password {
            text += &format!("\nGrafana on port 3000: admin / {password} (shown only now)");
        }
        let more = json!({"image": deployed.image, "replicas": args.replicas,
            "balancer": args.balancer.name(), "took_ms": self.took_ms(),
            "grafana_password": deployed.grafana_password,
            "tasks": deployed.tasks.iter().map(task_json).collect::<Vec<_>>()});
        Ok(outcome(true, text, more))
    }

    fn status(&self) -> Result<Outcome, Failure> {
        let engine = ops::manager(self.docker)?;
        let nodes = ops::nodes(self.docker)?;
        let services = ops::services(self.docker)?;
        let mut text = String::new();
        for node in &nodes {
            text += &format!(
                "node {}  {}  {}  {}  engine {}\n",
                node.name, node.role, node.state, node.availability, node.engine
            );
        }
        let mut json_services = Vec::new();
        for service in &services {
            let tasks = ops::tasks(self.docker, &service.name)?;
            let running = tasks.iter().filter(|task| task.runs()).count();
            let of = match service.replicas {
                0 => String::new(),
                count => format!(" of {count}"),
            };
            text += &format!("service {}  {running}{of} run\n", service.name);
            let mut shown: Vec<&Task> = tasks.iter().filter(|task| task.wanted()).collect();
            shown.sort_by_key(|task| task.slot);
            for task in &shown {
                let name = nodes.iter().find(|node| node.id == task.node);
                let name = name.map_or("no node", |node| node.name.as_str());
                text += &format!(
                    "  {:>3}  {:<9} {:<15} {name}  {}\n",
                    task.slot, task.state, task.address, task.error
                );
            }
            json_services.push(json!({"name": service.name, "replicas": service.replicas,
                "running": running, "image": service.image, "ours": service.ours,
                "tasks": shown.iter().map(|task| task_json(task)).collect::<Vec<_>>()}));
        }
        if services.is_empty() {
            text += "no stack; deploy one with `reporter swarm deploy`\n";
        }
        let json_nodes: Vec<Value> = nodes
            .iter()
            .map(|node| {
                json!({"id": node.id, "name": node.name, "role": node.role,
                "state": node.state, "availability": node.availability, "engine": node.engine})
            })
            .collect();
        let more = json!({"engine": engine.record(), "nodes": json_nodes,
            "services": json_services});
        Ok(outcome(false, text.trim_end(), more))
    }

    fn own_service(&self) -> Result<ops::Service, Failure> {
        ops::manager(self.docker)?;
        let found = ops::services(self.docker)?.into_iter().find(|s| s.name == SERVICE_FULL);
        let service = found.ok_or_else(|| {
            Failure::usage(format!("there is no stack {STACK}; run `reporter swarm deploy`"))
        })?;
        match service.ours {
            true => Ok(service),
            false => Err(Trouble::NotOurs(format!("service {SERVICE_FULL}")).into()),
        }
    }

    fn scale(&self, replicas: u32) -> Result<Outcome, Failure> {
        let before = self.own_service()?.replicas;
        if before != replicas {
            ops::scale(self.docker, replicas)?;
        }
        let progress = |line: &str| self.console.progress(line);
        ops::wait_for(self.docker, SERVICE_FULL, replicas, self.deadline_ns(), progress)?;
        let text = match before == replicas {
            true => format!("{replicas} replicas run"),
            false => format!("{before} -> {replicas} replicas after {}", seconds(self.took())),
        };
        let more = json!({"from": before, "to": replicas, "took_ms": self.took_ms()});
        Ok(outcome(before != replicas, text, more))
    }

    fn kill(&self, slot: Option<u32>) -> Result<Outcome, Failure> {
        let replicas = self.own_service()?.replicas;
        let engine = ops::manager(self.docker)?;
        let nodes = ops::nodes(self.docker)?;
        let hosts = &self.common.node_hosts;
        let mut tasks = ops::tasks(self.docker, SERVICE_FULL)?;
        tasks.retain(Task::runs);
        tasks.sort_by_key(|task| task.slot);
        let host = |task: &Task| ops::host_of_node(&engine, &nodes, &task.node, hosts);
        let found = match slot {
            Some(slot) => tasks.iter().find(|task| task.slot == slot),
            None => tasks.iter().find(|task| host(task).is_ok()).or(tasks.first()),
        };
        let victim = found.ok_or_else(|| {
            Failure::usage(slot.map_or("no replica runs".to_owned(), |slot| {
                format!("no replica runs in slot {slot}; see `reporter swarm status`")
            }))
        })?;
        let host = host(victim)?;
        ops::kill(self.docker, &victim.container, host)?;
        let killed_ns = clock::mono_ns();
        self.console.progress(&format!("SIGKILL to slot {} ({})", victim.slot, victim.address));
        // The orchestrator hears of it a moment later; until then its record still says running.
        let noticed =
            |tasks: &[Task]| tasks.iter().all(|task| task.id != victim.id || !task.runs());
        while !noticed(&ops::tasks(self.docker, SERVICE_FULL)?) {
            if clock::mono_ns() > self.deadline_ns() {
                return Err(Failure::invalid("the orchestrator does not notice the kill"));
            }
            clock::sleep_ns(SECOND_NS / 10);
        }
        let progress = |line: &str| self.console.progress(line);
        let after =
            ops::wait_for(self.docker, SERVICE_FULL, replicas, self.deadline_ns(), progress)?;
        let took_ns = clock::mono_ns() - killed_ns;
        let replacement =
            after.iter().find(|t| t.slot == victim.slot && t.runs()).map(|t| t.address.clone());
        let text = format!(
            "slot {} killed; {replicas} replicas again after {}",
            victim.slot,
            seconds(took_ns)
        );
        let more = json!({"slot": victim.slot, "killed": victim.address,
            "replacement": replacement, "took_ms": took_ns / 1_000_000});
        Ok(outcome(true, text, more))
    }

    fn availability(&self, node: &str, wanted: &str) -> Result<Outcome, Failure> {
        ops::manager(self.docker)?;
        let nodes = ops::nodes(self.docker)?;
        let found = nodes.iter().find(|own| own.name == node || own.id == node);
        let found = found.ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().map(|own| own.name.as_str()).collect();
            Failure::usage(format!("no node {node}; there are {}", names.join(", ")))
        })?;
        let changed = found.availability != wanted;
        if changed {
            ops::availability(self.docker, &found.id, wanted)?;
        }
        if wanted == "drain" {
            self.wait_empty(&found.id)?;
        }
        let text = match wanted {
            "drain" => format!("{} holds no task, after {}", found.name, seconds(self.took())),
            _ => format!("{} takes tasks again; running ones stay where they are", found.name),
        };
        Ok(outcome(changed, text, json!({"node": found.name, "took_ms": self.took_ms()})))
    }

    fn wait_empty(&self, node: &str) -> Result<(), Failure> {
        loop {
            let json = self.docker.ask(&["node", "ps", "-q", "--no-trunc", node])?;
            let ids: Vec<&str> = json.split_whitespace().collect();
            let tasks = match ids.is_empty() {
                true => Vec::new(),
                false => {
                    let call = Call::new(["inspect", "--type", "task"].iter().chain(&ids).copied());
                    super::model::tasks(&self.docker.answer(&call).stdout).unwrap_or_default()
                }
            };
            let there = tasks.iter().filter(|task| !task.ended()).count();
            if there == 0 {
                return Ok(());
            }
            if clock::mono_ns() > self.deadline_ns() {
                return Err(Failure::invalid(format!("{there} tasks are still on the node")));
            }
            clock::sleep_ns(SECOND_NS / 4);
        }
    }

    fn logs(&self, tail: u32, service: &str) -> Result<Outcome, Failure> {
        ops::manager(self.docker)?;
        let full = format!("{STACK}_{service}");
        let tail = tail.to_string();
        let args = ["service", "logs", "--timestamps", "--no-trunc", "--tail", &tail, &full];
        let answer = self.docker.answer(&Call::new(args));
        if answer.code != 0 {
            return Err(Trouble::read(&answer).into());
        }
        // The server's standard error comes out as the client's.
        let text = format!("{}{}", answer.stdout, answer.stderr);
        let lines: Vec<&str> = text.lines().collect();
        Ok(outcome(false, text.trim_end(), json!({"lines": lines})))
    }

    fn rm(&self, volumes: bool) -> Result<Outcome, Failure> {
        let progress = |line: &str| self.console.progress(line);
        let removed = remove::stack(self.docker, self.deadline_ns(), progress)?;
        let gone = if volumes { remove::volumes(self.docker)? } else { 0 };
        let text = match removed {
            true => format!("all of {STACK} is gone after {}", seconds(self.took())),
            false => format!("there is no stack {STACK}"),
        };
        let more = json!({"took_ms": self.took_ms(), "volumes": gone});
        Ok(outcome(removed || gone > 0, text, more))
    }
}

fn task_json(task: &Task) -> Value {
    json!({"slot": task.slot, "state": task.state, "address": task.address, "node": task.node,
        "container": task.container, "error": task.error})
}

/// What [`deploy`] did.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The server's image as the engine sees it.
    pub image: String,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Grafana's password, if it was made now.
    pub grafana_password: Option<String>,
}

/// Deploys the stack and waits for its replicas.
///
/// # Errors
/// What stands in the way.
pub fn deploy(
    docker: &dyn Docker,
    args: &DeployArgs,
    restart_delay: Option<String>,
    node_hosts: &[(String, String)],
    deadline_ns: u64,
    mut progress: impl FnMut(&str),
) -> Result<Deployed, Failure> {
    ops::manager(docker)?;
    if let Some(foreign) = ops::services(docker)?.iter().find(|service| !service.ours) {
        return Err(Trouble::NotOurs(format!("service {}", foreign.name)).into());
    }
    let nodes = ops::nodes(docker)?;
    let image = match &args.image {
        None => {
            progress("building the image of the bundled server");
            image::build(docker)?
        }
        // Every task asks a registry for a name, even for one that is here; not so for an id.
        Some(name) if nodes.len() == 1 => image::id(docker, name)?.unwrap_or_else(|| name.clone()),
        Some(name) => name.clone(),
    };
    if image.starts_with("sha256:") {
        image::spread(docker, &image, &nodes, node_hosts, &mut progress)?;
    }
    let grafana_password = if args.grafana { grafana_secret(docker)? } else { None };
    let files = Files::write()
        .map_err(|error| Failure::host(format!("cannot write the stack's files: {error}")))?;
    files
        .place(&args.placement)
        .map_err(|error| Failure::host(format!("cannot write the stack's files: {error}")))?;
    let wanted = Wanted { args: args.clone(), image: image.clone(), restart_delay };
    docker.run(&deploy_call(&wanted, files.dir()))?;
    let tasks = ops::wait_for(docker, SERVICE_FULL, args.replicas, deadline_ns, &mut progress)?;
    for service in ops::services(docker)? {
        if service.name != SERVICE_FULL && service.replicas > 0 {
            ops::wait_for(docker, &service.name, service.replicas, deadline_ns, &mut progress)?;
        }
    }
    Ok(Deployed { image, tasks, grafana_password })
}

/// Makes the secret with Grafana's password, from GRAFANA_ADMIN_PASSWORD or by chance. None if
/// there is one.
fn grafana_secret(docker: &dyn Docker) -> Result<Option<String>, Failure> {
    let filter = format!("name={GRAFANA_SECRET}");
    if !docker.ask(&["secret", "ls", "-q", "--filter", &filter])?.trim().is_empty() {
        return Ok(None);
    }
    let password = match std::env::var("GRAFANA_ADMIN_PASSWORD") {
        Ok(given) if !given.is_empty() => given,
        _ => random_password()?,
    };
    let label = format!("{OWNER}={OWNER_VALUE}");
    let call = Call {
        stdin: password.clone().into_bytes(),
        ..Call::new(["secret", "create", "--label", &label, GRAFANA_SECRET, "-"])
    };
    docker.run(&call)?;
    Ok(Some(password))
}

fn random_password() -> Result<String, Failure> {
    let mut bytes = [0_u8; 12];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::host(format!("cannot make a password: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
