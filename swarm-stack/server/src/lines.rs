//! Newline-delimited JSON-RPC over TCP: the SDK's stdio framing on a socket.
//!
//! Owns the life of such a connection. Framing and protocol are the SDK's.

use std::{borrow::Cow, sync::Arc};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, Service,
    model::{ClientNotification, ClientRequest, ProtocolVersion, ServerConfig, ServerResult},
    serve_server,
    service::{NotificationContext, RequestContext},
    transport::async_rw::AsyncRwTransport,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    call,
    clock::Tick,
    handler::Handler,
    metrics::{Carrier, InFlight, Metrics, Outcome, method_label},
};

/// Longest line accepted, in bytes; longer ones are dropped and logged. It equals the SDK's bound
/// on an HTTP body.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Serves one connection until the peer closes it, or until `stop` is cancelled and its requests
/// are answered.
pub async fn serve_connection(
    stream: TcpStream,
    handler: Handler,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let in_flight = Arc::new(InFlight::default());
    let service = Metered { handler, metrics, in_flight: in_flight.clone() };
    let (read, write) = stream.into_split();
    let transport = AsyncRwTransport::new(read, write).with_max_line_length(LINE_BYTES_MAX);
    let started = tokio::select! {
        started = serve_server(service, transport) => started,
        () = stop.cancelled() => return,
    };
    // A peer that leaves before, or without, a handshake is ordinary.
    let Ok(running) = started else { return };
    let cancel = running.cancellation_token();
    let mut ended = std::pin::pin!(running.waiting());
    tokio::select! {
        _ = ended.as_mut() => return,
        () = stop.cancelled() => {}
    }
    while in_flight.count() > 0 {
        tokio::select! {
            _ = ended.as_mut() => return,
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
        }
    }
    cancel.cancel();
    let _ = ended.await;
}

/// The handler with each request counted.
struct Metered {
    handler: Handler,
    metrics: Arc<Metrics>,
    in_flight: Arc<InFlight>,
}

impl Service<RoleServer> for Metered {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let _entered = self.in_flight.enter();
        let arrived = Tick::now();
        let method = method_label(request.method());
        let result = self.handler.handle_request(request, context).await;
        let outcome = result.as_ref().map_or(Outcome::RpcError, call::outcome_of_result);
        self.metrics.request(Carrier::Tcp, method, outcome, arrived.elapsed());
        result
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.handler.handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        ServerHandler::get_info(&self.handler)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        ServerHandler::supported_protocol_versions(&self.handler)
    }
}
