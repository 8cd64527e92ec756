//! The log: events with fields, on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` was checked when the settings were read.
pub fn start(filter: &str, json: bool) {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    if json {
        log.json().flatten_event(true).init();
    } else {
        let colours =
            std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        log.with_ansi(colours).with_target(false).init();
    }
}
