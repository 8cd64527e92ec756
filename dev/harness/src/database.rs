//! A database of a test's own, with or without the outbox in it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::{Client, NoTls};

use crate::cleanup;
use crate::stack::repository;
use crate::wait::wait_for;

/// Ending walsenders and dropping the database takes a second; a server that is gone refuses at once.
const DROP_DEADLINE: Duration = Duration::from_secs(15);

/// A server that does not let one in within this time is down.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// A database with a name of its own, dropped together with the replication slots in it.
#[derive(Debug)]
pub struct Database {
    name: String,
    server_url: String,
    /// Where it is, as a role that may do anything.
    pub url: String,
    /// Where it is, as a role with the relay's rights and no others; the same as `url` without an outbox.
    pub relay_url: String,
    /// The same, with the rights of the relay's metrics.
    pub monitor_url: String,
}

impl Database {
    /// A new empty database on the server of `server_url`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn fresh(server_url: &str) -> Result<Self> {
        Self::fresh_for("test", server_url).await
    }

    /// The same, with the name of `user` in front of its own, for people who look at the server meanwhile.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn fresh_for(user: &str, server_url: &str) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{user}_{}", &id[..12]);
        let url = with_database(server_url, &name)?;
        let server = connect(server_url).await?;
        // template0 never has sessions on it, so that tests beside each other can all copy it.
        server.batch_execute(&format!("create database {name} template template0")).await?;
        Ok(Self {
            name,
            server_url: server_url.to_owned(),
            relay_url: url.clone(),
            monitor_url: url.clone(),
            url,
        })
    }

    /// A new database with the migrations of the repository applied: the table contract between server and relay.
    ///
    /// # Errors
    /// When it cannot be created, or a migration fails.
    pub async fn with_outbox(server_url: &str) -> Result<Self> {
        let mut database = Self::fresh(server_url).await?;
        let client = database.client().await?;
        for path in migrations()? {
            let sql = fs::read_to_string(&path)?;
            client.batch_execute(&sql).await.with_context(|| format!("the migration {}", path.display()))?;
        }
        database.make_roles().await?;
        Ok(database)
    }

    /// Runs the script of roles, and makes roles of this database's own for the relay and its metrics that have their
    /// rights: roles belong to the whole server, and the ones of the script may be somebody's.
    ///
    /// # Errors
    /// When this connection's role may not make roles, or the migrations were not applied.
    pub async fn make_roles(&mut self) -> Result<()> {
        let script = fs::read_to_string(repository().join("migrations/roles/roles.sql"))?;
        // Two scripts at a time would change the same roles. The lock goes with its connection.
        let server = connect(&self.server_url).await?;
        server.batch_execute("select pg_advisory_lock(hashtext('harness.roles'))").await?;
        let (relay, monitor) = (self.relay_role(), format!("monitor_{}", self.name));
        let password = uuid::Uuid::new_v4().simple().to_string();
        let own = format!(
            "create role {relay} login replication password '{password}' in role logistic_package_relay; \
             grant connect, create on database {} to {relay}; \
             create role {monitor} login password '{password}' in role logistic_package_relay_metrics",
            self.name
        );
        self.execute(&script).await.context("migrations/roles/roles.sql")?;
        self.execute(&own).await?;
        self.relay_url = with_user(&self.url, &relay, &password)?;
        self.monitor_url = with_user(&self.url, &monitor, &password)?;
        Ok(())
    }

    /// The role of `relay_url`.
    #[must_use]
    pub fn relay_role(&self) -> String {
        format!("relay_{}", self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its server listens.
    ///
    /// # Errors
    /// When the URL gives a name instead of an address.
    pub fn addr(&self) -> Result<SocketAddr> {
        address(&self.url)
    }

    /// The relay's URL by way of `way`: a proxy in front of the server.
    ///
    /// # Errors
    /// As for [`Database::addr`].
    pub fn relay_url_by(&self, way: SocketAddr) -> Result<String> {
        by_way_of(&self.relay_url, way)
    }

    /// A name for a replication slot. Slots belong to the whole server, so tests beside each other need their own.
    #[must_use]
    pub fn slot_name(&self) -> String {
        format!("slot_{}", self.name)
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the server does not let one in.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// Executes statements on a connection of their own.
    ///
    /// # Errors
    /// When one fails.
    pub async fn execute(&self, statements: &str) -> Result<()> {
        let client = self.client().await?;
        client.batch_execute(statements).await.with_context(|| format!("executing: {statements}"))
    }

    /// Takes the slot away from whoever streams from it, as an operator would.
    ///
    /// # Errors
    /// When it cannot be dropped.
    pub async fn drop_slot(&self, slot: &str) -> Result<()> {
        drop_slot(&self.client().await?, slot).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.server_url.clone(), self.name.clone());
        cleanup::run("a database", DROP_DEADLINE, || remove(url, name));
    }
}

async fn remove(server_url: String, name: String) -> Result<()> {
    // A private server that a test has stopped takes its databases with it.
    let Ok(server) = connect(&server_url).await else { return Ok(()) };
    let slots = "select slot_name::text from pg_replication_slots where database = $1";
    for row in server.query(slots, &[&name]).await? {
        drop_slot(&server, row.get(0)).await?;
    }
    server.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
    server.batch_execute(&format!("drop role if exists relay_{name}, monitor_{name}")).await?;
    Ok(())
}

/// Ends the walsender and drops the slot before somebody takes it up again.
async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    let end = "select pg_terminate_backend(active_pid) from pg_replication_slots \
               where slot_name = $1 and active_pid is not null";
    let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1";
    wait_for(&format!("the slot {slot} is dropped"), DROP_DEADLINE, async || {
        client.execute(end, &[&slot]).await?;
        Ok(client.execute(drop, &[&slot]).await.ok())
    })
    .await?;
    Ok(())
}

