//! Every SQL statement of the service: one for each rpc, and one for several calls of an rpc that came together.
//!
//! The latter take arrays, a value for each call. Ids and locks come first in them (`wanted`, `free`), so that each
//! call's answer and its trace are found again by the package's id.
//!
//! A change has two forms, by where its event is written: [`ByOutbox`].
//!
//! A change takes its time from `clock_timestamp()`: `now()` is when the transaction began, not when its turn at the
//! row came, and 71 of 199 concurrent updates then went back in time. `greatest` covers a clock that was set back.

use crate::outbox::{ByOutbox, many_with_events, message, payload, rfc3339, with_event};

/// Title, material, volume, reusable, traceparent.
pub const CREATE: ByOutbox = with_event!(
    "insert into package (title, material, max_volume, reusable, created_at) \
     values ($1, $2, $3, $4, clock_timestamp()) \
     returning package_id, title, material, max_volume, reusable, created_at, updated_at",
    type: "Created", payload: payload!(), at: "created_at", traceparent: "$5", prefix: "$6"
);

/// As [`CREATE`], an array of each.
pub const CREATE_MANY: ByOutbox = many_with_events!(
    "wanted as materialized (\
        select nextval('package_package_id_seq') as package_id, w.* \
        from unnest($1::text[], $2::text[], $3::real[], $4::boolean[], $5::text[]) with ordinality \
            as w (title, material, max_volume, reusable, traceparent, place)), \
     changed as (\
        insert into package (package_id, title, material, max_volume, reusable, created_at) \
        select package_id, title, material, max_volume, reusable, clock_timestamp() from wanted \
        returning package_id, title, material, max_volume, reusable, created_at, updated_at)",
    type: "Created", at: "created_at", answer: "package_id, place", from: "wanted", prefix: "$6"
);

/// Ids.
pub const DESCRIBE_MANY: &str = "\
    select package_id, title, material, max_volume, reusable, created_at, updated_at \
    from package where package_id = any($1::bigint[])";

/// As [`UPDATE`], an array of each, every id once. It returns the ids of the packages it changed: it passes over one
/// that is locked rather than wait, so that no call waits for another's package and no two statements for each other.
pub const UPDATE_MANY: ByOutbox = many_with_events!(
    "wanted as materialized (\
        select * from unnest($1::bigint[], $2::text[], $3::text[], $4::real[], $5::boolean[], $6::text[]) \
            as w (package_id, new_title, new_material, new_volume, new_reusable, traceparent)), \
     free as materialized (\
        select package_id from package where package_id = any($1::bigint[]) for update skip locked), \
     changed as (\
        update package set \
            title = coalesce(new_title, title), material = coalesce(new_material, material), \
            max_volume = coalesce(new_volume, max_volume), reusable = coalesce(new_reusable, reusable), \
            updated_at = greatest(clock_timestamp(), updated_at, created_at) \
        from wanted join free using (package_id) where package.package_id = wanted.package_id \
        returning package.package_id, title, material, max_volume, reusable, created_at, updated_at)",
    type: "Updated", at: "updated_at", answer: "package_id", from: "changed", prefix: "$7"
);

/// Id.
pub const DESCRIBE: &str = "\
    select package_id, title, material, max_volume, reusable, created_at, updated_at \
    from package where package_id = $1";

/// Limit, offset.
pub const LIST: &str = "\
    select package_id, title, material, max_volume, reusable, created_at, updated_at \
    from package order by package_id limit $1 offset $2";

/// Id; title, material, volume, reusable, each null where it stays; traceparent.
pub const UPDATE: ByOutbox = with_event!(
    "update package set \
        title = coalesce($2, title), material = coalesce($3, material), \
        max_volume = coalesce($4, max_volume), reusable = coalesce($5, reusable), \
        updated_at = greatest(clock_timestamp(), updated_at, created_at) \
     where package_id = $1 \
     returning package_id, title, material, max_volume, reusable, created_at, updated_at",
    type: "Updated", payload: payload!(), at: "updated_at", traceparent: "$6", prefix: "$7"
);

/// Id, traceparent.
pub const REMOVE: ByOutbox = with_event!(
    "delete from package where package_id = $1 \
     returning package_id, greatest(clock_timestamp(), updated_at, created_at) as removed_at",
    type: "Removed", payload: "null::jsonb", at: "removed_at", traceparent: "$2", prefix: "$3"
);

/// Key, rpc, request, seconds that an answer is kept. A row where the key is new, or so old that it is free again; no
/// row where it has an answer. Two others that are too old go.
pub const CLAIM_KEY: &str = "\
    with old as (\
        delete from package_request where key in (\
            select key from package_request \
            where created_at < now() - make_interval(secs => $4) and key <> $1 \
            order by created_at limit 2 for update skip locked)) \
    insert into package_request (key, rpc, request, package_id) values ($1, $2, $3, 0) \
    on conflict (key) do update set rpc = excluded.rpc, request = excluded.request, created_at = now() \
    where package_request.created_at < now() - make_interval(secs => $4) \
    returning key";

/// Key.
pub const KEPT_ANSWER: &str = "select rpc, request, package_id from package_request where key = $1";

/// Key, the package's id.
pub const KEEP_ANSWER: &str = "update package_request set package_id = $2 where key = $1";

/// Whether it is a standby, whether it is read-only, and the backend.
pub const STANDING: &str =
    "select pg_is_in_recovery(), current_setting('transaction_read_only')::boolean, pg_backend_pid()";

/// The migrations that the database has had.
pub const MIGRATIONS: &str =
    "select version, description, checksum, success from _sqlx_migrations order by version";

/// Whether a slot that is not lost keeps logical messages of this database for whoever decodes them.
pub const HAS_SLOT: &str = "\
    select exists (\
        select from pg_replication_slots \
        where database = current_database() and slot_type = 'logical' and not temporary and wal_status <> 'lost')";

/// They read and write nothing, but need every table, column and right that the statements above need, beside
/// [`EVENT_PROBE`].
pub const PROBES: [&str; 4] = [
    "select package_id, title, material, max_volume, reusable, created_at, updated_at from package where false",
    "update package set updated_at = updated_at where false",
    "delete from package where false",
    "with old as (delete from package_request where false), \
         changed as (update package_request set package_id = 0 where false) \
     insert into package_request (key, rpc, request, package_id) select key, rpc, request, 0 from package_request where false",
];

/// The same of what writes the event.
pub const EVENT_PROBE: ByOutbox = ByOutbox {
    table: "insert into package_event (package_id, event_type, payload, created_at, traceparent) \
            select 0, 'Created'::event_type_enum, null::jsonb, now(), null where false",
    messages: "select pg_logical_emit_message(true, '', nextval('package_event_package_event_id_seq')::text) where false",
};
