//! The side of Postgres.

use std::collections::HashMap;

use super::Side;
use crate::config::{CleanRule, Settings, SourceSettings};
use crate::error::{Error, Verdict};
use crate::postgres::catalogue;
use crate::postgres::ledger;
use crate::postgres::names::{quoted, table_name};
use crate::postgres::preflight::{self, Outbox, PreflightError, SlotFacts};
use crate::postgres::{DatabaseError, Session};
use crate::replication::Connection;
use walpost_core::event::Kind;
use walpost_core::pgoutput::{Column, Relation};

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
    // What the settings leave open is said by the table, where it is there and fits.
    let looked = match catalogue::look(&session, &settings.source.table).await {
        Ok(looked) => looked,
        Err(error) => return failed(side, "table", error.into()),
    };
    let time = looked.as_ref().and_then(|looked| looked.time_column().map(str::to_owned));
    let table = looked.and_then(|looked| looked.table.ok());
    let table = table.unwrap_or_else(|| settings.source.table.clone());
    let source = SourceSettings { table, ..settings.source.clone() };
    let settings = &Settings { source, ..settings.clone() };
    let asked = Asked { settings, session, server };
    if let Err(error) = preflight::check_server(&asked.session).await {
        failed(side, "server", error.into());
    }
    if let Err(error) = preflight::check_not_awaited(&asked.session).await {
        failed(side, "standbys", error.into());
    }
    asked.version(side);
    asked.wal_level(side);
    asked.senders(side).await;
    asked.rights(side).await;
    let outbox = asked.table(side).await;
    if let Some(outbox) = &outbox {
        asked.id_index(side).await;
        asked.payload_bound(side, outbox).await;
        asked.clean(side, time.as_deref());
        asked.publication(side, outbox).await;
    }
    asked.slot(side, outbox.as_ref()).await;
    asked.retention(side);
    asked.idle_timeout(side);
}

fn failed(side: &mut Side<'_>, name: &'static str, error: Error) {
    let remedy = match error.verdict() {
        Verdict::Halt { remedy } => remedy,
        _ if matches!(error, Error::Standby(_)) => "give the primary's address".to_owned(),
        _ if matches!(error, Error::Awaited { .. }) => {
            "name the standbys themselves in synchronous_standby_names, and select pg_reload_conf()"
                .to_owned()
        }
        Verdict::Retry | Verdict::StandBy => "start the server, or correct its address".to_owned(),
    };
    side.fail(name, error.to_string(), remedy);
}

