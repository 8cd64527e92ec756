//! Every SQL statement of the service, one for each rpc.
//!
//! A change takes its time from `clock_timestamp()`: `now()` is when the transaction began, not when its turn at the
//! row came, and 71 of 199 concurrent updates then went back in time. `greatest` covers a clock that was set back.

use crate::outbox::{payload, with_event};

/// Title, material, volume, reusable, traceparent.
pub const CREATE: &str = with_event!(
    "insert into package (title, material, max_volume, reusable, created_at) \
     values ($1, $2, $3, $4, clock_timestamp()) \
     returning package_id, title, material, max_volume, reusable, created_at, updated_at",
    type: "Created", payload: payload!(), at: "created_at", traceparent: "$5"
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
pub const UPDATE: &str = with_event!(
    "update package set \
        title = coalesce($2, title), material = coalesce($3, material), \
        max_volume = coalesce($4, max_volume), reusable = coalesce($5, reusable), \
        updated_at = greatest(clock_timestamp(), updated_at, created_at) \
     where package_id = $1 \
     returning package_id, title, material, max_volume, reusable, created_at, updated_at",
    type: "Updated", payload: payload!(), at: "updated_at", traceparent: "$6"
);

/// Id, traceparent.
pub const REMOVE: &str = with_event!(
    "delete from package where package_id = $1 \
     returning package_id, greatest(clock_timestamp(), updated_at, created_at) as removed_at",
    type: "Removed", payload: "null::jsonb", at: "removed_at", traceparent: "$2"
);

/// They read and write nothing, but need every table, column and right that the statements above need.
pub const PROBES: [&str; 4] = [
    "select package_id, title, material, max_volume, reusable, created_at, updated_at from package where false",
    "update package set updated_at = updated_at where false",
    "delete from package where false",
    "insert into package_event (package_id, event_type, payload, created_at, traceparent) \
     select 0, 'Created'::event_type_enum, null::jsonb, now(), null where false",
];
