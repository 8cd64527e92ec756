//! The log: events with fields, on standard error.

pub mod label;
pub mod traces;

use tracing_subscriber::EnvFilter;

/// The replication client logs each error that it also returns, and walpost says what follows from it: a relay that
/// stands by would log an error twice a second. A filter that names the client has it back.
const QUIET: &str = "pgwire_replication=off";

/// Libraries that tell of every frame from `debug` on; a filter that names them has it back.
const CHATTY: &str =
    "h2=info,hyper=info,hyper_util=info,tonic=info,tower=info,opentelemetry=info,opentelemetry_sdk=info";

/// Starts logging. `filter` was checked when the settings were read.
pub fn start(filter: &str, json: bool) {
    // Whatever the filter leaves out: a line that is shown says which source it is about.
    let filter = EnvFilter::new(format!("{QUIET},{CHATTY},{}=error,{filter}", label::TARGET));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().flatten_event(true).init();
    } else {
        let colours =
            std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        log.with_ansi(colours).with_target(false).init();
    }
}
