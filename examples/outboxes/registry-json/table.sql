create table outbox (id uuid primary key, aggregate_id text not null, payload jsonb);
