//! The server: whether it is a primary, and which.

use super::{PreflightError, Unsafe};
use crate::database::{DatabaseError, Session};

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
