//! Sessions of the sessions era: the SDK's local session manager with a limit and with counters.
//!
//! Owns how many sessions there may be, and when one is counted as created and closed. Messages
//! and streams are the SDK's; this file only watches them pass.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{
        ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    call,
    clock::Tick,
    metrics::{Carrier, Metrics, Outcome, method_label},
};

/// A session manager that counts.
pub struct Sessions {
    inner: LocalSessionManager,
    metrics: Arc<Metrics>,
    max_open: usize,
    stopping: CancellationToken,
}

/// Why a session operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// `--max-sessions` sessions are open.
    #[error("session limit of {0} reached")]
    Limit(usize),
    /// The SDK's own error.
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl Sessions {
    /// No sessions yet; at most `max_open` (0: no limit), each ended after `idle` without a message.
    ///
    /// Streams end once `stopping` is cancelled.
    pub fn new(
        metrics: Arc<Metrics>,
        max_open: usize,
        idle: Option<Duration>,
        stopping: CancellationToken,
    ) -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = idle;
        Self { inner, metrics, max_open, stopping }
    }
}

impl SessionManager for Sessions {
    type Error = SessionsError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let open = usize::try_from(self.metrics.sessions_open()).unwrap_or(0);
        if self.max_open > 0 && open >= self.max_open {
            call::note_session_limit();
            return Err(SessionsError::Limit(self.max_open));
        }
        self.metrics.session_created();
        self.inner.create_session().await.map_err(|error| {
            self.metrics.session_closed();
            error.into()
        })
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let arrived = Tick::now();
        let answer = self.inner.initialize_session(id, message).await?;
        call::note_recorded();
        let outcome = call::outcome_of(&answer).unwrap_or(Outcome::RpcError);
        self.metrics.request(Carrier::Http, "initialize", outcome, arrived.elapsed());
        Ok(answer)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.inner.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        // DELETE and the end of the session's task both come here: only the first finds it.
        let Some(handle) = self.inner.sessions.write().await.remove(id) else { return Ok(()) };
        self.metrics.session_closed();
        // An error means that the session's task has ended already, which is what is wanted.
        let _ = handle.close().await;
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let method = match &message {
            ClientJsonRpcMessage::Request(request) => method_label(request.request.method()),
            _ => "other",
        };
        let watch = Watch::new(self.metrics.clone(), method);
        call::note_recorded();
        let stream = self.inner.create_stream(id, message).await?;
        Ok(watch.over(stream))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        Ok(self.inner.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.create_standalone_stream(id).await?;
        let open = self.metrics.stream_opened();
        let stopping = self.stopping.clone();
        Ok(stream
            .inspect(move |_| {
                let _ = &open;
            })
            .take_until(stopping.cancelled_owned()))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.inner.resume(id, last_event_id).await?)
    }
}

/// Records a request when its answer passes, or when its stream is dropped without one.
struct Watch {
    metrics: Arc<Metrics>,
    method: &'static str,
    arrived: Tick,
    answered: bool,
}

impl Watch {
    fn new(metrics: Arc<Metrics>, method: &'static str) -> Self {
        Self { metrics, method, arrived: Tick::now(), answered: false }
    }

    fn over(
        mut self,
        stream: impl Stream<Item = ServerSseMessage> + Send + Sync + 'static,
    ) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static {
        stream.inspect(move |event| {
            if let Some(outcome) = event.message.as_deref().and_then(call::outcome_of) {
                self.record(outcome);
            }
        })
    }

    fn record(&mut self, outcome: Outcome) {
        self.answered = true;
        self.metrics.request(Carrier::Http, self.method, outcome, self.arrived.elapsed());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.answered {
            self.record(Outcome::Abandoned);
        }
    }
}
