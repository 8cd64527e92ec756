//! Several sources, a line for each.

use super::Status;
use super::screen::{Colours, colour_of, duration, maybe_size, printable};

/// The columns.
const HEAD: [&str; 5] = ["SOURCE", "STATE", "BEHIND", "EVENTS/S", "WAL KEPT"];

/// Between two columns.
const GAP: &str = "  ";

/// The sources with a problem first, each with what it is; the others as in the settings.
#[must_use]
pub fn table(mut sources: Vec<(String, Status)>, colours: Colours) -> String {
    sources.sort_by_key(|(_, status)| status.problem.is_none());
    let rows: Vec<_> = sources.iter().map(|(name, status)| cells(name, status)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|cells| cells[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut lines = vec![line(&HEAD.map(str::to_owned), &widths, |_, text| text)];
    for (cells, (_, status)) in rows.iter().zip(&sources) {
        let colour = colour_of(&cells[1]);
        let paint =
            |column: usize, text: String| if column == 1 { colours.paint(colour, &text) } else { text };
        lines.push(line(cells, &widths, paint));
        if let Some(problem) = &status.problem {
            lines.push(format!("{GAP}→ {}", printable(problem)));
        }
    }
    lines.join("\n")
}

fn line(cells: &[String; 5], widths: &[usize; 5], paint: impl Fn(usize, String) -> String) -> String {
    let cell = |(column, (text, width)): (usize, (&String, &usize))| {
        let width = *width;
        // Numbers by their ends.
        paint(column, if column < 2 { format!("{text:<width$}") } else { format!("{text:>width$}") })
    };
    cells.iter().zip(widths).enumerate().map(cell).collect::<Vec<_>>().join(GAP)
}

fn cells(name: &str, status: &Status) -> [String; 5] {
    let relay = status.relay.as_ref();
    let state = match (relay, status.slot.active) {
        (Some(relay), _) => relay.state.clone(),
        // It may run elsewhere: its slot is in use.
        (None, Some(true)) => "connected".to_owned(),
        (None, Some(false)) => "not connected".to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    // The rows of a backfill are as old as they are.
    let is_known = |state: &str| !["standby", "starting", "backfilling"].contains(&state);
    let behind = relay.filter(|relay| is_known(&relay.state)).map(|relay| duration(relay.window.lag_seconds));
    let rate = relay.map(|relay| format!("{:.1}", relay.relay.events_per_second));
    let unknown = || "-".to_owned();
    [
        name.to_owned(),
        state,
        behind.unwrap_or_else(unknown),
        rate.unwrap_or_else(unknown),
        maybe_size(status.slot.retained_wal_bytes),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// Of a source whose relay does not answer here.
    fn status(active: bool, problem: Option<&str>) -> Status {
        let slot = json!({"name": "s", "active": active, "retained_wal_bytes": 2048});
        let database = json!({"place": "db:5432/shop as me"});
        let outbox = json!({"table": "public.outbox", "rows_removed": 0});
        Status {
            problem: problem.map(str::to_owned),
            now_ms: 0,
            database: serde_json::from_value(database).unwrap(),
            outbox: serde_json::from_value(outbox).unwrap(),
            slot: serde_json::from_value(slot).unwrap(),
            remembered_lsn: None,
            backfilled: None,
            relay_url: String::new(),
            relay: None,
            relay_away: None,
        }
    }

    #[test]
    fn those_with_a_problem_come_first_with_what_it_is() {
        let sources = vec![
            ("orders".to_owned(), status(true, None)),
            ("billing-of-all".to_owned(), status(false, Some("no relay\x1b[2J is connected"))),
            ("a".to_owned(), status(true, None)),
        ];
        assert_eq!(
            table(sources, Colours::None),
            "SOURCE          STATE          BEHIND  EVENTS/S  WAL KEPT\n\
             billing-of-all  not connected       -         -   2.0 KiB\n  \
             → no relay [2J is connected\n\
             orders          connected           -         -   2.0 KiB\n\
             a               connected           -         -   2.0 KiB"
        );
    }
}
