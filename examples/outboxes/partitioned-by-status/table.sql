create table outbox (
    event_id bigserial,
    event_name text not null,
    event_payload jsonb not null,
    relayed boolean not null default false,
    created_at timestamp not null default now(),
    primary key (event_id, relayed)
) partition by list (relayed);
create table outbox_todo partition of outbox for values in (false);
create table outbox_done partition of outbox for values in (true);
