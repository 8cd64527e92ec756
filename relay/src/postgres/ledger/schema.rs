//! The schema: made, brought up to date, and whether this role may use it.

use crate::postgres::preflight::{PreflightError, Unsafe};
use crate::postgres::{DatabaseError, Session};

/// The version of the schema that this walpost makes and understands: 1 had one table only, `slot`, without a version; 2 knew
/// nothing of logical messages.
const VERSION: i32 = 3;

/// The tables of the schema. A comment on each says what it is to those who find it in their database.
const SCHEMA: &str = "
create schema if not exists walpost;
create table if not exists walpost.version (
    version integer primary key
);
create table if not exists walpost.slot (
    slot_name text primary key,
    system_identifier text not null,
    confirmed_lsn pg_lsn not null,
    epoch bigint not null default 0,
    timeline integer,
    updated_at timestamptz not null default clock_timestamp()
);
alter table walpost.slot add column if not exists messages text[] not null default '{}';
create table if not exists walpost.outbox (
    slot_name text not null,
    table_oid oid not null,
    table_name text not null,
    pattern text,
    publication_oid oid,
    publication_table_oid oid,
    publication_rows text,
    republish_why text,
    streamed_from xid8,
    backfilled_at timestamptz,
    published_below xid8,
    copy_through bigint,
    copied_through bigint,
    copy_order text,
    guesses jsonb,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (slot_name, table_oid)
);
comment on schema walpost is 'What walpost remembers; see its documentation before changing anything here.';
comment on table walpost.slot is 'A row for each slot that walpost follows. confirmed_lsn is written before the slot is moved, so a slot ahead of it was not moved by walpost. messages are the prefixes of logical messages that are events.';
comment on table walpost.outbox is 'A row for each table that walpost publishes by a slot. Every transaction from streamed_from on is in the slot''s stream; every row that a transaction below published_below wrote to the table is in Kafka.';
create or replace function walpost.follow(outbox regclass, publication name default null) returns void
language plpgsql as $follow$
declare
    followed name[] := case when publication is not null then array[publication] else array(
        select distinct p.pubname from walpost.outbox o join pg_publication p on p.oid = o.publication_oid) end;
begin
    if cardinality(followed) <> 1 then
        raise exception 'walpost.follow: % publications are followed here', cardinality(followed)
            using hint = 'Name the publication, as in walpost.follow(''tenant_a.outbox'', ''walpost'').';
    end if;
    execute format('alter publication %I add table only %s', followed[1], outbox);
end $follow$;
comment on function walpost.follow is 'Has the rows of a new table published that a pattern of walpost stands for: call it in the transaction that creates the table, before its first insert.';
";

/// From version 1, where the one table had what is now a row of `outbox`; columns that a still older one lacks are added
/// first. Who might write there may write here.
const FROM_VERSION_1: &str = "
do $upgrade$
declare
    who oid;
begin
    if not exists (select from pg_attribute where attrelid = 'walpost.slot'::regclass and attname = 'backfilled_at'
            and not attisdropped) then
        return;
    end if;
    alter table walpost.slot
        add column if not exists publication_rows text,
        add column if not exists republish_why text,
        add column if not exists timeline integer,
        add column if not exists copy_through bigint,
        add column if not exists copied_through bigint,
        add column if not exists published_of oid,
        add column if not exists copy_order text,
        add column if not exists guesses jsonb;
    insert into walpost.outbox (slot_name, table_oid, table_name, publication_oid, publication_table_oid, publication_rows,
            republish_why, streamed_from, backfilled_at, published_below, copy_through, copied_through, copy_order, guesses)
        select s.slot_name, t.id, coalesce((select format('%s.%s', n.nspname, c.relname) from pg_class c
                join pg_namespace n on n.oid = c.relnamespace where c.oid = t.id), ''),
            s.publication_oid, s.publication_table_oid, s.publication_rows, s.republish_why, s.streamed_from, s.backfilled_at,
            case when s.published_of = t.id then s.published_below end, s.copy_through, s.copied_through, s.copy_order, s.guesses
        from walpost.slot s cross join lateral (select coalesce(
            (substring(s.publication_rows from 'table ([0-9]+)'))::oid,
            (select prrelid from pg_publication_rel r where r.oid = s.publication_table_oid), s.published_of)) t (id)
        where t.id is not null on conflict do nothing;
    for who in select distinct may.grantee from pg_class c, aclexplode(c.relacl) may where c.oid = 'walpost.slot'::regclass
            and may.privilege_type = 'UPDATE' and may.grantee <> 0 loop
        execute format('grant select, insert, update, delete on walpost.outbox, walpost.version to %s', who::regrole);
    end loop;
    for who in select distinct may.grantee from pg_class c, aclexplode(c.relacl) may where c.oid = 'walpost.slot'::regclass
            and may.privilege_type = 'SELECT' and may.grantee <> 0 loop
        execute format('grant select on walpost.outbox, walpost.version to %s', who::regrole);
    end loop;
    alter table walpost.slot drop column streamed_from, drop column backfilled_at, drop column published_below,
        drop column publication_oid, drop column publication_table_oid, drop column publication_rows,
        drop column republish_why, drop column copy_through, drop column copied_through, drop column published_of,
        drop column copy_order, drop column guesses;
