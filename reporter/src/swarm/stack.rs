//! The stack's names, labels and files, and the command line that deploys it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cli::{Balancer, DeployArgs};
use super::docker::Call;

/// The stack.
pub const STACK: &str = "erlmcp-swarm";
/// The service under test, as the stack file names it.
pub const SERVICE: &str = "erlmcp-server";
/// The same as the engine names it.
pub const SERVICE_FULL: &str = "erlmcp-swarm_erlmcp-server";
/// The network that all of it shares.
pub const NETWORK: &str = "erlmcp-swarm_mesh";
/// The label of everything that this tool makes; its value is [`OWNER_VALUE`].
pub const OWNER: &str = "io.erlmcp.owner";
/// See [`OWNER`].
pub const OWNER_VALUE: &str = "reporter";
/// The label of containers that this tool starts beside the stack.
pub const ROLE: &str = "io.erlmcp.role";
/// The label that the engine gives to all parts of a stack.
pub const NAMESPACE: &str = "com.docker.stack.namespace";
/// The secret with Grafana's password.
pub const GRAFANA_SECRET: &str = "erlmcp-grafana-admin";

/// The files as they are deployed, by their names beside `stack.yml`.
const FILES: [(&str, &str); 14] = [
    ("stack.yml", include_str!("../../../swarm-stack/stack.yml")),
    ("stack.host-ports.yml", include_str!("../../../swarm-stack/stack.host-ports.yml")),
    ("stack.haproxy.yml", include_str!("../../../swarm-stack/haproxy/stack.haproxy.yml")),
    ("haproxy.cfg", include_str!("../../../swarm-stack/haproxy/haproxy.cfg")),
    ("stack.traefik.yml", include_str!("../../../swarm-stack/traefik/stack.traefik.yml")),
    ("stack.monitoring.yml", include_str!("../../../swarm-stack/prometheus/stack.monitoring.yml")),
    ("prometheus.yml", include_str!("../../../swarm-stack/prometheus/prometheus.yml")),
    ("alerts.yml", include_str!("../../../swarm-stack/prometheus/alerts.yml")),
    ("stack.grafana.yml", include_str!("../../../swarm-stack/grafana/stack.grafana.yml")),
    (
        "datasource.yml",
        include_str!("../../../swarm-stack/grafana/provisioning/datasources/datasource.yml"),
    ),
    (
        "dashboards.yml",
        include_str!("../../../swarm-stack/grafana/provisioning/dashboards/dashboards.yml"),
    ),
    ("servers.json", include_str!("../../../swarm-stack/grafana/dashboards/servers.json")),
    ("load.json", include_str!("../../../swarm-stack/grafana/dashboards/load.json")),
    ("client.json", include_str!("../../../swarm-stack/grafana/dashboards/client.json")),
];

/// The file that is made for `--placement`.
const PLACEMENT: &str = "stack.placement.yml";

