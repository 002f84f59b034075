//! The image of the bundled server and of the generator: two static programs and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::docker::{Call, Docker};
use super::model::Node;
use super::stack::temporary;
use super::trouble::Trouble;
use crate::clock::SECOND_NS;
use crate::exit::Failure;

/// The name that the image gets beside its id.
pub const TAG: &str = concat!("erlmcp-server:", env!("CARGO_PKG_VERSION"));

const DOCKERFILE: &str = include_str!("../../../swarm-stack/image/Dockerfile");
const PROGRAMS: [(&str, &str); 2] = [("erlmcp-server", "ERLMCP_SERVER"), ("loadgen", "LOADGEN")];
const BUILD_NS_MAX: u64 = 300 * SECOND_NS;
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the image from the static programs of this workspace, and gives its id. What has not
/// changed comes out of the engine's cache with the same id.
///
/// # Errors
/// If a program is missing or not static, or the engine cannot build.
pub fn build(docker: &dyn Docker) -> Result<String, Failure> {
    let dir = temporary("image")
        .map_err(|error| Failure::host(format!("cannot write to the temporary folder: {error}")))?;
    let built = fill(&dir).and_then(|()| build_in(docker, &dir).map_err(Failure::from));
    let _ = fs::remove_dir_all(&dir);
    built
}

fn fill(dir: &Path) -> Result<(), Failure> {
    fs::write(dir.join("Dockerfile"), DOCKERFILE)
        .map_err(|error| Failure::host(format!("cannot write {}: {error}", dir.display())))?;
    for (name, variable) in PROGRAMS {
        let from = static_program(name, variable)?;
        fs::copy(&from, dir.join(name))
            .map_err(|error| Failure::host(format!("cannot copy {}: {error}", from.display())))?;
    }
    Ok(())
}

fn build_in(docker: &dyn Docker, dir: &Path) -> Result<String, Trouble> {
    let dir = dir.display().to_string();
    let call = Call {
        ns_max: BUILD_NS_MAX,
        ..Call::new(["build", "--quiet", "--tag", TAG, dir.as_str()])
    };
    docker.run(&call)?;
    id(docker, TAG)?.ok_or_else(|| Trouble::NoImage(TAG.to_owned()))
}

/// The id of a local image; none if there is none of that name.
///
/// # Errors
/// If the engine does not answer.
pub fn id(docker: &dyn Docker, name: &str) -> Result<Option<String>, Trouble> {
    match docker.ask(&["image", "inspect", "--format", "{{.Id}}", name]) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(Trouble::NoImage(_) | Trouble::NotFound(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Brings an image that no registry holds to the other nodes that a way was given to.
///
/// # Errors
/// If a node has no way to it, or does not take the image.
pub fn spread(
    docker: &dyn Docker,
    id: &str,
    nodes: &[Node],
    hosts: &[(String, String)],
    progress: &mut impl FnMut(&str),
) -> Result<(), Failure> {
    let engine = super::ops::engine(docker)?;
    let others = nodes.iter().filter(|node| {
        node.id != engine.node && node.state == "ready" && node.availability == "active"
    });
    for node in others {
        let host = super::ops::host_of_node(&engine, nodes, &node.id, hosts)?;
        let asked = Call { host: host.clone(), ..Call::new(["image", "inspect", "-f", "1", id]) };
        if docker.answer(&asked).code == 0 {
            continue;
        }
        progress(&format!("bringing the image to node {}", node.name));
        let dir = temporary("save").map_err(|error| Failure::host(error.to_string()))?;
        let file = dir.join("image.tar").display().to_string();
        let moved = docker
            .run(&Call { ns_max: BUILD_NS_MAX, ..Call::new(["save", "-o", &file, id]) })
            .and_then(|_| {
                let load = Call::new(["load", "-q", "-i", &file]);
                docker.run(&Call { ns_max: BUILD_NS_MAX, host, ..load })
            });
        let _ = fs::remove_dir_all(&dir);
        moved?;
    }
    Ok(())
}

/// Finds a program that runs without a single library: by the environment, beside this one, or
/// where the build for the static target puts it.
fn static_program(name: &str, variable: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("."));
    let build = beside.join("..").join(STATIC_TARGET).join("release");
    let named = std::env::var_os(format!("{variable}_STATIC")).map(PathBuf::from);
    let places = [named, Some(beside.join(name)), Some(build.join(name))];
    let found = places
        .into_iter()
        .flatten()
        .find(|path| fs::read(path).is_ok_and(|bytes| is_static(&bytes)));
    found.ok_or_else(|| {
        Failure::host(format!(
            "there is no static {name} for the image; build it with `RUSTFLAGS='-C \
             target-feature=+crt-static' cargo build --release --target {STATIC_TARGET} -p \
             erlmcp-server -p loadgen`, or set {variable}_STATIC to its path, or name an image \
             with --image"
        ))
    })
}

/// True for a 64-bit ELF program that asks for no loader (no PT_INTERP; man 5 elf).
fn is_static(bytes: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let read = || -> Option<bool> {
        if bytes.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let table = usize::try_from(u64_at(32)?).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        for index in 0..count {
            if u32_at(table + index * size)? == PT_INTERP {
                return Some(false);
            }
        }
        Some(true)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static_and_text_is_no_program() {
        let shell = fs::read("/bin/sh").expect("is there");
        assert!(!is_static(&shell));
        assert!(!is_static(b"#!/bin/sh\n"));
        let mut elf = vec![0_u8; 120];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[64] = 1;
        assert!(is_static(&elf));
        elf[64] = 3;
        assert!(!is_static(&elf));
        elf[56] = 9;
        assert!(!is_static(&elf), "a table that ends early is no program");
    }
}
