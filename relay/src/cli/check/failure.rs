//! A question that was not answered, as a finding.

use super::Side;
use crate::error::{Error, Verdict};

/// What is asked failed: why, and what mends it.
pub(super) fn failed(side: &mut Side<'_>, name: &'static str, error: Error) {
    let remedy = match error.verdict() {
        Verdict::Halt { remedy } => remedy,
        _ if matches!(error, Error::Standby(_)) => "give the primary's address".to_owned(),
        _ if matches!(error, Error::Awaited { .. }) => {
            "name the standbys themselves in synchronous_standby_names, and select pg_reload_conf()"
                .to_owned()
        }
        Verdict::Retry | Verdict::StandBy => "start the server, or correct its address".to_owned(),
    };
    side.fail(name, error.to_string(), remedy);
}
