//! One lean session: an inbox towards the SDK's service, and routes from it to open answers.
//!
//! Owns which HTTP stream a message of the server belongs to. It must not know HTTP, or what the
//! messages mean beyond their ids.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use rmcp::{
    RoleServer,
    model::{
        ClientJsonRpcMessage, ClientNotification, GetExtensions as _, GetMeta as _, ProgressToken,
        RequestId, ServerJsonRpcMessage, ServerNotification,
    },
    service::OriginatingRequestId,
    transport::{Transport, streamable_http_server::session::ServerSseMessage},
};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Tick;

/// Messages that one stream holds for a client that does not read; further ones are dropped, which
/// bounds a session's memory. An answer is one message.
const STREAM_MESSAGES_MAX: usize = 16;
/// Messages from the client that wait for the service; further ones are refused.
const INBOX_MESSAGES_MAX: usize = 64;

/// A session, shared by the manager and by the transport that the service reads.
pub struct Session(Mutex<State>);

struct State {
    /// Boxed: an inbox is empty nearly always, and its capacity outlives its messages.
    inbox: VecDeque<Box<ClientJsonRpcMessage>>,
    service: Option<Waker>,
    waiting: Vec<Waiting>,
    standalone: Option<mpsc::Sender<ServerSseMessage>>,
    used: Tick,
    closed: bool,
}

/// A request of the client that has no answer yet.
struct Waiting {
    id: RequestId,
    progress: Option<ProgressToken>,
    to: Destination,
}

enum Destination {
    /// `initialize`: its answer decides over the HTTP head.
    Head(oneshot::Sender<ServerJsonRpcMessage>),
    Stream(mpsc::Sender<ServerSseMessage>),
}

/// Why a session took no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has ended.
    #[error("the session has ended")]
    Closed,
    /// [`INBOX_MESSAGES_MAX`] messages wait already.
    #[error("{INBOX_MESSAGES_MAX} messages of this session are waiting")]
    Full,
}

impl Session {
    /// An open session and what the SDK's service reads and writes.
    pub fn new() -> (Arc<Self>, SessionTransport) {
        let session = Arc::new(Self(Mutex::new(State {
            inbox: VecDeque::new(),
            service: None,
            waiting: Vec::new(),
            standalone: None,
            used: Tick::now(),
            closed: false,
        })));
        (session.clone(), SessionTransport(session))
    }

    /// Passes `initialize` on; the receiver gets its answer, or an error if the session ends first.
    ///
    /// # Errors
    /// [`Refused::Closed`] where the session has ended.
    pub fn initialize(
        &self,
        message: ClientJsonRpcMessage,
    ) -> Result<oneshot::Receiver<ServerJsonRpcMessage>, Refused> {
        let (to, answer) = oneshot::channel();
        self.state().push(message, Some(Destination::Head(to)))?;
        Ok(answer)
    }

    /// Passes a request on; the events lead up to, and end with, its answer.
    ///
    /// # Errors
    /// [`Refused`], with nothing passed on.
    pub fn request(&self, message: ClientJsonRpcMessage) -> Result<Events, Refused> {
        let (to, events) = mpsc::channel(STREAM_MESSAGES_MAX);
        self.state().push(message, Some(Destination::Stream(to)))?;
        Ok(Events(events))
    }

    /// Passes on what needs no answer.
    ///
    /// # Errors
    /// [`Refused`], with nothing passed on.
    pub fn notify(&self, message: ClientJsonRpcMessage) -> Result<(), Refused> {
        let mut state = self.state();
        let cancelled = cancelled_request(&message).cloned();
        state.push(message, None)?;
        // The service answers a cancelled request with nothing: its stream ends here.
        if let Some(id) = cancelled {
            state.waiting.retain(|waiting| waiting.id != id);
        }
        Ok(())
    }

    /// Opens the stream for messages that belong to no request. An older one ends.
    ///
    /// # Errors
    /// [`Refused::Closed`] where the session has ended.
    pub fn open_standalone(&self) -> Result<Events, Refused> {
        let (to, events) = mpsc::channel(STREAM_MESSAGES_MAX);
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        state.used = Tick::now();
        state.standalone = Some(to);
        Ok(Events(events))
    }

    /// Ends the standalone stream, if there is one.
    pub fn close_standalone(&self) {
        self.state().standalone = None;
    }

