//! The page of the OpenAPI document, in a real browser.

use anyhow::Result;
use fantoccini::Locator;
use harness::Browser;

use crate::support::{DEADLINE, Setup};

#[tokio::test]
async fn a_call_can_be_tried_on_the_page() -> Result<()> {
    let Some(browser) = Browser::open(1000, 1400).await? else { return Ok(()) };
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
    browser.photograph("package-api-docs").await
}
