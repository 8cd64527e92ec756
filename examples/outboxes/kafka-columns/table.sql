create table outbox_kafka (
    id bigserial primary key,
    topic varchar(249) not null,
    key varchar(249),
    value bytea not null,
    headers jsonb,
    created timestamp not null default now(),
    processed timestamp
);
