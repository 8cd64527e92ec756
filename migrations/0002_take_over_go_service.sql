-- Brings the tables that the Go service left (its migrations 1 and 2, run by goose) to the shape of 0001. Every package
-- and every event stays: the poller deleted an event once it was published, so each row that is left, 'Locked' or
-- 'Unlocked', is still to be published. Payloads are not rewritten.
--
-- Each step looks at what is there, so an empty database and a half-way Go database pass through it as well. The Go
-- service's own bookkeeping (goose_db_version) is left alone.
--
-- Stop the Go service and its retranslator first; one that still runs gets errors from here on, but loses nothing.

set local lock_timeout = '10s'; -- as in 0001
set local client_min_messages = 'warning'; -- an empty database has nothing to take over, which is no news

-- In the order in which a change of a package takes them: any other order can deadlock with one under way.
lock table package, package_event in access exclusive mode;

-- Not used before the commit: a new label cannot be used in the transaction that adds it.
alter type event_type_enum add value if not exists 'Created';
alter type event_type_enum add value if not exists 'Updated';
alter type event_type_enum add value if not exists 'Removed';

-- Both only repeat their primary key. The third index, on event_status, goes with its column.
drop index if exists package_id_index, package_event_id_index;
alter table package_event drop column if exists event_status;
drop type if exists event_status_enum;

-- `timestamp` without zone, written as UTC: say so, or it would be read in whatever zone a session has. All columns of a
-- table in one statement, since each statement rewrites the table.
do $$
declare
  conversion record;
begin
  for conversion in
    select attrelid::regclass as table_name,
           string_agg(
             format('alter column %1$I drop default, '
                    'alter column %1$I type timestamptz using %1$I at time zone ''UTC''', attname), ', ') as actions
    from pg_attribute
    where attrelid in ('package'::regclass, 'package_event'::regclass)
      and atttypid = 'timestamp'::regtype
      and not attisdropped
    group by attrelid
  loop
    execute format('alter table %s %s', conversion.table_name, conversion.actions);
  end loop;
end
$$;

-- Nullable in the Go service's tables, although it always filled them.
update package set created_at = coalesce(updated_at, now()) where created_at is null;
update package_event set created_at = now() where created_at is null;
update package_event set package_id = (payload ->> 'ID')::bigint where package_id is null and payload ? 'ID';

do $$
begin
  if exists (select from package_event where package_id is null) then
    raise exception 'package_event has rows with neither package_id nor an ID in their payload'
      using hint = 'Nobody can tell which package they are about. Look at them, delete them, and migrate again.';
  end if;
end
$$;

alter table package
  alter column title type varchar(32),
  alter column title set not null,
  alter column material type varchar(32),
  alter column material set not null,
  alter column max_volume set not null,
  alter column reusable set default false,
  alter column reusable set not null,
  alter column created_at set not null;

alter table package_event
  alter column package_id set not null,
  alter column event_type set not null,
  alter column created_at set default now(),
  alter column created_at set not null,
  -- The default is volatile, so each row that is there gets an id of its own.
  add column if not exists event_id uuid not null default gen_random_uuid(),
  add column if not exists traceparent text;
