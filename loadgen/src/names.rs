//! Targets whose names have several addresses: one target each, and a thread that follows the
//! names while the run lasts. An orchestrator's resolver follows its tasks at once and yet says
//! that its answers hold for minutes, so that it is asked again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};

use crate::plan::target::TargetUrl;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// Naps within it, so that the thread ends soon.
const NAP: Duration = Duration::from_millis(100);

/// One target for each address that the targets' names have, in order and each once.
///
/// # Errors
/// The first name that has no address, with the resolver's words.
pub fn expand(urls: &[TargetUrl]) -> Result<Vec<TargetUrl>, String> {
    let mut all: Vec<TargetUrl> = Vec::new();
    for url in urls {
        if url.scheme.tls {
            // An address in place of the name would be what the certificate is held against.
            return Err(format!("{url}: --all-addresses does not go with TLS: name each address"));
        }
        let addresses = url
            .resolve()
            .map_err(|e| format!("cannot resolve '{}' ({e}): check the name", url.host))?;
        let mut hosts: Vec<_> = addresses.iter().map(std::net::SocketAddr::ip).collect();
        hosts.sort_unstable();
        hosts.dedup();
        for host in hosts {
            let own = TargetUrl { host: host.to_string(), ..url.clone() };
            if !all.contains(&own) {
                all.push(own);
            }
        }
    }
    match all.is_empty() {
        true => Err("no target has an address".into()),
        false => Ok(all),
    }
}

/// Follows the names; each message is the whole list of targets, whenever it is another one.
pub struct Names {
    changes: Receiver<Vec<String>>,
    quit: Arc<AtomicBool>,
}

impl Names {
    /// Starts to follow them from what they were.
    pub fn follow(urls: Vec<TargetUrl>, known: Vec<TargetUrl>) -> Self {
        let (send, changes) = unbounded();
        let quit = Arc::new(AtomicBool::new(false));
        let stop = quit.clone();
        let body = move || {
            let mut known = known;
            let mut waited = Duration::ZERO;
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(NAP);
                waited += NAP;
                if waited < EVERY {
                    continue;
                }
                waited = Duration::ZERO;
                // A resolver that fails once says nothing about the targets.
                let Ok(now) = expand(&urls) else { continue };
                if now != known {
                    let texts = now.iter().map(ToString::to_string).collect();
                    known = now;
                    if send.send(texts).is_err() {
                        return;
                    }
                }
            }
        };
        // Not joined: a resolver may take its time, and it ends with the process.
        let _ = std::thread::Builder::new().name("names".into()).spawn(body);
        Self { changes, quit }
    }

    /// The newest list, if it has changed since the last look.
    pub fn change(&self) -> Option<Vec<String>> {
        self.changes.try_iter().last()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_a_target_once_and_a_name_without_one_is_named() {
        let urls: Vec<TargetUrl> = ["http://127.0.0.1:81/mcp", "http://127.0.0.1:81/mcp"]
            .map(|text| text.parse().expect("is a target"))
            .to_vec();
        let all = expand(&urls).expect("resolves");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].to_string(), "http://127.0.0.1:81/mcp");
        let absent = ["tcp://no-such-name.invalid:5555".parse().expect("is a target")];
        let error = expand(&absent).expect_err("has no address");
        assert!(error.contains("no-such-name.invalid"), "{error}");
        let tls = ["https://127.0.0.1/mcp".parse().expect("is a target")];
        assert!(expand(&tls).expect_err("is refused").contains("TLS"));
    }
}
