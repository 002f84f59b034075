//! A network namespace of one's own: no firewall, no connection tracker, nobody else's connections,
//! and a backlog that takes a burst of connects.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// Moves the calling thread, and what it starts from here on, to a network of its own that has
/// nothing but loopback.
///
/// # Errors
/// Not allowed, or no `ip` here.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .context("a network namespace needs root; leave the option out")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let up = up.context("starting ip (package iproute2)")?;
    ensure!(up.success(), "ip link set lo up: {up}");
    fs::write("/proc/sys/net/core/somaxconn", "65535").context("raising net.core.somaxconn")?;
    println!("network: a namespace of its own, net.core.somaxconn 65535");
    Ok(())
}
