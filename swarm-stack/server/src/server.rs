//! The server's life: listeners, connections, and the orderly end.
//!
//! Owns the order of things. It must not know protocols.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::{Options, SessionKind},
    handler::Handler,
    lines,
    listen::{accept_until, listen},
    metrics::{Carrier, Metrics},
    sessions::{Book, lean::LeanSessions, sdk::SdkSessions},
    web::{self, AnswerForm},
};

/// How long sessions may take to end once they are told to.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Runs the server until a signal ends it.
///
/// # Errors
/// A listener that cannot be made; nothing later is fatal.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let at = |port| SocketAddr::new(options.bind, port);
    let http = listen("HTTP", "--port", at(options.port), options.backlog)?;
    let tcp = listen("TCP", "--tcp-port", at(options.tcp_port), options.backlog)?;
    let scrape =
        listen("metrics", "--metrics-port", at(options.metrics_port), options.backlog.min(128))?;
    let (http_at, tcp_at, scrape_at) =
        (http.local_addr()?, tcp.local_addr()?, scrape.local_addr()?);

    let stop = Stop::default();
    let metrics = Metrics::new();
    let handler = Handler::new(metrics.clone(), stop.streams.clone());
    let routes = routes(&options, &metrics, &handler, &stop);
    let tracker = TaskTracker::new();

    let counted = Counted { tracker: tracker.clone(), metrics: metrics.clone() };
    let connections = stop.connections.clone();
    accept(http, &stop, &metrics, move |stream| {
        let connection = web::serve_connection(stream, routes.clone(), connections.clone());
        counted.spawn(Carrier::Http, connection);
    });
    let counted = Counted { tracker: tracker.clone(), metrics: metrics.clone() };
    let connections = stop.connections.clone();
    let shared = metrics.clone();
    accept(tcp, &stop, &metrics, move |stream| {
        let (handler, metrics) = (handler.clone(), shared.clone());
        let connection = lines::serve_connection(stream, handler, metrics, connections.clone());
        counted.spawn(Carrier::Tcp, connection);
    });
    let routes = web::metrics_routes(metrics.clone());
    let connections = stop.connections.clone();
    accept(scrape, &stop, &metrics, move |stream| {
        tokio::spawn(web::serve_connection(stream, routes.clone(), connections.clone()));
    });
    tracing::info!(
        "listening: http://{http_at}/mcp http://{http_at}/health tcp://{tcp_at} \
         http://{scrape_at}/metrics"
    );

    let name = signals.next().await;
    tracing::info!("{name}: stopping, requests in flight have {} s", options.grace);
    end(&options, &stop, &tracker, &metrics, &mut signals).await;
    Ok(())
}

/// Connections that are counted, and waited for at the end.
struct Counted {
    tracker: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Counted {
    fn spawn(&self, carrier: Carrier, connection: impl Future<Output = ()> + Send + 'static) {
        let open = self.metrics.connection_opened(carrier);
        self.tracker.spawn(async move {
            connection.await;
            drop(open);
        });
    }
}

/// Accepts on `listener` in a task of its own until the listeners are to close.
fn accept(
    listener: TcpListener,
    stop: &Stop,
    metrics: &Arc<Metrics>,
    serve: impl FnMut(TcpStream) + Send + 'static,
) {
    let (stop, metrics) = (stop.listeners.clone(), metrics.clone());
    tokio::spawn(async move { accept_until(listener, stop, &metrics, serve).await });
}

/// The routes of the main port, on the sessions that the options ask for.
fn routes(
    options: &Options,
    metrics: &Arc<Metrics>,
    handler: &Handler,
    stop: &Stop,
) -> axum::Router {
    let book = Book::new(metrics.clone(), options.max_sessions);
    let form = AnswerForm::of(options);
    let (health, closing) = (stop.health.clone(), stop.sessions.clone());
    match options.sessions {
        SessionKind::Sdk => {
            let sessions = SdkSessions::new(book, options.session_ttl(), stop.streams.clone());
            let mcp = web::mcp_service(options, handler.clone(), Arc::new(sessions), closing);
            web::main_routes(mcp, form, metrics.clone(), health)
        }
        SessionKind::Lean => {
            let sessions = Arc::new(LeanSessions::new(book));
            if let Some(limit) = options.session_ttl() {
                tokio::spawn(sessions.clone().expire(limit));
            }
            let (streams, ending) = (stop.streams.clone(), sessions.clone());
            tokio::spawn(async move {
                streams.cancelled().await;
                ending.end_streams();
            });
            let mcp = web::mcp_service(options, handler.clone(), sessions, closing);
            web::main_routes(mcp, form, metrics.clone(), health)
        }
    }
}

/// The stages of the end, in their order.
#[derive(Debug, Clone, Default)]
struct Stop {
    /// /health answers 503.
    health: CancellationToken,
    /// No more connections are accepted.
    listeners: CancellationToken,
    /// GET streams and subscriptions end.
    streams: CancellationToken,
    /// A connection ends after the request that it is serving.
    connections: CancellationToken,
    /// Sessions and unanswered requests end.
    sessions: CancellationToken,
}

async fn end(
    options: &Options,
    stop: &Stop,
    tracker: &TaskTracker,
    metrics: &Arc<Metrics>,
    signals: &mut Signals,
) {
    stop.health.cancel();
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(options.drain)) => {}
        _ = signals.next() => {}
    }
    stop.listeners.cancel();
    stop.streams.cancel();
    stop.connections.cancel();
    tracker.close();
    let finished = tokio::select! {
        () = tracker.wait() => true,
        () = tokio::time::sleep(Duration::from_secs(options.grace)) => false,
        _ = signals.next() => false,
    };
    stop.sessions.cancel();
    let close = async {
        while metrics.sessions_open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIME, close).await;
    let (http, tcp) =
        (metrics.connections_open(Carrier::Http), metrics.connections_open(Carrier::Tcp));
    if finished {
        tracing::info!("stopped: all requests were answered");
    } else {
        tracing::warn!("stopped: {http} HTTP and {tcp} TCP connections were cut off");
    }
}

/// SIGTERM and SIGINT, caught from construction on: as PID 1 neither has a default action.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
