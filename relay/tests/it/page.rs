use anyhow::{Result, ensure};
use fantoccini::Locator;
use harness::{Browser, wait_until};

use crate::case::{Case, SOON};

/// What an element shows.
async fn text(browser: &Browser, css: &str) -> Result<String> {
    Ok(browser.find(Locator::Css(css)).await?.text().await?)
}

/// Waits until something is on the page.
async fn shows(browser: &Browser, css: &str) -> Result<()> {
    browser.wait().at_most(SOON).for_element(Locator::Css(css)).await?;
    Ok(())
}

#[tokio::test]
async fn the_page_shows_events_as_they_are_acknowledged_and_a_halt_with_its_remedy() -> Result<()> {
    let Some(browser) = Browser::open(1280, 1500).await? else { return Ok(()) };
    let case = Case::new().await?.with("WALPOST_SAMPLE_INTERVAL_MS", "500");
    let mut relay = case.relay.init_and_run().await?;
    browser.goto(&format!("http://{}/", relay.http_addr())).await?;
    shows(&browser, "#state[data-state=streaming]").await?;
    shows(&browser, "#connection[data-live=true]").await?;

    case.commit(40, 5, 1).await?;
    shows(&browser, "#recent tr:nth-child(12)").await?;
    wait_until("they are acknowledged", SOON, async || {
        Ok(relay.metric("walpost_events_total{outcome=\"published\"}").await? >= 40.0)
    })
    .await?;
    // Alone: those that are in flight together are acknowledged in any order, by partition.
    case.commit_one(4_242).await?;
    wait_until("the page shows the last event first", SOON, async || {
        let newest = text(&browser, "#recent tbody tr:first-child").await?;
        let mut cells = newest.split_whitespace();
        Ok([cells.next(), cells.next()] == [Some("4242"), Some("Updated")])
    })
    .await?;
    let page = browser.source().await?;
    ensure!(!page.contains("event 39") && !page.contains("\"Title\""), "the page shows a payload");
    for station in ["#station-database", "#station-slot", "#station-window", "#station-kafka"] {
        ensure!(!text(&browser, station).await?.trim().is_empty(), "{station} is empty");
    }
    for plot in ["#plot-throughput", "#plot-latency", "#plot-wal"] {
        ensure!(browser.find(Locator::Css(plot)).await?.is_displayed().await?, "{plot} is not there");
    }
    wait_until("the log that is kept is known", SOON, async || {
        Ok(text(&browser, "#retained").await?.chars().any(|one| one.is_ascii_digit()))
    })
    .await?;
    browser.photograph("page-streaming").await?;

    case.database.execute("drop publication package_event_pub").await?;
    relay.halted().await?;
    shows(&browser, "#state[data-state=halted]").await?;
    ensure!(text(&browser, "#reason").await?.contains("package_event_pub"), "no reason");
    ensure!(text(&browser, "#remedy").await?.contains("walpost init"), "no remedy");
    ensure!(browser.title().await?.contains("halted"), "the title does not tell");
    browser.photograph("page-halted").await?;

    relay.kill()?;
    shows(&browser, "#connection[data-live=false]").await?;
    browser.photograph("page-gone").await
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_that_is_not_its_own() -> Result<()> {
    let case = Case::new().await?;
    let relay = case.relay.init_and_run().await?;
    for path in ["/", "/page.css", "/page.js", "/live.js", "/judge.js", "/plots.js", "/words.js"] {
        let page = relay.get(path).await?;
        assert_eq!(page.status, 200);
        assert!(page.head.contains("content-security-policy: default-src 'none'"), "{path}: {}", page.head);
        let body = page.body.replace("http://www.w3.org/", "");
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} names another place");
        assert!(!body.contains("innerHTML"), "{path} writes what servers say as HTML");
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_does_not_wait_for_pages_that_are_open() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let mut page = tokio::net::TcpStream::connect(relay.http_addr()).await?;
    let request = b"GET /events HTTP/1.1\r\nHost: walpost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut page, request).await?;
    let mut first = [0; 1];
    tokio::io::AsyncReadExt::read_exact(&mut page, &mut first).await?;
    assert_eq!(relay.terminate(SOON).await?.code(), Some(0));
    Ok(())
}
