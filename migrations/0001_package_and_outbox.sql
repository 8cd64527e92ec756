-- The two tables, where they do not exist yet. A database that the Go service left has them already, in an older shape;
-- the next migration brings both to the same one.

-- Waiting for a table lock blocks every statement that comes after, so a long transaction elsewhere must make the
-- migration fail (it can be repeated) rather than stop the service.
set local lock_timeout = '10s';

do $$
begin
  if to_regtype('event_type_enum') is null then
    create type event_type_enum as enum ('Created', 'Updated', 'Removed');
  end if;
end
$$;

create table if not exists package (
  package_id bigserial primary key,
  title      varchar(32) not null,
  material   varchar(32) not null,
  max_volume real not null, -- cm³
  reusable   boolean not null default false,
  created_at timestamptz not null,
  updated_at timestamptz -- null before the first update
);

-- The outbox: one row for each change of a package, written in the transaction that makes the change. The relay reads
-- it from the write-ahead log, so no row is ever locked, updated or polled.
--
-- Primary keys are the only indexes. The server only inserts here; the relay deletes published rows by key, in the
-- order of the key. An index on package_id or created_at would be written with every event and read by nobody.
create table if not exists package_event (
  package_event_id bigserial primary key,
  -- No foreign key to package: the event of a removal outlives its package.
  package_id       bigint not null,
  event_type       event_type_enum not null,
  payload          jsonb, -- the package after the change; null after a removal
  created_at       timestamptz not null default now(),
  -- What consumers deduplicate by. The bigserial cannot serve: a failover may hand the same numbers out again.
  event_id         uuid not null default gen_random_uuid(),
  traceparent      text -- W3C Trace Context of the request that made the change
);
