//! Several outboxes by one slot: named ones, and those that a pattern stands for.

use anyhow::{Context, Result, ensure};
use harness::{Database, Received, RelayProcess, Stack, wait_until};

use crate::case::{Case, SOON, committed_at};
use crate::halt::halts;

const TENANTS: &str = "tenant_*.outbox";

fn tenant(name: &str) -> String {
    format!(
        "create schema {name}; create table {name}.outbox (id bigserial primary key, key text, payload text, \
         created_at timestamptz not null default now())"
    )
}

fn row(table: &str, key: &str, value: &str) -> String {
    format!("insert into {table} (key, payload) values ('{key}', '{value}')")
}

/// Around a database with an outbox for each of these, and settings that stand for `tables`.
async fn tenants(names: &[&str], tables: &str) -> Result<Case> {
    let stack = Stack::shared().await?;
    let database = Database::fresh(&stack.database_url).await?;
    for name in names {
        database.execute(&tenant(name)).await?;
    }
    let mut case = Case::of(database, &stack.brokers).await?;
    case.relay = case.relay.without_env("WALPOST_PRESET").env("WALPOST_TABLE", tables);
    Ok(case)
}

/// The same with settings that name two tables.
pub(crate) async fn named_two(names: &[&str]) -> Result<Case> {
    let case = tenants(names, "").await?;
    Ok(names_tables(case, names))
}

fn names_tables(mut case: Case, names: &[&str]) -> Case {
    let path = std::env::temp_dir().join(format!("walpost-{}.toml", case.database.name()));
    let entries: Vec<_> =
        names.iter().map(|name| format!("[[outbox]]\ntable = \"{name}.outbox\"\n")).collect();
    std::fs::write(&path, entries.concat()).expect("a file in /tmp");
    case.relay = case.relay.without_env("WALPOST_TABLE").env("WALPOST_CONFIG", path);
    case
}

/// The values that arrived, each once, in the order in which they first did.
fn values(records: &[Received]) -> Vec<String> {
    let mut values = Vec::new();
    for record in records {
        let value = String::from_utf8_lossy(&record.value).into_owned();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// Records of two keys may be in two partitions.
fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values
}

/// Waits until so many values have arrived.
async fn arrive(case: &Case, count: usize, relay: &RelayProcess) -> Result<Vec<String>> {
    let arrived =
        wait_until(
            "the rows arrive",
            SOON,
            async || Ok(values(&case.topic.read_all().await?).len() >= count),
        );
    arrived.await.with_context(|| relay.log_tail())?;
    Ok(values(&case.topic.read_all().await?))
}

#[tokio::test]
async fn a_table_that_appears_later_is_published_from_its_first_row_on_and_in_order() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a1")).await?;
    case.database.execute(&tenant("tenant_b")).await?;
    // Nobody publishes these yet.
    case.database.execute(&row("tenant_b.outbox", "b", "b1")).await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b2")).await?;
    case.database.execute("select walpost.follow('tenant_b.outbox')").await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b3")).await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a2")).await?;
    let arrived = arrive(&case, 5, &relay).await?;
    for (key, expected) in [("a", vec!["a1", "a2"]), ("b", vec!["b1", "b2", "b3"])] {
        let of_key: Vec<_> = arrived.iter().filter(|value| value.starts_with(key)).collect();
        ensure!(of_key == expected, "{of_key:?}\n{}", relay.log_tail());
    }
    relay.ready().await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b4")).await?;
    arrive(&case, 6, &relay).await?;
    relay.expect_running()
}

/// In one transaction a table is made, followed and written to; the next has rows of two tables.
#[tokio::test]
async fn a_table_that_appears_in_the_midst_of_the_stream_holds_up_the_rows_behind_it() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?.with("WALPOST_WATCH_INTERVAL_MS", "3600000");
    let mut relay = case.relay.init_and_run().await?;
    let (a, b) = ("tenant_a.outbox", "tenant_b.outbox");
    let both = [
        format!("begin; {}; {}", row(a, "a", "a1"), tenant("tenant_b")),
        format!("select walpost.follow('{b}'); {}; {}; commit", row(b, "b", "b1"), row(a, "a", "a2")),
        format!("begin; {}; {}; {}; commit", row(a, "a", "a3"), row(b, "b", "b2"), row(a, "a", "a4")),
    ];
    case.client().await?.batch_execute(&both.join(";")).await?;
    let arrived = arrive(&case, 6, &relay).await?;
    for (key, count) in [("a", 4), ("b", 2)] {
        let expected: Vec<_> = (1..=count).map(|number| format!("{key}{number}")).collect();
        let of_key: Vec<_> = arrived.iter().filter(|value| value.starts_with(key)).cloned().collect();
        ensure!(of_key == expected, "{of_key:?}\n{}", relay.log_tail());
    }
    relay.ready().await?;
    relay.expect_running()
}