/// The stack's files in a folder of their own, removed with this value.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Writes them.
    ///
    /// # Errors
    /// The I/O error.
    pub fn write() -> io::Result<Self> {
        let dir = temporary("stack")?;
        let files = Self { dir };
        for (name, text) in FILES {
            fs::write(files.dir.join(name), text)?;
        }
        Ok(files)
    }

    /// Adds the file that [`deploy_call`] names for placement.
    ///
    /// # Errors
    /// The I/O error.
    pub fn place(&self, constraints: &[String]) -> io::Result<()> {
        fs::write(self.dir.join(PLACEMENT), placement(constraints))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A new folder of this process under the temporary folder.
///
/// # Errors
/// The I/O error.
pub fn temporary(what: &str) -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let mut number = 0_u32;
    loop {
        let dir = base.join(format!("erlmcp-{what}-{}-{number}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What is deployed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// As typed.
    pub args: DeployArgs,
    /// The server's image as the engine shall see it.
    pub image: String,
    /// Delay before a replica that ended is started again, such as `1s`.
    pub restart_delay: Option<String>,
}

/// The call that deploys.
pub fn deploy_call(wanted: &Wanted, dir: &Path) -> Call {
    let mut files = vec!["stack.yml"];
    if wanted.args.host_ports {
        files.push("stack.host-ports.yml");
    }
    match wanted.args.balancer {
        Balancer::Traefik => files.push("stack.traefik.yml"),
        Balancer::Haproxy => files.push("stack.haproxy.yml"),
        Balancer::None => {}
    }
    if wanted.args.monitoring || wanted.args.grafana {
        files.push("stack.monitoring.yml");
    }
    if wanted.args.grafana {
        files.push("stack.grafana.yml");
    }
    let mut args: Vec<String> = ["stack", "deploy", "--prune"].map(str::to_owned).to_vec();
    // Asking a registry for digests fails where there is none; nodes pull what they lack anyway.
    args.extend(["--resolve-image", "never"].map(str::to_owned));
    if !wanted.args.placement.is_empty() {
        files.push(PLACEMENT);
    }
    let own = files.iter().map(|name| dir.join(name));
    for file in own.chain(wanted.args.overrides.iter().cloned()) {
        args.extend(["-c".to_owned(), file.display().to_string()]);
    }
    args.push(STACK.to_owned());
    let mut env = vec![
        ("ERLMCP_IMAGE".to_owned(), wanted.image.clone()),
        ("ERLMCP_REPLICAS".to_owned(), wanted.args.replicas.to_string()),
        ("ERLMCP_CONFIG_ID".to_owned(), config_id()),
    ];
    if let Some(delay) = &wanted.restart_delay {
        env.push(("ERLMCP_RESTART_DELAY".to_owned(), delay.clone()));
    }
    Call { env, ..Call::new(args) }
}

/// A compose file that says where replicas may run.
fn placement(constraints: &[String]) -> String {
    let quoted: Vec<String> = constraints.iter().map(|one| format!("\"{one}\"")).collect();
    format!(
        "version: \"3.9\"\nservices:\n  {SERVICE}:\n    deploy:\n      placement:\n        \
         constraints: [{}]\n",
        quoted.join(", ")
    )
}

/// Names the configurations by their content: the engine cannot change one, only replace it.
fn config_id() -> String {
    // FNV-1a, 64 bit: a name, no protection.
    let text = FILES.iter().flat_map(|(_, text)| text.bytes());
    let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: DeployArgs) -> String {
        let wanted = Wanted { args, image: "sha256:1".to_owned(), restart_delay: None };
        deploy_call(&wanted, Path::new("/f")).args.join(" ")
    }

    #[test]
    fn the_bare_stack_is_the_servers_alone() {
        assert_eq!(
            call(DeployArgs::default()),
            "stack deploy --prune --resolve-image never -c /f/stack.yml erlmcp-swarm"
        );
    }

    #[test]
    fn parts_are_files_and_the_users_own_comes_last() {
        let args = DeployArgs {
            balancer: Balancer::Haproxy,
            grafana: true,
            overrides: vec![PathBuf::from("mine.yml")],
            ..DeployArgs::default()
        };
        assert_eq!(
            call(args),
            "stack deploy --prune --resolve-image never -c /f/stack.yml -c /f/stack.haproxy.yml \
             -c /f/stack.monitoring.yml -c /f/stack.grafana.yml -c mine.yml erlmcp-swarm"
        );
    }

    #[test]
    fn placement_is_a_file_of_its_own_and_has_each_constraint() {
        let placed = vec!["node.labels.role==server".to_owned(), "node.role!=manager".to_owned()];
        let args = DeployArgs { placement: placed.clone(), ..DeployArgs::default() };
        assert!(call(args).ends_with("-c /f/stack.yml -c /f/stack.placement.yml erlmcp-swarm"));
        let files = Files::write().expect("writes");
        files.place(&placed).expect("writes");
        let text = fs::read_to_string(files.dir().join(PLACEMENT)).expect("is there");
        assert!(text.contains(r#"["node.labels.role==server", "node.role!=manager"]"#), "{text}");
    }

    #[test]
    fn files_go_with_their_folder() {
        let files = Files::write().expect("writes");
        let dir = files.dir().to_owned();
        assert!(dir.join("stack.yml").is_file());
        drop(files);
        assert!(!dir.exists());
    }

    #[test]
    fn every_service_and_network_carries_the_owner() {
        for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with("stack.")) {
            let parts = text.matches("image:").count();
            assert!(text.matches(OWNER).count() >= 2 * parts, "{name}");
        }
    }
}
