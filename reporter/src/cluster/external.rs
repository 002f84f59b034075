//! Servers that somebody else runs: known by their addresses, neither started nor ended here.

use super::{Cluster, Endpoint, Killed, ReplicaStatus};
use crate::exit::Failure;

/// The given addresses as a cluster of fixed size.
#[derive(Clone, Debug)]
pub struct External {
    endpoints: Vec<Endpoint>,
}

impl External {
    /// Addresses as the generator takes them.
    pub fn new(urls: &[String]) -> Self {
        let endpoint = |url: &String| Endpoint { replica: authority(url), url: url.clone() };
        Self { endpoints: urls.iter().map(endpoint).collect() }
    }
}

/// Why these replicas are left alone.
pub const REASON: &str = "--server names servers that run already: this program does not start or \
                          stop them";

/// Takes `--server` as a list of addresses, if it is one: every piece between commas has a scheme,
/// or is `host:port`, which becomes `http://host:port/mcp`.
pub fn parse(server: &str, mcp_path: &str) -> Option<Vec<String>> {
    server
        .split(',')
        .map(str::trim)
        .map(|piece| {
            if piece.contains(char::is_whitespace) {
                return None;
            }
            if piece.contains("://") {
                return Some(piece.to_owned());
            }
            let (host, port) = piece.rsplit_once(':')?;
            let is_address = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
            is_address.then(|| format!("http://{piece}{mcp_path}"))
        })
        .collect()
}

fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

impl Cluster for External {
    fn backend(&self) -> &'static str {
        "external"
    }

    fn fixed(&self) -> Option<String> {
        Some(REASON.to_owned())
    }

    fn scale(&mut self, _to: u32) -> Result<(), Failure> {
        Ok(())
    }

    fn settled(&self) -> Result<bool, Failure> {
        Ok(true)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.clone()
    }

    fn leaving(&self, _to: u32) -> Vec<Endpoint> {
        Vec::new()
    }

    fn status(&self) -> Vec<ReplicaStatus> {
        Vec::new()
    }

    fn kill(&mut self, replica: &str) -> Result<Killed, Failure> {
        Err(Failure::usage(format!("cannot kill {replica}: {REASON}")))
    }

    fn held(&self, _replica: &str) -> Option<u64> {
        None
    }

    fn server_version(&self) -> String {
        String::new()
    }

    fn teardown(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_list_is_told_from_a_program() {
        let urls = parse("http://10.0.0.1:8080/mcp, tcp://10.0.0.2:5555", "/mcp");
        assert_eq!(
            urls,
            Some(vec!["http://10.0.0.1:8080/mcp".to_owned(), "tcp://10.0.0.2:5555".to_owned()])
        );
        assert_eq!(parse("localhost:80", "/x"), Some(vec!["http://localhost:80/x".to_owned()]));
        for program in
            ["./server", "python3 -m server --url http://{ip}:{port}", "a,b", "/a:80", ""]
        {
            assert_eq!(parse(program, "/mcp"), None, "{program}");
        }
    }

    #[test]
    fn a_replica_of_somebody_else_is_named_by_its_authority() {
        let cluster = External::new(&["http://[::1]:80/mcp".to_owned()]);
        assert_eq!(cluster.endpoints()[0].replica, "[::1]:80");
        assert!(cluster.fixed().is_some());
    }
}
