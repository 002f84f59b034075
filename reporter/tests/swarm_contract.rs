//! The same cases against recorded answers and against the engine of this host: what the operations
//! rely on is what the engine does. Without an engine the second half says so and passes, except
//! where `CI=true`: there it has to be tried.

use reporter::swarm::docker::{Call, CommandLine, Docker};
use reporter::swarm::fake::Recorded;
use reporter::swarm::trouble::Trouble;
use reporter::swarm::{image, ops, remove};

const RECORDED: &str = include_str!("swarm_recorded/manager.json");
const ABSENT: &str = "erlmcp-no-such";

fn recorded() -> Recorded {
    Recorded::parse(RECORDED).expect("the recording is a list of calls")
}

/// The engine, if this host has one that is a manager.
fn engine(test: &str) -> Option<CommandLine> {
    let docker = CommandLine::default();
    match ops::manager(&docker) {
        Ok(_) => Some(docker),
        Err(trouble) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI has to try {test} against an engine: {trouble}"
            );
            eprintln!("SKIPPED: {test} was not tried against an engine: {trouble}");
            None
        }
    }
}

fn both(test: &str, case: impl Fn(&dyn Docker)) {
    case(&recorded());
    if let Some(docker) = engine(test) {
        case(&docker);
    }
}

#[test]
fn the_engine_says_who_it_is_and_lists_its_node() {
    both("identity", |docker| {
        let engine = ops::manager(docker).expect("is a manager");
        assert!(engine.major() >= 20, "{engine:?}");
        assert!(!engine.client.is_empty() && !engine.api.is_empty(), "{engine:?}");
        let nodes = ops::nodes(docker).expect("lists");
        let own = nodes.iter().find(|node| node.id == engine.node).expect("its own node");
        assert_eq!((own.role.as_str(), own.state.as_str()), ("manager", "ready"));
        assert_eq!(own.name, engine.name);
    });
}

#[test]
fn what_is_absent_is_said_to_be_absent() {
    both("absence", |docker| {
        let tasks = ops::tasks(docker, ABSENT).expect_err("there is no such service");
        assert!(matches!(tasks, Trouble::NotFound(_)), "{tasks:?}");
        assert_eq!(image::id(docker, ABSENT).expect("answers"), None);
        let kill = ops::kill(docker, ABSENT, None).expect_err("there is no such container");
        assert!(matches!(kill, Trouble::NotFound(_)), "{kill:?}");
    });
}

#[test]
fn a_second_swarm_on_one_engine_is_refused() {
    both("init", |docker| {
        let trouble = docker.ask(&["swarm", "init"]).expect_err("is in a swarm");
        assert_eq!(trouble, Trouble::AlreadyInSwarm);
    });
}

#[test]
fn an_unknown_command_of_the_client_is_an_error_with_its_words() {
    let fake = recorded();
    let trouble = fake.run(&Call::new(["bogus"])).expect_err("is not recorded");
    assert!(trouble.to_string().contains("bogus"), "{trouble}");
    if let Some(docker) = engine("unknown command") {
        let trouble = docker.run(&Call::new(["erlmcp-bogus"])).expect_err("is no command");
        assert!(trouble.to_string().contains("erlmcp-bogus"), "{trouble}");
    }
}

#[test]
fn nothing_is_removed_where_there_is_nothing() {
    let fake = recorded();
    assert!(!remove::stack(&fake, u64::MAX, |_| {}).expect("answers"));
    let removing = |call: &String| call.contains(" rm") || call.starts_with("rm ");
    assert!(!fake.calls().iter().any(removing), "{:?}", fake.calls());
}

#[test]
fn a_stack_of_somebody_else_is_left_as_it_is() {
    let fake = recorded();
    fake.says(&["service", "ls", "*"], "s1\n");
    fake.says(
        &["service", "inspect", "*"],
        r#"[{"Spec":{"Name":"erlmcp-swarm_web","Labels":{},"Mode":{"Replicated":{"Replicas":1}},
            "TaskTemplate":{"ContainerSpec":{"Image":"web"}}}}]"#,
    );
    let trouble = remove::stack(&fake, u64::MAX, |_| {}).expect_err("is not ours");
    assert!(matches!(trouble, Trouble::NotOurs(_)), "{trouble:?}");
    assert!(!fake.calls().iter().any(|call| call.contains(" rm")), "{:?}", fake.calls());
}

#[test]
fn what_stands_beside_the_stack_goes_services_first() {
    let fake = recorded();
    let (role, owner) = ("label=io.erlmcp.role", "label=io.erlmcp.owner=reporter");
    fake.says(&["service", "ls", "-q", "--filter", role, "--filter", owner], "s1\ns2\n");
    fake.says(&["service", "rm", "*"], "");
    fake.says(&["ps", "-aq", "--filter", role, "--filter", owner], "c1\n");
    fake.says(&["rm", "--force", "*"], "c1\n");
    remove::beside(&fake).expect("all of it goes");
    let calls = fake.calls();
    let removed: Vec<&str> =
        calls.iter().map(String::as_str).filter(|call| call.contains("rm ")).collect();
    assert_eq!(removed, ["service rm s1", "service rm s2", "rm --force c1"]);
}

#[test]
fn generators_find_no_stack_and_create_nothing() {
    let fake = recorded();
    let line = ["reporter", "swarm", "loadgen", "--nodes", "role=none"];
    let cli = <reporter::cli::Cli as clap::Parser>::try_parse_from(line).expect("parses");
    let reporter::cli::Command::Swarm(args) = cli.command else { panic!("a swarm command") };
    let reporter::swarm::cli::Command::Loadgen(loadgen) = &args.command else {
        panic!("the generators' command")
    };
    let console = reporter::run::console::Console::new(true, true);
    let failure = reporter::swarm::fleet::drive(&fake, loadgen, &args.common, &console, &[])
        .expect_err("no node has the label");
    assert!(failure.message.contains("--label-add role=none"), "{failure}");
    let every = reporter::swarm::cli::LoadgenArgs { nodes: Vec::new(), ..(**loadgen).clone() };
    let failure = reporter::swarm::fleet::drive(&fake, &every, &args.common, &console, &[])
        .expect_err("there is no stack");
    assert!(failure.message.contains("reporter swarm deploy"), "{failure}");
    assert!(!fake.calls().iter().any(|call| call.contains("create")), "{:?}", fake.calls());
}