/// Connects without TLS; the connection ends with the client.
///
/// # Errors
/// When the server does not let one in.
pub async fn connect(url: &str) -> Result<Client> {
    let connecting = tokio::time::timeout(CONNECT_DEADLINE, tokio_postgres::connect(url, NoTls));
    let place = place(url);
    let (client, connection) = connecting
        .await
        .with_context(|| format!("{place} did not answer in {CONNECT_DEADLINE:?}"))?
        .with_context(|| place.to_owned())?;
    tokio::spawn(connection);
    Ok(client)
}

/// The major version of a server, such as 14.
///
/// # Errors
/// When it does not let one in.
pub async fn version(url: &str) -> Result<i32> {
    let sql = "select current_setting('server_version_num')::int / 10000";
    Ok(connect(url).await?.query_one(sql, &[]).await?.get(0))
}

/// Whether a server has `what`, which came with the version `since`. Where not, it is said: a test of that has nothing
/// to look at, and ends.
///
/// # Errors
/// As for [`version`].
pub async fn has(url: &str, what: &str, since: i32) -> Result<bool> {
    let version = version(url).await?;
    if version < since {
        println!("not on PostgreSQL {version}: {what} came with {since}");
    }
    Ok(version >= since)
}

/// Where a URL leads, without who goes there.
fn place(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    place.rsplit_once('@').map_or(place, |(_, place)| place)
}

/// `url` by way of `way`: a proxy in front of the server.
///
/// # Errors
/// When the URL gives a name instead of an address.
pub fn by_way_of(url: &str, way: SocketAddr) -> Result<String> {
    Ok(url.replacen(&address(url)?.to_string(), &way.to_string(), 1))
}

/// Where the server of a URL listens.
///
/// # Errors
/// When the URL gives a name instead of an address.
pub(crate) fn address(url: &str) -> Result<SocketAddr> {
    let place = place(url);
    let address = place.split('/').next().unwrap_or(place);
    address.parse().with_context(|| format!("{address} is no address and port"))
}

/// The migrations that lead upwards, in their order.
fn migrations() -> Result<Vec<PathBuf>> {
    let folder = repository().join("migrations");
    let entries = fs::read_dir(&folder).with_context(|| format!("no migrations in {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".sql") && !name.ends_with(".down.sql")
    });
    paths.sort();
    Ok(paths)
}

/// `url` with the database `name` in place of its own.
///
/// # Errors
/// When it is not a URL.
pub fn with_database(url: &str, name: &str) -> Result<String> {
    let (base, parameters) = url.split_once('?').map_or((url, None), |(base, rest)| (base, Some(rest)));
    let (scheme, rest) = base.split_once("://").context("the database must be given as postgres://...")?;
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{name}{parameters}"))
}

/// `url` for another user.
///
/// # Errors
/// When it is not a URL.
fn with_user(url: &str, user: &str, password: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("the database must be given as postgres://...")?;
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    Ok(format!("{scheme}://{user}:{password}@{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_password() {
        assert_eq!(place("postgres://u:p%40@h:1/a?sslmode=disable"), "h:1/a");
    }

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        let cases = [
            ("postgres://u:p@h:1/a?sslmode=disable", "postgres://u:p@h:1/b?sslmode=disable"),
            ("postgres://u@h", "postgres://u@h/b"),
            ("postgresql:///a?host=/run/pg", "postgresql:///b?host=/run/pg"),
        ];
        for (given, expected) in cases {
            assert_eq!(with_database(given, "b").expect("a URL"), expected);
        }
        assert!(with_database("host=h dbname=a", "b").is_err());
    }
}
