//! Starts the process's threads, says when it listens, ends on a signal.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::options::Options;
use super::serve;
use super::stats::Count;
use super::sweep;
use super::worker::{Bound, Protocol, Shared, Worker};
use crate::clock;
use crate::net::{self, ListenOptions, Listener};

/// Accepts waiting in one ring for each listener: a burst is taken in one turn of the loop.
const ACCEPTORS: usize = 16;
/// Pause after a failed accept: at the descriptor limit the next one would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How far a paced accept may lag behind its schedule and still catch up.
const CATCH_UP_NS: u64 = 10_000_000;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An address that cannot be bound, or a kernel without io_uring.
pub fn run(options: Options) -> Result<()> {
    let signals = block_signals()?;
    raise_descriptor_limit();
    net::probe().context(
        "the kernel gives no io_uring; see sysctl kernel.io_uring_disabled and the seccomp profile",
    )?;
    let shared = Shared::new(options);
    let mut announced = Vec::new();
    for index in 0..usize::from(shared.options.threads) {
        // Ports of later threads follow the first thread's, which the kernel may have chosen.
        let bound = bind_all(&shared.options, &announced)?;
        announced = bound.iter().map(|bound| (bound.addr, bound.protocol)).collect();
        spawn_thread(&shared, index, bound)?;
    }
    announce(&announced)?;
    signals.wait().context("sigwait")?;
    if shared.options.json_stats {
        say(&serde_json::Value::Object(shared.stats()).to_string())?;
    }
    Ok(())
}

/// Blocks the signals that end the process, for this thread and all that follow.
pub(super) fn block_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

/// Raises the soft limit to the hard one; a lower limit shows as accept errors.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn bind_all(options: &Options, earlier: &[(SocketAddr, Protocol)]) -> Result<Vec<Bound>> {
    let http = options.listen.iter().map(|&addr| (addr, Protocol::Http));
    let lines = options.tcp.iter().map(|&addr| (addr, Protocol::Lines));
    let asked: Vec<(SocketAddr, Protocol)> = http.chain(lines).collect();
    let wanted = if earlier.is_empty() { &asked } else { earlier };
    let listen = ListenOptions {
        reset_on_close: options.faults.reset_share > 0.0,
        share_port: options.threads > 1,
    };
    wanted
        .iter()
        .map(|&(addr, protocol)| {
            let listener =
                net::bind(addr, listen).with_context(|| format!("listening on {addr}"))?;
            let addr = listener.local_addr()?;
            Ok(Bound { listener, protocol, addr })
        })
        .collect()
}

fn announce(addresses: &[(SocketAddr, Protocol)]) -> Result<()> {
    let mut line = String::from("ready");
    for (addr, protocol) in addresses {
        let scheme = match protocol {
            Protocol::Http => "http",
            Protocol::Lines => "tcp",
        };
        line.push_str(&format!(" {scheme}://{addr}"));
    }
    say(&line)
}

/// Prints a line at once: whoever started this program waits for it.
pub(super) fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("writing to stdout")
}

fn spawn_thread(shared: &Arc<Shared>, index: usize, bound: Vec<Bound>) -> Result<()> {
    let shared = Arc::clone(shared);
    let body = move || {
        let served = net::run(async move {
            let worker = Worker::new(shared, index);
            for bound in bound {
                listen(&worker, bound);
            }
            if sweep::is_wanted(&worker.shared.options) {
                net::spawn(sweep::run(Rc::clone(&worker)));
            }
            // The process ends with its main thread.
            std::future::pending::<()>().await;
        });
        if let Err(error) = served {
            eprintln!("fast-target: thread {index} has no ring: {error}");
        }
    };
    thread::Builder::new()
        .name(format!("target-{index}"))
        .spawn(body)
        .context("starting a thread")?;
    Ok(())
}

fn listen(worker: &Rc<Worker>, bound: Bound) {
    let faults = &worker.shared.options.faults;
    let listener = Rc::new(Listener::new(bound.listener));
    if faults.accept_never {
        // The listener stays open, or the kernel would refuse connections.
        net::spawn(async move {
            let _held = listener;
            std::future::pending::<()>().await;
        });
        return;
    }
    let (acceptors, gap_ns) = match faults.slow_accept {
        Some(rate_per_s) => (1, (clock::SECOND_NS as f64 / rate_per_s) as u64),
        None => (ACCEPTORS, 0),
    };
    for _ in 0..acceptors {
        net::spawn(accept(Rc::clone(worker), Rc::clone(&listener), bound.protocol, gap_ns));
    }
}

/// Accepts for ever, at most one connection each `gap_ns` on average.
async fn accept(worker: Rc<Worker>, listener: Rc<Listener>, protocol: Protocol, gap_ns: u64) {
    let mut due_ns = clock::now_ns();
    loop {
        match listener.accept().await {
            Ok(conn) => {
                worker.counters().add(Count::Accepted, 1);
                worker.count_open();
                net::spawn(serve::connection(Rc::clone(&worker), conn, protocol));
            }
            Err(_) => {
                worker.counters().add(Count::AcceptErrors, 1);
                net::sleep(ACCEPT_PAUSE).await;
            }
        }
        if gap_ns > 0 {
            // A schedule, not a pause: waking a little late does not lower the rate.
            let now_ns = clock::now_ns();
            due_ns = due_ns.max(now_ns.saturating_sub(CATCH_UP_NS)) + gap_ns;
            net::sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns))).await;
        }
    }
}
