//! The server against a real Postgres: of `DATABASE_URL`, or started by the harness.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod altered;
mod calls;
mod contract;
mod events;
mod gates;
mod gateway;
mod killed;
mod lifecycle;
mod messages;
mod migrations;
mod observed;
mod once;
mod page;
mod pooler;
mod publication;
mod reached;
mod read_only;
mod rest;
mod sharing;
mod startup;
mod stopped;
mod support;
