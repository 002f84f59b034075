//! HTTP: routes, what each connection runs, and the accounting around the SDK's service.
//!
//! Owns /mcp, /health and /metrics. The protocol on /mcp is the SDK's.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService,
    streamable_http_server::session::SessionManager,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    answers,
    call::{self, Mark},
    cli::{Options, SessionKind},
    clock::Tick,
    handler::Handler,
    metrics::{Carrier, Metrics, Outcome, method_label},
};

/// Builds the SDK's service on `sessions`. `closing` ends every session and every answer at once.
pub fn mcp_service<M: SessionManager>(
    options: &Options,
    handler: Handler,
    sessions: Arc<M>,
    closing: CancellationToken,
) -> StreamableHttpService<Handler, M> {
    // Any Host is served: the stack's clients come by service name, task address or balancer, and
    // the tools read nothing that a rebound browser page could not have without the server.
    let mut config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(!options.stateless)
        .with_json_response(options.json_response)
        .with_cancellation_token(closing)
        .disable_allowed_hosts();
    if options.sessions == SessionKind::Lean {
        // A priming event promises that the stream can be resumed.
        config = config.with_sse_retry(None);
    }
    StreamableHttpService::new(move || Ok(handler.clone()), sessions, config)
}

struct App<M> {
    mcp: StreamableHttpService<Handler, M>,
    form: AnswerForm,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

/// What a sessions-era answer looks like on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// As the SDK gives it: head at once, events as they come.
    AsGiven,
    /// Head and first event together.
    OnePiece,
    /// JSON where it is one message.
    Json,
}

impl AnswerForm {
    /// The form that the options ask for.
    pub fn of(options: &Options) -> Self {
        match (options.json_response, options.sessions) {
            (true, _) => Self::Json,
            (false, SessionKind::Lean) => Self::OnePiece,
            (false, SessionKind::Sdk) => Self::AsGiven,
        }
    }
}

impl<M> Clone for App<M> {
    fn clone(&self) -> Self {
        Self {
            mcp: self.mcp.clone(),
            form: self.form,
            metrics: self.metrics.clone(),
            stopping: self.stopping.clone(),
        }
    }
}

/// The routes of the main port.
pub fn main_routes<M: SessionManager>(
    mcp: StreamableHttpService<Handler, M>,
    form: AnswerForm,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) -> Router {
    let app = App { mcp, form, metrics, stopping };
    Router::new().route("/mcp", any(serve_mcp)).route("/health", get(health)).with_state(app)
}

/// The routes of the metrics port.
pub fn metrics_routes(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(exposition)).with_state(metrics)
}

async fn serve_mcp<M: SessionManager>(
    State(app): State<App<M>>,
    mut request: Request<Body>,
) -> Response {
    let arrived = Tick::now();
    let label = label_by_head(request.method(), request.headers());
    let mark = Mark::default();
    request.extensions_mut().insert(mark.clone());
    let (response, note) = call::observe(app.mcp.handle(request)).await;
    if note.session_limit {
        let took = arrived.elapsed();
        app.metrics.request(Carrier::Http, "initialize", Outcome::SessionLimit, took);
        return session_limit_response();
    }
    if !note.recorded {
        let label = note.method.unwrap_or(label);
        let outcome = mark.failure().unwrap_or_else(|| outcome_by_status(response.status()));
        app.metrics.request(Carrier::Http, label, outcome, arrived.elapsed());
    }
    let response = response.map(Body::new);
    // The stateless era knows its first message before its head: the SDK chooses the form itself.
    if !note.recorded || !answers::is_sse(&response) {
        return response;
    }
    match app.form {
        AnswerForm::AsGiven => response,
        AnswerForm::OnePiece => answers::in_one_piece(response).await,
        AnswerForm::Json => answers::as_json(response).await,
    }
}

/// The method as far as the head tells it: exact in the stateless era, where a header names it.
fn label_by_head(method: &Method, headers: &HeaderMap) -> &'static str {
    match *method {
        Method::POST => headers
            .get("mcp-method")
            .and_then(|value| value.to_str().ok())
            .map_or("other", method_label),
        Method::GET => "GET",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn outcome_by_status(status: StatusCode) -> Outcome {
    match status.as_u16() {
        0..400 => Outcome::Ok,
        400..500 => Outcome::ClientError,
        _ => Outcome::ServerError,
    }
}

fn session_limit_response() -> Response {
    let text = "Service Unavailable: session limit reached (--max-sessions)";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
}

async fn health<M>(State(app): State<App<M>>) -> Response {
    let stopping = app.stopping.is_cancelled();
    let status = if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({
        "status": if stopping { "stopping" } else { "ok" },
        "uptime_s": app.metrics.uptime().as_secs_f64(),
        "sessions": app.metrics.sessions_open(),
        "connections": {
            "http": app.metrics.connections_open(Carrier::Http),
            "tcp": app.metrics.connections_open(Carrier::Tcp),
        },
    });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, FORMAT)], metrics.text()).into_response()
}

/// Serves one connection until the peer closes it, or until `stop` is cancelled and the request in
/// flight is answered.
pub async fn serve_connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(routes);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection's errors are its peer's business: resets and half requests are ordinary.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
