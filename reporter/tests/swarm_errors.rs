//! What goes wrong with Docker and Swarm, provoked: every error that the tool knows comes from an
//! engine here, and becomes a sentence that names the next step.
//!
//! Two engines of their own, in namespaces of this machine (`swarm-stack/lab/nodes.sh`), so that
//! nothing of the machine's own engine is touched. That needs root and dockerd; where they are
//! missing it says so and passes, except where `CI=true`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reporter::clock;
use reporter::swarm::docker::{Answer, Call, CommandLine, Docker};
use reporter::swarm::model::Task;
use reporter::swarm::ops;
use reporter::swarm::trouble::Trouble;

/// An id that no image has.
const NO_IMAGE: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000ff";
const PORT: &str = "8089";
/// A task without a node counts as stuck after this long.
const STUCK_NS: u64 = 20_000_000_000;

fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to provoke errors: {reason}");
    eprintln!("SKIPPED, NOT TESTED: {reason}");
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}

fn swarm_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../swarm-stack")
}

/// `reporter swarm ...` with the engine at `host`.
fn reporter(host: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reporter"));
    command.arg("swarm").args(arguments).env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
    command.output().expect("the reporter runs")
}

/// The command fails with this exit code and a sentence with these words.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn without_a_client_or_a_daemon_the_next_step_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reporter"));
    let output = command.args(["swarm", "status", "--json"]).env("DOCKER", "/no/such/docker");
    let output = output.output().expect("the reporter runs");
    refused(&output, 4, &["no `docker` program", "install"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(json["ok"], false);
    if !has("docker") {
        return skip("there is no docker client");
    }
    let output = reporter("unix:///no/such/docker.sock", &["status"]);
    refused(&output, 4, &["does not answer", "systemctl start docker"]);
}

/// Two nodes; dropping it takes them away.
struct Lab {
    dir: tempfile::TempDir,
    name: String,
}

impl Lab {
    fn start() -> Option<Self> {
        let root = nix::unistd::geteuid().is_root();
        let missing = ["docker", "dockerd", "ip", "nsenter", "unshare", "python3"]
            .into_iter()
            .find(|program| !has(program));
        match missing {
            Some(program) => skip(&format!("there is no {program}")),
            None if !root => skip("engines of one's own need root"),
            None => {
                let dir = tempfile::tempdir().expect("a folder");
                let lab = Self { dir, name: format!("err{}", std::process::id()) };
                let output = lab.nodes(&["up", "2"]);
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{text}");
                return Some(lab);
            }
        }
        None
    }

    fn nodes(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(swarm_files().join("lab/nodes.sh")).args(arguments);
        command.env("NODES", self.dir.path()).env("LAB", &self.name);
        // It copies instead of mounting, and so works on any file system.
        command.env("DOCKERD_CONFIG", r#"{"storage-driver": "vfs"}"#);
        command.output().expect("sh runs")
    }

    fn host(&self, number: u32) -> String {
        format!("unix://{}/{number}/docker.sock", self.dir.path().display())
    }

    /// A program in the network of a node.
    fn inside(&self, number: u32, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}node{number}", self.name)).args(program);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.nodes(&["down"]);
    }
}

/// The client with one engine.
struct On(String);

impl Docker for On {
    fn answer(&self, call: &Call) -> Answer {
        let host = Some(self.0.clone());
        CommandLine::default().answer(&Call { host, ..call.clone() })
    }
}

impl On {
    fn service(&self, name: &str, more: &[&str]) {
        let head = ["service", "create", "--detach", "--no-resolve-image", "--name", name];
        let all: Vec<&str> = head.iter().chain(more).copied().collect();
        self.ask(&all).expect("a service whose tasks fail is created all the same");
    }

    /// What stands in the way of a service's tasks, once something does.
    fn obstacle(&self, service: &str) -> (Trouble, Task) {
        for _ in 0..100 {
            let tasks = ops::tasks(self, service).expect("the service is there");
            if let Some(trouble) = ops::obstacle(&tasks, clock::real_ns() + STUCK_NS) {
                let task = tasks.into_iter().find(|task| !task.error.is_empty());
                return (trouble, task.expect("one says why"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nothing stands in the way of {service}: {:?}", ops::tasks(self, service));
    }
}

/// Holds a port in a node's network.
struct Holder(Child);

impl Holder {
    fn start(lab: &Lab, port: &str) -> Self {
        let script = format!(
            "import socket, sys; s = socket.create_server(('0.0.0.0', {port})); \
             print('up', flush=True); sys.stdin.read()"
        );
        let mut command = lab.inside(1, &["python3", "-c", &script]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut word = [0; 2];
        // The pipe stays open: a write that came after this one would end the program.
        let output = child.stdout.as_mut().expect("its output is a pipe");
        std::io::Read::read_exact(output, &mut word).expect("it says that it is up");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_error_of_an_engine_becomes_a_sentence_with_the_next_step() {
    let Some(lab) = Lab::start() else { return };
    before_there_is_a_swarm(&lab);
    a_worker_is_told_from_an_engine_in_no_swarm(&lab);
    let manager = On(lab.host(1));
    nothing_in_the_stack(&lab, &manager);
    let output = Command::new("sh")
        .arg(swarm_files().join("image/from-host.sh"))
        .args(["erlmcp-test-sleep", "/bin/sleep"])
        .env("DOCKER_HOST", lab.host(1))
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    an_image_that_is_nowhere(&lab, &manager);
    no_node_for_a_task(&manager, &image);
    ports_that_are_taken(&lab, &manager, &image);
}

fn before_there_is_a_swarm(lab: &Lab) {
    refused(&reporter(&lab.host(1), &["status"]), 4, &["not in swarm mode", "reporter swarm init"]);
    let docker = On(lab.host(1));
    let trouble = docker.ask(&["service", "ls"]).expect_err("is in no swarm");
    assert_eq!(trouble, Trouble::NoSwarm);

    let second = ["ip", "address", "add", "10.78.9.1/24", "dev", "eth0"];
    assert!(lab.inside(1, &second).status().expect("ip runs").success());
    let output = reporter(&lab.host(1), &["init"]);
    refused(&output, 4, &["several addresses", "--advertise-addr ADDRESS"]);
    let output = reporter(&lab.host(1), &["init", "--advertise-addr", "10.78.0.11", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trouble = docker.ask(&["swarm", "init"]).expect_err("is in a swarm");
    assert_eq!(trouble, Trouble::AlreadyInSwarm);
    let again = reporter(&lab.host(1), &["init", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).expect("is JSON");
    assert_eq!((&json["ok"], &json["changed"]), (&true.into(), &false.into()));
}

fn a_worker_is_told_from_an_engine_in_no_swarm(lab: &Lab) {
    let token = On(lab.host(1)).ask(&["swarm", "join-token", "-q", "worker"]).expect("a manager");
    let join = ["swarm", "join", "--token", token.trim(), "10.78.0.11:2377"];
    On(lab.host(2)).ask(&join).expect("joins");
    let trouble = On(lab.host(2)).ask(&["node", "ls"]).expect_err("is a worker");
    assert_eq!(trouble, Trouble::NotManager);
    refused(&reporter(&lab.host(2), &["status"]), 4, &["worker", "one of its managers"]);
    refused(&reporter(&lab.host(2), &["init"]), 4, &["worker", "one of its managers"]);
    // The tasks below are for the manager.
    let output = reporter(&lab.host(1), &["drain", "node2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn nothing_in_the_stack(lab: &Lab, manager: &On) {
    let answer = manager.answer(&Call::new(["stack", "rm", "erlmcp-swarm"]));
    assert!(answer.stderr.contains("Nothing found in stack"), "{answer:?}");
    let output = reporter(&lab.host(1), &["rm"]);
    assert!(output.status.success(), "there is nothing to do");
    assert!(String::from_utf8_lossy(&output.stdout).contains("there is no stack"));
    refused(&reporter(&lab.host(1), &["scale", "3"]), 2, &["no stack", "reporter swarm deploy"]);
    let output = reporter(&lab.host(1), &["loadgen", "--nodes", "role=web"]);
    refused(&output, 2, &["no node has the label role=web", "--label-add role=web"]);
    refused(&reporter(&lab.host(1), &["loadgen"]), 2, &["no stack", "reporter swarm deploy"]);
}

fn an_image_that_is_nowhere(lab: &Lab, manager: &On) {
    let output = reporter(&lab.host(1), &["deploy", "--image", NO_IMAGE, "--replicas", "1"]);
    refused(&output, 4, &[NO_IMAGE, "docker load", "--image"]);
    let (trouble, task) = manager.obstacle("erlmcp-swarm_erlmcp-server");
    assert_eq!((trouble, task.state.as_str()), (Trouble::NoImage(NO_IMAGE.to_owned()), "rejected"));
    let output = reporter(&lab.host(1), &["rm"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn no_node_for_a_task(manager: &On, image: &str) {
    manager.service("far", &["--constraint", "node.labels.place==nowhere", image, "60"]);
    let (trouble, task) = manager.obstacle("far");
    assert_eq!(task.state, "pending");
    let text = trouble.to_string();
    assert!(matches!(trouble, Trouble::NoNode(_)), "{text}");
    assert!(text.contains("constraint") && text.contains("undrain"), "{text}");
    manager.ask(&["service", "rm", "far"]).expect("was there");
}

fn ports_that_are_taken(lab: &Lab, manager: &On, image: &str) {
    let published = format!("mode=host,published={PORT},target={PORT}");
    let publish = ["--publish", &published, image, "60"];
    let holder = Holder::start(lab, PORT);
    manager.service("first", &publish);
    let (trouble, task) = manager.obstacle("first");
    // It is tried anew, and fails anew, while somebody outside of the swarm holds the port.
    assert!(matches!(task.state.as_str(), "failed" | "rejected"), "{task:?}");
    assert!(matches!(trouble, Trouble::PortTaken(_)), "{trouble:?}");
    assert!(trouble.to_string().contains("--balancer"), "{trouble}");
    drop(holder);

    manager.ask(&["service", "rm", "first"]).expect("was there");
    manager.service("first", &publish);
    let running = || ops::tasks(manager, "first").is_ok_and(|all| all.iter().any(Task::runs));
    for _ in 0..150 {
        if running() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(running(), "{:?}", ops::tasks(manager, "first"));
    manager.service("second", &publish);
    let (trouble, task) = manager.obstacle("second");
    assert_eq!(task.state, "pending");
    let expected = Trouble::PortTaken("host-mode port already in use on 1 node".to_owned());
    match trouble {
        Trouble::PortTaken(text) if text.contains("host-mode port already in use") => {}
        other => panic!("{other:?} is not like {expected:?}"),
    }
}
