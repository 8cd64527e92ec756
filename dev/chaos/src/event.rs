//! How events are written: as the package API's server does, in either outbox.
//!
//! A message's content has the columns of the table as its members, so both become the same record. Ids come from one sequence.

use harness::Database;
use tokio_postgres::Client;
use uuid::Uuid;

use anyhow::Result;

use crate::parts::Outbox;

/// The messages' prefix: what the server has by default.
pub(crate) const PREFIX: &str = "package_event";

/// Each transaction leaves its token: whether it was committed can then be asked when nobody answered its commit. Its
/// transaction id would not do: after a crash the same one may be given to another.
pub(crate) const TOKENS: &str = "create table chaos_token (token uuid primary key)";

/// Writes `$2` events of the key `$1`, and gives their ids.
const ROWS: &str = "insert into package_event (package_id, event_type, payload) \
    select $1::bigint, 'Updated', jsonb_build_object('ID', $1::bigint, 'Title', 'event ' || n) \
    from generate_series(1::bigint, $2::bigint) n returning event_id::text";

/// Writes the event `$2` of the key `$1`, unless it is written already.
const ROW: &str = "with token as (insert into chaos_token values ($2::text::uuid) on conflict do nothing returning token) \
    insert into package_event (package_id, event_type, payload, event_id) select $1::bigint, 'Updated', '{}', token from token";

/// The call that writes a message, of the event `event` and the payload `payload`.
macro_rules! message {
    ($event:literal, $payload:literal) => {
        concat!(
            "pg_logical_emit_message(true, 'package_event', jsonb_build_object(\
                'package_event_id', nextval('package_event_package_event_id_seq'), 'event_id', ",
            $event,
            ", 'package_id', $1::bigint, 'event_type', 'Updated', \
                'created_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                'traceparent', null, 'payload', ",
            $payload,
            ")::text) is not null"
        )
    };
}

/// As [`ROWS`]. The ids are made first: what a query without `materialized` makes twice has two ids.
const MESSAGES: &str = concat!(
    "with event as materialized (select gen_random_uuid() as id, n from generate_series(1::bigint, $2::bigint) n) \
     select id::text, ",
    message!("id", "jsonb_build_object('ID', $1::bigint, 'Title', 'event ' || n)"),
    " from event"
);

/// As [`ROW`].
const MESSAGE: &str = concat!(
    "with token as (insert into chaos_token values ($2::text::uuid) on conflict do nothing returning token) select ",
    message!("token", "'{}'::jsonb"),
    " from token"
);

/// Writes `count` events of `key` in the transaction that is open, and gives their ids.
pub(crate) async fn write(client: &Client, outbox: Outbox, key: i64, count: i64) -> Result<Vec<Uuid>> {
    let sql = match outbox {
        Outbox::Table => ROWS,
        Outbox::Messages => MESSAGES,
    };
    let rows = client.query(sql, &[&key, &count]).await?;
    rows.iter().map(|row| Ok(row.get::<_, String>(0).parse()?)).collect()
}

/// Commits the event of this id, once, however often it is tried.
pub(crate) async fn commit(database: &Database, outbox: Outbox, key: i64, event: Uuid) -> Result<()> {
    let sql = match outbox {
        Outbox::Table => ROW,
        Outbox::Messages => MESSAGE,
    };
    database.client().await?.execute(sql, &[&key, &event.to_string()]).await?;
    Ok(())
}
