//! The event that goes with every change: where it is written, the SQL that writes it, and its shape.
//!
//! The shape is the contract with walpost (`migrations/`, table `package_event`), which publishes what it says, whoever
//! wrote it, and knows nothing of packages. An event is a row of that table or, where [`Outbox`] says so, a logical
//! message: a JSON object whose members have the names of the table's columns, so that walpost's preset
//! `package-event` makes the same record of either.
//!
//! | column, or member | here |
//! |---|---|
//! | `package_id` | the package that changed; it becomes the record's key |
//! | `event_type` | `Created`, `Updated`, `Removed` |
//! | `payload` | the package as JSON after the change, see `payload`; null after a removal |
//! | `created_at` | the time of the change: what `created_at`, `updated_at` of the package say |
//! | `traceparent` | the trace of the request, where it brought one |
//! | `package_event_id`, `event_id` | the columns' defaults; in a message the same calls: ids go on in one sequence, whichever way events are written |
//!
//! `with_event` joins a change and its event in **one statement**: one round trip, one implicit transaction, and no
//! way to have one without the other. The event is made from what the change returned, so its id is drawn after
//! the package's row lock was taken: for one package the ids follow the order of the changes.

use std::sync::Arc;

/// Where events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbox {
    /// As rows of the table `package_event`, which keeps them until they are removed.
    Table,
    /// As logical messages (`pg_logical_emit_message`), which are in the WAL and nowhere else.
    Messages {
        /// What walpost knows them by: its setting `messages`.
        prefix: Arc<str>,
    },
}

/// The two forms of a change's statement. Their parameters and the first columns of their answers are the same; the form
/// for messages has one parameter more, the prefix, behind the others.
#[derive(Debug, Clone, Copy)]
pub struct ByOutbox {
    /// With the event as a row.
    pub table: &'static str,
    /// With the event as a logical message.
    pub messages: &'static str,
}

impl ByOutbox {
    /// The form for an outbox.
    #[must_use]
    pub fn of(&self, outbox: &Outbox) -> &'static str {
        match outbox {
            Outbox::Table => self.table,
            Outbox::Messages { .. } => self.messages,
        }
    }
}

/// A time of a changed row as text: RFC 3339 in UTC with microseconds, whatever zone the session has.
macro_rules! rfc3339 {
    ($time:literal) => {
        concat!("to_char(", $time, " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
}

/// The package as JSON, from columns of a row of `package`: the payload that consumers read.
///
/// `real` becomes the shortest number that reads back as the same value (700.5, not 700.500000): `extra_float_digits`
/// is above 0 on the pool's connections.
macro_rules! payload {
    () => {
        concat!(
            "jsonb_build_object(\
                'ID', package_id, 'Title', changed.title, 'Material', changed.material, \
                'MaximumVolume', changed.max_volume, 'Reusable', changed.reusable, 'Created', ",
            rfc3339!("changed.created_at"),
            ", 'Updated', ",
            rfc3339!("changed.updated_at"),
            ")"
        )
    };
}

/// The event as a logical message of the transaction (`true`), which takes it back where it is rolled back: a column
/// for what a query selects. It must be one of the outermost query, since a `with` query that only selects is not run
/// unless the rest reads from it.
macro_rules! message {
    (type: $event_type:literal, payload: $payload:expr, at: $at:literal, traceparent: $traceparent:literal, prefix: $prefix:literal) => {
        concat!(
            "pg_logical_emit_message(true, ",
            $prefix,
            "::text, jsonb_build_object(\
                'package_event_id', nextval('package_event_package_event_id_seq'), 'event_id', gen_random_uuid(), \
                'package_id', package_id, 'event_type', '",
            $event_type,
            "', 'created_at', ",
            rfc3339!($at),
            ", 'traceparent', ",
            $traceparent,
            "::text, 'payload', ",
            $payload,
            // The position, which nobody needs; its type would take the driver a question more.
            ")::text) is not null"
        )
    };
}

/// A change of a package together with its event, as one statement that returns the package's id, or no row where
/// there is no such package.
///
/// `$change` returns the columns of the package it changed; `$at` is one of them, the time of the change. `$prefix` is
/// the parameter behind those of the change.
macro_rules! with_event {
    ($change:expr, type: $event_type:literal, payload: $payload:expr, at: $at:literal, traceparent: $traceparent:literal, prefix: $prefix:literal) => {
        ByOutbox {
            table: concat!(
                "with changed as (",
                $change,
                "), event as (",
                "insert into package_event (package_id, event_type, payload, created_at, traceparent) ",
                "select package_id, '",
                $event_type,
                "'::event_type_enum, ",
                $payload,
                ", ",
                $at,
                ", ",
                $traceparent,
                " from changed) ",
                "select package_id from changed"
            ),
            messages: concat!(
                "with changed as (",
                $change,
                ") select package_id, ",
                message!(type: $event_type, payload: $payload, at: $at, traceparent: $traceparent, prefix: $prefix),
                " from changed"
            ),
        }
    };
}

/// Several changes together with their events, as one statement that returns the columns `$answer` of each that was made.
///
/// `$changes` is the text of two tables, `wanted` with the packages' ids and traces, and `changed` as in [`with_event`];
/// `$from` is the one of them that has these columns.
macro_rules! many_with_events {
    ($changes:expr, type: $event_type:literal, at: $at:literal, answer: $answer:literal, from: $from:literal, prefix: $prefix:literal) => {
        ByOutbox {
            table: concat!(
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
                "select ",
                $answer,
                " from ",
                $from
            ),
            messages: concat!(
                "with ",
                $changes,
                " select ",
                $answer,
                ", ",
                message!(type: $event_type, payload: payload!(), at: $at, traceparent: "wanted.traceparent", prefix: $prefix),
                " from changed join wanted using (package_id)"
            ),
        }
    };
}

pub(crate) use {many_with_events, message, payload, rfc3339, with_event};
