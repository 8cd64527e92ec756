//! The server: whether it is a primary, and which.

use super::{PreflightError, Unsafe};
use crate::postgres::{DatabaseError, Session};

/// Checks the server. A standby has no finding: whatever it lacks, the primary may have.
///
/// # Errors
/// When it is a standby, or cannot be streamed from.
pub async fn check_server(session: &Session) -> Result<(), PreflightError> {
    let sql = "select pg_is_in_recovery(), current_setting('wal_level')";
    let row = session.client().query_one(sql, &[]).await.map_err(session.error("read wal_level"))?;
    if row.get(0) {
        return Err(PreflightError::Standby(session.place().to_owned()));
    }
    match row.get::<_, String>(1) {
        level if level == "logical" => Ok(()),
        level => Err(Unsafe::WalLevel(level).into()),
    }
}

/// Whether Postgres would take this program for a standby that commits wait for (PostgreSQL, "synchronous_standby_names"):
/// any walsender counts that has one of the names, and `*` is every name. A commit of the application would then wait for
/// Kafka, and a standby that it should wait for might not have it.
///
/// # Errors
/// When it would, or the server does not answer.
pub async fn check_not_awaited(session: &Session) -> Result<(), PreflightError> {
    let sql = "select current_setting('synchronous_standby_names')";
    let row = session.client().query_one(sql, &[]).await;
    let names: String = row.map_err(session.error("read synchronous_standby_names"))?.get(0);
    if names_of_standbys(&names).any(|name| name == "*" || name.eq_ignore_ascii_case(session.application())) {
        return Err(PreflightError::Awaited { place: session.place().to_owned(), names });
    }
    Ok(())
}

/// The names in `FIRST 1 (a, "b c", *)` and its other forms; the words in front of the list are among them, which are
/// never walpost's (`syncrep_gram.y`).
fn names_of_standbys(text: &str) -> impl Iterator<Item = String> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        let is_part = |c: char| !matches!(c, ',' | '(' | ')' | '"') && !c.is_whitespace();
        loop {
            match chars.next()? {
                '"' => {
                    let mut name = String::new();
                    while let Some(c) = chars.next() {
                        if c == '"' && chars.next_if_eq(&'"').is_none() {
                            break;
                        }
                        name.push(c);
                    }
                    return Some(name);
                }
                first if is_part(first) => {
                    let mut name = String::from(first);
                    while let Some(c) = chars.next_if(|&c| is_part(c)) {
                        name.push(c);
                    }
                    return Some(name);
                }
                _ => {}
            }
        }
    })
}

/// Checks that another connection leads to the server of this session: to the one that was started at just that moment. Each
/// finds its way by itself, and after a failover the old primary may still take itself for one. The ledger of the one says
/// nothing of the other's rows.
///
/// # Errors
/// When it leads to another.
pub fn check_one_server(session: &Session, started_us: i64) -> Result<(), PreflightError> {
    match session.started_us() == started_us {
        true => Ok(()),
        false => Err(PreflightError::TwoServers(session.place().to_owned())),
    }
}

/// The server's identifier, as IDENTIFY_SYSTEM gives it, for those who do not stream; none where the role may not ask.
///
/// # Errors
/// When the database does not answer.
pub async fn system(session: &Session) -> Result<Option<String>, DatabaseError> {
    let sql = "select system_identifier from pg_control_system()";
    match session.client().query_one(sql, &[]).await.map_err(session.error("read the server's identifier")) {
        // Postgres has no type for it and shows the bits of an unsigned number.
        Ok(row) => Ok(Some(row.get::<_, i64>(0).cast_unsigned().to_string())),
        // insufficient_privilege.
        Err(error) if error.sqlstate() == Some("42501") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the server tells transactions that are open of an alteration of the publication that commits meanwhile. Before
/// (PostgreSQL 14.18, 15.13, 16.9 and 17.5: "prevent data loss when DDL operations that don't take a strong lock affect
/// tables that are being logically replicated") one that was open while the table was put back has the stream leave out
/// the table for good. To make the slot anew waits for those that are open.
#[must_use]
pub fn decodes_alterations(version: i32) -> bool {
    match version / 10_000 {
        ..14 => false,
        14 => version >= 140_018,
        15 => version >= 150_013,
        16 => version >= 160_009,
        17 => version >= 170_005,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_standbys_are_read_as_postgres_reads_them() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("*", &["*"]),
            ("s1, s2", &["s1", "s2"]),
            ("2(s1,*)", &["2", "s1", "*"]),
            ("FIRST 1 (s1, \"my standby\")", &["FIRST", "1", "s1", "my standby"]),
            ("ANY 1 (\"a\"\"b\",Walpost)", &["ANY", "1", "a\"b", "Walpost"]),
            ("\"walpost, no\"", &["walpost, no"]),
        ];
        for (text, names) in cases {
            assert_eq!(names_of_standbys(text).collect::<Vec<_>>(), names, "{text}");
        }
    }

    #[test]
    fn a_slot_is_kept_only_where_the_stream_learns_of_an_alteration() {
        for (old, new) in [(140_017, 140_018), (150_012, 150_013), (160_008, 160_009), (170_004, 170_005)] {
            assert!(!decodes_alterations(old) && decodes_alterations(new), "{old}");
        }
        assert!(decodes_alterations(180_000));
    }
}
