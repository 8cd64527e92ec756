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
