//! Commands that go over every source: `init`, `check` and `status`. Where `--source` names one, and where there is one without a
//! name, what they print is of that one and says no name.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tracing::Instrument as _;

use super::init::{self, RowsBefore, Schemas};
use super::status::{self, Colours, Status};
use super::{check, is_coloured, print, with_remedy};
use crate::config::{Fleet, Settings};
use crate::telemetry::label;

/// Makes what each needs; one that fails keeps no other from it.
pub(super) async fn initialise(
    fleet: &Fleet,
    before: RowsBefore,
    schemas: Schemas,
) -> anyhow::Result<ExitCode> {
    let mut is_done = true;
    for settings in fleet.sources() {
        head(fleet, settings)?;
        let made = init::run(settings, before, schemas).instrument(span(settings)).await;
        match made.map_err(|error| with_remedy(settings, error)) {
            Ok(steps) => steps.into_iter().try_for_each(|step| print(step).map(drop))?,
            Err(error) if fleet.is_listed() => {
                is_done = false;
                eprintln!("walpost: source {}: {error:#}", name(settings));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found of each source, by its name.
#[derive(Serialize)]
struct BySource<T> {
    sources: BTreeMap<String, T>,
}

impl<T> BySource<T> {
    fn of(fleet: &Fleet, found: impl IntoIterator<Item = T>) -> Self {
        Self { sources: fleet.sources().iter().map(name).zip(found).collect() }
    }
}

/// Goes through every precondition of each.
pub(super) async fn check(fleet: &Fleet, json: bool, strict: bool) -> anyhow::Result<ExitCode> {
    let (mut all, mut is_well) = (Vec::new(), true);
    for settings in fleet.sources() {
        let findings = check::run(settings).instrument(span(settings)).await;
        is_well &= findings.pass(strict);
        if !json {
            head(fleet, settings)?;
            print(findings.render(is_coloured()))?;
        }
        all.push(findings);
    }
    match all.as_slice() {
        _ if !json => {}
        [only] if !fleet.is_listed() => drop(print(serde_json::to_string_pretty(only)?)?),
        _ => drop(print(serde_json::to_string_pretty(&BySource::of(fleet, all))?)?),
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows how each is, once or, watched, every second.
pub(super) async fn show_status(fleet: &Fleet, json: bool, watch: bool) -> anyhow::Result<ExitCode> {
    let mut readers: Vec<_> = fleet.sources().iter().map(status::Reader::new).collect();
    loop {
        let read = join_all(readers.iter_mut().map(status::Reader::read)).await;
        let is_well = read.iter().all(|status| status.problem.is_none());
        let shown = if json { as_json(fleet, read)? } else { screen(fleet, read, watch) };
        let is_read = print(shown)?;
        if !watch || !is_read {
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn as_json(fleet: &Fleet, read: Vec<Status>) -> serde_json::Result<String> {
    match read.as_slice() {
        [only] if !fleet.is_listed() => serde_json::to_string_pretty(only),
        _ => serde_json::to_string_pretty(&BySource::of(fleet, read)),
    }
}

fn screen(fleet: &Fleet, read: Vec<Status>, watch: bool) -> String {
    let colours = if is_coloured() { Colours::Shown } else { Colours::None };
    let screen = match read.as_slice() {
        [only] if !fleet.is_listed() => status::render(only, colours),
        _ => status::table(fleet.sources().iter().map(name).zip(read).collect(), colours),
    };
    if !watch || !std::io::stdout().is_terminal() {
        return screen;
    }
    // Home, each line to its end, and clear what is below: nothing flickers.
    let screen = screen.replace('\n', "\x1b[K\n");
    format!("\x1b[H{screen}\x1b[K\n\x1b[J")
}

/// Which source it is, where there may be others.
fn head(fleet: &Fleet, settings: &Settings) -> std::io::Result<()> {
    if fleet.is_listed() {
        print(format!("== {}", name(settings)))?;
    }
    Ok(())
}

fn name(settings: &Settings) -> String {
    settings.name.clone().unwrap_or_default()
}

fn span(settings: &Settings) -> tracing::Span {
    label::span(settings.name.as_deref())
}