    /// Ends the session: its streams end, and the service reads the end of its input.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.inbox.clear();
        state.waiting.clear();
        state.standalone = None;
        let service = state.service.take();
        drop(state);
        if let Some(waker) = service {
            waker.wake();
        }
    }

    /// Time since the last message of the client; `None` while an answer or a stream is open.
    pub fn idle(&self) -> Option<std::time::Duration> {
        let state = self.state();
        let streaming = state.standalone.as_ref().is_some_and(|to| !to.is_closed());
        (!streaming && state.waiting.is_empty()).then(|| state.used.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two writes of the state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(
        &mut self,
        message: ClientJsonRpcMessage,
        answer_to: Option<Destination>,
    ) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.inbox.len() >= INBOX_MESSAGES_MAX {
            return Err(Refused::Full);
        }
        if let (ClientJsonRpcMessage::Request(request), Some(to)) = (&message, answer_to) {
            let progress = request.request.get_meta().get_progress_token();
            self.waiting.push(Waiting { id: request.id.clone(), progress, to });
        }
        self.used = Tick::now();
        self.inbox.push_back(Box::new(message));
        if let Some(waker) = self.service.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Routes a message of the server. What nobody listens for is dropped: the client left.
    fn route(&mut self, message: ServerJsonRpcMessage) {
        if let Some(id) = answered_request(&message) {
            let Some(at) = self.waiting.iter().position(|waiting| waiting.id == *id) else {
                return;
            };
            match self.waiting.swap_remove(at).to {
                Destination::Head(to) => drop(to.send(message)),
                Destination::Stream(to) => deliver(&to, message),
            }
            return;
        }
        let waiting = self.waiting.iter().find(|waiting| belongs(&message, waiting));
        match waiting.map(|waiting| &waiting.to) {
            Some(Destination::Stream(to)) => deliver(to, message),
            // Nothing can precede the answer to `initialize`, whose HTTP head waits for it.
            Some(Destination::Head(_)) => {}
            None => {
                if let Some(to) = &self.standalone {
                    deliver(to, message);
                }
            }
        }
    }
}

fn deliver(to: &mpsc::Sender<ServerSseMessage>, message: ServerJsonRpcMessage) {
    if let Err(mpsc::error::TrySendError::Full(_)) =
        to.try_send(ServerSseMessage::from_message(message))
    {
        tracing::debug!("a client reads too slowly: message dropped");
    }
}

/// The request that `message` answers.
fn answered_request(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ServerJsonRpcMessage::Response(response) => Some(&response.id),
        ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
        ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
    }
}

/// Whether a notification or a request of the server rides on the stream of `waiting`: progress by
/// its token, cancellation by its request, a server's request by its origin.
fn belongs(message: &ServerJsonRpcMessage, waiting: &Waiting) -> bool {
    match message {
        ServerJsonRpcMessage::Request(request) => request
            .request
            .extensions()
            .get::<OriginatingRequestId>()
            .is_some_and(|origin| origin.0 == waiting.id),
        ServerJsonRpcMessage::Notification(notification) => match &notification.notification {
            ServerNotification::ProgressNotification(progress) => {
                waiting.progress.as_ref() == Some(&progress.params.progress_token)
            }
            ServerNotification::CancelledNotification(cancelled) => {
                cancelled.params.request_id.as_ref() == Some(&waiting.id)
            }
            _ => false,
        },
        ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_) => false,
    }
}

/// The request that a client's message cancels.
fn cancelled_request(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ClientJsonRpcMessage::Notification(notification) => match &notification.notification {
            ClientNotification::CancelledNotification(cancelled) => {
                cancelled.params.request_id.as_ref()
            }
            _ => None,
        },
        _ => None,
    }
}

/// Events of one HTTP stream; they end when the session drops its side.
pub struct Events(mpsc::Receiver<ServerSseMessage>);

impl Stream for Events {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// The service's end of a session.
pub struct SessionTransport(Arc<Session>);

impl Transport<RoleServer> for SessionTransport {
    type Error = Infallible;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.0.state().route(message);
        std::future::ready(Ok(()))
    }

