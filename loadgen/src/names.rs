//! Names of targets that are followed while the run lasts: addresses that join are loaded, those that
//! vanish are left. An orchestrator's resolver follows its tasks at once and yet says that its
//! answers hold for minutes, so that it is asked again and again.
//!
//! With `--all-addresses`, a target is the URL of an address; with `--resolve-every` alone it keeps
//! its name, for the Host header and the certificate.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};

use crate::plan::Target;
use crate::plan::target::TargetUrl;
use crate::ring::Address;

/// Between two questions, where nothing else is wanted.
pub const EVERY: Duration = Duration::from_secs(1);
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
            return Err(format!(
                "{url}: --all-addresses does not go with TLS: use --resolve-every, which keeps the name"
            ));
        }
        let addresses = url
            .resolve()
            .map_err(|e| format!("cannot resolve '{}' ({e}): check the name", url.host))?;
        for address in in_order(addresses) {
            let own = url.at(&address);
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

fn in_order(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What the names had when they were looked at.
#[derive(Debug)]
pub struct Found {
    /// All targets that are there now.
    pub targets: Vec<Target>,
    /// Why an address is not among them, a sentence each.
    pub left_out: Vec<String>,
}

/// Looks names up, and asks what is new what it speaks.
pub struct Finder<R, A> {
    /// The targets as typed.
    pub urls: Vec<TargetUrl>,
    /// Whether a target is the URL of an address.
    pub by_address: bool,
    /// Those that were ever there.
    pub known: Vec<Target>,
    /// The addresses of a target's name.
    pub resolve: R,
    /// What is spoken at an address.
    pub ask: A,
}

impl<R, A> Finder<R, A>
where
    R: Fn(&TargetUrl) -> io::Result<Vec<Address>>,
    A: FnMut(&TargetUrl, &Address) -> Result<Target, String>,
{
    /// What is there now; `None` where the resolver failed, which says nothing about the targets.
    pub fn find(&mut self) -> Option<Found> {
        let (mut targets, mut left_out): (Vec<Target>, _) = (Vec::new(), Vec::new());
        for url in &self.urls {
            for address in in_order((self.resolve)(url).ok()?) {
                let own = if self.by_address { url.at(&address) } else { url.clone() };
                let same = |t: &&Target| t.url == own && t.address == address;
                let mut of_url = self.known.iter().filter(|t| t.url == own);
                // As at the start, the other family of a name's addresses is left alone.
                let foreign = of_url.next().is_some_and(|t| t.address.family() != address.family());
                if foreign || targets.iter().any(|t| same(&t)) {
                    continue;
                }
                if let Some(known) = self.known.iter().find(same) {
                    targets.push(known.clone());
                    continue;
                }
                match (self.ask)(&own, &address) {
                    Ok(target) => {
                        self.known.push(target.clone());
                        targets.push(target);
                    }
                    Err(cause) => left_out.push(format!("{address}: {cause}")),
                }
            }
        }
        Some(Found { targets, left_out })
    }
}

/// Follows names on a thread of its own.
pub struct Names {
    found: Receiver<Found>,
    quit: Arc<AtomicBool>,
}

impl Names {
    /// Looks so often.
    pub fn follow(
        every: Duration,
        mut find: impl FnMut() -> Option<Found> + Send + 'static,
    ) -> Self {
        let (send, found) = unbounded();
        let quit = Arc::new(AtomicBool::new(false));
        let stop = quit.clone();
        let body = move || {
            let mut waited = Duration::ZERO;
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(NAP);
                waited += NAP;
                if waited < every {
                    continue;
                }
                waited = Duration::ZERO;
                if let Some(found) = find()
                    && send.send(found).is_err()
                {
                    return;
                }
            }
        };
        // Not joined: a resolver may take its time, and it ends with the process.
        let _ = std::thread::Builder::new().name("names".into()).spawn(body);
        Self { found, quit }
    }

    /// What was found since the last look.
    pub fn latest(&self) -> Option<Found> {
        self.found.try_iter().last()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
    }
}

/// Whether a target has a name that may have other addresses later.
pub fn has_name(url: &TargetUrl) -> bool {
    url.socket.is_none() && url.host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use std::cell::RefCell;
    use std::net::SocketAddr;

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

    fn at(url: &TargetUrl, address: Address) -> Target {
        let (url, dialect) = (url.clone(), Dialect::Http);
        Target { url, address, dialect, wrapping: None, terms: None, one_of_several: true }
    }

    #[test]
    fn what_a_name_has_is_followed_as_its_resolver_says() {
        let url: TargetUrl = "http://server:81/mcp".parse().expect("is a target");
        let address = |text: &str| Address::Ip(text.parse::<SocketAddr>().expect("an address"));
        let answer = RefCell::new(None);
        let mut asked = Vec::new();
        let mut finder = Finder {
            urls: vec![url.clone()],
            by_address: false,
            known: vec![at(&url, address("10.0.0.1:81"))],
            resolve: |_: &TargetUrl| -> io::Result<Vec<Address>> {
                answer.borrow().clone().ok_or_else(|| io::Error::other("no answer"))
            },
            ask: |url: &TargetUrl, address: &Address| {
                asked.push(address.to_string());
                let dead = address.to_string() == "10.0.0.3:81";
                if dead { Err("refused".into()) } else { Ok(at(url, address.clone())) }
            },
        };
        assert!(finder.find().is_none(), "a resolver that fails says nothing");
        let mut finds = |addresses: &[&str]| {
            *answer.borrow_mut() = Some(addresses.iter().map(|text| address(text)).collect());
            let Found { targets, left_out } = finder.find().expect("it resolves");
            let found: Vec<String> =
                targets.iter().map(|t| t.address.to_string().replace(":81", "")).collect();
            assert!(targets.iter().all(|t| t.url == url), "the name stays");
            (found.join(" "), left_out)
        };
        let none = Vec::<String>::new();
        let joins = ["10.0.0.2:81", "10.0.0.1:81", "10.0.0.2:81", "[::1]:81"];
        assert_eq!(finds(&joins), ("10.0.0.1 10.0.0.2".into(), none.clone()));
        assert_eq!(finds(&["10.0.0.2:81"]), ("10.0.0.2".into(), none.clone()));
        let with_dead = ["10.0.0.2:81", "10.0.0.3:81"];
        let refused = vec!["10.0.0.3:81: refused".to_owned()];
        assert_eq!(finds(&with_dead), ("10.0.0.2".into(), refused.clone()));
        assert_eq!(finds(&with_dead), ("10.0.0.2".into(), refused), "and it is tried again");
        assert_eq!(finds(&["10.0.0.1:81"]), ("10.0.0.1".into(), none), "it was known");
        assert_eq!(
            asked,
            ["10.0.0.2:81", "10.0.0.3:81", "10.0.0.3:81"],
            "only what is new is asked"
        );
    }
}