end $upgrade$;
";

/// Makes the schema where it is not there, and brings one of an older version up to this one.
///
/// # Errors
/// When the database refuses.
pub async fn create(session: &Session) -> Result<(), DatabaseError> {
    // Two at a time would both find it missing, and one would fail. The lock goes with the transaction.
    let guarded = format!(
        "begin isolation level read committed; set local client_min_messages = 'warning'; \
         select pg_advisory_xact_lock(hashtext('walpost.init')); {SCHEMA} {FROM_VERSION_1} \
         insert into walpost.version select {VERSION} where not exists (select from walpost.version); \
         update walpost.version set version = {VERSION} where version < {VERSION}; commit;"
    );
    let made = session.client().batch_execute(&guarded).await;
    if made.is_err() {
        // The transaction that failed is still open, and whatever is asked next would fail with it.
        session
            .client()
            .batch_execute("rollback")
            .await
            .map_err(session.error("leave a transaction that failed"))?;
    }
    made.map_err(session.error("make the schema walpost"))
}

/// Makes the schema where it is not there, or brings it up to this version: a role that does not own it may use one that
/// is.
///
/// # Errors
/// When the role may not, or the database refuses.
pub async fn make(session: &Session) -> Result<(), PreflightError> {
    if exists(session).await? { upgrade(session).await } else { Ok(create(session).await?) }
}

/// Checks that this role may write here: found out before a slot is made, which would hold back WAL for nothing.
///
/// # Errors
/// When it may not.
pub async fn check_rights(session: &Session) -> Result<(), PreflightError> {
    let sql = "select current_user::text, bool_and(has_table_privilege(c.oid, 'select') and (c.relname = 'version' or \
               has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update') \
               and (c.relname <> 'outbox' or has_table_privilege(c.oid, 'delete')))) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'walpost' and c.relkind = 'r'";
    let row = session.client().query_one(sql, &[]).await;
    let row = row.map_err(session.error("read the rights on the schema walpost"))?;
    match row.get::<_, Option<bool>>(1) {
        Some(false) => Err(Unsafe::LedgerDenied(row.get(0)).into()),
        _ => Ok(()),
    }
}

/// Brings a schema of an older version up to this one; one that is missing is left so.
///
/// # Errors
/// When the role may not, the schema is of a newer version, or the database refuses.
pub async fn upgrade(session: &Session) -> Result<(), PreflightError> {
    match version(session).await? {
        None => Ok(()),
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(Unsafe::LedgerNew { found: newer, known: VERSION }.into()),
        Some(_) => match create(session).await {
            // insufficient_privilege.
            Err(error) if error.sqlstate() == Some("42501") => Err(Unsafe::LedgerOld.into()),
            done => Ok(done?),
        },
    }
}

/// Checks that the schema, where it is there, is of this version: for those who only read.
///
/// # Errors
/// When it is of another.
pub async fn check_version(session: &Session) -> Result<(), PreflightError> {
    match version(session).await? {
        None | Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(Unsafe::LedgerNew { found: newer, known: VERSION }.into()),
        Some(_) => Err(Unsafe::LedgerOld.into()),
    }
}

/// Whether the schema is there.
///
/// # Errors
/// When the database refuses.
pub async fn exists(session: &Session) -> Result<bool, DatabaseError> {
    let row = session.client().query_one("select to_regclass('walpost.slot') is not null", &[]).await;
    Ok(row.map_err(session.error("look for the schema walpost"))?.get(0))
}

async fn version(session: &Session) -> Result<Option<i32>, DatabaseError> {
    let doing = "read the version of the schema walpost";
    let sql = "select to_regclass('walpost.slot') is not null, to_regclass('walpost.version') is not null";
    let row = session.client().query_one(sql, &[]).await.map_err(session.error(doing))?;
    match (row.get(0), row.get(1)) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(1)),
        (true, true) => {
            let row = session.client().query_opt("select max(version) from walpost.version", &[]).await;
            Ok(row.map_err(session.error(doing))?.and_then(|row| row.get(0)).or(Some(1)))
        }
    }
}
