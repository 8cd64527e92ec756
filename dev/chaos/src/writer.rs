//! Writers: transactions of every size and fate, with what came of each told to the ledger.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::Database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::event;
use crate::parts::Outbox;
use crate::source::Source;

/// Keys of one writer: no other writes them, but its transactions of a key follow each other.
const KEYS: i64 = 5;

/// How long a server that is away is waited for between tries.
const RETRY: Duration = Duration::from_millis(200);

/// What a transaction is to be.
struct Shape {
    key: i64,
    rows: i64,
    /// Stays open for so long.
    open: Duration,
    rolls_back: bool,
}

/// Writes until it is told to stop. Returns the number of transactions.
pub(crate) async fn write(
    source: Arc<Source>,
    number: u64,
    seed: u64,
    stop: CancellationToken,
) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut client = None;
    let mut transactions = 0;
    while !stop.is_cancelled() {
        let shape = shape(&mut rng, number);
        let pause = Duration::from_millis(rng.random_range(5..60));
        if let Some((events, bound)) = transact(&source, &mut client, &shape).await? {
            source.committed(shape.key, events, bound);
        }
        transactions += 1;
        tokio::time::sleep(pause).await;
    }
    Ok(transactions)
}

fn shape(rng: &mut StdRng, number: u64) -> Shape {
    let rows = match rng.random_range(0..1000) {
        0..850 => 1,
        850..990 => rng.random_range(2..50),
        990..997 => rng.random_range(50..1_100),
        _ => rng.random_range(1_000..=5_000),
    };
    let open = match rng.random_range(0..100) {
        0..2 => Duration::from_millis(rng.random_range(500..3_000)),
        _ => Duration::ZERO,
    };
    let key = i64::try_from(number).unwrap_or_default() * KEYS + rng.random_range(0..KEYS);
    Shape { key, rows, open, rolls_back: rng.random_range(0..10) == 0 }
}

/// One transaction: what it committed and a position above that, or `None` when nothing.
async fn transact(
    source: &Source,
    client: &mut Option<Client>,
    shape: &Shape,
) -> Result<Option<(Vec<Uuid>, u64)>> {
    let database = &source.database;
    let Some(connected) = connection(database, client).await else {
        tokio::time::sleep(RETRY).await;
        return Ok(None);
    };
    let (events, token) = match open(connected, source.outbox, shape).await {
        Ok(inserted) => inserted,
        // Not committed, since nobody asked for it; and no fault of the statements, or nothing is tested.
        Err(error) if is_away(&error) => {
            *client = None;
            return Ok(None);
        }
        Err(error) => return Err(error).context("a writer's statements"),
    };
    let end = if shape.rolls_back { "rollback" } else { "commit" };
    let committed = match connected.batch_execute(end).await {
        Ok(()) => !shape.rolls_back,
        Err(_) => {
            *client = None;
            fate(database, client, token).await?
        }
    };
    if !committed {
        return Ok(None);
    }
    Ok(Some((events, bound(database, client).await?)))
}

async fn connection<'a>(database: &Database, client: &'a mut Option<Client>) -> Option<&'a Client> {
    if client.as_ref().is_none_or(Client::is_closed) {
        *client = database.client().await.ok();
    }
    client.as_ref()
}

/// Whether the server is away, going or full (classes 08, 57 and 53 of its codes), rather than asked for nonsense.
fn is_away(error: &anyhow::Error) -> bool {
    let Some(error) = error.downcast_ref::<tokio_postgres::Error>() else { return false };
    error.code().is_none_or(|code| ["08", "53", "57"].iter().any(|class| code.code().starts_with(class)))
}

/// Its events, written and not committed, and its token.
async fn open(client: &Client, outbox: Outbox, shape: &Shape) -> Result<(Vec<Uuid>, Uuid)> {
    client.batch_execute("begin").await?;
    let token = Uuid::new_v4();
    client.execute("insert into chaos_token values ($1::text::uuid)", &[&token.to_string()]).await?;
    let events = event::write(client, outbox, shape.key, shape.rows).await?;
    if !shape.open.is_zero() {
        tokio::time::sleep(shape.open).await;
    }
    Ok((events, token))
}

/// Whether a transaction was committed whose commit nobody answered. Where its backend has not noticed yet, this waits
/// for it; and when its token is free, it is not committed and never will be.
async fn fate(database: &Database, client: &mut Option<Client>, token: Uuid) -> Result<bool> {
    let sql = format!(
        "with taken as (insert into chaos_token values ('{token}') on conflict do nothing returning 1) \
         select count(*) = 0 from taken"
    );
    asked(database, client, &sql, |row| Some(row.get(0))).await
}

/// A position at or above the end of every commit so far.
async fn bound(database: &Database, client: &mut Option<Client>) -> Result<u64> {
    asked(database, client, "select pg_current_wal_insert_lsn()", |row| {
        Some(u64::from(row.get::<_, PgLsn>(0)))
    })
    .await
}

/// Asks until there is an answer: Postgres may be away for a while.
async fn asked<T>(
    database: &Database,
    client: &mut Option<Client>,
    sql: &str,
    answer: fn(&Row) -> Option<T>,
) -> Result<T> {
    for _ in 0..600 {
        if let Some(connected) = connection(database, client).await {
            match connected.query_one(sql, &[]).await {
                Ok(row) => {
                    if let Some(answer) = answer(&row) {
                        return Ok(answer);
                    }
                }
                Err(_) => *client = None,
            }
        }
        tokio::time::sleep(RETRY).await;
    }
    anyhow::bail!("Postgres did not come back within two minutes")
}
