create table domain_event_entry (
    global_index bigint primary key,
    event_identifier varchar(255) not null,
    payload oid not null,
    payload_type varchar(255) not null,
    aggregate_identifier varchar(255) not null
);