#[tokio::test]
async fn a_table_that_nobody_publishes_is_named_and_the_others_go_on() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&tenant("tenant_b")).await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b1")).await?;
    let named = wait_until("it is named", SOON, async || {
        let ready = relay.get("/ready").await?;
        Ok(ready.status == 503
            && ready.body.contains("tenant_b.outbox")
            && ready.body.contains("walpost.follow"))
    });
    named.await.with_context(|| relay.log_tail())?;
    case.database.execute(&row("tenant_a.outbox", "a", "a1")).await?;
    ensure!(arrive(&case, 1, &relay).await? == ["a1"]);
    case.database.execute("select walpost.follow('tenant_b.outbox')").await?;
    relay.ready().await?;
    ensure!(sorted(arrive(&case, 2, &relay).await?) == ["a1", "b1"]);
    relay.expect_running()
}

#[tokio::test]
async fn rows_of_a_table_that_was_dropped_before_anyone_looked_are_published_from_the_stream() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.database.execute(&tenant("tenant_b")).await?;
    case.database.execute("select walpost.follow('tenant_b.outbox')").await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b1")).await?;
    case.database.execute("drop table tenant_b.outbox").await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a1")).await?;
    let mut relay = case.relay.run()?;
    ensure!(sorted(arrive(&case, 2, &relay).await?) == ["a1", "b1"], "{}", relay.log_tail());
    // And one that is made anew under the name of one that was followed.
    case.database.execute("drop table tenant_a.outbox").await?;
    case.database.execute(&tenant("tenant_a").replace("create schema tenant_a;", "")).await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a2")).await?;
    case.database.execute("select walpost.follow('tenant_a.outbox')").await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a3")).await?;
    ensure!(sorted(arrive(&case, 4, &relay).await?) == ["a1", "a2", "a3", "b1"], "{}", relay.log_tail());
    relay.ready().await?;
    relay.expect_running()
}

/// What is found of one table is mended there, and no other is published again.
#[tokio::test]
async fn what_let_rows_of_one_table_pass_has_only_that_one_published_again() -> Result<()> {
    let case = named_two(&["one", "two"]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&row("one.outbox", "k", "one 1")).await?;
    case.database.execute(&row("two.outbox", "k", "two 1")).await?;
    arrive(&case, 2, &relay).await?;
    relay.terminate(SOON).await?;
    case.database.execute("alter publication walpost drop table one.outbox").await?;
    case.database.execute(&row("one.outbox", "k", "one 2")).await?;
    case.database.execute("alter publication walpost add table one.outbox").await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["one.outbox", "walpost recover"]).await?;
    relay.terminate(SOON).await?;
    let mut relay = case.relay.recover()?;
    arrive(&case, 3, &relay).await?;
    relay.ready().await?;
    let all = case.topic.read_all().await?;
    let of_two = all.iter().filter(|record| record.value.starts_with(b"two")).count();
    ensure!(of_two == 1, "two.outbox was published again\n{}", relay.log_tail());
    relay.expect_running()
}

#[tokio::test]
async fn a_table_that_is_added_to_the_settings_is_followed_once_init_has_run_again() -> Result<()> {
    let case = named_two(&["one"]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&row("one.outbox", "k", "one 1")).await?;
    arrive(&case, 1, &relay).await?;
    relay.terminate(SOON).await?;
    case.database.execute(&tenant("two")).await?;
    case.database.execute(&row("two.outbox", "k", "two 1")).await?;
    let case = names_tables(case, &["one", "two"]);
    let said = case.relay.command(&["init"]).await?.success()?.stdout;
    ensure!(said.contains("takes in two.outbox") && said.contains("followed from now on"), "{said}");
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    case.database.execute(&row("two.outbox", "k", "two 2")).await?;
    ensure!(arrive(&case, 3, &relay).await? == ["one 1", "two 1", "two 2"], "{}", relay.log_tail());
    relay.terminate(SOON).await?;
    // Left out again, its rows would be passed over.
    let case = names_tables(case, &["one"]);
    halts(&mut case.relay.run()?, &["two.outbox", "name it again"]).await
}

