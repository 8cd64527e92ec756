//! The side of Postgres.

use std::collections::HashMap;

use super::Side;
use super::failure::failed;
use super::table::Table;
use crate::config::{Settings, TableSource};
use crate::error::Error;
use crate::postgres::catalogue;
use crate::postgres::ledger;
use crate::postgres::names::table_name;
use crate::postgres::preflight::{self, PreflightError, SlotFacts};
use crate::postgres::{DatabaseError, Session};
use crate::replication::Connection;
use walpost_core::event::OutboxTable;
use walpost_core::pgoutput::Relation;

/// Settings of the server that matter.
const SETTINGS: [&str; 7] = [
    "server_version",
    "server_version_num",
    "wal_level",
    "max_wal_senders",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "idle_replication_slot_timeout",
];

/// What was asked of the server, once.
struct Asked<'a> {
    settings: &'a Settings,
    session: Session,
    server: HashMap<String, String>,
}

pub(super) async fn check(settings: &Settings, side: &mut Side<'_>) {
    let session = match Session::connect(&settings.database, settings.timing.connect_timeout).await {
        Ok(session) => session,
        Err(error) => return failed(side, "connection", error.into()),
    };
    side.ok("connection", settings.database.to_string());
    let server = match server_settings(&session).await {
        Ok(server) => server,
        Err(error) => return failed(side, "settings", error.into()),
    };
    let asked = Asked { settings, session, server };
    let tables = asked.tables(side).await;
    if let Err(error) = preflight::check_server(&asked.session).await {
        failed(side, "server", error.into());
    }
    if let Err(error) = preflight::check_not_awaited(&asked.session).await {
        failed(side, "standbys", error.into());
    }
    asked.version(side);
    asked.wal_level(side);
    asked.senders(side).await;
    asked.rights(side, &tables).await;
    asked.shards(side).await;
    let mut outboxes = Vec::new();
    for table in &tables {
        outboxes.extend(table.check(side).await);
    }
    asked.slot(side, &outboxes).await;
    asked.retention(side);
    asked.idle_timeout(side);
}

