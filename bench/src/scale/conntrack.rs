//! The connection tracker: whether it watches loopback here, and whether its table suffices.
//!
//! A full table drops SYNs silently; the only trace is in the kernel log. So it is looked at
//! before the load, not after.

use std::fs;
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, bail};

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// Entries that others on the host may need meanwhile.
const SPARE: u64 = 10_000;

/// A limit that was raised; dropping it puts the old one back.
#[derive(Debug)]
pub struct Raised {
    old: u64,
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = fs::write(MAX, self.old.to_string()) {
            eprintln!("cannot put net.netfilter.nf_conntrack_max back to {}: {error}", self.old);
        }
    }
}

/// Makes sure that `connections` more fit into the table, where there is one that watches.
///
/// # Errors
/// They do not fit, and raising was not asked for or not allowed.
pub fn make_room(connections: u64, may_raise: bool) -> Result<Option<Raised>> {
    let Some(max) = number(MAX) else {
        println!("connection tracking: not in this kernel");
        return Ok(None);
    };
    let used = number(COUNT).unwrap_or(0);
    if !watches_loopback() {
        println!("connection tracking: present, does not watch loopback here");
        return Ok(None);
    }
    let needed = used + connections + SPARE;
    println!(
        "connection tracking: watches loopback; {used} of {max} entries used, {needed} needed"
    );
    if needed <= max {
        return Ok(None);
    }
    if !may_raise {
        bail!(
            "net.netfilter.nf_conntrack_max is {max} and {needed} entries are needed: beyond it \
             the kernel drops SYNs silently. Raise it (sysctl -w \
             net.netfilter.nf_conntrack_max={needed}), or let this program do so for the run \
             with --raise-conntrack"
        );
    }
    fs::write(MAX, needed.to_string())
        .with_context(|| format!("raising net.netfilter.nf_conntrack_max to {needed}"))?;
    println!("net.netfilter.nf_conntrack_max: raised from {max} to {needed} for this run");
    Ok(Some(Raised { old: max }))
}

/// Whether a connection over loopback makes an entry. Only rules that ask for tracking hook it in,
/// so the module's presence alone says nothing. Foreign traffic can only err to the safe side.
fn watches_loopback() -> bool {
    const TRIES: usize = 16;
    let before = number(COUNT).unwrap_or(0);
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return true };
    let Ok(addr) = listener.local_addr() else { return true };
    let held: Vec<_> = (0..TRIES).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    let after = number(COUNT).unwrap_or(0);
    drop(held);
    // Half of them: some old entries may have expired meanwhile.
    after >= before + TRIES as u64 / 2
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
