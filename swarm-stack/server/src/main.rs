//! The program: options, limits, runtime, server, exit code.

#![forbid(unsafe_code)]

use anyhow::Context as _;
use clap::Parser as _;
use erlmcp_server::{cli::Options, limits, logging, server};

/// Sessions come and go by the thousand: this allocator gives their memory back, so that the
/// resident memory an operator sees follows the sessions. It is built without huge pages
/// (`no_thp`): with them a session takes 55 KiB rather than 40.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    logging::start(options.log);
    match limits::raise_nofile() {
        Ok(limit) => tracing::info!("up to {} descriptors", limit.soft),
        Err(error) => tracing::warn!("{error}"),
    }
    let runtime = runtime(options.workers).context("cannot start the runtime")?;
    runtime.block_on(server::run(options))
}

/// One worker is a runtime without threads: no locks are contended and no wake-up is a system call.
fn runtime(workers: u16) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.into()).enable_all().build()
}
