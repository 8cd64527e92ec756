-- Roles with no more rights than each part needs. Not a migration: roles belong to the whole cluster, so an operator
-- who wants them runs this as a superuser, connected to the database, after the migrations; it may be run again:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f migrations/roles/roles.sql
--
-- | role                           | for                  | may                                                     |
-- |--------------------------------|----------------------|---------------------------------------------------------|
-- | logistic_package_owner         | migrations           | own tables, types and publication; nobody logs in as it |
-- | logistic_package_server        | the server           | read and change packages, insert events                 |
-- | logistic_package_relay         | the relay            | stream, read and delete events, keep schema walpost     |
-- | logistic_package_relay_metrics | the relay's metrics  | read the statistics views, and how old events are       |
--
-- No passwords here, where they would end up in a repository: set them with \password in psql, or use certificates.
--
-- REPLICATION is a right over the whole cluster: a role that has it streams any published table without SELECT. Limit
-- it in pg_hba.conf by user, database and source, for instance
--
--   hostssl  logistic_package_api  logistic_package_relay  10.0.0.7/32  scram-sha-256
--   host     all,replication       logistic_package_relay  all          reject
--
-- (a logical walsender matches the database's own name; the keyword `replication` is for physical ones only).

begin;

-- Rather fail, and be repeated, than hold up the service.
set local lock_timeout = '10s';

do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('logistic_package_owner', 'nologin'),
      ('logistic_package_server', 'login'),
      ('logistic_package_relay', 'login replication'),
      ('logistic_package_relay_metrics', 'login')
    ) as roles (name, attributes)
  loop
    if not exists (select from pg_roles where rolname = wanted.name) then
      execute format('create role %I', wanted.name);
    end if;
    execute format('alter role %I %s', wanted.name, wanted.attributes);
  end loop;
end
$$;

-- The owner. Migrations then run as a role that is a member of it, after `set role logistic_package_owner`: sqlx's table
-- of applied migrations is its own too. Only a table that has another owner is touched: a change of owner locks it
-- against everybody, also one that changes nothing, and this is repeated while the service runs.
grant usage, create on schema public to logistic_package_owner;
do $$
declare
  name text;
begin
  execute format('grant create on database %I to logistic_package_owner', current_database());
  foreach name in array array['package', 'package_event', 'package_request', '_sqlx_migrations'] loop
    -- The sequences follow their tables.
    if exists (select from pg_class where oid = to_regclass(name) and relowner <> 'logistic_package_owner'::regrole) then
      execute format('alter table %I owner to logistic_package_owner', name);
    end if;
  end loop;
end
$$;
alter type event_type_enum owner to logistic_package_owner;
alter publication package_event_pub owner to logistic_package_owner;

-- The server. On the outbox INSERT and nothing more: it never reads an event back, and INSERT alone forbids RETURNING.
grant usage on schema public to logistic_package_server;
grant select, insert, update, delete on package to logistic_package_server;
grant insert on package_event to logistic_package_server;
do $$
begin
  if to_regclass('_sqlx_migrations') is not null then
    grant select on _sqlx_migrations to logistic_package_server; -- for /ready
  end if;
end
$$;
grant select, insert, update, delete on package_request to logistic_package_server;
grant usage on sequence package_package_id_seq, package_event_package_event_id_seq to logistic_package_server;

-- The relay. It streams with REPLICATION; SELECT is for `recover` and the first start, DELETE for published rows. It
-- makes its own schema, walpost, and so needs CREATE on the database.
do $$
begin
  execute format('grant connect, create on database %I to logistic_package_relay', current_database());
end
$$;
grant usage on schema public to logistic_package_relay;
grant select, delete on package_event to logistic_package_relay;

-- Its metrics. Without pg_monitor the size of pg_wal is not to be seen, nor the positions in pg_stat_replication. Of an
-- event it reads when it was written, and nothing of what is in it.
grant pg_monitor to logistic_package_relay_metrics;
do $$
begin
  execute format('grant connect on database %I to logistic_package_relay_metrics', current_database());
end
$$;
grant usage on schema public to logistic_package_relay_metrics;
grant select (package_event_id, created_at) on package_event to logistic_package_relay_metrics;

commit;
