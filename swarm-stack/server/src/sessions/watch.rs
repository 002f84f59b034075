//! Streams as they pass to the HTTP layer: counted, and timed from arrival to answer.
//!
//! Owns when a sessions-era request counts as answered. It must not know where its messages come
//! from.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use rmcp::{
    model::{ClientJsonRpcMessage, ClientNotification, ServerJsonRpcMessage},
    transport::streamable_http_server::session::ServerSseMessage,
};

use crate::{
    call,
    clock::Tick,
    metrics::{Carrier, GaugeGuard, Metrics, Outcome, method_label},
};

/// A request on its way: recorded when its answer passes, or when it is dropped without one.
pub struct Watch {
    metrics: Arc<Metrics>,
    method: &'static str,
    arrived: Tick,
    answered: bool,
}

impl Watch {
    /// Starts the clock for `message`, and tells the HTTP layer that it is recorded here.
    pub fn start(metrics: Arc<Metrics>, message: &ClientJsonRpcMessage) -> Self {
        let method = match message {
            ClientJsonRpcMessage::Request(request) => method_label(request.request.method()),
            _ => "other",
        };
        call::note_recorded();
        Self { metrics, method, arrived: Tick::now(), answered: false }
    }

    /// Records the request if `message` is its answer.
    pub fn see(&mut self, message: &ServerJsonRpcMessage) {
        if let Some(outcome) = call::outcome_of(message) {
            self.record(outcome);
        }
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

/// Names, for the HTTP layer's record, what arrived without needing an answer.
pub fn note_accepted(message: &ClientJsonRpcMessage) {
    call::note_method(match message {
        ClientJsonRpcMessage::Notification(notification) => match &notification.notification {
            ClientNotification::InitializedNotification(_) => "notifications/initialized",
            ClientNotification::CancelledNotification(_) => "notifications/cancelled",
            _ => "other",
        },
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => "response",
        ClientJsonRpcMessage::Request(_) => "other",
    });
}

/// The stream that answers a POST.
pub struct Answer<S> {
    events: S,
    watch: Watch,
}

impl<S> Answer<S> {
    /// `events`, with the answer among them recorded by `watch`.
    pub fn new(events: S, watch: Watch) -> Self {
        Self { events, watch }
    }
}

impl<S: Stream<Item = ServerSseMessage> + Unpin> Stream for Answer<S> {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.events).poll_next(context);
        if let Poll::Ready(Some(event)) = &polled
            && let Some(message) = &event.message
        {
            self.watch.see(message);
        }
        polled
    }
}

/// The stream that a GET opens, counted while it lasts.
pub struct Standalone<S> {
    events: S,
    _open: GaugeGuard,
}

impl<S> Standalone<S> {
    /// `events`, counted as one open stream.
    pub fn new(events: S, metrics: &Metrics) -> Self {
        Self { events, _open: metrics.stream_opened() }
    }
}

impl<S: Stream<Item = ServerSseMessage> + Unpin> Stream for Standalone<S> {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}
