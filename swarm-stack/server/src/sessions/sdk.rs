//! The SDK's own session manager with the limit and the counters.
//!
//! Owns nothing of a session: messages, streams, resumption and idle time are the SDK's.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{
        ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    Book, LimitReached,
    watch::{Answer, Standalone, Watch, note_accepted},
};

/// The manager; see the module.
pub struct SdkSessions {
    inner: LocalSessionManager,
    book: Book,
    stopping: CancellationToken,
}

/// Why a session operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// No session may be added.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The SDK's own error.
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl SdkSessions {
    /// No sessions yet; each ends after `idle` without a message. Standalone streams end once
    /// `stopping` is cancelled.
    pub fn new(book: Book, idle: Option<Duration>, stopping: CancellationToken) -> Self {
        let mut inner = LocalSessionManager::default();
        inner.session_config.keep_alive = idle;
        Self { inner, book, stopping }
    }
}

impl SessionManager for SdkSessions {
    type Error = SdkError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.book.open()?;
        self.inner.create_session().await.map_err(|error| {
            self.book.close();
            error.into()
        })
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let mut watch = Watch::start(self.book.metrics.clone(), &message);
        let answer = self.inner.initialize_session(id, message).await?;
        watch.see(&answer);
        Ok(answer)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.inner.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        // DELETE and the end of the session's task both come here: only the first finds it.
        let Some(handle) = self.inner.sessions.write().await.remove(id) else { return Ok(()) };
        self.book.close();
        // An error means that the session's task has ended already, which is what is wanted.
        let _ = handle.close().await;
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let watch = Watch::start(self.book.metrics.clone(), &message);
        let events = self.inner.create_stream(id, message).await?;
        Ok(Answer::new(Box::pin(events), watch))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        note_accepted(&message);
        Ok(self.inner.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let events = self.inner.create_standalone_stream(id).await?;
        let events = Box::pin(events.take_until(self.stopping.clone().cancelled_owned()));
        Ok(Standalone::new(events, &self.book.metrics))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.inner.resume(id, last_event_id).await?)
    }
}
