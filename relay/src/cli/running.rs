//! `walpost run`: the relay of each source, on a thread of its own with a runtime of its own: so none waits for another, and one
//! that halts ends alone. One whose thread panics or hangs, which is a defect, harms no other: the first begins anew by itself, the
//! second is named and is not waited for.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, select_all};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracer;
use program::{files, service};
use rand::RngExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{CLIENTS_TIMEOUT, runtime_of_one_thread, stop_on_signal};
use crate::config::{Fleet, Settings};
use crate::observe::board::{Limits, Vitals};
use crate::observe::http::{Observed, Pages};
use crate::observe::state::{Peer, State};
use crate::relay::{Relay, Stopped};
use crate::retry::Backoff;
use crate::telemetry::{label, traces};

/// `--exit-on-halt`.
const HALTED: u8 = 3;

/// As much as the main thread has by default. Only what is used of it takes memory.
const STACK_BYTES: usize = 8 << 20;

/// What a source has open, with one broker: 12.5 were counted. Each further broker adds one.
const FILES_OF_A_SOURCE: u64 = 16;

/// More of them, of a second producer, with exactly-once delivery: 11 were counted.
const FILES_OF_A_SECOND_PRODUCER: u64 = 12;

/// Pages, probes, the log.
const FILES_OF_THE_PROCESS: u64 = 64;

/// The waits until the thread of a source that has panicked is started anew.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_LONGEST: Duration = Duration::from_secs(60);

/// A loop that has not answered for so long hangs: what it does in one turn takes milliseconds.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// So long the loops are waited for when they are looked at; one that is busy answers when it is looked at again.
const ANSWER: Duration = Duration::from_millis(250);

/// A source that was told to stop has this time beyond its `drain_timeout_ms`, to close what it has open.
const AFTER_DRAINING: Duration = Duration::from_secs(5);

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
    /// It did not end in time when it was told to stop.
    Left,
}

/// Runs the relays until each of them has ended, and for as long as one that has halted is to say why.
pub(super) async fn run(fleet: Fleet, serving: Serving) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    let process = fleet.process();
    let (listener, exit_on_halt) = (listen(process.http_addr, serving)?, process.exit_on_halt);
    let traces = traces::provider(&process.collector);
    let tracer = traces.as_ref().map(|traces| traces.tracer(env!("CARGO_PKG_NAME")));
    let sources: Vec<_> = fleet.into_sources().into_iter().map(observed).collect();
    allow_open_files(sources.iter().map(|source| files_of(&source.settings)).sum());
    let drain = sources.iter().map(|source| source.settings.timing.drain_timeout).max().unwrap_or_default();
    // Theirs is another end than the relays': while those drain they show that they do.
    let closed = CancellationToken::new();
    let _closing = closed.clone().drop_guard();
    let _pages = Pages::start(listener, sources.clone(), &closed)?;
    let relays = sources.into_iter().map(|source| start(source, tracer.clone(), stop.clone()));
    let relays = relays.collect::<std::io::Result<Vec<_>>>()?;
    let _telling = AbortOnDropHandle::new(tokio::spawn(service::keep_telling(how_they_are(&relays))));
    let late = async {
        stop.cancelled().await;
        sleep(drain + AFTER_DRAINING).await;
    };
    let late = late.boxed().shared();
    let ended = join_all(relays.into_iter().map(|relay| relay.ended(late.clone()))).await;
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

/// Of several sources each has its own connections.
fn allow_open_files(of_sources: u64) {
    if let Some((limit, needed)) = too_few_files(files::allow_open(), of_sources) {
        tracing::warn!(
            limit,
            needed,
            "the limit of open files is lower than what the sources need: raise it (LimitNOFILE= of systemd, ulimit -n)"
        );
    }
}

/// How many files a source has open.
fn files_of(settings: &Settings) -> u64 {
    let second = settings.kafka.position_topic.as_ref().map_or(0, |_| FILES_OF_A_SECOND_PRODUCER);
    FILES_OF_A_SOURCE + second
}

