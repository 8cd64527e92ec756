#!/usr/bin/env python3
"""Captures what a real Postgres sends, in binary and in text form, as seeds for the fuzzer and its replay test.

    make dev-up && . .dev/instances/dev/env && python3 dev/fuzz/capture.py

A seed of `messages` is a stream: each message behind its length in two bytes. A seed of `rows` is the tuple of one
inserted row. Positions, times and object ids differ from one capture to the next; nothing depends on them.
"""

import os
import pathlib
import subprocess
import uuid

ROOT = pathlib.Path(__file__).resolve().parent
STACK = ROOT.parent / "stack" / "stack.py"
NAME = "fuzz_" + uuid.uuid4().hex[:8]

TABLES = """
create type event_type_enum as enum ('Created', 'Updated', 'Removed');
create table package_event (
  package_event_id bigserial primary key,
  package_id bigint not null,
  event_type event_type_enum not null,
  payload jsonb,
  created_at timestamptz not null default now(),
  event_id uuid not null default gen_random_uuid(),
  traceparent text);
create table other (
  id integer primary key, gone text, n numeric, f double precision, b bytea, t text[], d date, flag boolean, big text);
alter table other drop column gone;
alter table other alter column big set storage external;
create publication everything for all tables;
"""

INSERT = "insert into package_event (package_id, event_type, payload, created_at, event_id, traceparent) values "
EVENT = "(7, 'Created', '{\"ID\": 7}', '2026-01-02 03:04:05.000006Z', '01234567-89ab-cdef-0123-456789abcdef', null);"
LARGE = "(select string_agg(md5(i::text), '') from generate_series(1, 100) i)"

OTHER_TYPES = (
    "create table package_event (package_event_id {}, package_id {}, event_type {}, payload {}, created_at {}, "
    "event_id uuid, traceparent text)")
OTHER_ROW = "insert into package_event values ({}, {}, 'Created', {}, '2026-01-02 03:04:05', gen_random_uuid(), 'x')"

# Each statement is a transaction of its own, unless it says begin.
STREAMS = {
    "rows": [
        INSERT + EVENT,
        "begin; " + INSERT + "(8, 'Updated', '{\"Title\": \"ящик\", \"Updated\": null}', 'epoch', gen_random_uuid(), "
        "'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'); "
        + INSERT + "(8, 'Removed', null, '1999-12-31 23:59:59Z', gen_random_uuid(), ''); commit",
        INSERT + f"(-1, 'Updated', jsonb_build_object('Title', {LARGE}), 'infinity', gen_random_uuid(), null);",
    ],
    "changes": [
        f"insert into other values (1, 1.50, 'nan', '\\x00ff', '{{a,null}}', 'infinity', true, {LARGE})",
        "update other set n = 2, flag = null",
        "update other set id = 2",
        "alter table other replica identity full",
        "update other set f = -0.0",
        "delete from other",
        "truncate other, package_event",
    ],
    "altered": [
        INSERT + EVENT,
        "alter table package_event add column note text default 'x'",
        INSERT + EVENT,
        "begin; alter table package_event rename column traceparent to trace; " + INSERT.replace("traceparent", "trace")
        + EVENT + "commit",
        "alter table package_event rename to package_event_old",
        INSERT.replace("traceparent", "trace").replace("package_event ", "package_event_old ") + EVENT,
    ],
    # Behind "altered", which leaves no table of the outbox's name.
    "types": [
        OTHER_TYPES.format("smallint", "uuid", "varchar(9)", "json", "timestamp"),
        OTHER_ROW.format("-2", "gen_random_uuid()", "'{\"ID\": 7}'"),
        "drop table package_event",
        OTHER_TYPES.format("integer", "text", "text", "bytea", "timestamptz"),
        OTHER_ROW.format("70000", "'ключ'", "'\\x00ff'"),
    ],
    "origin": [
        "select pg_logical_emit_message(false, 'outside', E'\\\\x0001')",
        f"select pg_replication_origin_session_setup('{NAME}'); begin; "
        f"select pg_replication_origin_xact_setup('0/123', '2026-01-02Z'); insert into other (id) values (9); "
        "select pg_logical_emit_message(true, 'inside', 'hello'); commit",
    ],
}


def program(name):
    return subprocess.run(["python3", STACK, "bin", name], check=True, capture_output=True, text=True).stdout.strip()


PSQL = program("psql")


def sql(text, database=NAME):
    url = os.environ["DATABASE_URL"].rsplit("/", 1)[0] + "/" + database
    command = [PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1", url]
    return subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def peek(binary):
    return [bytes.fromhex(line) for line in sql(
        f"select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('{NAME}', null, null, "
        f"'proto_version', '1', 'publication_names', 'everything', 'messages', 'true', 'binary', '{binary}')")]


def save(target, name, content):
    folder = ROOT / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"real-{name}").write_bytes(content)


def capture(name, statements):
    for statement in statements:
        sql(statement)
    for form, binary in (("binary", "true"), ("text", "false")):
        messages = peek(binary)
        print(f"{name}-{form}", b"".join(message[:1] for message in messages).decode())
        save("messages", f"{name}-{form}", b"".join(len(m).to_bytes(2, "big") + m for m in messages))
        if name == "rows":
            rows = [message[6:] for message in messages if message[:1] == b"I"]
            for number, row in enumerate(rows):
                save("rows", f"{number}-{form}", row)
    sql(f"select count(*) from pg_logical_slot_get_binary_changes('{NAME}', null, null, 'proto_version', '1', "
        "'publication_names', 'everything')")


def main():
    sql(f"create database {NAME} template template0", "postgres")
    try:
        sql(TABLES)
        sql(f"select pg_create_logical_replication_slot('{NAME}', 'pgoutput'), pg_replication_origin_create('{NAME}')")
        for name, statements in STREAMS.items():
            capture(name, statements)
    finally:
        sql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{NAME}'; "
            f"select pg_replication_origin_drop(roname) from pg_replication_origin where roname = '{NAME}'", "postgres")
        sql(f"drop database {NAME} with (force)", "postgres")


if __name__ == "__main__":
    main()
