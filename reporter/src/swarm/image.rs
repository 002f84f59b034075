//! The image of the bundled server and of the generator: the two programs, with the libraries that
//! they load where they are not static, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Builds the image from the programs of this workspace, and gives its id. What has not changed
/// comes out of the engine's cache with the same id.
///
/// # Errors
/// If a program or one of its libraries is missing, or the engine cannot build.
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
    let root = dir.join("root");
    for (name, variable) in PROGRAMS {
        let from = program(name, variable)?;
        copy(&from, &root.join(name))?;
        for library in libraries(&from)? {
            let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
            copy(&library, &inside)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let made = to.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::copy(from, to).map(|_| ()))
        .map_err(|error| Failure::host(format!("cannot copy {}: {error}", from.display())))
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

/// Finds a program: by the environment, else the newer one of those beside this program and where
/// the build for the static target puts it.
fn program(name: &str, variable: &str) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(format!("{variable}_STATIC")).map(PathBuf::from);
    if let Some(path) = named.filter(|path| path.is_file()) {
        return Ok(path);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("."));
    let build = beside.join("..").join(STATIC_TARGET).join("release");
    let made = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    let found = [beside.join(name), build.join(name)].into_iter().filter(|path| path.is_file());
    found.max_by_key(made).ok_or_else(|| {
        Failure::host(format!(
            "there is no {name} for the image at {}; build it with `cargo build --release -p \
             erlmcp-server -p loadgen`, or set {variable}_STATIC to its path, or name an image \
             with --image",
            beside.display()
        ))
    })
}

/// The files that a program loads before it runs, its loader among them; none for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let bytes = fs::read(program)
        .map_err(|error| Failure::host(format!("cannot read {}: {error}", program.display())))?;
    let Some(loader) = loader(&bytes) else { return Ok(Vec::new()) };
    let failed = |why: String| {
        Failure::host(format!(
            "cannot tell the libraries of {}: {why}; build it static with `RUSTFLAGS='-C \
             target-feature=+crt-static' cargo build --release --target {STATIC_TARGET}`",
            program.display()
        ))
    };
    // What `ldd` does (man 8 ld.so): the loader lists instead of starting the program.
    let listed = Command::new(&loader).arg("--list").arg(program).output();
    let listed = listed.map_err(|error| failed(format!("{loader}: {error}")))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    if !listed.status.success() || text.contains("not found") {
        return Err(failed(text.lines().last().unwrap_or("its loader fails").trim().to_owned()));
    }
    let mut files: Vec<PathBuf> =
        text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    files.push(PathBuf::from(loader));
    files.sort();
    files.dedup();
    Ok(files)
}

/// The loader that a 64-bit ELF program asks for (PT_INTERP; man 5 elf); none for a static one.
fn loader(bytes: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let usize_at = |at: usize| {
        usize::try_from(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
            .ok()
    };
    if bytes.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size, count) = (usize_at(32)?, usize::from(u16_at(54)?), u16_at(56)?);
    for index in 0..usize::from(count) {
        let entry = table.checked_add(index * size)?;
        if u32_at(entry)? == PT_INTERP {
            let (from, length) = (usize_at(entry + 8)?, usize_at(entry + 32)?);
            let text = bytes.get(from..from.checked_add(length)?)?;
            return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_unless_it_is_static() {
        let shell = fs::read("/bin/sh").expect("is there");
        assert!(loader(&shell).is_some_and(|path| path.starts_with('/')));
        assert_eq!(loader(b"#!/bin/sh\n"), None);
        let mut elf = vec![0_u8; 126];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[64] = 1;
        assert_eq!(loader(&elf), None);
        (elf[64], elf[72], elf[96]) = (3, 120, 6);
        elf[120..].copy_from_slice(b"/ld.2\0");
        assert_eq!(loader(&elf).as_deref(), Some("/ld.2"));
        elf[96] = 7;
        assert_eq!(loader(&elf), None, "a name that ends beyond the file is none");
    }

    #[test]
    fn the_image_holds_what_a_program_loads_and_a_static_one_alone() {
        let own = std::env::current_exe().expect("has a path");
        let files = libraries(&own).expect("are listed");
        assert!(files.iter().all(|file| file.is_file()), "{files:?}");
        assert!(files.iter().any(|file| file.to_string_lossy().contains("libc.so")), "{files:?}");
        let dir = tempfile::tempdir().expect("a folder");
        let text = dir.path().join("text");
        fs::write(&text, "no program").expect("writes");
        assert!(libraries(&text).expect("has none").is_empty());
    }
}
