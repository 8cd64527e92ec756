use anyhow::{Context, Result, ensure};

use crate::case::{Case, SOON};
use crate::halt::halts;
use crate::recover::dry_run;

/// `init`, `check` and `recover` refuse the table, and say why in these words.
async fn refused(case: &Case, says: &[&str]) -> Result<()> {
    for command in ["init", "check", "recover"] {
        let ended = case.relay.command(&[command]).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.code() == 1, "{command} takes it: {said}");
        for part in says {
            ensure!(said.contains(part), "{command} does not say {part}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_ordinary_table_is_refused_in_words() -> Result<()> {
    let case = Case::new().await?;
    case.database
        .execute(
            "create table parted (like package_event including defaults) partition by range (created_at); \
             create table part partition of parted default; \
             create table half (id bigint) partition by range (id); create unlogged table halves partition of half default; \
             create view seen as select * from package_event; \
             create unlogged table unlogged (like package_event including defaults)",
        )
        .await?;
    for (table, says) in [
        ("part", "a partition"),
        ("half", "a foreign or unlogged partition"),
        ("seen", "a view"),
        ("unlogged", "not in the WAL"),
        ("nowhere", "does not exist"),
    ] {
        let relay = case.relay.clone().env("WALPOST_TABLE", format!("public.{table}"));
        let said = relay.command(&["init"]).await?;
        ensure!(said.code() == 1 && said.stderr.contains(says), "{table}: {}", said.stderr);
    }
    Ok(())
}

/// A TimescaleDB hypertable is such a table: its chunks are children, and come with the first row.
#[tokio::test]
async fn a_table_with_children_is_refused_and_the_way_out_that_is_named_leads_out() -> Result<()> {
    let case = Case::new().await?;
    let child = "create table child () inherits (package_event)";
    case.database.execute(child).await?;
    refused(&case, &["child tables (public.child)", "no inherit"]).await?;
    case.database.execute("drop table child").await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1, 1, 1).await?;
    case.audit().await?;

    case.database.execute(child).await?;
    let routed = "insert into child (package_id, event_type) values (7, 'Removed')";
    case.database.execute(routed).await?;
    halts(&mut relay, &["child tables (public.child)", "walpost recover"]).await?;
    relay.terminate(SOON).await?;
    case.database
        .execute(
            "with moved as (delete from only child returning *) insert into package_event select * from moved; \
             alter table child no inherit package_event",
        )
        .await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    let audit = case.audit().await.with_context(|| recovered.log_tail())?;
    assert_eq!(audit.published, 2, "{audit}");
    Ok(())
}

#[tokio::test]
async fn a_role_from_which_policies_hide_rows_is_refused_until_they_do_not() -> Result<()> {
    let case = Case::new().await?;
    let role = format!("relay_{}", case.database.name());
    case.commit(5, 3, 1).await?;
    case.database.execute("alter table package_event enable row level security").await?;
    refused(&case, &["row-level security", &role, "bypassrls"]).await?;
    case.database.execute(&format!("alter role {role} bypassrls")).await?;
    let mut relay = case.relay.init_and_run().await?;
    assert_eq!(case.audit().await?.published, 5);

    // The stream is not filtered: what is running goes on. What reads the table does not.
    case.database.execute(&format!("alter role {role} nobypassrls")).await?;
    case.commit(5, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    relay.terminate(SOON).await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    case.commit(5, 3, 1).await?;
    let said = case.relay.command(&["recover", "--dry-run"]).await?;
    ensure!(said.code() == 1 && said.stderr.contains("row-level security"), "{}{}", said.stdout, said.stderr);

    case.database.execute("alter table package_event disable row level security").await?;
    dry_run(&case, &["make the slot"]).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    assert_eq!(case.audit().await?.published, 15);
    Ok(())
}

#[tokio::test]
async fn an_owner_who_is_held_to_the_policies_is_refused_and_told_the_cure() -> Result<()> {
    let case = Case::new().await?;
    let role = format!("relay_{}", case.database.name());
    case.database
        .execute(&format!(
            "grant create on schema public to {role}; alter table package_event owner to {role}; \
             alter table package_event enable row level security, force row level security"
        ))
        .await?;
    refused(&case, &["row-level security", "no force row level security"]).await?;
    case.database.execute("alter table public.package_event no force row level security").await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(5, 3, 1).await?;
    case.audit().await.map(drop)
}
