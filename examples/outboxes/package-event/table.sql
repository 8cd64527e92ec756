create table package_event (
    package_event_id bigserial primary key,
    package_id bigint not null,
    event_type text not null check (event_type in ('Created', 'Updated', 'Removed')),
    payload jsonb,
    created_at timestamptz not null,
    event_id uuid not null,
    traceparent text
);
