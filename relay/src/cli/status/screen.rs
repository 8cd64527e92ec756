//! The facts as a person reads them in a terminal.

use chrono::{DateTime, SecondsFormat};

use super::Status;
use crate::observe::snapshot::{KafkaFacts, RelayFacts, SlotView, Snapshot};

/// Whether colours are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// On a terminal.
    Shown,
    /// In a file or a pipe, or where `NO_COLOR` is set (<https://no-color.org>).
    None,
}

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

impl Colours {
    pub(super) fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Shown => format!("\x1b[{colour}m{text}\x1b[0m"),
            Self::None => text.to_owned(),
        }
    }
}

/// The screen.
#[must_use]
pub fn render(status: &Status, colours: Colours) -> String {
    let mut screen = Screen { lines: Vec::new(), colours };
    screen.head(status);
    screen.database(status);
    screen.slot(&status.slot, status);
    match &status.relay {
        Some(relay) => screen.relay(relay),
        None => {
            let why = status.relay_away.as_deref().unwrap_or("unknown");
            screen.add("window", format!("not known: {} does not answer ({why})", status.relay_url));
        }
    }
    let problem = match &status.problem {
        Some(problem) => colours.paint(RED, &printable(problem)),
        None => colours.paint(GREEN, "none"),
    };
    screen.add("problem", problem);
    screen.lines.join("\n")
}

/// How a state is shown: one of [`State::NAMES`](crate::observe::state::State::NAMES), or what the slot alone says.
pub(super) fn colour_of(state: &str) -> &'static str {
    match state {
        "streaming" | "backfilling" | "connected" => GREEN,
        "halted" | "stalled" | "not connected" => RED,
        _ => YELLOW,
    }
}

struct Screen {
    lines: Vec<String>,
    colours: Colours,
}

impl Screen {
    fn add(&mut self, name: &str, text: impl AsRef<str>) {
        self.lines.push(format!("{} {}", self.colours.paint(BOLD, &format!("{name:<11}")), text.as_ref()));
    }

    /// More about the line before.
    fn more(&mut self, name: &str, text: impl AsRef<str>) {
        self.lines.push(format!("  {name:<9} {}", text.as_ref()));
    }

    fn head(&mut self, status: &Status) {
        let Some(relay) = &status.relay else {
            let connected = match status.slot.active {
                Some(true) => self.colours.paint(GREEN, "connected"),
                Some(false) => self.colours.paint(RED, "not connected"),
                None => self.colours.paint(YELLOW, "unknown"),
            };
            return self.add("relay", connected);
        };
        let state = self.colours.paint(colour_of(&relay.state), &relay.state);
        self.add("relay", format!("{state} for {}", duration(ago(relay.since_ms, status.now_ms))));
    }

    fn database(&mut self, status: &Status) {
        let database = &status.database;
        let version = database
            .server_version
            .as_ref()
            .map(|version| format!(", PostgreSQL {version}"))
            .unwrap_or_default();
        self.add("database", format!("{}{version}", database.place));
        let rate =
            database.wal_bytes_per_second.map(|rate| format!(", {}/s", bytes(rate))).unwrap_or_default();
        let folder = database
            .wal_directory_bytes
            .map(|size| format!(", pg_wal {}", size_of(size)))
            .unwrap_or_default();
        self.more("log", format!("ends at {}{rate}{folder}", known(database.wal_end.as_deref())));
        let outbox = &status.outbox;
        let rows = outbox.rows.map_or("unknown".into(), |rows| format!("about {}", count(rows)));
        let oldest = outbox
            .oldest_row_ms
            .map(|at| format!(", oldest {} old", duration(ago(at, status.now_ms))))
            .unwrap_or_default();
        self.more("outbox", format!("{}, {rows} rows{oldest}", outbox.table));
        let earlier = match status.backfilled {
            Some(true) => "published",
            Some(false) => "not published yet",
            None => "unknown",
        };
        self.more("earlier", format!("rows from before the slot: {earlier}"));
    }

    fn slot(&mut self, slot: &SlotView, status: &Status) {
        let active = match (slot.exists, slot.active) {
            (Some(false), _) => self.colours.paint(RED, "does not exist"),
            (_, Some(true)) => "active".into(),
            (_, Some(false)) => {
                let since =
                    slot.inactive_since_ms.map(|at| format!(" for {}", duration(ago(at, status.now_ms))));
                self.colours.paint(YELLOW, &format!("inactive{}", since.unwrap_or_default()))
            }
            (_, None) => "unknown".into(),
        };
        let wal = slot.wal_status.as_deref().map(|wal| {
            let colour = match wal {
                "reserved" | "extended" => GREEN,
                "unreserved" => YELLOW,
                _ => RED,
            };
            format!(", {}", self.colours.paint(colour, wal))
        });
        let why = slot.invalidation_reason.as_ref().map(|why| format!(", {why}"));
        let failover = slot.failover.filter(|failover| *failover).map(|_| ", copied to standbys".to_owned());
        let more: String = [wal, why, failover].into_iter().flatten().collect();
        self.add("slot", format!("{}, {active}{more}", slot.name));
        let limit = match (slot.wal_keep_max_bytes, slot.safe_wal_bytes) {
            (None, _) => " (no limit: the disk is one)".to_owned(),
            (Some(limit), safe) => {
                let room =
                    safe.map(|safe| format!(", room for {}", size_of(u64::try_from(safe).unwrap_or(0))));
                let runs_out =
                    slot.exhausted_in_seconds.map(|left| format!(", runs out in {}", duration(left)));
                format!(" of {}{}{}", size_of(limit), room.unwrap_or_default(), runs_out.unwrap_or_default())
            }
        };
        let limit = if slot.exists == Some(true) { limit } else { String::new() };
        self.more("retained", format!("{}{limit}", maybe_size(slot.retained_wal_bytes)));
        let confirmed = known(slot.confirmed_lsn.as_deref());
        self.more("behind", format!("{}, confirmed {confirmed}", maybe_size(slot.confirm_lag_bytes)));
    }

