//! The bot as a process, against a Bot API of the tests' own and real Redis, Kafka, Postgres and package API.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod api; // the package API, watched
mod cases; // what people see, step by step, as `cases.json` has it
mod chaos; // thousands of updates while everything fails in turn
mod expect; // how cases are compared
mod secure; // TLS, a token, spans
mod service; // a package API that fails, or is slow
mod settings; // wrong and missing ones; secrets
mod stale; // descriptions that have changed
mod started; // starts and ends
mod support;
mod talk; // groups, topics, buttons
mod telegram_fails; // a Telegram that refuses, throttles or is away
mod trace; // one trace, from the message to the record
