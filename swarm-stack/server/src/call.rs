//! What is learned about one HTTP request while the SDK serves it: its method and its outcome.
//!
//! Owns the hand-over from the session manager and the handler, which see messages, to the HTTP
//! layer, which sees status codes and time. It must not know how either of them works.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use rmcp::{
    ErrorData,
    model::{CallToolResult, Extensions, ServerJsonRpcMessage, ServerResult},
};

use crate::metrics::Outcome;

/// What the session manager notes during the request that it serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Note {
    /// The session limit was hit: the answer should say 503.
    pub session_limit: bool,
    /// The session manager records this request, once its answer has passed.
    pub recorded: bool,
    /// The method, where the session manager knows it and the HTTP layer records it.
    pub method: Option<&'static str>,
}

tokio::task_local! {
    static NOTE: Cell<Note>;
}

/// Runs `serve` and returns its result with what was noted meanwhile.
pub async fn observe<T>(serve: impl Future<Output = T>) -> (T, Note) {
    NOTE.scope(Cell::default(), async {
        let result = serve.await;
        (result, NOTE.with(Cell::get))
    })
    .await
}

/// Notes that the session limit was hit. Outside [`observe`] nothing happens.
pub fn note_session_limit() {
    let _ = NOTE.try_with(|note| note.set(Note { session_limit: true, ..note.get() }));
}

/// Notes that this request is recorded elsewhere. Outside [`observe`] nothing happens.
pub fn note_recorded() {
    let _ = NOTE.try_with(|note| note.set(Note { recorded: true, ..note.get() }));
}

/// Notes the method of a request that the HTTP layer records. Outside [`observe`] nothing happens.
pub fn note_method(method: &'static str) {
    let _ = NOTE.try_with(|note| note.set(Note { method: Some(method), ..note.get() }));
}

/// A cell that travels with the HTTP request's extensions to the handler.
#[derive(Debug, Clone, Default)]
pub struct Mark(Arc<AtomicU8>);

impl Mark {
    const TOOL_ERROR: u8 = 1;
    const RPC_ERROR: u8 = 2;

    /// What the handler noted, if it noted a failure.
    pub fn failure(&self) -> Option<Outcome> {
        match self.0.load(Ordering::Relaxed) {
            Self::TOOL_ERROR => Some(Outcome::ToolError),
            Self::RPC_ERROR => Some(Outcome::RpcError),
            _ => None,
        }
    }
}

/// Notes a failed tool call in the [`Mark`] of the HTTP request that carried it, if there is one.
pub fn mark_result(extensions: &Extensions, result: &Result<CallToolResult, ErrorData>) {
    let value = match result {
        Ok(result) if result.is_error == Some(true) => Mark::TOOL_ERROR,
        Ok(_) => return,
        Err(_) => Mark::RPC_ERROR,
    };
    if let Some(parts) = extensions.get::<http::request::Parts>()
        && let Some(mark) = parts.extensions.get::<Mark>()
    {
        mark.0.store(value, Ordering::Relaxed);
    }
}

/// The outcome that a message gives its request; `None` if it is not the answer.
pub fn outcome_of(message: &ServerJsonRpcMessage) -> Option<Outcome> {
    match message {
        ServerJsonRpcMessage::Response(response) => Some(outcome_of_result(&response.result)),
        ServerJsonRpcMessage::Error(_) => Some(Outcome::RpcError),
        ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
    }
}

/// [`Outcome::ToolError`] for a tool result with `isError`, else [`Outcome::Ok`].
pub fn outcome_of_result(result: &ServerResult) -> Outcome {
    match result {
        ServerResult::CallToolResult(result) if result.is_error == Some(true) => Outcome::ToolError,
        _ => Outcome::Ok,
    }
}
