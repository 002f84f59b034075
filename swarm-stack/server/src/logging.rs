//! What reaches standard error.
//!
//! Owns levels and format. It must not know who logs, apart from the SDK, which is quieter.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::cli::LogLevel;

/// Starts logging to standard error at `level`.
///
/// The SDK logs several lines a session at `info`: they pass only from `debug` on.
pub fn start(level: LogLevel) {
    let (own, sdk) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::OFF),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::OFF),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::OFF),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::DEBUG),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    let targets = Targets::new().with_target("erlmcp_server", own).with_target("rmcp", sdk);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(targets);
    tracing_subscriber::registry().with(lines).init();
}
