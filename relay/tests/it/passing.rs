use anyhow::{Context, Result, ensure};
use harness::database::{by_way_of, connect, with_database};
use harness::http::Response;
use harness::pooler::door_of_a_pooler;
use harness::wait::holds_for;
use harness::{PrivateKafka, PrivatePostgres, SecretFile, wait_until};
use std::time::Duration;

use crate::case::{Case, SOON, insert};
use crate::check::is;
use crate::halt::halts;

async fn on_the_server(case: &Case, statements: &str) -> Result<()> {
    for statement in statements.split(';') {
        case.database.execute(statement).await?;
    }
    Ok(())
}

fn says(text: &'static str) -> impl Fn(&Response) -> bool {
    move |answer| answer.status == 503 && answer.body.contains(text)
}

/// What services do whose disk is nearly full.
#[tokio::test]
async fn a_database_that_was_made_read_only_is_published_and_confirmed() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    on_the_server(&case, "alter system set default_transaction_read_only = on;select pg_reload_conf()")
        .await?;
    let writer = case.client().await?;
    writer.batch_execute("set default_transaction_read_only = off").await?;
    let before = case.wal_end().await?;
    insert(&writer, 1).await?;
    case.audit().await?;
    case.confirmed_to(before + 1).await?;

    relay.terminate(SOON).await?;
    let before = case.wal_end().await?;
    insert(&writer, 1).await?;
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.published, 2);
    case.confirmed_to(before + 1).await
}

#[tokio::test]
async fn a_password_that_is_rotated_is_read_anew_and_nobody_restarts_anything() -> Result<()> {
    let case = Case::new().await?;
    let (name, role) = (case.database.name(), case.database.relay_role());
    let file = SecretFile::new(name, &case.database.relay_url)?;
    let relay = case.relay.clone().without_env("WALPOST_DATABASE_URL");
    let relay = relay.env("WALPOST_DATABASE_URL_FILE", file.path());
    let mut relay = relay.init_and_run().await?;
    case.commit_one(1).await?;
    case.audit().await?;

    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    on_the_server(&case, &format!("alter role {role} password 'rotated';{end}")).await?;
    relay.status("the refusal is said", says("28P01")).await?;
    let (user, place) = case.database.relay_url.rsplit_once('@').context("a URL")?;
    let user = user.rsplit_once(':').map_or(user, |(user, _)| user);
    file.write(&format!("{user}:rotated@{place}"))?;
    relay.ready().await?;
    // What makes no sense leaves what it said last.
    file.write("")?;
    case.database.execute(&end).await?;
    relay.status("the sessions are gone", |answer| answer.status == 503).await?;
    relay.ready().await?;
    case.commit_one(2).await?;
    assert_eq!(case.audit().await?.published, 2);
    Ok(())
}

