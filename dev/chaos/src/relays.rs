//! The two relays: one streams, one stands by, and who does which changes.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::{OffClock, Relay, RelayProcess, http, wait_for, wait_until};
use serde_json::Value;

/// Nothing takes longer to come back; if it does, it does not come back.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// An hour's records, in a debug build.
const AUDIT_DEADLINE: Duration = Duration::from_secs(600);

/// Both.
pub(crate) struct Relays {
    settings: [Relay; 2],
    running: [RelayProcess; 2],
    /// As soon as one of them needs it.
    clock: Option<OffClock>,
}

/// What a halted relay says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Halt {
    pub(crate) index: usize,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// Fails when the relay's clock is not off by so many hours, as when it is linked statically.
async fn is_off_by(relay: &RelayProcess, hours: i32) -> Result<()> {
    let status: Value = serde_json::from_str(&relay.get("/status").await?.body)?;
    let its_seconds = status["now_ms"].as_i64().context("/status has no now_ms")? / 1_000;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let off = its_seconds - i64::try_from(since_1970)?;
    ensure!(
        (off - i64::from(hours) * 3_600).abs() < 600,
        "the relay's clock is off by {off} s, not by {hours} h"
    );
    Ok(())
}

impl Relays {
    pub(crate) fn start(settings: [Relay; 2]) -> Result<Self> {
        let running = [settings[0].run()?, settings[1].run()?];
        Ok(Self { settings, running, clock: None })
    }

    /// The relay that streams, as soon as one does.
    pub(crate) async fn active(&self) -> Result<usize> {
        let waited = wait_for("a relay is ready", DEADLINE, async || {
            for (index, relay) in self.running.iter().enumerate() {
                if http::get(relay.http_addr(), "/ready").await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(Some(index));
                }
            }
            Ok(None)
        })
        .await;
        match waited {
            Ok(index) => Ok(index),
            Err(error) => Err(error.context(self.logs().await)),
        }
    }

    /// Those that have halted.
    pub(crate) async fn halts(&self) -> Vec<Halt> {
        let mut halts = Vec::new();
        for (index, relay) in self.running.iter().enumerate() {
            let Ok(answer) = http::get(relay.http_addr(), "/ready").await else { continue };
            let Ok(said) = serde_json::from_str::<Value>(&answer.body) else { continue };
            let part = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
            if part("state") == "halted" {
                halts.push(Halt { index, reason: part("reason"), remedy: part("remedy") });
            }
        }
        halts
    }

    /// Does what the remedy says: `walpost recover` where it says so, or a start again.
    pub(crate) async fn follow(&mut self, halt: &Halt) -> Result<()> {
        self.running[halt.index].terminate(DEADLINE).await.context("ending a halted relay")?;
        let settings = &self.settings[halt.index];
        let recovers = halt.remedy.contains("walpost recover");
        self.running[halt.index] = if recovers { settings.recover()? } else { settings.run()? };
        Ok(())
    }

    /// Waits until one of them says this of itself.
    ///
    /// # Errors
    /// When none does: with what they say instead.
    pub(crate) async fn say(&self, words: &str) -> Result<()> {
        let what = format!("a relay says: {words}");
        let waited = wait_until(&what, DEADLINE, async || {
            for relay in &self.running {
                if http::get(relay.http_addr(), "/ready")
                    .await
                    .is_ok_and(|answer| answer.body.contains(words))
                {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        match waited.await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.logs().await)),
        }
    }

    /// Kills both, starts `index` again with its clock off by so many hours, and the other when this one has published.
    ///
    /// # Errors
    /// When it does not publish.
    pub(crate) async fn stream_with_clock_off(&mut self, index: usize, hours: i32) -> Result<()> {
        self.running.iter_mut().try_for_each(|relay| relay.kill())?;
        if self.clock.is_none() {
            self.clock = Some(OffClock::make()?);
        }
        let off =
            self.clock.as_ref().map(|clock| self.settings[index].clone().with_clock_off_by(hours, clock));
        self.running[index] = off.context("no clock")?.run()?;
        let relay = &self.running[index];
        let waited = wait_until("a relay publishes whose clock is off", DEADLINE, async || {
            let published = relay.metric("walpost_events_total").await.is_ok_and(|events| events > 0.0);
            if published {
                is_off_by(relay, hours).await?;
            }
            Ok(published)
        });
        if let Err(error) = waited.await {
            return Err(error.context(self.logs().await));
        }
        self.start_again(1 - index)
    }

    /// What `walpost audit` finds missing or altered; `None` when nothing is. What it says of the order rests on positions in
    /// the WAL, which begin anew after a failover: of that the ledger here is the judge.
    ///
    /// # Errors
    /// When it does not start, or does not end.
    pub(crate) async fn audit(&self) -> Result<Option<String>> {
        let mut audit = self.settings[0].start(&["audit", "--json"])?;
        audit.exit(AUDIT_DEADLINE).await?;
        let log = audit.log();
        let json = log.find('{').and_then(|at| log[at..].rfind('}').map(|end| &log[at..=at + end]));
        let report: Value = serde_json::from_str(json.with_context(|| format!("no report: {log}"))?)?;
        let found = ["missing", "altered"].map(|kind| report["found"][kind].as_array().map_or(0, Vec::len));
        println!("\nwalpost audit: {} rows missing, {} altered", found[0], found[1]);
        Ok((found != [0, 0]).then_some(log))
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut RelayProcess {
        &mut self.running[index]
    }

    /// Starts one again that has ended.
    pub(crate) fn start_again(&mut self, index: usize) -> Result<()> {
        self.running[index] = self.settings[index].run()?;
        Ok(())
    }

    /// Starts those again that have ended: a command that was told to recover and could not.
    pub(crate) fn start_ended(&mut self) -> Result<()> {
        for index in 0..self.running.len() {
            if self.running[index].expect_running().is_err() {
                self.start_again(index)?;
            }
        }
        Ok(())
    }

    /// What both say of themselves, and the ends of their logs, for a failure's message.
    pub(crate) async fn logs(&self) -> String {
        let mut said = String::new();
        for relay in &self.running {
            for path in ["/ready", "/metrics"] {
                let page = http::get(relay.http_addr(), path).await.map(|answer| answer.body);
                let page = page.unwrap_or_else(|error| format!("{path}: {error:#}"));
                for line in page.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process"))
                {
                    said += &format!("{line}\n");
                }
            }
            said += &relay.log_tail();
        }
        said
    }
}
