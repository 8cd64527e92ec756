//! `walpost run`: the relay of each source, on a thread of its own with a runtime of its own: so none waits for another, and one
//! that halts, or whose thread panics, ends alone.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use futures::future::join_all;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracer;
use program::service;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{CLIENTS_TIMEOUT, runtime_of_one_thread, stop_on_signal};
use crate::config::{Fleet, Settings};
use crate::observe::board::{Limits, Vitals};
use crate::observe::http::{Observed, Pages};
use crate::observe::state::{Peer, State};
use crate::relay::{Relay, Stopped};
use crate::telemetry::{label, traces};

/// `--exit-on-halt`.
const HALTED: u8 = 3;

/// As much as the main thread has by default. Only what is used of it takes memory.
const STACK_BYTES: usize = 8 << 20;

/// Whether the relays run without their pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    Required,
    /// A relay that has halted may still be serving there.
    WhereFree,
}

/// How the relay of a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped(Stopped),
    /// Why, its pages and the log say.
    Halted,
}

/// Runs the relays until each of them has ended, and for as long as one that has halted is to say why.
pub(super) async fn run(fleet: Fleet, serving: Serving) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let process = fleet.process();
    let (listener, exit_on_halt) = (listen(process.http_addr, serving)?, process.exit_on_halt);
    let traces = traces::provider(&process.collector);
    let tracer = traces.as_ref().map(|traces| traces.tracer(env!("CARGO_PKG_NAME")));
    let sources: Vec<_> = fleet.into_sources().into_iter().map(observed).collect();
    // Theirs is another end than the relays': while those drain they show that they do.
    let closed = CancellationToken::new();
    let _closing = closed.clone().drop_guard();
    let _pages = Pages::start(listener, sources.clone(), &closed)?;
    let relays = sources.into_iter().map(|source| start(source, tracer.clone(), stop.clone()));
    let relays = relays.collect::<std::io::Result<Vec<_>>>()?;
    let _telling = AbortOnDropHandle::new(tokio::spawn(service::keep_telling(how_they_are(&relays))));
    let ended = join_all(relays.into_iter().map(RelayThread::ended)).await;
    if let Some(traces) = traces {
        traces::shut_down(traces).await;
    }
    let ended = ended.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    if ended.contains(&Ended::Halted) {
        if exit_on_halt && ended.iter().all(|ended| *ended == Ended::Halted) {
            return Ok(ExitCode::from(HALTED));
        }
        // It stays up to say why: in /ready, in the metrics and in the log.
        stop.cancelled().await;
    }
    let is_drained = ended.iter().all(|ended| *ended == Ended::Stopped(Stopped::Drained));
    Ok(if is_drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn observed(settings: Settings) -> Observed {
    Observed { vitals: Vitals::new(Limits::of(&settings)), settings }
}

fn listen(addr: SocketAddr, serving: Serving) -> anyhow::Result<Option<TcpListener>> {
    match Pages::bind(addr) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if serving == Serving::WhereFree => {
            tracing::warn!(%addr, %error, "no pages are served");
            Ok(None)
        }
        Err(error) => anyhow::bail!("cannot listen on {addr} (--http-addr): {error}"),
    }
}

fn start(
    source: Observed,
    tracer: Option<SdkTracer>,
    stop: CancellationToken,
) -> std::io::Result<RelayThread> {
    let (name, vitals) = (source.settings.name.clone(), source.vitals.clone());
    RelayThread::start(name, vitals, move || relay(source, tracer, stop))
}

/// The life of one relay.
async fn relay(
    source: Observed,
    tracer: Option<SdkTracer>,
    stop: CancellationToken,
) -> anyhow::Result<Ended> {
    let Observed { settings, vitals } = source;
    let relay = loop {
        match Relay::new(settings.clone(), vitals.clone(), tracer.clone()) {
            Ok(relay) => break relay,
            // Alone it has nothing to keep up.
            Err(error) if settings.name.is_none() => return Err(error.into()),
            // A file that is named may be there in a moment; the other sources are not to end for it.
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(reason, "there is no producer: trying again");
                vitals.set_state(State::Retrying { peer: Peer::Kafka, reason });
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped(Stopped::CutShort)),
            () = tokio::time::sleep(settings.timing.retry_max) => {}
        }
    };
    Ok(Box::pin(relay.run(stop)).await.map_or(Ended::Halted, Ended::Stopped))
}

/// The thread of a relay.
struct RelayThread {
    name: Option<String>,
    vitals: Vitals,
    /// Of its runtime.
    handle: Handle,
    ended: oneshot::Receiver<Result<anyhow::Result<Ended>, Box<dyn Any + Send>>>,
}

impl RelayThread {
    /// Starts the thread, which lives for what `make` gives.
    fn start<F: Future<Output = anyhow::Result<Ended>>>(
        name: Option<String>,
        vitals: Vitals,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> std::io::Result<Self> {
        let span = label::span(name.as_deref());
        let mut builder = runtime_of_one_thread();
        label::mark(&mut builder, &span);
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("relay".into()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            let _source = span.entered();
            // Told before the runtime goes, which may have to wait.
            drop(tell.send(catch_unwind(AssertUnwindSafe(|| runtime.block_on(make())))));
            runtime.shutdown_timeout(CLIENTS_TIMEOUT);
        })?;
        Ok(Self { name, vitals, handle, ended })
    }

