-- What the relay's replication slot decodes: inserts into the outbox and nothing else. Deleting published rows, or a
-- truncate, is then no event. The relay's own `init` makes the same publication when it comes first.
--
-- Whoever runs this needs to own the table and to have CREATE on the database.

set local lock_timeout = '10s'; -- as in 0001

do $$
declare
  found pg_publication;
begin
  select * into found from pg_publication where pubname = 'package_event_pub';
  if found.pubname is null then
    create publication package_event_pub for table package_event with (publish = 'insert');
    return;
  end if;
  if found.puballtables then
    raise exception 'publication package_event_pub exists and is for all tables'
      using hint = 'It would publish every table as events. Drop or rename it, and migrate again.';
  end if;
  if not exists (
    select from pg_publication_rel where prpubid = found.oid and prrelid = 'package_event'::regclass
  ) then
    alter publication package_event_pub add table package_event;
  end if;
  alter publication package_event_pub set (publish = 'insert');
end
$$;