/// The limit of open files and what is needed, so much of it by the sources, where that is more.
fn too_few_files(limit: Option<u64>, of_sources: u64) -> Option<(u64, u64)> {
    let needed = FILES_OF_THE_PROCESS + of_sources;
    Some((limit.filter(|limit| *limit < needed)?, needed))
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
    let waits = Backoff::new(RESTART_FIRST, RESTART_LONGEST);
    let told = stop.clone();
    RelayThread::start(name, vitals, waits, told, move || relay(source.clone(), tracer.clone(), stop.clone()))
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
            () = sleep(settings.timing.retry_max) => {}
        }
    };
    Ok(Box::pin(relay.run(stop)).await.map_or(Ended::Halted, Ended::Stopped))
}

type Panic = Box<dyn Any + Send>;

/// The thread of a relay.
struct RelayThread {
    name: Option<String>,
    vitals: Vitals,
    turning: Turning,
    ended: oneshot::Receiver<Result<anyhow::Result<Ended>, Panic>>,
}

/// The runtime that the thread has now: after a panic it has another.
#[derive(Clone)]
struct Turning(Arc<Mutex<Handle>>);

impl Turning {
    fn set(&self, handle: &Handle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = handle.clone();
    }

    /// Is over when the loop turns. One that has ended answers at once, with an error.
    fn ask(&self) -> JoinHandle<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async {})
    }
}

impl RelayThread {
    /// Starts the thread, which lives for what `make` gives. Where there may be others, it lives on after a panic, and begins anew
    /// with what `make` gives then.
    fn start<F: Future<Output = anyhow::Result<Ended>>>(
        name: Option<String>,
        vitals: Vitals,
        mut waits: Backoff,
        stop: CancellationToken,
        make: impl Fn() -> F + Send + 'static,
    ) -> std::io::Result<Self> {
        let span = label::span(name.as_deref());
        let mut builder = runtime_of_one_thread();
        label::mark(&mut builder, &span);
        let mut runtime = builder.build()?;
        let turning = Turning(Arc::new(Mutex::new(runtime.handle().clone())));
        let (tell, ended) = oneshot::channel();
        let shown = (vitals.clone(), turning.clone(), name.is_some());
        let home = Handle::current();
        let thread = std::thread::Builder::new().name("relay".into()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            let _source = span.entered();
            let (vitals, turning, may_begin_anew) = shown;
            let outcome = loop {
                let began = Instant::now();
                let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(make())));
                let panic = match outcome {
                    Err(panic) if may_begin_anew => panic,
                    outcome => break outcome,
                };
                // With it goes all that the relay had: connections, the slot, the producer.
                runtime.shutdown_timeout(CLIENTS_TIMEOUT);
                if began.elapsed() > RESTART_LONGEST {
                    waits.reset();
                }
                runtime = loop {
                    if !home.block_on(waits_to_begin_anew(&panic, &vitals, &mut waits, &stop)) {
                        drop(tell.send(Ok(Ok(Ended::Stopped(Stopped::CutShort)))));
                        return;
                    }
                    match builder.build() {
                        Ok(runtime) => break runtime,
                        Err(error) => tracing::error!(%error, "no runtime: trying again"),
                    }
                };
                turning.set(runtime.handle());
                vitals.set_state(State::Starting);
            };
            // Told before the runtime goes, which may have to wait.
            drop(tell.send(outcome));
            runtime.shutdown_timeout(CLIENTS_TIMEOUT);
        })?;
        Ok(Self { name, vitals, turning, ended })
    }

    /// How the relay ended. Where there are others, it is waited for until it is too late.
    async fn ended(self, late: impl Future<Output = ()>) -> anyhow::Result<Ended> {
        let Self { name, ended, .. } = self;
        let outcome = tokio::select! {
            biased;
            outcome = ended => outcome,
            () = late, if name.is_some() => {
                tracing::error!(
                    source = name,
                    "has not ended in time, and is left: what is not confirmed comes again"
                );
                return Ok(Ended::Left);
            }
        };
        match outcome {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(gone) => Err(gone.into()),
        }
    }
}

