//! The log level of one call, which its client may raise.
//!
//! A call runs in one task, so its level is that task's: an event that is made while the call is polled is judged by it.

use std::cell::Cell;

use http::HeaderMap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter};

use settings::LogLevel;

/// The metadata, or the REST header, that asks for a level.
pub(crate) const METADATA: &str = "log_level";

tokio::task_local! {
    static LEVEL: Cell<LevelFilter>;
}

/// The level that a call asks for; what is no level is ignored, as the Go service did.
pub(crate) fn asked_for(headers: &HeaderMap) -> Option<LevelFilter> {
    let text = headers.get(METADATA)?.to_str().ok()?;
    text.parse::<LogLevel>().ok().map(|LogLevel(level)| level)
}

/// Runs `call` at a level of its own, where there is one.
pub(crate) async fn scope<T>(level: Option<LevelFilter>, call: impl Future<Output = T>) -> T {
    match level {
        Some(level) => LEVEL.scope(Cell::new(level), call).await,
        None => call.await,
    }
}

fn of_this_call() -> LevelFilter {
    LEVEL.try_with(Cell::get).unwrap_or(LevelFilter::OFF)
}

/// Lets through what the process logs, and what the call that is being polled may log beyond that.
#[derive(Debug)]
pub(super) struct PerCall {
    /// What is logged anyway.
    pub(super) always: Targets,
    /// What a call may ask for.
    pub(super) asked_for: Targets,
}

impl<S: Subscriber> Filter<S> for PerCall {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.always.would_enable(metadata.target(), metadata.level())
            || (*metadata.level() <= of_this_call()
                && self.asked_for.would_enable(metadata.target(), metadata.level()))
    }

    /// Judged once for each place in the code, so that what no call may ask for costs nothing.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.always.would_enable(metadata.target(), metadata.level()) {
            Interest::always()
        } else if self.asked_for.would_enable(metadata.target(), metadata.level()) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}