async fn server_settings(session: &Session) -> Result<HashMap<String, String>, DatabaseError> {
    let sql = "select name, setting from pg_settings where name = any($1)";
    let rows = session.client().query(sql, &[&SETTINGS.as_slice()]).await;
    let rows = rows.map_err(session.error("read pg_settings"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

impl Asked<'_> {
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

    async fn rights(&self, side: &mut Side<'_>) {
        let table = &self.settings.source.table;
        let table = table_name(table);
        // Some services give the right by membership, and leave the attribute alone: those of Amazon by rds_replication.
        let sql = "select r.rolreplication or r.rolsuper or exists (select from pg_roles m \
                           where m.rolname = 'rds_replication' and pg_has_role(r.oid, m.oid, 'member')), \
                       coalesce(has_table_privilege(to_regclass($1), 'select'), false), \
                       coalesce(has_table_privilege(to_regclass($1), 'delete'), false), \
                       coalesce((select has_schema_privilege(n.oid, 'usage') and coalesce(bool_and(has_table_privilege(t.oid, \
                           'select') and has_table_privilege(t.oid, 'insert') and has_table_privilege(t.oid, 'update')), true) \
                           from pg_namespace n left join pg_class t on t.relnamespace = n.oid and t.relname = 'slot' \
                           where n.nspname = 'walpost' group by n.oid), \
                           has_database_privilege(current_database(), 'create')), r.rolname::text, \
                       exists (select from pg_namespace where nspname = 'walpost') \
                   from pg_roles r where r.rolname = current_user";
        let row = match self.session.client().query_one(sql, &[&table]).await {
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
        if !has(1) {
            lacks.push(format!("grant select on {table} to {role}"));
        }
        if !has(2) && self.settings.clean.is_some() {
            lacks.push(format!("grant delete on {table} to {role}"));
        }
        if !has(3) && has(5) {
            lacks.push(format!(
                "grant usage on schema walpost to {role}; grant select, insert, update on walpost.slot to {role}"
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

    async fn streams(&self) -> bool {
        Connection::open(&self.settings.database, self.settings.timing.connect_timeout).await.is_ok()
    }

    /// The table, where it is one to follow.
    async fn table(&self, side: &mut Side<'_>) -> Option<Relation> {
        const NAME: &str = "table";
        let table = &self.settings.source.table;
        let relation = match preflight::check_table(&self.session, table).await {
            Ok(Outbox { relation, .. }) => relation,
            Err(error) => {
                failed(side, NAME, error.into());
                return None;
            }
        };
        side.ok(NAME, format!("{}, {} columns", table.name(), relation.columns.len()));
        if let Err(error) = preflight::check_row_security(&self.session, table, relation.id).await {
            failed(side, "row security", error.into());
        }
        Some(relation)
    }

    /// The table is read, and cleaned, by ranges of the column that orders it.
    async fn id_index(&self, side: &mut Side<'_>) {
        const NAME: &str = "id index";
        let table = &self.settings.source.table;
        let name = table_name(table);
        let Some(id) = table.order.as_deref() else {
            return side.warn(
                NAME,
                "no integer orders the table: of rows that a first copy or a recovery publishes, those of one key may change \
                 places; it is read in one statement, and begun anew when that is interrupted; --clean=count cannot be used",
                "add a column such as `bigint generated always as identity`, and name it in --order",
            );
        };
        let sql = "select i.indexrelid::regclass::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid \
                   and a.attnum = i.indkey[0] join pg_class c on c.oid = i.indexrelid \
                   join pg_am m on m.oid = c.relam and m.amname = 'btree' where i.indrelid = to_regclass($1) \
                   and a.attname = $2 and i.indisvalid and i.indpred is null order by i.indisprimary desc limit 1";
        match self.session.client().query_opt(sql, &[&name, &id]).await {
            Ok(Some(row)) => side.ok(NAME, row.get::<_, String>(0)),
            Ok(None) => side.warn(
                NAME,
                format!(
                    "no index begins with the column {id}: each page of a first copy sorts the whole table"
                ),
                format!("create index concurrently on {name} ({})", quoted(id)),
            ),
            Err(error) => failed(side, NAME, self.session.error("read the indexes")(error).into()),
        }
    }

    /// An event that no topic takes is better refused in the transaction that writes it.
    async fn payload_bound(&self, side: &mut Side<'_>, outbox: &Relation) {
        const NAME: &str = "payload bound";
        let table = &self.settings.source.table;
        let name = table_name(table);
        let sql = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = to_regclass($1) \
                   and contype = 'c' and pg_get_constraintdef(oid) like '%length(%' limit 1";
        match self.session.client().query_opt(sql, &[&name]).await {
            Ok(Some(row)) => side.ok(NAME, row.get::<_, String>(0)),
            Ok(None) => {
                let Some(value) = table.value_column() else { return };
                let is_bytes =
                    |column: &&Column| column.name == value && Kind::of(column.type_oid) == Kind::Bytea;
                let cast = if outbox.columns.iter().any(|column| is_bytes(&column)) { "" } else { "::text" };
                let value = format!("{}{cast}", quoted(value));
                side.warn(
                    NAME,
                    "no constraint bounds the payload: a row that no topic takes halts the relay",
                    format!("alter table {name} add check (octet_length({value}) <= 900000) not valid"),
                );
            }
            Err(error) => failed(side, NAME, self.session.error("read the constraints")(error).into()),
        }
    }

    /// Whether rows can be removed as the settings ask for; `time` says when a row was written.
    fn clean(&self, side: &mut Side<'_>, time: Option<&str>) {
        const NAME: &str = "cleaning";
        let Some(clean) = self.settings.clean else { return };
        let table = &self.settings.source.table;
        match clean.rule {
            _ if table.is_partitioned => side.fail(
                NAME,
                "a partitioned table is not cleaned row by row",
                "set clean = \"off\", and detach and drop old partitions",
            ),
            CleanRule::OlderThan(_) if time.is_none() => side.fail(
                NAME,
                "no column of the type timestamptz or timestamp says when a row was written",
                "name one in --time, or set clean = \"off\"",
            ),
            CleanRule::AllButNewest(_) if table.order.is_none() => side.fail(
                NAME,
                "no integer orders the table, so nothing says which rows are the newest",
                "name a column that rises with each insert in --order, or clean by age",
            ),
            CleanRule::OlderThan(seconds) => {
                side.ok(NAME, format!("published rows go {seconds} s after they were written"))
            }
            CleanRule::AllButNewest(rows) => {
                side.ok(NAME, format!("all published rows go but the newest {rows}"))
            }
        }
    }

    async fn publication(&self, side: &mut Side<'_>, outbox: &Relation) {
        const NAME: &str = "publication";
        let source = &self.settings.source;
        if let Err(error) = preflight::check_publication(&self.session, source, outbox).await {
            return failed(side, NAME, error.into());
        }
        let sql = "select pubupdate or pubdelete or pubtruncate from pg_publication where pubname = $1";
        let publication = &source.publication;
        match self.session.client().query_one(sql, &[publication]).await {
            Ok(row) if row.get(0) => side.warn(
                NAME,
                format!(
                    "{publication} publishes more than inserts: rows that are removed are sent for nothing"
                ),
                format!(
                    "alter publication {publication} set (publish = 'insert'); since any alteration may have let \
                     rows pass, a relay that follows it then halts, and `walpost recover` goes on"
                ),
            ),
            Ok(_) => side.ok(NAME, format!("{publication}, inserts of {}", source.table.name())),
            Err(error) => failed(side, NAME, self.session.error("read pg_publication")(error).into()),
        }
    }

    async fn slot(&self, side: &mut Side<'_>, outbox: Option<&Relation>) {
        const NAME: &str = "slot";
        let facts = match self.slot_facts(outbox).await {
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

    async fn slot_facts(&self, outbox: Option<&Relation>) -> Result<SlotFacts, Error> {
        let (source, timeout) = (&self.settings.source, self.settings.timing.connect_timeout);
        let facts = preflight::check_slot(&self.session, source).await?;
        let memory = ledger::load(&self.session, &source.slot).await?;
        let memory = memory.ok_or_else(|| preflight::Unsafe::SlotUnknown(source.slot.clone()))?;
        let (_, server) = Connection::open(&self.settings.database, timeout).await?;
        preflight::check_memory(&facts, &memory, &server)?;
        let Some(outbox) = outbox else { return Ok(facts) };
        match preflight::check_publication(&self.session, source, outbox).await {
            Ok(publication) => preflight::check_kept(source, &publication, &memory)?,
            // Told already.
            Err(PreflightError::Unsafe(_)) => {}
            Err(error) => return Err(error.into()),
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