    /// The next message of the client, `None` once the session has ended. Cancelling the future
    /// loses nothing: a message leaves the inbox only as its result.
    fn receive(&mut self) -> impl Future<Output = Option<ClientJsonRpcMessage>> + Send {
        std::future::poll_fn(|context| {
            let mut state = self.0.state();
            if let Some(message) = state.inbox.pop_front() {
                return Poll::Ready(Some(*message));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.service = Some(context.waker().clone());
            Poll::Pending
        })
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.0.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use serde_json::{Value, json};

    use super::*;

    fn client(message: Value) -> ClientJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    fn server(message: Value) -> ServerJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    fn ping(id: u64) -> ClientJsonRpcMessage {
        let meta = json!({"progressToken": id + 100});
        client(json!({"jsonrpc": "2.0", "id": id, "method": "ping", "params": {"_meta": meta}}))
    }

    fn answer(id: u64) -> ServerJsonRpcMessage {
        server(json!({"jsonrpc": "2.0", "id": id, "result": {}}))
    }

    fn progress(token: u64) -> ServerJsonRpcMessage {
        let params = json!({"progressToken": token, "progress": 1.0});
        let method = "notifications/progress";
        server(json!({"jsonrpc": "2.0", "method": method, "params": params}))
    }

    /// What is ready on a stream, and whether the stream has ended.
    fn drain(events: &mut Events) -> (Vec<Value>, bool) {
        let mut ready = Vec::new();
        loop {
            match events.next().now_or_never() {
                Some(Some(event)) => {
                    ready.push(serde_json::to_value(event.message.unwrap()).unwrap());
                }
                Some(None) => return (ready, true),
                None => return (ready, false),
            }
        }
    }

    async fn send(transport: &mut SessionTransport, message: ServerJsonRpcMessage) {
        transport.send(message).await.unwrap();
    }

    #[tokio::test]
    async fn each_answer_ends_its_own_stream() {
        let (session, mut service) = Session::new();
        let mut first = session.request(ping(1)).unwrap();
        let mut second = session.request(ping(2)).unwrap();
        send(&mut service, answer(2)).await;
        let (messages, ended) = drain(&mut second);
        assert_eq!((messages[0]["id"].as_u64(), messages.len(), ended), (Some(2), 1, true));
        assert_eq!(drain(&mut first), (vec![], false));
        send(&mut service, answer(1)).await;
        assert!(drain(&mut first).1);
    }

    #[tokio::test]
    async fn progress_rides_with_its_request_and_the_rest_on_the_standalone_stream() {
        let (session, mut service) = Session::new();
        let mut events = session.request(ping(1)).unwrap();
        let mut standalone = session.open_standalone().unwrap();
        send(&mut service, progress(101)).await;
        send(&mut service, progress(999)).await;
        assert_eq!(drain(&mut events).0[0]["params"]["progressToken"], 101);
        assert_eq!(drain(&mut standalone).0[0]["params"]["progressToken"], 999);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_is_dropped() {
        let (session, mut service) = Session::new();
        drop(session.request(ping(1)).unwrap());
        send(&mut service, answer(1)).await;
        send(&mut service, answer(7)).await;
        assert!(session.idle().is_some());
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_holds_a_bounded_number() {
        let (session, mut service) = Session::new();
        let mut events = session.request(ping(1)).unwrap();
        for _ in 0..2 * STREAM_MESSAGES_MAX {
            send(&mut service, progress(101)).await;
        }
        assert_eq!(drain(&mut events).0.len(), STREAM_MESSAGES_MAX);
    }

    #[tokio::test]
    async fn the_inbox_is_bounded_and_in_order() {
        let (session, mut service) = Session::new();
        for id in 0..INBOX_MESSAGES_MAX as u64 {
            drop(session.request(ping(id)).unwrap());
        }
        assert_eq!(session.notify(ping(999)).unwrap_err(), Refused::Full);
        for id in 0..INBOX_MESSAGES_MAX as u64 {
            let message = serde_json::to_value(service.receive().await.unwrap()).unwrap();
            assert_eq!(message["id"], id);
        }
        assert!(service.receive().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_service_wakes_for_a_message_and_for_the_end() {
        let (session, mut service) = Session::new();
        let reader = tokio::spawn(async move {
            let message = service.receive().await;
            (message.is_some(), service.receive().await.is_none())
        });
        tokio::task::yield_now().await;
        drop(session.request(ping(1)).unwrap());
        tokio::task::yield_now().await;
        session.close();
        assert_eq!(reader.await.unwrap(), (true, true));
    }

    #[tokio::test]
    async fn the_end_ends_everything() {
        let (session, _service) = Session::new();
        let head = session.initialize(ping(1)).unwrap();
        let mut events = session.request(ping(2)).unwrap();
        let mut standalone = session.open_standalone().unwrap();
        session.close();
        assert!(head.await.is_err());
        assert!(drain(&mut events).1 && drain(&mut standalone).1);
        assert_eq!(session.request(ping(3)).err(), Some(Refused::Closed));
        assert_eq!(session.open_standalone().err(), Some(Refused::Closed));
    }

    #[test]
    fn an_open_stream_or_request_is_not_idle() {
        let (session, _service) = Session::new();
        assert!(session.idle().is_some());
        let standalone = session.open_standalone().unwrap();
        assert!(session.idle().is_none());
        drop(standalone);
        assert!(session.idle().is_some());
        let _events = session.request(ping(1)).unwrap();
        assert!(session.idle().is_none());
    }
}
