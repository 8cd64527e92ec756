create table outbox_entries (
    id bigserial primary key,
    resource_class varchar,
    resource_id varchar,
    event_name varchar not null,
    context varchar not null,
    processed_at timestamp,
    arguments text not null default '{}',
    changeset text not null default '{}',
    causality_key varchar,
    failed_at timestamp,
    retry_at timestamp,
    error_class varchar,
    error_message varchar,
    attempts int not null default 0,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);
