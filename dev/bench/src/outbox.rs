//! What the event of a change costs: as a row of the table, as a logical message, and beside no event at all.

use anyhow::Result;
use harness::{Database, PrivatePostgres};
use logistic_package_api::store::statements;

use crate::Bench;
use crate::load::{Pgbench, rate};
use crate::section::{Section, Table, median};
use crate::server::{fill, with_values};

/// Updates that are looked at.
const UPDATES: u32 = 20_000;

/// The same change without its event.
const BARE_UPDATE: &str = "\
    update package set title = coalesce($2, title), material = coalesce($3, material), \
        max_volume = coalesce($4, max_volume), reusable = coalesce($5, reusable), \
        updated_at = greatest(clock_timestamp(), updated_at, created_at) \
    where package_id = $1 returning package_id";

/// The ways, each with the statement of an update.
const WAYS: [(&str, &str); 3] = [
    ("no event", BARE_UPDATE),
    ("`outbox=table`", statements::UPDATE.table),
    ("`outbox=messages`", statements::UPDATE.messages),
];

/// What an update cost, and its event afterwards.
struct Cost {
    wal: f64,
    table: f64,
    removal: f64,
    micros: f64,
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    // Of its own, since the WAL is the whole server's.
    let postgres = PrivatePostgres::start().await?;
    let mut rounds: [Vec<Cost>; 3] = Default::default();
    for round in 0..bench.rounds {
        println!("outbox: round {}", round + 1);
        for ((_, update), costs) in WAYS.iter().zip(&mut rounds) {
            costs.push(measure(&postgres, update).await?);
        }
    }
    let columns = [
        "",
        "WAL bytes/update",
        "of them the event",
        "table and index, bytes/event",
        "WAL bytes to remove it",
        "µs/update",
    ];
    let mut table = Table::new(&columns);
    let of = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let bare = of(&rounds[0], |cost| cost.wal);
    for ((way, _), costs) in WAYS.iter().zip(&rounds) {
        let wal = of(costs, |cost| cost.wal);
        table.row([
            (*way).to_owned(),
            format!("{wal:.0}"),
            format!("{:.0}", wal - bare),
            format!("{:.0}", of(costs, |cost| cost.table)),
            format!("{:.0}", of(costs, |cost| cost.removal)),
            format!("{:.0}", costs.iter().map(|cost| cost.micros).fold(f64::INFINITY, f64::min)),
        ]);
    }
    Ok(Section {
        name: "outbox".into(),
        title: "The event: a row, or a message".into(),
        text: format!(
            "pgbench (prepared, one connection) with the package API's own statement for an update, of one of 100,000 \
             packages at random: {UPDATES} updates, after as many that are not counted, so that few pages are in the WAL as a \
             whole; a server of its own, `wal_level=logical`, no autovacuum. {} rounds in turn, medians, of the time the \
             fastest; `synchronous_commit=off`, since the wait for the disk is the same for all. WAL by `pg_wal_lsn_diff`; \
             to remove an event is `delete` and `vacuum`.",
            bench.rounds
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

async fn measure(postgres: &PrivatePostgres, update: &str) -> Result<Cost> {
    let database = Database::with_outbox(postgres.url()).await?;
    fill(&database).await?;
    let quiet = "alter table package set (autovacuum_enabled = false); \
        alter table package_event set (autovacuum_enabled = false); checkpoint";
    database.execute(quiet).await?;
    updates(&database, update).await?;
    let before = standing(&database).await?;
    let micros = updates(&database, update).await?;
    let after = standing(&database).await?;
    database.execute("delete from package_event").await?;
    database.execute("vacuum (truncate false) package_event").await?;
    let removed = standing(&database).await?;
    let (each, all) = (f64::from(UPDATES), f64::from(2 * UPDATES));
    Ok(Cost {
        wal: (after.wal - before.wal) / each,
        table: (after.table - before.table) / each,
        // Of those that were not counted as well.
        removal: (removed.wal - after.wal) / all,
        micros,
    })
}

/// Makes them; microseconds of each.
async fn updates(database: &Database, update: &str) -> Result<f64> {
    let values = [":id", "'a title'", "null", "700.5::real", "null", "null", "'package_event'"];
    let pgbench = Pgbench::new(database, &with_values(update, &values), 1).await?;
    let pgbench = pgbench.arg("--transactions", &UPDATES.to_string());
    let printed = pgbench.env("PGOPTIONS", "-c synchronous_commit=off").run(database).await?;
    Ok(1_000_000.0 / rate(&printed)?)
}

/// How far the WAL is, and how large the outbox, in bytes.
struct Standing {
    wal: f64,
    table: f64,
}

async fn standing(database: &Database) -> Result<Standing> {
    let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, \
        pg_total_relation_size('package_event')::float8";
    let row = database.client().await?.query_one(sql, &[]).await?;
    Ok(Standing { wal: row.get(0), table: row.get(1) })
}