async fn server_settings(session: &Session) -> Result<HashMap<String, String>, DatabaseError> {
    let sql = "select name, setting from pg_settings where name = any($1)";
    let rows = session.client().query(sql, &[&SETTINGS.as_slice()]).await;
    let rows = rows.map_err(session.error("read pg_settings"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

impl Asked<'_> {
    /// The tables, each with what it leaves open said, where it is there and fits.
    async fn tables(&self, side: &mut Side<'_>) -> Vec<Table<'_>> {
        let source = &self.settings.source;
        let named = match preflight::tables(&self.session, source).await {
            Ok(named) => named,
            Err(error) => {
                failed(side, "table", error.into());
                return Vec::new();
            }
        };
        for pattern in source.tables.iter().filter_map(OutboxTable::pattern) {
            if !named.iter().any(|table| table.found_by.as_ref() == Some(&pattern)) {
                side.warn("table", format!("{pattern} stands for no table"), "make one, or correct --table");
            }
        }
        for messages in &source.messages {
            side.warn(
                "messages",
                format!("`{}`: there is no second copy of what a lost slot has not sent", messages.prefix()),
                "watch the slot's margin (walpost_slot_safe_bytes) and give max_slot_wal_keep_size room, or keep events in a \
                 table, from which `walpost recover` publishes them",
            );
        }
        let mut tables = Vec::new();
        for table in named {
            let looked = match catalogue::look(&self.session, &table).await {
                Ok(looked) => looked,
                Err(error) => {
                    failed(side, "table", error.into());
                    continue;
                }
            };
            let time = looked.as_ref().and_then(|looked| looked.time_column().map(str::to_owned));
            let table = looked.and_then(|looked| looked.table.ok()).unwrap_or(table);
            let (session, settings) = (&self.session, self.settings);
            tables.push(Table { session, settings, source: source.of(table), time });
        }
        tables
    }

    fn setting(&self, name: &str) -> &str {
        self.server.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.setting(name).parse().unwrap_or_default()
    }

    fn version(&self, side: &mut Side<'_>) {
        let version = self.setting("server_version");
        match self.number("server_version_num") {
            ..140_000 => side.fail("version", version, "walpost is made for PostgreSQL 14 to 18: upgrade"),
            140_000..180_000 if !preflight::decodes_alterations(self.session.version()) => side.warn(
                "version",
                version,
                "a table that is put back into the publication under load can stay out of the stream for good: upgrade to \
                    14.18, 15.13, 16.9, 17.5 or newer",
            ),
            140_000..190_000 => side.ok("version", version),
            _ => side.warn(
                "version",
                version,
                "walpost is tested with PostgreSQL 14 to 18: try it elsewhere first",
            ),
        }
    }

    fn wal_level(&self, side: &mut Side<'_>) {
        match self.setting("wal_level") {
            "logical" => side.ok("wal_level", "logical"),
            other => {
                side.fail(
                    "wal_level",
                    other,
                    "set wal_level = logical in postgresql.conf and restart Postgres",
                );
            }
        }
    }

    async fn senders(&self, side: &mut Side<'_>) {
        let sql = "select (select count(*) from pg_stat_replication), (select count(*) from pg_replication_slots), \
                   exists (select from pg_replication_slots where slot_name = $1), \
                   exists (select from pg_replication_slots where slot_name = $1 and active)";
        let row = match self.session.client().query_one(sql, &[&self.settings.source.slot]).await {
            Ok(row) => row,
            Err(error) => {
                return failed(side, "slots in use", self.session.error("count the slots")(error).into());
            }
        };
        for (name, setting, used, has_one) in [
            ("max_wal_senders", "max_wal_senders", row.get::<_, i64>(0), row.get::<_, bool>(3)),
            ("max_repl._slots", "max_replication_slots", row.get(1), row.get(2)),
        ] {
            let most = self.number(setting);
            let found = format!("{used} of {most} in use");
            if used < most || has_one {
                side.ok(name, found);
            } else {
                side.fail(name, found, format!("raise {setting} in postgresql.conf and restart Postgres"));
            }
        }
    }

    async fn rights(&self, side: &mut Side<'_>, tables: &[Table<'_>]) {
        // Some services give the right by membership, and leave the attribute alone: those of Amazon by rds_replication.
        let sql = "select r.rolreplication or r.rolsuper or exists (select from pg_roles m \
                           where m.rolname = 'rds_replication' and pg_has_role(r.oid, m.oid, 'member')), \
                       array(select t from unnest($1::text[]) t where not coalesce(has_table_privilege(to_regclass(t), 'select'), \
                           false)), \
                       array(select t from unnest($1::text[]) t where not coalesce(has_table_privilege(to_regclass(t), 'delete'), \
                           false)), \
                       coalesce((select has_schema_privilege(n.oid, 'usage') and coalesce(bool_and(has_table_privilege(t.oid, \
                           'select') and has_table_privilege(t.oid, 'insert') and has_table_privilege(t.oid, 'update') \
                           and (t.relname <> 'outbox' or has_table_privilege(t.oid, 'delete'))), true) \
                           from pg_namespace n left join pg_class t on t.relnamespace = n.oid and t.relkind = 'r' \
                           and t.relname <> 'version' where n.nspname = 'walpost' group by n.oid), \
                           has_database_privilege(current_database(), 'create')), r.rolname::text, \
                       exists (select from pg_namespace where nspname = 'walpost') \
                   from pg_roles r where r.rolname = current_user";
        let names: Vec<_> = tables.iter().map(|table| table_name(&table.source.table)).collect();
        let row = match self.session.client().query_one(sql, &[&names]).await {
            Ok(row) => row,
            Err(error) => return failed(side, "rights", self.session.error("read the rights")(error).into()),
        };
        let role: String = row.get(4);
        let has = |index| row.get::<_, bool>(index);
        let mut lacks = Vec::new();
        // What another service may do in another way is seen by doing it.
        if !has(0) && !self.streams().await {
            lacks.push(format!("alter role {role} replication"));
        }
        for table in row.get::<_, Vec<String>>(1) {
            lacks.push(format!("grant select on {table} to {role}"));
        }
        for table in row.get::<_, Vec<String>>(2).iter().filter(|_| self.settings.clean.is_some()) {
            lacks.push(format!("grant delete on {table} to {role}"));
        }
        if !has(3) && has(5) {
            lacks.push(format!(
                "grant usage on schema walpost to {role}; grant select, insert, update, delete on all tables in schema walpost \
                 to {role}"
            ));
        } else if !has(3) {
            lacks.push(format!(
                "grant create on database {} to {role}",
                self.settings.database.conninfo.database
            ));
        }
        if lacks.is_empty() {
            side.ok("rights", format!("the role {role} has what it needs"));
        } else {
            side.fail("rights", format!("the role {role} lacks rights"), lacks.join("; "));
        }
    }

    /// Rows of a shard that nobody follows are published by nobody, and each of the others is well.
    async fn shards(&self, side: &mut Side<'_>) {
        const NAME: &str = "shards";
        let shards = &self.settings.source.shards;
        if shards.is_empty() {
            return;
        }
        let sql = "select name from unnest($1::text[]) name where not exists \
                   (select from pg_replication_slots where slot_name = name)";
        let missing = self.session.client().query(sql, &[shards]).await;
        match missing.map_err(self.session.error("look for the slots of the other shards")) {
            Err(error) => failed(side, NAME, error.into()),
            Ok(missing) if missing.is_empty() => {
                side.ok(NAME, format!("all {} have their slots", shards.len()))
            }
            Ok(missing) => {
                let names: Vec<String> = missing.iter().map(|row| row.get(0)).collect();
                side.warn(
                    NAME,
                    format!("there is no slot {}: nobody publishes those rows", names.join(", ")),
                    "run `walpost init` and `walpost run` with --shard of each",
                );
            }
        }
    }

    async fn streams(&self) -> bool {
        Connection::open(&self.settings.database, self.settings.timing.connect_timeout).await.is_ok()
    }

    async fn slot(&self, side: &mut Side<'_>, outboxes: &[(TableSource, Relation)]) {
        const NAME: &str = "slot";
        let facts = match self.slot_facts(outboxes).await {
            Ok(facts) => facts,
            Err(error) => return failed(side, NAME, error),
        };
        let state = facts.wal_status.as_deref().unwrap_or("unknown");
        let user = match facts.active_pid {
            Some(pid) => format!("in use by pid {pid}"),
            None => "not in use".to_owned(),
        };
        let found = format!("{}, {state}, {user}", facts.slot_name);
        match state {
            "unreserved" => {
                side.warn(NAME, found, "start walpost now: its log may be removed at the next checkpoint")
            }
            _ => side.ok(NAME, found),
        }
        if facts.failover == Some(false) {
            side.warn(
                "failover",
                "the slot is not copied to standbys: after a failover it is gone",
                "where there are standbys, make it anew with `walpost recover` after dropping it, and set \
                    sync_replication_slots on them",
            );
        }
    }

    async fn slot_facts(&self, outboxes: &[(TableSource, Relation)]) -> Result<SlotFacts, Error> {
        let (source, timeout) = (&self.settings.source, self.settings.timing.connect_timeout);
        let facts = preflight::check_slot(&self.session, source).await?;
        ledger::check_version(&self.session).await?;
        let memory = ledger::load(&self.session, &source.slot).await?;
        let memory = memory.ok_or_else(|| preflight::Unsafe::SlotUnknown(source.slot.clone()))?;
        let (_, server) = Connection::open(&self.settings.database, timeout).await?;
        preflight::check_memory(&facts, &memory, &server)?;
        for (source, outbox) in outboxes {
            match preflight::check_publication(&self.session, source, outbox).await {
                Ok(publication) => {
                    preflight::check_kept(source, &publication, memory.table(outbox.id), &memory)?
                }
                // Told already.
                Err(PreflightError::Unsafe(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(facts)
    }

    fn retention(&self, side: &mut Side<'_>) {
        const NAME: &str = "WAL for slots";
        match self.number("max_slot_wal_keep_size") {
            ..0 => side.warn(
                NAME,
                "no limit: while walpost is away the log grows until the disk is full",
                "set max_slot_wal_keep_size below the free space of the disk; a slot beyond it is lost, and \
                    `walpost recover` publishes what the table holds",
            ),
            megabytes => side.ok(NAME, format!("{megabytes} MB at most (max_slot_wal_keep_size)")),
        }
    }

    fn idle_timeout(&self, side: &mut Side<'_>) {
        match self.number("idle_replication_slot_timeout") {
            0 => {}
            seconds => side.warn(
                "idle slots",
                format!("a slot that is not used for {seconds} s is lost (idle_replication_slot_timeout)"),
                "set it to 0, or well above the longest time that walpost may be away",
            ),
        }
    }
}