#[tokio::test]
async fn two_settings_that_stand_for_one_table_are_refused() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?;
    let case = names_tables(case, &["tenant_a", "tenant_*"]);
    let outcome = case.relay.command(&["init"]).await?;
    ensure!(outcome.code() != 0 && outcome.stderr.contains("tenant_a.outbox"), "{}", outcome.stderr);
    Ok(())
}

#[tokio::test]
async fn published_rows_of_every_table_are_removed_and_no_other() -> Result<()> {
    let case = tenants(&["tenant_a", "tenant_b"], TENANTS).await?;
    let case = case.with("WALPOST_CLEAN", "age").with("WALPOST_CLEAN_AGE_S", "0");
    let case = case.with("WALPOST_CLEAN_INTERVAL_MS", "100");
    let relay = case.relay.init_and_run().await?;
    case.database.execute(&tenant("tenant_c")).await?;
    // Not published, so not removed.
    case.database.execute(&row("tenant_c.outbox", "c", "c1")).await?;
    for number in 0..20 {
        for name in ["tenant_a", "tenant_b"] {
            case.database.execute(&row(&format!("{name}.outbox"), "k", &format!("{name} {number}"))).await?;
        }
    }
    let client = case.client().await?;
    let left = "select (select count(*) from tenant_a.outbox) + (select count(*) from tenant_b.outbox)";
    let removed = wait_until("the rows are removed", SOON, async || {
        Ok(client.query_one(left, &[]).await?.get::<_, i64>(0) == 0)
    });
    removed.await.with_context(|| relay.log_tail())?;
    ensure!(client.query_one("select count(*) from tenant_c.outbox", &[]).await?.get::<_, i64>(0) == 1);
    ensure!(values(&case.topic.read_all().await?).len() == 40);
    Ok(())
}

/// Whatever happens to the relay while tables come and go, every row that was committed arrives, those of a key in order.
#[tokio::test]
async fn tables_that_come_while_the_relay_is_killed_lose_no_row_and_keep_their_order() -> Result<()> {
    let case = tenants(&["tenant_0"], TENANTS).await?;
    let mut relay = case.relay.init_and_run().await?;
    let mut expected = 0;
    for number in 1..=6 {
        let (old, new) = (format!("tenant_{}.outbox", number - 1), format!("tenant_{number}.outbox"));
        case.database.execute(&tenant(&format!("tenant_{number}"))).await?;
        let steps = [
            row(&new, &new, &format!("{new} 1")),
            row(&old, &old, &format!("{old} 3")),
            format!("select walpost.follow('{new}')"),
            row(&new, &new, &format!("{new} 2")),
        ];
        for (index, step) in steps.iter().enumerate() {
            case.database.execute(step).await?;
            if index == number % steps.len() {
                relay.kill()?;
                relay = case.relay.run()?;
            }
        }
        expected += 3;
    }
    let arrived = arrive(&case, expected, &relay).await?;
    for number in 1..=6 {
        let table = format!("tenant_{number}.outbox ");
        let of_table: Vec<_> = arrived.iter().filter_map(|value| value.strip_prefix(&table)).collect();
        let all = if number == 6 { vec!["1", "2"] } else { vec!["1", "2", "3"] };
        ensure!(of_table == all, "{table}: {of_table:?}\n{}", relay.log_tail());
    }
    relay.ready().await?;
    relay.expect_running()
}

/// What is brought in beside a relay that does not know it must not be passed over by it.
#[tokio::test]
async fn a_table_that_init_brings_in_beside_a_running_relay_loses_no_row() -> Result<()> {
    let case = named_two(&["one"]).await?.with("WALPOST_WATCH_INTERVAL_MS", "3600000");
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&row("one.outbox", "k", "one 1")).await?;
    arrive(&case, 1, &relay).await?;
    case.database.execute(&tenant("two")).await?;
    case.database.execute(&row("two.outbox", "k", "two 1")).await?;
    let path = std::env::temp_dir().join(format!("walpost-{}-both.toml", case.database.name()));
    std::fs::write(&path, "[[outbox]]\ntable = \"one.outbox\"\n[[outbox]]\ntable = \"two.outbox\"\n")?;
    let both = case.relay.beside()?.env("WALPOST_CONFIG", &path);
    both.init().await?;
    for number in 2..=50 {
        // As much as an idle relay thinks worth confirming; what is all the same would be compressed.
        let insert = format!(
            "insert into two.outbox (key, payload) select 'k', 'two {number} ' || string_agg(md5(random()::text), '') \
             from generate_series(1, 200)"
        );
        case.database.execute(&insert).await?;
    }
    halts(&mut relay, &["two.outbox"]).await?;
    relay.kill()?;
    let mut relay = both.run()?;
    arrive(&case, 51, &relay).await?;
    relay.ready().await?;
    relay.expect_running()
}

