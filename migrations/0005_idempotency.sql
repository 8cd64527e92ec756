-- The answers to changes that came with an idempotency key: a repeat within the time the server keeps them returns the
-- first answer and changes nothing. The row is written in the transaction of its change; each new one removes two that
-- are too old, so the table is as large as what is kept.

set local lock_timeout = '10s'; -- as in 0001

create table if not exists package_request (
  -- What the client sent as `idempotency-key`.
  key text primary key check (length(key) between 1 and 255),
  -- The rpc and the encoded request: the same key with another request is a mistake of the client.
  rpc text not null,
  request bytea not null,
  -- The answer.
  package_id bigint not null,
  created_at timestamptz not null default now()
);
create index if not exists package_request_created_at on package_request (created_at);
