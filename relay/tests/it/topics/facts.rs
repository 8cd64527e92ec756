use anyhow::{Context, Result, ensure};
use fantoccini::Locator;
use harness::{Browser, RelayProcess, Topic, wait_until};

use super::{insert, of_rows, waits};
use crate::case::SOON;

#[tokio::test]
async fn what_became_of_records_is_told_by_topic_and_so_is_one_that_is_missing() -> Result<()> {
    let case = of_rows().await?;
    let second = Topic::fresh(&case.topic.brokers, 2).await?;
    let mut relay = case.relay.init_and_run().await?;
    let rows = [insert(&case.topic.name, "1"), insert(&second.name, "2"), insert(&second.name, "3")];
    case.database.execute(&rows.join(";")).await?;
    let stored = |name: &str| format!("walpost_topic_records_total{{topic=\"{name}\"}}");
    wait_until("both topics are counted", SOON, async || {
        let counts =
            (relay.metric(&stored(&case.topic.name)).await, relay.metric(&stored(&second.name)).await);
        Ok(matches!(counts, (Ok(first), Ok(second)) if first > 0.5 && second > 1.5))
    })
    .await?;
    let said = case.relay.command(&["status"]).await?.stdout;
    ensure!(said.contains(&format!("{} 2 records in 2 partitions", second.name)), "{said}");

    let missing = Topic::unused_name();
    case.database.execute(&insert(&missing, "4")).await?;
    waits(&mut relay, &[&missing]).await?;
    let awaited = format!("walpost_topic_awaited{{topic=\"{missing}\"}}");
    wait_until("it is told which topic is awaited", SOON, async || {
        Ok(relay.metric(&awaited).await.is_ok_and(|awaited| awaited > 0.5))
    })
    .await?;
    let status: serde_json::Value = serde_json::from_str(&relay.get("/status").await?.body)?;
    let first = status["kafka"]["topics"].get(0).context("topics")?;
    ensure!(
        first["name"] == missing.as_str() && first["awaited"] == true,
        "what is wrong comes first: {status}"
    );
    let said = case.relay.command(&["status"]).await?.stdout;
    ensure!(said.contains(&format!("{missing} is not there, and records wait for it")), "{said}");
    the_page_has(&relay, &[&missing, &second.name, &case.topic.name]).await
}

async fn the_page_has(relay: &RelayProcess, names: &[&str]) -> Result<()> {
    let Some(browser) = Browser::open(1280, 1500).await? else { return Ok(()) };
    browser.goto(&format!("http://{}/", relay.http_addr())).await?;
    wait_until("the page has the topics", SOON, async || {
        let shown = browser.find(Locator::Css("#topics tbody")).await?.text().await?;
        let at = |name: &&str| shown.find(*name);
        Ok(names.iter().all(|name| at(name).is_some()) && names.iter().map(at).is_sorted())
    })
    .await?;
    browser.photograph("page-topics").await
}
