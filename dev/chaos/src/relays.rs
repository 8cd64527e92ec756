//! The relays: of two that follow the same, one streams and one stands by, and who does which changes.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::{OffClock, Relay, RelayProcess, http, wait_for, wait_until};
use serde_json::Value;

use crate::settings::SettingsFile;

/// Nothing takes longer to come back; if it does, it does not come back.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// An hour's records, in a debug build.
const AUDIT_DEADLINE: Duration = Duration::from_secs(600);

/// Two with the same settings.
struct Pair {
    settings: [Relay; 2],
    running: [RelayProcess; 2],
}

/// Where a slot is followed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) pair: usize,
    /// Its name, where one process has several.
    pub(crate) source: Option<String>,
}

impl Place {
    /// The path of one of its pages.
    fn page(&self, name: &str) -> String {
        self.source.as_ref().map_or_else(|| format!("/{name}"), |source| format!("/sources/{source}/{name}"))
    }

    /// A command that is about it.
    fn command<'a>(&self, command: &[&'a str], flag: &'a mut String) -> Vec<&'a str> {
        let Some(source) = &self.source else { return command.to_vec() };
        *flag = format!("--source={source}");
        [command, &[flag.as_str()]].concat()
    }
}

/// One of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pair: usize,
    index: usize,
}

impl Seat {
    /// That of the other one with the same settings.
    pub(crate) fn other(self) -> Self {
        Self { index: 1 - self.index, ..self }
    }
}

/// All of them.
pub(crate) struct Relays {
    pairs: Vec<Pair>,
    /// By stream.
    places: Vec<Place>,
    /// As soon as one of them needs it.
    clock: Option<OffClock>,
    _file: Option<SettingsFile>,
}

