create table outbox_events (
    id uuid primary key default gen_random_uuid(),
    aggregate_type text not null,
    aggregate_id uuid not null,
    event_type text not null,
    payload jsonb not null,
    traceparent varchar(55),
    created_at timestamptz not null default now(),
    published_at timestamptz
);
