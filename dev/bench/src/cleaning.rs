//! Whether removing published rows slows those who write, and whether the table stays small.

use std::time::Duration;

use anyhow::Result;
use harness::Database;

use crate::Bench;
use crate::load::{Pgbench, rate, seconds};
use crate::section::{Section, Table, median};

/// How long a round writes as fast as it can.
const LASTS: Duration = Duration::from_secs(40);

/// How long after them the table is looked at: what is published is proven so by checkpoints, every ten seconds.
const SETTLES: Duration = Duration::from_secs(25);

/// Rows that stay.
const KEPT: &str = "10000";

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        println!("cleaning: round {}", round + 1);
        off.push(write(bench, "off").await?);
        on.push(write(bench, "count").await?);
    }
    let columns = ["", "inserts/s", "of without", "rows written", "rows left", "table", "dead rows"];
    let mut table = Table::new(&columns);
    let base = median(off.iter().map(|round| round.rate).collect());
    for (who, rounds) in [("without cleaning", &off), ("`--clean=count`", &on)] {
        let of = |figure: fn(&Written) -> f64| median(rounds.iter().map(figure).collect());
        let rate = of(|round| round.rate);
        table.row([
            who.to_owned(),
            format!("{rate:.0}"),
            format!("{:.2}", rate / base),
            format!("{:.0}", rate * LASTS.as_secs_f64()),
            format!("{:.0}", of(|round| round.rows)),
            format!("{:.0} MiB", of(|round| round.bytes) / f64::from(1 << 20)),
            format!("{:.0}", of(|round| round.dead)),
        ]);
    }
    Ok(Section {
        name: "cleaning".into(),
        title: "Cleaning".into(),
        text: format!(
            "Eight clients insert as fast as they can (`synchronous_commit=on`) for {} s while walpost publishes, once \
             without and once with `--clean=count --clean-keep-rows={KEPT} --clean-interval-ms=1000`; {} rounds in turn, \
             medians. The table is looked at {} s later; autovacuum is at its defaults but for a nap of 5 s, \
             so that it comes by in so short a time.",
            LASTS.as_secs(),
            bench.rounds,
            SETTLES.as_secs()
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// What a round left.
struct Written {
    rate: f64,
    rows: f64,
    bytes: f64,
    dead: f64,
}

async fn write(bench: &Bench, clean: &str) -> Result<Written> {
    let (database, topic) = (Database::with_outbox(&bench.stack.database_url).await?, bench.topic().await?);
    let relay = bench.relay(&database, &topic)?.env("WALPOST_CLEAN", clean);
    let relay = relay.env("WALPOST_CLEAN_KEEP_ROWS", KEPT).env("WALPOST_CLEAN_INTERVAL_MS", "1000");
    let mut process = relay.init_and_run().await?;
    database.execute("alter system set autovacuum_naptime = '5s'").await?;
    database.execute("select pg_reload_conf()").await?;
    let load = Pgbench::inserts(&database, 8).await?.arg("--time", &seconds(LASTS));
    let printed = load.run(&database).await;
    tokio::time::sleep(SETTLES).await;
    database.execute("alter system reset autovacuum_naptime").await?;
    database.execute("select pg_reload_conf()").await?;
    let sql = "select (select count(*) from package_event)::float8, \
               pg_total_relation_size('package_event')::float8, n_dead_tup::float8 \
               from pg_stat_user_tables where relname = 'package_event'";
    let row = database.client().await?.query_one(sql, &[]).await?;
    process.terminate(Duration::from_secs(20)).await?;
    Ok(Written { rate: rate(&printed?)?, rows: row.get(0), bytes: row.get(1), dead: row.get(2) })
}