    /// How the relay ended. One that panicked counts as halted where there are others, for which the process goes on.
    async fn ended(self) -> anyhow::Result<Ended> {
        let panic = match self.ended.await {
            Ok(Ok(ended)) => return ended,
            Ok(Err(panic)) => panic,
            Err(gone) => Box::new(gone),
        };
        let Some(source) = self.name else { resume_unwind(panic) };
        let reason = format!("walpost has a defect: the thread of this source panicked{}", message(&*panic));
        let remedy =
            "restart walpost, which goes on where the slot stands; report it with the log".to_owned();
        tracing::error!(source, reason, remedy, "halted");
        self.vitals.set_state(State::Halted { reason, remedy });
        Ok(Ended::Halted)
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(String::new, |text| format!(": {text}"))
}

/// What systemd is told. Each relay's loop is waited for: while one hangs, nothing is told, and systemd starts the process anew.
fn how_they_are(
    relays: &[RelayThread],
) -> impl FnMut() -> futures::future::BoxFuture<'static, (bool, String)> + use<> {
    let relays: Arc<[_]> =
        relays.iter().map(|relay| (relay.name.clone(), relay.vitals.clone(), relay.handle.clone())).collect();
    move || {
        let relays = Arc::clone(&relays);
        Box::pin(async move {
            // One that has ended answers at once, with an error.
            join_all(relays.iter().map(|(_, _, handle)| handle.spawn(async {}))).await;
            let states = relays.iter().map(|(name, vitals, _)| (name.as_deref(), vitals.judged()));
            in_a_line(&states.collect::<Vec<_>>())
        })
    }
}

/// Whether all are healthy, and a line that names the worst.
fn in_a_line(states: &[(Option<&str>, State)]) -> (bool, String) {
    let healthy = states.iter().filter(|(_, state)| state.is_healthy()).count();
    let is_healthy = healthy == states.len();
    let Some((name, worst)) = states.iter().max_by_key(|(_, state)| state.trouble()) else {
        return (is_healthy, String::new());
    };
    let reason = worst.reason().map_or(String::new(), |reason| format!(": {reason}"));
    let state = format!("{}{reason}", worst.name());
    match name {
        None => (is_healthy, state),
        Some(name) => (is_healthy, format!("{healthy} of {} sources healthy; {name}: {state}", states.len())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::config::WindowSettings;

    fn vitals() -> Vitals {
        let long = Duration::from_secs(60);
        let window = WindowSettings { records: 1, bytes: 1 };
        Vitals::new(Limits { window, stall_timeout: long, sample_age_max: long, preset: None })
    }

    fn of(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[tokio::test]
    async fn a_source_whose_thread_panics_is_shown_as_halted_and_the_others_go_on() {
        let (broken, well) = (vitals(), vitals());
        well.set_state(State::Streaming);
        let panics =
            RelayThread::start(of("broken"), broken.clone(), || async { panic!("on purpose") }).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let goes_on = RelayThread::start(of("well"), well.clone(), || async {
            drop(stopped.await);
            Ok(Ended::Stopped(Stopped::Drained))
        });
        let goes_on = goes_on.unwrap();
        assert_eq!(panics.ended().await.unwrap(), Ended::Halted);
        let state = broken.judged();
        assert!(state.reason().is_some_and(|reason| reason.contains("on purpose")), "{state:?}");
        assert!(state.remedy().is_some() && matches!(state, State::Halted { .. }));
        assert!(well.judged().is_ready());
        drop(stop);
        assert_eq!(goes_on.ended().await.unwrap(), Ended::Stopped(Stopped::Drained));
    }

    #[tokio::test]
    async fn systemd_is_told_nothing_while_a_loop_hangs_and_of_the_worst_when_it_turns() {
        let (hangs, (go_on, wait)) = (vitals(), std::sync::mpsc::sync_channel::<()>(1));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = RelayThread::start(of("hangs"), hangs.clone(), move || async move {
            let _ = wait.recv();
            drop(stopped.await);
            Ok(Ended::Stopped(Stopped::Drained))
        });
        let relays = [thread.unwrap()];
        let mut look = how_they_are(&relays);
        let hung = tokio::time::timeout(Duration::from_millis(100), look()).await;
        assert!(hung.is_err(), "{hung:?}");
        drop(go_on);
        assert_eq!(look().await, (false, "0 of 1 sources healthy; hangs: starting".to_owned()));
        drop(stop);
        let [thread] = relays;
        thread.ended().await.unwrap();
        assert!(!look().await.0, "one that has ended holds up nothing");
    }

    #[test]
    fn the_worst_source_is_named() {
        let halted = State::Halted { reason: "gone".into(), remedy: "init".into() };
        let states =
            [(Some("a"), State::Streaming), (Some("b"), halted.clone()), (Some("c"), State::Starting)];
        assert_eq!(in_a_line(&states), (false, "1 of 3 sources healthy; b: halted: gone".to_owned()));
        assert_eq!(in_a_line(&[(None, halted)]), (false, "halted: gone".to_owned()));
        assert_eq!(in_a_line(&[(None, State::Streaming)]), (true, "streaming".to_owned()));
    }
}