/// Says that it panicked, and waits; whether it is to begin anew.
async fn waits_to_begin_anew(
    panic: &Panic,
    vitals: &Vitals,
    waits: &mut Backoff,
    stop: &CancellationToken,
) -> bool {
    let reason = format!(
        "walpost has a defect, which is to be reported with the log: the thread of this source panicked{}",
        message(&**panic)
    );
    let wait = waits.wait(rand::rng().random());
    tracing::error!(reason, wait_ms = wait.as_millis(), "begins anew");
    vitals.set_state(State::Retrying { peer: Peer::Own, reason });
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(wait) => true,
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(String::new, |text| format!(": {text}"))
}

/// How the sources are, for systemd.
struct Looks {
    sources: Vec<Looked>,
}

/// One source, and whether its loop turns.
struct Looked {
    name: Option<String>,
    vitals: Vitals,
    turning: Turning,
    /// What its loop has not answered yet, and since when.
    asked: Option<(Instant, JoinHandle<()>)>,
    /// The log says that it hangs.
    is_logged: bool,
}

impl Looked {
    fn at(relay: &RelayThread) -> Self {
        let (name, vitals, turning) = (relay.name.clone(), relay.vitals.clone(), relay.turning.clone());
        Self { name, vitals, turning, asked: None, is_logged: false }
    }

    /// Waits until its loop has turned.
    async fn turns(&mut self) {
        let (_, answer) = self.asked.get_or_insert_with(|| (Instant::now(), self.turning.ask()));
        // An error says that it has ended.
        drop(answer.await);
        self.asked = None;
    }

    fn hangs(&self) -> bool {
        self.asked.as_ref().is_some_and(|(since, _)| since.elapsed() > HANGS_AFTER)
    }

    fn log(&mut self) {
        let hangs = self.hangs();
        if hangs && !self.is_logged {
            tracing::error!(
                source = self.name,
                "its loop does not turn any more: restart walpost, and report it"
            );
        }
        self.is_logged = hangs;
    }

    fn state(&self) -> State {
        if !self.hangs() {
            return self.vitals.judged();
        }
        let reason = "walpost has a defect: the loop of this source does not turn any more".to_owned();
        State::Stalled { reason, remedy: "restart walpost, and report it with the log".to_owned() }
    }
}

impl Looks {
    fn at(relays: &[RelayThread]) -> Self {
        Self { sources: relays.iter().map(Looked::at).collect() }
    }

    /// Whether they have started, and a line. While no loop turns this waits, and systemd, which is told nothing, starts the process
    /// anew; while one does, those that hang are named.
    async fn look(&mut self) -> (bool, String) {
        let first = select_all(self.sources.iter_mut().map(|source| source.turns().boxed()));
        let others = first.await.2;
        drop(timeout(ANSWER, join_all(others)).await);
        self.sources.iter_mut().for_each(Looked::log);
        let states: Vec<_> =
            self.sources.iter().map(|source| (source.name.as_deref(), source.state())).collect();
        (have_started(&states), in_a_line(&states))
    }
}

/// What systemd is told.
fn how_they_are(
    relays: &[RelayThread],
) -> impl FnMut() -> futures::future::BoxFuture<'static, (bool, String)> + use<> {
    let looks = Arc::new(tokio::sync::Mutex::new(Looks::at(relays)));
    move || {
        let looks = Arc::clone(&looks);
        async move { looks.lock().await.look().await }.boxed()
    }
}

/// One source has started when it is healthy; several have when none of them is starting, since for what one waits no other is to
/// be taken for one that does not start.
fn have_started(states: &[(Option<&str>, State)]) -> bool {
    match states {
        [(_, only)] => only.is_healthy(),
        several => several.iter().all(|(_, state)| *state != State::Starting),
    }
}

