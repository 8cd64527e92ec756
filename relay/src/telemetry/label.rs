//! Which source a line of the log is about: a span around all that is done for it, on each of its threads.

use std::cell::RefCell;

use tokio::runtime::Builder;
use tracing::Span;
use tracing::span::EnteredSpan;

/// What the span is made under. It is of the level error, since lines of every level are to have it.
pub(super) const TARGET: &str = "source";

thread_local! {
    static ENTERED: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
}

/// The span of a source; without a name there is none.
#[must_use]
pub fn span(name: Option<&str>) -> Span {
    name.map_or_else(
        Span::none,
        |name| tracing::error_span!(target: TARGET, parent: None, "source", source = name),
    )
}

/// Puts the threads that a runtime makes for itself, those of blocking calls, into the span.
pub fn mark(runtime: &mut Builder, span: &Span) {
    let span = span.clone();
    runtime.on_thread_start(move || ENTERED.set(Some(span.clone().entered())));
    runtime.on_thread_stop(|| drop(ENTERED.take()));
}
