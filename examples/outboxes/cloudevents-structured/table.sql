create table outbox_events (
    id uuid primary key default gen_random_uuid(),
    event_type varchar(255) not null,
    payload jsonb not null,
    status varchar(20) not null default 'PENDING',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    processed_at timestamptz,
    retry_count int not null default 0,
    max_retries int not null default 5,
    last_error text,
    tenant_id varchar(255)
);