/// A line that names the worst.
fn in_a_line(states: &[(Option<&str>, State)]) -> String {
    let healthy = states.iter().filter(|(_, state)| state.is_healthy()).count();
    let Some((name, worst)) = states.iter().max_by_key(|(_, state)| state.trouble()) else {
        return String::new();
    };
    let reason = worst.reason().map_or(String::new(), |reason| format!(": {reason}"));
    let state = format!("{}{reason}", worst.name());
    match name {
        None => state,
        Some(name) => format!("{healthy} of {} sources healthy; {name}: {state}", states.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::SyncSender;

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

    /// A relay that lives until it is told to stop.
    fn lives(name: &str, vitals: &Vitals, stop: &CancellationToken) -> RelayThread {
        let told = stop.clone();
        starts(name, vitals, stop, move || {
            let told = told.clone();
            async move {
                told.cancelled().await;
                Ok(Ended::Stopped(Stopped::Drained))
            }
        })
    }

    fn starts<F: Future<Output = anyhow::Result<Ended>>>(
        name: &str,
        vitals: &Vitals,
        stop: &CancellationToken,
        make: impl Fn() -> F + Send + 'static,
    ) -> RelayThread {
        let waits = Backoff::new(Duration::from_millis(20), Duration::from_millis(20));
        RelayThread::start(of(name), vitals.clone(), waits, stop.clone(), make).unwrap()
    }

    #[tokio::test]
    async fn a_source_whose_thread_panics_begins_anew_and_the_others_go_on() {
        let (broken, well, stop) = (vitals(), vitals(), CancellationToken::new());
        well.set_state(State::Streaming);
        let (tries, told) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let (seen, shown) = (broken.clone(), Arc::new(Mutex::new(Vec::new())));
        let states = Arc::clone(&shown);
        let panics = starts("broken", &broken, &stop, move || {
            let (tried, told, seen) = (tries.fetch_add(1, Ordering::Relaxed), told.clone(), seen.clone());
            states.lock().unwrap().push(seen.state().doing().last_error.map(|error| error.text));
            async move {
                assert!(tried >= 2, "on purpose");
                seen.set_state(State::Streaming);
                told.cancelled().await;
                Ok(Ended::Stopped(Stopped::Drained))
            }
        });
        let goes_on = lives("well", &well, &stop);
        timeout(Duration::from_secs(20), async {
            while !broken.judged().is_ready() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let errors = shown.lock().unwrap().clone();
        assert!(errors.len() == 3 && errors[0].is_none(), "{errors:?}");
        assert!(errors[2].as_ref().is_some_and(|text| text.contains("on purpose")), "{errors:?}");
        assert!(well.judged().is_ready());
        let relays = [panics, goes_on];
        assert_eq!(
            Looks::at(&relays).look().await,
            (true, "2 of 2 sources healthy; well: streaming".to_owned())
        );
        stop.cancel();
        for thread in relays {
            assert_eq!(thread.ended(pending()).await.unwrap(), Ended::Stopped(Stopped::Drained));
        }
    }

    #[tokio::test]
    async fn a_source_that_panics_and_is_told_to_stop_was_cut_short() {
        let (broken, stop) = (vitals(), CancellationToken::new());
        let waits = Backoff::new(Duration::from_secs(600), Duration::from_secs(600));
        let thread = RelayThread::start(of("broken"), broken.clone(), waits, stop.clone(), || async {
            panic!("on purpose")
        });
        let thread = thread.unwrap();
        timeout(Duration::from_secs(20), async {
            while !matches!(broken.judged(), State::Retrying { peer: Peer::Own, .. }) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert!(broken.judged().reason().is_some_and(|reason| reason.contains("on purpose")));
        stop.cancel();
        assert_eq!(thread.ended(pending()).await.unwrap(), Ended::Stopped(Stopped::CutShort));
    }

    /// A relay whose loop hangs until the sender is dropped.
    fn hangs(name: &str, stop: &CancellationToken) -> (RelayThread, SyncSender<()>) {
        let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let (wait, told) = (Arc::new(Mutex::new(wait)), stop.clone());
        let thread = starts(name, &vitals(), stop, move || {
            let (wait, told) = (Arc::clone(&wait), told.clone());
            async move {
                let _ = wait.lock().unwrap().recv();
                told.cancelled().await;
                Ok(Ended::Stopped(Stopped::Drained))
            }
        });
        (thread, go_on)
    }

    #[tokio::test]
    async fn systemd_is_told_nothing_while_no_loop_turns_and_of_the_worst_when_one_does() {
        let stop = CancellationToken::new();
        let (thread, go_on) = hangs("hangs", &stop);
        let relays = [thread];
        let mut look = how_they_are(&relays);
        let hung = timeout(Duration::from_millis(100), look()).await;
        assert!(hung.is_err(), "{hung:?}");
        drop(go_on);
        assert_eq!(look().await, (false, "0 of 1 sources healthy; hangs: starting".to_owned()));
        stop.cancel();
        let [thread] = relays;
        thread.ended(pending()).await.unwrap();
        assert!(!look().await.0, "one that has ended holds up nothing");
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_named_holds_up_no_other_and_is_left_at_the_end() {
        let (well, stop) = (vitals(), CancellationToken::new());
        well.set_state(State::Streaming);
        let (thread, go_on) = hangs("hangs", &stop);
        let relays = [lives("well", &well, &stop), thread];
        let mut looks = Looks::at(&relays);
        let (has_started, line) = looks.look().await;
        assert_eq!(line, "1 of 2 sources healthy; hangs: starting", "it may be busy");
        assert!(!has_started);
        // As if it had been asked long ago.
        if let Some((since, _)) = &mut looks.sources[1].asked {
            *since = since.checked_sub(2 * HANGS_AFTER).unwrap();
        }
        let (_, line) = looks.look().await;
        assert!(line.starts_with("1 of 2 sources healthy; hangs: stalled: walpost has a defect"), "{line}");
        stop.cancel();
        let [well, hangs] = relays;
        assert_eq!(well.ended(pending()).await.unwrap(), Ended::Stopped(Stopped::Drained));
        assert_eq!(hangs.ended(async {}).await.unwrap(), Ended::Left);
        drop(go_on);
        timeout(Duration::from_secs(20), async { while !looks.look().await.1.ends_with("starting") {} })
            .await
            .unwrap();
    }

    #[test]
    fn several_have_started_when_none_is_starting_and_one_when_it_is_healthy() {
        let halted = State::Halted { reason: "gone".into(), remedy: "init".into() };
        let retrying = State::Retrying { peer: Peer::Postgres, reason: "away".into() };
        let several = [(Some("a"), halted.clone()), (Some("b"), retrying.clone())];
        assert!(have_started(&several));
        assert!(!have_started(&[several.to_vec(), vec![(Some("c"), State::Starting)]].concat()));
        assert!(!have_started(&[(None, retrying.clone())]) && !have_started(&[(Some("a"), retrying)]));
        assert!(have_started(&[(None, State::Standby { reason: "another".into() })]));
    }

    #[test]
    fn a_limit_of_open_files_that_is_lower_than_what_the_sources_need_is_known() {
        assert_eq!(too_few_files(Some(1024), 1_600), Some((1024, 1664)));
        assert_eq!(
            [too_few_files(Some(1024), 320), too_few_files(Some(1664), 1_600), too_few_files(None, 1_600)],
            [None; 3]
        );
    }

    #[test]
    fn the_worst_source_is_named() {
        let halted = State::Halted { reason: "gone".into(), remedy: "init".into() };
        let states =
            [(Some("a"), State::Streaming), (Some("b"), halted.clone()), (Some("c"), State::Starting)];
        assert_eq!(in_a_line(&states), "1 of 3 sources healthy; b: halted: gone");
        assert_eq!(in_a_line(&[(None, halted)]), "halted: gone");
        assert_eq!(in_a_line(&[(None, State::Streaming)]), "streaming");
    }
}
