create table events (
    aggregate_type text not null,
    aggregate_id text not null,
    sequence bigint check (sequence >= 0) not null,
    event_type text not null,
    event_version text not null,
    payload json not null,
    metadata json not null,
    timestamp timestamptz default current_timestamp,
    primary key (aggregate_type, aggregate_id, sequence)
);