/// What a halted relay says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Halt {
    pub(crate) stream: usize,
    seat: Seat,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Relays {
    pub(crate) fn start(
        settings: Vec<[Relay; 2]>,
        places: Vec<Place>,
        file: Option<SettingsFile>,
    ) -> Result<Self> {
        let start = |settings: [Relay; 2]| {
            let running = [settings[0].run()?, settings[1].run()?];
            Ok(Pair { settings, running })
        };
        let pairs = settings.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Self { pairs, places, clock: None, _file: file })
    }

    /// The relay that streams this, as soon as one does.
    pub(crate) async fn active(&self, stream: usize) -> Result<Seat> {
        let waited = wait_for("a relay is ready", DEADLINE, async || {
            for seat in self.seats(stream) {
                if self.says(stream, seat).await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(Some(seat));
                }
            }
            Ok(None)
        })
        .await;
        match waited {
            Ok(seat) => Ok(seat),
            Err(error) => Err(error.context(self.logs().await)),
        }
    }

    /// Those that follow this.
    fn seats(&self, stream: usize) -> [Seat; 2] {
        [0, 1].map(|index| Seat { pair: self.places[stream].pair, index })
    }

    /// What one says of this.
    async fn says(&self, stream: usize, seat: Seat) -> Result<http::Response> {
        http::get(self.get(seat).http_addr(), &self.places[stream].page("ready")).await
    }

    /// Those that have halted.
    pub(crate) async fn halts(&self) -> Vec<Halt> {
        let mut halts = Vec::new();
        for stream in 0..self.places.len() {
            for seat in self.seats(stream) {
                let Ok(answer) = self.says(stream, seat).await else { continue };
                let Ok(said) = serde_json::from_str::<Value>(&answer.body) else { continue };
                let part = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
                if part("state") == "halted" {
                    halts.push(Halt { stream, seat, reason: part("reason"), remedy: part("remedy") });
                }
            }
        }
        halts
    }

    /// Does what the remedy says: `walpost recover` where it says so, or a start again.
    pub(crate) async fn follow(&mut self, halt: &Halt) -> Result<()> {
        let mut recovers = halt.remedy.contains("walpost recover");
        if recovers && self.places[halt.stream].source.is_some() {
            self.recover_beside(halt).await?;
            recovers = false;
        }
        self.at(halt.seat).terminate(DEADLINE).await.context("ending a halted relay")?;
        let Pair { settings, running } = &mut self.pairs[halt.seat.pair];
        let (settings, running) = (&settings[halt.seat.index], &mut running[halt.seat.index]);
        *running = if recovers { settings.recover()? } else { settings.run()? };
        Ok(())
    }

    /// Recovers one source by a process of its own, beside that in which it has halted and which has the others.
    async fn recover_beside(&self, halt: &Halt) -> Result<()> {
        let (place, mut flag) = (&self.places[halt.stream], String::new());
        let settings = self.pairs[halt.seat.pair].settings[halt.seat.index].beside()?;
        let mut beside = settings.recover_with(&place.command(&[], &mut flag))?;
        let path = place.page("ready");
        let waited = wait_until("a source is recovered", DEADLINE, async || {
            // Where another has recovered it already, it may say so and end.
            let Ok(()) = beside.expect_running() else { return Ok(true) };
            let Ok(answer) = beside.get(&path).await else { return Ok(false) };
            let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            Ok(said["state"] == "streaming" || said["state"] == "standby")
        });
        waited.await.with_context(|| beside.log_tail())?;
        if beside.expect_running().is_ok() {
            beside.terminate(DEADLINE).await.context("ending a recovery")?;
        }
        Ok(())
    }

    /// Waits until one of those that follow this says these words of itself.
    ///
    /// # Errors
    /// When none does: with what they say instead.
    pub(crate) async fn say(&self, stream: usize, words: &str) -> Result<()> {
        let what = format!("a relay says: {words}");
        let waited = wait_until(&what, DEADLINE, async || {
            for seat in self.seats(stream) {
                if self.says(stream, seat).await.is_ok_and(|answer| answer.body.contains(words)) {
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

    /// Kills both that follow this, starts the one at `seat` again with its clock off by so many hours, and the other when
    /// this one has published.
    ///
    /// # Errors
    /// When it does not publish.
    pub(crate) async fn stream_with_clock_off(
        &mut self,
        stream: usize,
        seat: Seat,
        hours: i32,
    ) -> Result<()> {
        self.pairs[seat.pair].running.iter_mut().try_for_each(|relay| relay.kill())?;
        if self.clock.is_none() {
            self.clock = Some(OffClock::make()?);
        }
        let settings = &self.pairs[seat.pair].settings[seat.index];
        let off = self.clock.as_ref().map(|clock| settings.clone().with_clock_off_by(hours, clock));
        *self.at(seat) = off.context("no clock")?.run()?;
        let (relay, page) = (self.get(seat), self.places[stream].page("status"));
        let waited = wait_until("a relay publishes whose clock is off", DEADLINE, async || {
            let published = relay.metric("walpost_events_total").await.is_ok_and(|events| events > 0.0);
            if published {
                is_off_by(relay, &page, hours).await?;
            }
            Ok(published)
        });
        if let Err(error) = waited.await {
            return Err(error.context(self.logs().await));
        }
        self.start_again(seat.other())
    }

    /// What `walpost audit` finds missing or altered; `None` when nothing is. What it says of the order rests on positions in
    /// the WAL, which begin anew after a failover: of that the ledger here is the judge.
    ///
    /// # Errors
    /// When it does not start, or does not end.
    pub(crate) async fn audit(&self) -> Result<Option<String>> {
        let mut faults = None;
        for place in &self.places {
            let mut flag = String::new();
            let command = place.command(&["audit", "--json"], &mut flag);
            // Nothing is away any more, and unlike a relay it tries once.
            let settings =
                self.pairs[place.pair].settings[0].clone().env("WALPOST_CONNECT_TIMEOUT_MS", "60000");
            let mut audit = settings.start(&command)?;
            audit.exit(AUDIT_DEADLINE).await?;
            let log = audit.log();
            let json = log.find('{').and_then(|at| log[at..].rfind('}').map(|end| &log[at..=at + end]));
            let report: Value = serde_json::from_str(json.with_context(|| format!("no report: {log}"))?)?;
            let found =
                ["missing", "altered"].map(|kind| report["found"][kind].as_array().map_or(0, Vec::len));
            println!("\nwalpost audit: {} rows missing, {} altered", found[0], found[1]);
            if found != [0, 0] {
                faults = Some(log);
            }
        }
        Ok(faults)
    }

    pub(crate) fn at(&mut self, seat: Seat) -> &mut RelayProcess {
        &mut self.pairs[seat.pair].running[seat.index]
    }

    fn get(&self, seat: Seat) -> &RelayProcess {
        &self.pairs[seat.pair].running[seat.index]
    }

    /// Starts one again that has ended.
    pub(crate) fn start_again(&mut self, seat: Seat) -> Result<()> {
        *self.at(seat) = self.pairs[seat.pair].settings[seat.index].run()?;
        Ok(())
    }

    /// Starts those again that have ended: a command that was told to recover and could not.
    pub(crate) fn start_ended(&mut self) -> Result<()> {
        for Pair { settings, running } in &mut self.pairs {
            for (settings, running) in settings.iter().zip(running) {
                if running.expect_running().is_err() {
                    *running = settings.run()?;
                }
            }
        }
        Ok(())
    }

    /// What all say of themselves, and the ends of their logs, for a failure's message.
    pub(crate) async fn logs(&self) -> String {
        let mut said = String::new();
        for relay in self.pairs.iter().flat_map(|pair| &pair.running) {
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

/// Fails when the relay's clock is not off by so many hours, as when it is linked statically.
async fn is_off_by(relay: &RelayProcess, page: &str, hours: i32) -> Result<()> {
    let status: Value = serde_json::from_str(&relay.get(page).await?.body)?;
    let its_seconds = status["now_ms"].as_i64().context("/status has no now_ms")? / 1_000;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let off = its_seconds - i64::try_from(since_1970)?;
    ensure!(
        (off - i64::from(hours) * 3_600).abs() < 600,
        "the relay's clock is off by {off} s, not by {hours} h"
    );
    Ok(())
}
