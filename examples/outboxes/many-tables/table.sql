create schema tenant_a;
create schema tenant_b;
create schema billing;
create table tenant_a.outbox (id bigserial primary key, aggregate_id bigint not null, payload jsonb);
create table tenant_b.outbox (id bigserial primary key, aggregate_id bigint not null, payload jsonb);
create table tenant_b.other (id bigserial primary key, aggregate_id bigint not null, payload jsonb);
create table billing.events_out (invoice text primary key, doc json);
