//! The lean session manager: sessions without resumption, at a fraction of the memory.
//!
//! Owns the table of sessions and their idle time. A session here is a mutex and a waker where the
//! SDK's own manager runs a second task and five channels for it; streams carry no event ids,
//! because there is nothing to resume from (2025-11-25, "Resumability and Redelivery": a MAY).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::{Stream, stream};
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{ServerSseMessage, SessionId, SessionManager},
};

use super::{
    Book, LimitReached,
    session::{Refused, Session, SessionTransport},
    watch::{Answer, Standalone, Watch},
};

/// The manager; see the module.
pub struct LeanSessions {
    table: RwLock<HashMap<SessionId, Arc<Session>>>,
    book: Book,
}

/// Why a session operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LeanError {
    /// No session may be added.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The session is unknown, or ended meanwhile.
    #[error("session not found")]
    NotFound,
    /// The session took no message.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Events are not kept.
    #[error("streams of this server cannot be resumed")]
    NotResumable,
}

impl LeanSessions {
    /// No sessions yet.
    pub fn new(book: Book) -> Self {
        Self { table: RwLock::default(), book }
    }

    /// Ends sessions that were idle for `limit`, for ever. An open stream is not idle: keep-alive
    /// comments find out a client that vanished, and then the stream ends.
    pub async fn expire(self: Arc<Self>, limit: Duration) {
        let pause = (limit / 10).clamp(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            tokio::time::sleep(pause).await;
            for id in self.idle_since(limit) {
                self.end(&id);
            }
        }
    }

    /// Ends all standalone streams; the sessions go on.
    pub fn end_streams(&self) {
        for session in self.table.read().unwrap_or_else(PoisonError::into_inner).values() {
            session.close_standalone();
        }
    }

    fn idle_since(&self, limit: Duration) -> Vec<SessionId> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let idle = |session: &Session| session.idle().is_some_and(|idle| idle >= limit);
        table.iter().filter(|(_, session)| idle(session)).map(|(id, _)| id.clone()).collect()
    }

    fn end(&self, id: &SessionId) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let ended = table.remove(id);
        // A burst of sessions must not hold its table for ever.
        if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
            let keep = table.len() * 2;
            table.shrink_to(keep);
        }
        drop(table);
        // DELETE, the idle limit and the end of the service all come here: the first one counts.
        if let Some(session) = ended {
            self.book.close();
            session.close();
        }
    }

    fn find(&self, id: &SessionId) -> Result<Arc<Session>, LeanError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(id).cloned().ok_or(LeanError::NotFound)
    }
}

impl SessionManager for LeanSessions {
    type Error = LeanError;
    type Transport = SessionTransport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.book.open()?;
        let id: SessionId = uuid::Uuid::new_v4().to_string().into();
        let (session, transport) = Session::new();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(id.clone(), session);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let mut watch = Watch::start(self.book.metrics.clone(), &message);
        let answer = self.find(id)?.initialize(message)?;
        let answer = answer.await.map_err(|_| LeanError::NotFound)?;
        watch.see(&answer);
        Ok(answer)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.table.read().unwrap_or_else(PoisonError::into_inner).contains_key(id))
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.end(id);
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let watch = Watch::start(self.book.metrics.clone(), &message);
        Ok(Answer::new(self.find(id)?.request(message)?, watch))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        super::watch::note_accepted(&message);
        Ok(self.find(id)?.notify(message)?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let events = self.find(id)?.open_standalone()?;
        Ok(Standalone::new(events, &self.book.metrics))
    }

    async fn resume(
        &self,
        _id: &SessionId,
        _last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Err::<stream::Empty<_>, _>(LeanError::NotResumable)
    }
}
