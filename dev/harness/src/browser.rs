//! A real browser, without a window.

use std::ops::Deref;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::port;
use crate::wait::wait_for;

/// From the start of the driver to a browser that is driven, on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Chromium asks nobody for anything, and needs no screen and no user of its own.
const ARGUMENTS: [&str; 7] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
];

/// A browser; it ends when this is dropped.
pub struct Browser {
    client: Client,
    _driver: Child,
}

impl Browser {
    /// Chromium by its driver, with a window of this size; `None` where neither is installed and nobody insists
    /// (`REQUIRE_BROWSER`, which CI sets).
    ///
    /// # Errors
    /// When it does not start.
    pub async fn open(width: u32, height: u32) -> Result<Option<Self>> {
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
                eprintln!(
                    "not tested: install chromium and chromium-driver (Debian's names) to test the page"
                );
                return Ok(None);
            }
        };
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--window-size={width},{height}"));
        let capabilities = json!({"goog:chromeOptions": {"args": arguments}});
        let capabilities = capabilities.as_object().context("an object")?.clone();
        let url = format!("http://{addr}");
        let client = wait_for("the browser", START_DEADLINE, async || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            Ok(builder.capabilities(capabilities.clone()).connect(&url).await.ok())
        })
        .await?;
        Ok(Some(Self { client, _driver: driver }))
    }

    /// Writes what it shows into a file of this name in the folder that the variable `SCREENSHOTS` names, if it does.
    ///
    /// # Errors
    /// When the browser or the disk does not.
    pub async fn photograph(&self, name: &str) -> Result<()> {
        if let Some(folder) = std::env::var_os("SCREENSHOTS") {
            let file = std::path::Path::new(&folder).join(format!("{name}.png"));
            std::fs::write(file, self.client.screenshot().await?)?;
        }
        Ok(())
    }
}

impl Deref for Browser {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
