//! The generator in a container of the overlay network: its command line, its process.

use std::path::{Path, PathBuf};

use crate::clock::{self, SECOND_NS};
use crate::exit::Failure;
use crate::swarm::docker::Docker;
use crate::swarm::fleet::plan::{ALIAS, METRICS_PORT};
use crate::swarm::ops::Engine;
use crate::swarm::stack::{NETWORK, OWNER, OWNER_VALUE, ROLE};

/// Engines from this version on keep io_uring from containers by their default seccomp profile.
const SECCOMP_SINCE: u32 = 25;
const PID_NS_MAX: u64 = 10 * SECOND_NS;

/// The program and the arguments that run the generator with `arguments` in a container. Its logs
/// go to `log_dir`, which has the same path inside; signals to the client reach the generator.
pub fn wrap(
    engine: &Engine,
    image: &str,
    name: &str,
    arguments: &[String],
    log_dir: &Path,
) -> Result<(PathBuf, Vec<String>), Failure> {
    std::fs::create_dir_all(log_dir).and_then(|()| std::fs::canonicalize(log_dir)).map_or_else(
        |error| Err(Failure::usage(format!("cannot use {}: {error}", log_dir.display()))),
        |path| {
            let (typed, real) = (log_dir.display().to_string(), path.display().to_string());
            let mut all = options(engine, name, &real);
            all.push(image.to_owned());
            all.extend(["--metrics".to_owned(), format!("0.0.0.0:{METRICS_PORT}")]);
            all.extend(arguments.iter().map(|word| word.replace(&typed, &real)));
            let program = std::env::var_os("DOCKER").unwrap_or_else(|| "docker".into());
            Ok((PathBuf::from(program), all))
        },
    )
}

fn options(engine: &Engine, name: &str, log_dir: &str) -> Vec<String> {
    let user = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
    let (owner, role) = (format!("{OWNER}={OWNER_VALUE}"), format!("{ROLE}=generator"));
    let volume = format!("{log_dir}:{log_dir}");
    let mut options: Vec<String> = [
        "run",
        "--rm",
        "--interactive",
        "--name",
        name,
        "--network",
        NETWORK,
        // Prometheus finds it by this name.
        "--network-alias",
        ALIAS,
        "--label",
        &owner,
        "--label",
        &role,
        "--user",
        &user,
        "--volume",
        &volume,
        "--entrypoint",
        "/loadgen",
        "--sysctl",
        "net.ipv4.ip_local_port_range=1024 65535",
    ]
    .map(str::to_owned)
    .to_vec();
    if engine.major() >= SECCOMP_SINCE {
        options.extend(["--security-opt", "seccomp=unconfined"].map(str::to_owned));
    }
    options
}

/// The generator's process on this host, once its container runs.
pub fn pid(docker: &dyn Docker, name: &str) -> Option<u32> {
    let deadline_ns = clock::mono_ns() + PID_NS_MAX;
    loop {
        let asked = docker.ask(&["inspect", "--type", "container", "-f", "{{.State.Pid}}", name]);
        if let Some(pid) = asked.ok().and_then(|text| text.trim().parse::<u32>().ok())
            && pid > 0
        {
            return Some(pid);
        }
        if clock::mono_ns() >= deadline_ns {
            return None;
        }
        clock::sleep_ns(SECOND_NS / 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_one_path_inside_and_outside() {
        let dir = tempfile::tempdir().expect("a folder");
        let log_dir = dir.path().join("logs/01");
        let arguments = ["--log".to_owned(), log_dir.display().to_string()];
        let engine = Engine { version: "20.10.24+dfsg1".to_owned(), ..Engine::default() };
        let (_, all) = wrap(&engine, "sha256:1", "g", &arguments, &log_dir).expect("wraps");
        let real = std::fs::canonicalize(&log_dir).expect("was made").display().to_string();
        assert!(all.contains(&format!("{real}:{real}")), "{all:?}");
        assert_eq!(all.last(), Some(&real));
        assert!(!all.iter().any(|word| word.contains("seccomp")), "{all:?}");
        let newer = Engine { version: "26.1.5".to_owned(), ..Engine::default() };
        let (_, all) = wrap(&newer, "sha256:1", "g", &arguments, &log_dir).expect("wraps");
        assert!(all.iter().any(|word| word == "seccomp=unconfined"), "{all:?}");
    }
}