#[tokio::test]
async fn a_tenants_table_that_init_brings_in_beside_a_running_relay_is_published() -> Result<()> {
    let case = tenants(&["tenant_a"], TENANTS).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&tenant("tenant_b")).await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b1")).await?;
    case.relay.beside()?.init().await?;
    ensure!(arrive(&case, 1, &relay).await? == ["b1"]);
    relay.ready().await?;
    relay.expect_running()
}

/// The last rows of a table that was dropped stand in the stream alone.
#[tokio::test]
async fn rows_of_a_table_that_was_dropped_and_is_not_named_any_more_are_not_passed_over() -> Result<()> {
    let case = named_two(&["one", "two"]).await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.database.execute(&row("two.outbox", "k", "two 1")).await?;
    case.database.execute("drop table two.outbox").await?;
    case.database.execute(&row("one.outbox", "k", "one 1")).await?;
    let case = names_tables(case, &["one"]);
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["two.outbox", "delete from walpost.outbox"]).await?;
    relay.kill()?;
    case.database.execute("delete from walpost.outbox where table_name = 'two.outbox'").await?;
    let mut relay = case.relay.run()?;
    ensure!(arrive(&case, 1, &relay).await? == ["one 1"]);
    relay.ready().await?;
    relay.expect_running()
}

/// What was found of a table that is there no more is no reason to confirm nothing.
#[tokio::test]
async fn a_finding_of_a_table_that_was_dropped_holds_up_nothing() -> Result<()> {
    let case = named_two(&["one", "two"]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("alter publication walpost drop table two.outbox").await?;
    halts(&mut relay, &["two.outbox"]).await?;
    relay.kill()?;
    case.database.execute("drop table two.outbox").await?;
    let case = names_tables(case, &["one"]);
    let mut relay = case.relay.run()?;
    relay.ready().await?;
    case.database.execute(&row("one.outbox", "k", "one 1")).await?;
    arrive(&case, 1, &relay).await?;
    let arrived = case.topic.read(1, SOON).await?;
    case.confirmed_to(committed_at(&arrived[0])?).await.with_context(|| relay.log_tail())?;
    relay.expect_running()
}

/// The tables of walpost itself are none of those that a pattern stands for, whatever the publication holds.
#[tokio::test]
async fn a_pattern_for_every_schema_does_not_stand_for_the_ledger() -> Result<()> {
    let case = tenants(&["tenant_a"], "*.outbox").await?;
    case.database.execute("create publication walpost for all tables with (publish = 'insert')").await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute(&tenant("tenant_b")).await?;
    case.database.execute(&row("tenant_b.outbox", "b", "b1")).await?;
    case.database.execute(&row("tenant_a.outbox", "a", "a1")).await?;
    ensure!(sorted(arrive(&case, 2, &relay).await?) == ["a1", "b1"]);
    relay.ready().await?;
    let arrived = values(&case.topic.read_all().await?);
    ensure!(arrived.len() == 2, "{arrived:?}");
    relay.expect_running()
}

/// A copy reads a table by its name, and what it proves is of the table.
#[tokio::test]
async fn a_table_that_is_renamed_before_it_is_copied_is_copied_all_the_same() -> Result<()> {
    let case = tenants(&["tenant_a", "tenant_b"], TENANTS).await?;
    for number in 1..=5 {
        case.database.execute(&row("tenant_b.outbox", "b", &format!("b{number}"))).await?;
    }
    case.relay.init().await?;
    case.database.execute("update walpost.outbox set copy_through = null, streamed_from = null").await?;
    case.database.execute("create table other (n int)").await?;
    let holder = case.client().await?;
    holder.batch_execute("begin; insert into other values (1)").await?;
    let mut relay = case.relay.run()?;
    let begun =
        wait_until("the copy waits", SOON, async || Ok(relay.log().contains("rows from before the slot")));
    begun.await.with_context(|| relay.log_tail())?;
    // Another table takes the schema's name, and the first goes by another that the pattern stands for as well.
    let swap = format!("alter schema tenant_b rename to tenant_c; {}; commit", tenant("tenant_b"));
    holder.batch_execute(&swap).await?;
    arrive(&case, 5, &relay).await?;
    relay.expect_running()
}
