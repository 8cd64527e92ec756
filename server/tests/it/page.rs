//! The page of the OpenAPI document, in a real browser.

use std::process::Stdio;

use anyhow::{Context, Result};
use fantoccini::{Client as Browser, ClientBuilder, Locator};
use harness::{port, wait_until};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::{DEADLINE, Setup};

/// Chromium by its driver; `None` where neither is installed and nobody insists (`REQUIRE_BROWSER`, which CI sets).
async fn browser() -> Result<Option<(Browser, Child)>> {
    let addr = port::free()?;
    let driver = Command::new("chromedriver")
        .arg(format!("--port={}", addr.port()))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let driver = match driver {
        Ok(driver) => driver,
        Err(error) if std::env::var_os("REQUIRE_BROWSER").is_some() => {
            return Err(error).context("chromedriver");
        }
        Err(_) => {
            eprintln!("not tested: install chromium and chromium-driver (Debian's names) to test the page");
            return Ok(None);
        }
    };
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1000,1400",
    ];
    let capabilities = json!({"goog:chromeOptions": {"args": arguments}});
    let capabilities = capabilities.as_object().context("an object")?.clone();
    let url = format!("http://{addr}");
    let mut found = None;
    wait_until("the browser", DEADLINE, async || {
        found = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.clone())
            .connect(&url)
            .await
            .ok();
        Ok(found.is_some())
    })
    .await?;
    Ok(Some((found.context("no browser")?, driver)))
}

#[tokio::test]
async fn a_call_can_be_tried_on_the_page() -> Result<()> {
    let Some((browser, _driver)) = browser().await? else { return Ok(()) };
    let mut setup = Setup::new().await?;
    browser.goto(&format!("http://{}/docs", setup.server.addresses.rest)).await?;
    let call = browser.wait().at_most(DEADLINE).for_element(Locator::Css("#CreatePackageV1")).await?;
    assert_eq!(browser.find_all(Locator::Css("details")).await?.len(), 5);
    call.find(Locator::Css("summary")).await?.click().await?;
    let body = call.find(Locator::Css("textarea")).await?;
    body.clear().await?;
    body.send_keys(r#"{"Title":"by hand","Material":"wood","MaximumVolume":1.5}"#).await?;
    call.find(Locator::Css("button")).await?.click().await?;
    let answered =
        browser.wait().at_most(DEADLINE).for_element(Locator::Css("#CreatePackageV1 .status.good")).await?;
    assert!(answered.text().await?.starts_with("200"));
    assert!(call.find(Locator::Css(".answer")).await?.text().await?.contains("\"ID\": \"1\""));
    assert_eq!(setup.describe(1).await?.title, "by hand");

    let describe = browser.find(Locator::Css("#DescribePackageV1")).await?;
    describe.find(Locator::Css("summary")).await?.click().await?;
    describe.find(Locator::Css("input[name=PackageID]")).await?.send_keys("77").await?;
    describe.find(Locator::Css("button")).await?.click().await?;
    let refused =
        browser.wait().at_most(DEADLINE).for_element(Locator::Css("#DescribePackageV1 .status.bad")).await?;
    assert!(refused.text().await?.starts_with("404"));
    if let Some(file) = std::env::var_os("SCREENSHOT") {
        std::fs::write(file, browser.screenshot().await?)?;
    }
    browser.close().await?;
    Ok(())
}
