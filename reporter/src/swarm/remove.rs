//! Taking the stack away, and proof that it is gone. Only what carries this tool's label goes.

use super::docker::{Call, Docker};
use super::ops::{self, Engine};
use super::stack::{GRAFANA_SECRET, NAMESPACE, OWNER, OWNER_VALUE, ROLE, STACK};
use super::trouble::Trouble;
use crate::clock::{self, SECOND_NS};

const POLL_NS: u64 = SECOND_NS / 4;

/// What is left of the stack, by kind; empty if nothing is.
///
/// # Errors
/// If the engine does not answer.
pub fn left(docker: &dyn Docker, engine: &Engine) -> Result<Vec<String>, Trouble> {
    let namespace = format!("label={NAMESPACE}={STACK}");
    let mut kinds = vec![
        ("container", vec!["ps", "-aq", "--filter", &namespace]),
        ("network", vec!["network", "ls", "-q", "--filter", &namespace]),
    ];
    if engine.manager {
        kinds.push(("service", vec!["service", "ls", "-q", "--filter", &namespace]));
        kinds.push(("configuration", vec!["config", "ls", "-q", "--filter", &namespace]));
    }
    let mut left = left_beside(docker, engine)?;
    for (kind, args) in kinds {
        let ids = docker.ask(&args)?;
        left.extend(ids.split_whitespace().map(|id| format!("{kind} {id}")));
    }
    Ok(left)
}

/// What is left of what this tool started beside the stack.
///
/// # Errors
/// If the engine does not answer.
pub fn left_beside(docker: &dyn Docker, engine: &Engine) -> Result<Vec<String>, Trouble> {
    let mut left = containers_beside(docker, None)?;
    if engine.manager {
        let role = format!("label={ROLE}");
        let ids = docker.ask(&["service", "ls", "-q", "--filter", &role])?;
        left.extend(ids.split_whitespace().map(|id| format!("service {id}")));
    }
    Ok(left)
}

/// The containers of it on another node's engine, or on this one.
///
/// # Errors
/// If the engine does not answer.
pub fn containers_beside(
    docker: &dyn Docker,
    host: Option<String>,
) -> Result<Vec<String>, Trouble> {
    let role = format!("label={ROLE}");
    let ids = docker.run(&Call { host, ..Call::new(["ps", "-aq", "--filter", &role]) })?;
    Ok(ids.split_whitespace().map(|id| format!("container {id}")).collect())
}

/// Removes the stack and waits until all of it is gone. False if there was none.
///
/// # Errors
/// [`Trouble::NotOurs`] before anything is touched, or [`Trouble::Late`] with what is left.
pub fn stack(
    docker: &dyn Docker,
    deadline_ns: u64,
    mut progress: impl FnMut(&str),
) -> Result<bool, Trouble> {
    let engine = ops::engine(docker)?;
    let services = if engine.manager { ops::services(docker)? } else { Vec::new() };
    if let Some(foreign) = services.iter().find(|service| !service.ours) {
        return Err(Trouble::NotOurs(format!("service {}", foreign.name)));
    }
    beside(docker)?;
    if left(docker, &engine)?.is_empty() {
        secret(docker, &engine)?;
        return Ok(false);
    }
    if engine.manager {
        docker.ask(&["stack", "rm", STACK])?;
    }
    let mut told = 0;
    loop {
        let left = left(docker, &engine)?;
        if left.is_empty() {
            break;
        }
        if clock::mono_ns() >= deadline_ns {
            return Err(Trouble::Late(format!("not gone in time: {}", left.join(", "))));
        }
        if left.len() != told {
            told = left.len();
            progress(&format!("{told} parts of the stack are still there"));
        }
        clock::sleep_ns(POLL_NS);
    }
    secret(docker, &engine)?;
    Ok(true)
}

/// Removes the services and containers that this tool started beside the stack.
///
/// # Errors
/// If the engine does not answer.
pub fn beside(docker: &dyn Docker) -> Result<(), Trouble> {
    let (role, owner) = (format!("label={ROLE}"), format!("label={OWNER}={OWNER_VALUE}"));
    // Before their containers, which a service would start again.
    if ops::engine(docker)?.manager {
        let ids = docker.ask(&["service", "ls", "-q", "--filter", &role, "--filter", &owner])?;
        for id in ids.split_whitespace() {
            match docker.ask(&["service", "rm", id]) {
                Ok(_) | Err(Trouble::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
        }
    }
    let ids = docker.ask(&["ps", "-aq", "--filter", &role, "--filter", &owner])?;
    for id in ids.split_whitespace() {
        match docker.ask(&["rm", "--force", id]) {
            Ok(_) | Err(Trouble::NotFound(_)) => {}
            // One that ends by itself may be on its way already.
            Err(Trouble::Other(text)) if text.contains("already in progress") => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn secret(docker: &dyn Docker, engine: &Engine) -> Result<(), Trouble> {
    if !engine.manager {
        return Ok(());
    }
    let (name, owner) = (format!("name={GRAFANA_SECRET}"), format!("label={OWNER}={OWNER_VALUE}"));
    let ids = docker.ask(&["secret", "ls", "-q", "--filter", &name, "--filter", &owner])?;
    ids.split_whitespace().try_for_each(|id| docker.ask(&["secret", "rm", id]).map(|_| ()))
}

/// Removes the stack's volumes on this node.
///
/// # Errors
/// If one is in use.
pub fn volumes(docker: &dyn Docker) -> Result<u32, Trouble> {
    let (namespace, owner) =
        (format!("label={NAMESPACE}={STACK}"), format!("label={OWNER}={OWNER_VALUE}"));
    let args = ["volume", "ls", "-q", "--filter", &namespace, "--filter", &owner];
    let names = docker.ask(&args)?;
    let mut removed = 0;
    for name in names.split_whitespace() {
        docker.ask(&["volume", "rm", name])?;
        removed += 1;
    }
    Ok(removed)
}
