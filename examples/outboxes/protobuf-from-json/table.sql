create table outbox (
    id bigserial primary key,
    aggregate_id text not null,
    event_type text not null,
    payload jsonb
);