    fn relay(&mut self, relay: &Snapshot) {
        let window = &relay.window;
        let used = format!("{} of {}", size_of(window.bytes), size_of(window.bytes_max));
        // The rows of a backfill are as old as they are.
        let is_late = window.records > 0 && relay.state != "backfilling";
        let oldest = is_late.then(|| format!("; the oldest {} old", duration(window.lag_seconds)));
        let oldest = oldest.unwrap_or_default();
        let (records, most) = (count(window.records), count(window.records_max));
        self.add("window", format!("{records} of {most} events in flight, {used}{oldest}"));
        let kafka = &relay.kafka;
        let partitions = kafka.partitions.map(|count| format!(", {count} partitions")).unwrap_or_default();
        self.add("kafka", format!("{}, topic {}{partitions}", kafka.brokers, kafka.topic));
        if let Some(topic) = &kafka.position_topic {
            self.more("delivery", format!("exactly once, the position in {topic}"));
        }
        if let Some((up, all)) = kafka.brokers_up.zip(kafka.brokers_known) {
            let rtt = kafka.rtt_p99_ms.map(|rtt| format!(", answer in {rtt:.1} ms at 99 %"));
            self.more("brokers", format!("{up} of {all} connected{}", rtt.unwrap_or_default()));
        }
        self.topics(&relay.kafka, relay.now_ms);
        self.events(&relay.relay);
        if let Some(error) = &relay.last_error {
            let at = DateTime::from_timestamp_millis(error.at_ms);
            let at = at.map_or_else(String::new, |at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
            self.add("last error", format!("{at} {}", error.text));
        }
    }

    /// Where there is more than one, or one that is not there.
    fn topics(&mut self, kafka: &KafkaFacts, now_ms: i64) {
        if kafka.topics.len() < 2 && !kafka.topics.iter().any(|topic| topic.awaited) {
            return;
        }
        for topic in &kafka.topics {
            let what = match topic.stored_ms {
                _ if topic.awaited => self.colours.paint(RED, "is not there, and records wait for it"),
                Some(at) => {
                    let partitions =
                        topic.partitions.map(|count| format!(" in {count} partitions")).unwrap_or_default();
                    format!(
                        "{} records{partitions}, the last {} ago",
                        count(topic.records),
                        duration(ago(at, now_ms))
                    )
                }
                None => "no records yet".to_owned(),
            };
            self.more("topic", format!("{} {what}", printable(&topic.name)));
        }
        if kafka.more_topics > 0 {
            self.more("", format!("and {} more", count(kafka.more_topics)));
        }
    }

    fn events(&mut self, facts: &RelayFacts) {
        let latency = facts
            .latency_p50_ms
            .zip(facts.latency_p99_ms)
            .map(|(p50, p99)| format!(", acknowledged {p50:.1} ms after the commit, {p99:.1} ms at 99 %"))
            .unwrap_or_default();
        self.add("events", format!("{:.1}/s{latency}", facts.events_per_second));
        self.more(
            "since start",
            format!(
                "{} published, {} dead letters, {} repeats avoided, {} retried",
                count(facts.events_published),
                count(facts.dead_letters),
                count(facts.repeats_avoided),
                count(facts.records_retried),
            ),
        );
        self.more(
            "",
            format!(
                "{} reconnects, {} halts, {} new producers",
                facts.reconnects, facts.halts, facts.producer_restarts
            ),
        );
    }
}

/// A text from elsewhere, without what would drive the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

fn known(text: Option<&str>) -> &str {
    text.unwrap_or("unknown")
}

#[allow(clippy::cast_precision_loss)]
fn ago(at_ms: i64, now_ms: i64) -> f64 {
    (now_ms - at_ms).max(0) as f64 / 1e3
}

/// A time for people: its two largest units at most.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let minutes = (seconds / 60.0) as u64;
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A count with its thousands set apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

pub(super) fn maybe_size(size: Option<u64>) -> String {
    size.map_or_else(|| "unknown".into(), size_of)
}

#[allow(clippy::cast_precision_loss)]
fn size_of(size: u64) -> String {
    bytes(size as f64)
}

/// A size for people.
fn bytes(mut size: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size:.0} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!([0.0, 1536.0, 5.0 * 1024.0 * 1024.0 * 1024.0].map(bytes), ["0 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(
            [0.004, 12.34, 61.0, 3_700.0, 200_000.0].map(duration),
            ["4 ms", "12.3 s", "1 min", "1 h 1 min", "2 d 7 h"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_text_from_elsewhere_does_not_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
