//! The event that goes with every change: the SQL that writes its row, and the shape of that row.
//!
//! The row is the contract with the relay (`migrations/`, table `package_event`). The relay publishes what an insert
//! into that table says, whoever made it, and knows nothing of packages. A row holds:
//!
//! | column | here |
//! |---|---|
//! | `package_id` | the package that changed; it becomes the record's key |
//! | `event_type` | `Created`, `Updated`, `Removed` |
//! | `payload` | the package as JSON after the change, see [`payload`]; null after a removal |
//! | `created_at` | the time of the change: what `created_at`, `updated_at` of the package say |
//! | `traceparent` | the trace of the request, where it brought one |
//! | `package_event_id`, `event_id` | their defaults |
//!
//! [`with_event`] joins a change and its event in **one statement**: one round trip, one implicit transaction, and no
//! way to have one without the other. The event's row is made from what the change returned, so its id is drawn after
//! the package's row lock was taken: for one package the ids follow the order of the changes.

/// The package as JSON, from columns of a row of `package`: the payload that consumers read.
///
/// Times are RFC 3339 in UTC with microseconds, whatever zone the session has. `real` becomes the shortest number that
/// reads back as the same value (700.5, not 700.500000): `extra_float_digits` is above 0 on the pool's connections.
macro_rules! payload {
    () => {
        "jsonb_build_object(\
            'ID', package_id, 'Title', changed.title, 'Material', changed.material, \
            'MaximumVolume', changed.max_volume, 'Reusable', changed.reusable, \
            'Created', to_char(changed.created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
            'Updated', to_char(changed.updated_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
    };
}

/// A change of a package together with its event, as one statement that returns the package's id, or no row where
/// there is no such package.
///
/// `$change` returns the columns of the package it changed; `$at` is one of them, the time of the change.
macro_rules! with_event {
    ($change:expr, type: $event_type:literal, payload: $payload:expr, at: $at:literal, traceparent: $parameter:literal) => {
        concat!(
            "with changed as (",
            $change,
            "), ",
            "event as (",
            "insert into package_event (package_id, event_type, payload, created_at, traceparent) ",
            "select package_id, '",
            $event_type,
            "'::event_type_enum, ",
            $payload,
            ", ",
            $at,
            ", ",
            $parameter,
            " ",
            "from changed) ",
            "select package_id from changed"
        )
    };
}

/// Several changes together with their events, as one statement.
///
/// `$changes` is the text of two tables, `wanted` with the packages' ids and traces, and `changed` as in [`with_event`].
macro_rules! many_with_events {
    ($changes:expr, type: $event_type:literal, at: $at:literal, answer: $answer:literal) => {
        concat!(
            "with ",
            $changes,
            ", event as (",
            "insert into package_event (package_id, event_type, payload, created_at, traceparent) ",
            "select package_id, '",
            $event_type,
            "'::event_type_enum, ",
            payload!(),
            ", ",
            $at,
            ", wanted.traceparent from changed join wanted using (package_id)) ",
            $answer
        )
    };
}

pub(crate) use {many_with_events, payload, with_event};