#[tokio::test]
async fn a_commit_never_waits_for_the_relay_as_a_synchronous_standby() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let case = Case::of(case.database, kafka.brokers()).await?;
    let mut relay = case.relay.init_and_run().await?;
    let _standby = postgres.standby_with(&[]).await?;
    kafka.pause().await?;
    let server = connect(&with_database(postgres.url(), case.database.name())?).await?;
    // Any of the two would do, so that the one which is meant need not be asked.
    for statement in ["alter system set synchronous_standby_names = 'FIRST 2 (*)'", "select pg_reload_conf()"]
    {
        server.batch_execute(statement).await?;
    }
    relay.status("the relay names the setting", says("synchronous_standby_names")).await?;
    let streams =
        "select count(*) from pg_stat_replication where application_name = 'walpost' and state = 'streaming'";
    holds_for("the relay does not stream", Duration::from_secs(2), async || {
        Ok(server.query_one(streams, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    is(&case, "standbys", "failure", "name the standbys").await?;

    for statement in ["alter system set synchronous_standby_names = '1 (*)'", "select pg_reload_conf()"] {
        server.batch_execute(statement).await?;
    }
    let (committing, patience) = (case.commit_one(1), SOON);
    tokio::time::timeout(patience, committing).await.context("the commit waits for Kafka")??;
    kafka.resume().await?;
    for statement in ["alter system set synchronous_standby_names = 'walreceiver'", "select pg_reload_conf()"]
    {
        server.batch_execute(statement).await?;
    }
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 1);
    Ok(())
}

/// A server of the test's own, where of all roles only the relay's would wait for a synchronous standby, of this name.
async fn where_the_relay_would_wait_for(standby: &str) -> Result<(PrivatePostgres, Case)> {
    let names = format!("synchronous_standby_names={standby}");
    let postgres = PrivatePostgres::start_with(&[&names, "synchronous_commit=local"]).await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let role = case.database.relay_role();
    case.database.execute(&format!("alter role {role} set synchronous_commit = on")).await?;
    Ok((postgres, case))
}

/// Commits of the application wait for it, where they are asked to; what is committed goes its way.
#[tokio::test]
async fn a_synchronous_standby_that_is_away_holds_up_no_event_and_no_confirmation() -> Result<()> {
    let (_postgres, case) = where_the_relay_would_wait_for("absent").await?;
    let _relay = case.relay.init_and_run().await?;
    let before = case.wal_end().await?;
    case.commit(10, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    case.confirmed_to(before + 1).await
}

/// Whoever stops for a finding does not look again: a failover must not take it back.
#[tokio::test]
async fn what_was_found_missing_is_on_the_synchronous_standby_before_anyone_stops_for_it() -> Result<()> {
    let (_postgres, case) = where_the_relay_would_wait_for("").await?;
    let mut relay = case.relay.init_and_run().await?;
    on_the_server(&case, "alter system set synchronous_standby_names = 'absent';select pg_reload_conf()")
        .await?;
    let watching = case.client().await?;
    wait_until("the server waits for a standby", SOON, async || {
        let names: String = watching.query_one("show synchronous_standby_names", &[]).await?.get(0);
        Ok(names == "absent")
    })
    .await?;
    case.database.execute("alter publication package_event_pub drop table package_event").await?;
    let sql = "select exists (select from pg_stat_activity where usename = $1 and wait_event = 'SyncRep')";
    let role = case.database.relay_role();
    wait_until("the finding waits for a standby", SOON, async || {
        Ok(watching.query_one(sql, &[&role]).await?.get(0))
    })
    .await?;
    let state = relay.get("/ready").await?.body;
    ensure!(!state.contains("halted"), "{state}");
    on_the_server(&case, "alter system set synchronous_standby_names = '';select pg_reload_conf()").await?;
    halts(&mut relay, &["publication"]).await
}

/// Postgres goes on with a statement whose client is gone, and walpost tries again, and again.
#[tokio::test]
async fn a_relay_that_is_gone_leaves_no_session_behind_that_waits_for_a_lock() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_PEER_TIMEOUT_MS", "1000");
    let mut relay = case.relay.init_and_run().await?;
    let (watching, locking) = (case.client().await?, case.client().await?);
    locking.batch_execute("begin; lock table walpost.slot in access exclusive mode").await?;
    relay.status("the ledger does not answer", says("no answer within 1000 ms")).await?;
    let sql = "select count(*) from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'";
    let role = case.database.relay_role();
    let waiting = async || anyhow::Ok(watching.query_one(sql, &[&role]).await?.get::<_, i64>(0));
    ensure!(waiting().await? > 0, "no session waits for the lock");
    relay.kill()?;
    wait_until("its sessions end", SOON, async || Ok(waiting().await? == 0)).await?;
    locking.batch_execute("rollback").await?;
    case.relay.run_ready().await?;
    Ok(())
}

/// What people do on a full disk.
#[tokio::test]
async fn wal_that_was_moved_away_halts_the_relay_and_recovery_anew_loses_no_event() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?.with("WALPOST_STALL_TIMEOUT_MS", "1000");
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    let sql = "select current_setting('data_directory') || '/pg_wal/' || pg_walfile_name(restart_lsn) \
               from pg_replication_slots where slot_name = $1";
    let segment: String = case.client().await?.query_one(sql, &[&case.database.slot_name()]).await?.get(0);
    for _ in 0..3 {
        case.commit(10, 3, 1).await?;
        case.database.execute("select pg_switch_wal()").await?;
    }
    std::fs::rename(&segment, format!("{segment}.away"))?;

    let mut relay = case.relay.run()?;
    relay.status("it is tried again first", says("\"retrying\"")).await?;
    halts(&mut relay, &["cannot be read on", "58P01", "put it back", "walpost recover --anew"]).await?;
    ensure!(case.audit_now().await?.published == 10, "nothing behind the gap is published");
    relay.terminate(SOON).await?;

    let mut relay = case.relay.recover_with(&["--anew"])?;
    relay.status("the relay streams", |answer| answer.body.contains("\"streaming\"")).await?;
    case.commit(10, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 50);
    Ok(())
}

#[tokio::test]
async fn a_role_whose_password_is_an_md5_hash_logs_in_on_both_connections() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let client = case.client().await?;
    let rules: String = client.query_one("select current_setting('hba_file')", &[]).await?.get(0);
    let role = case.database.relay_role();
    let before = std::fs::read_to_string(&rules)?;
    std::fs::write(&rules, format!("host all {role} 127.0.0.1/32 md5\n{before}"))?;
    let (user, _) = case.database.relay_url.rsplit_once('@').context("a URL")?;
    let password = user.rsplit_once(':').context("a password")?.1;
    client.batch_execute("select pg_reload_conf(); set password_encryption = md5").await?;
    client.batch_execute(&format!("alter role {role} password '{password}'")).await?;
    wait_until("the rules are read", SOON, async || {
        let sql = "select count(*) from pg_hba_file_rules where auth_method = 'md5' and error is null";
        Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    let stored: String =
        client.query_one("select rolpassword from pg_authid where rolname = $1", &[&role]).await?.get(0);
    ensure!(stored.starts_with("md5"), "the server does not keep md5 hashes");
    let _relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    assert_eq!(case.audit().await?.published, 1);
    Ok(())
}

#[tokio::test]
async fn a_pooler_on_the_way_is_named() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let door = door_of_a_pooler(case.database.addr()?).await?;
    let relay = case.relay.clone().env("WALPOST_DATABASE_URL", by_way_of(&case.database.relay_url, door)?);
    let mut relay = relay.run()?;
    relay.status("the pooler is named", says("a pooler may be on the way")).await?;
    Ok(())
}
