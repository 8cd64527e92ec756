create table mt_events (
    seq_id bigint not null primary key,
    id uuid not null,
    stream_id uuid,
    version bigint not null,
    data jsonb not null,
    bdata bytea,
    type varchar(500) not null,
    timestamp timestamptz default now() not null,
    tenant_id varchar default '*DEFAULT*',
    mt_dotnet_type varchar,
    headers jsonb,
    is_archived boolean default false
);
