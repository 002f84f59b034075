//! Sessions of the sessions era (2025-03-26 to 2025-11-25), behind the SDK's `SessionManager`.
//!
//! Two managers, chosen by `--sessions`; what they serve on the wire is the SDK's either way:
//! - [`lean`], the default, keeps only what a session without resumption needs.
//! - [`sdk`] is the SDK's own manager, with priming events and a cache for resumption. It is also
//!   what the tests hold the lean one against.
//!
//! This file owns the limit and the counters, which both share.

use std::sync::Arc;

use crate::{call, metrics::Metrics};

pub mod lean;
pub mod sdk;
mod session;
mod watch;

/// `--max-sessions` sessions are open.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("session limit of {0} reached")]
pub struct LimitReached(usize);

/// How many sessions there may be, and how many there are.
#[derive(Clone)]
pub struct Book {
    metrics: Arc<Metrics>,
    max_open: usize,
}

impl Book {
    /// An empty book for at most `max_open` sessions; 0 is no limit.
    pub fn new(metrics: Arc<Metrics>, max_open: usize) -> Self {
        Self { metrics, max_open }
    }

    /// Enters a session.
    ///
    /// # Errors
    /// The limit is reached; it is noted for the HTTP layer too, which answers 503.
    fn open(&self) -> Result<(), LimitReached> {
        let open = usize::try_from(self.metrics.sessions_open()).unwrap_or(0);
        if self.max_open > 0 && open >= self.max_open {
            call::note_session_limit();
            return Err(LimitReached(self.max_open));
        }
        self.metrics.session_created();
        Ok(())
    }

    /// Strikes a session out.
    fn close(&self) {
        self.metrics.session_closed();
    }
}
