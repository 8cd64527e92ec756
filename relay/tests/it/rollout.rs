use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::stack::repository;
use harness::{Relay, RelayProcess, http, wait_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::case::{Case, SOON, insert};

/// A relay that stands by asks for the slot twice a second; the rest is for two busy cores.
const GAP_MAX: Duration = Duration::from_secs(5);

/// What the Helm chart says, as it stands.
struct Chart(String);

/// A probe as the chart has it, in seconds.
#[derive(Clone)]
struct Probe {
    path: String,
    period: Duration,
    timeout: Duration,
    failures_max: u64,
}

impl Chart {
    fn read() -> Result<Self> {
        let path = repository().join("deploy/helm/walpost/values.yaml");
        Ok(Self(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?))
    }

    /// The text behind `name:`.
    fn value(&self, name: &str) -> Result<&str> {
        let found = self.0.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(": "));
        found.with_context(|| format!("the chart's values have no {name}"))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.value(name)?.parse().with_context(|| format!("{name} is no number"))
    }

    /// A line such as `readiness: {path: /healthy, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 3}`.
    fn probe(&self, name: &str) -> Result<Probe> {
        let fields = self.value(name)?.trim_matches(['{', '}']);
        let field = |key: &str| {
            let found = fields
                .split(", ")
                .find_map(|field| field.strip_prefix(key)?.strip_prefix(": ").map(str::trim));
            found.with_context(|| format!("the probe {name} has no {key}"))
        };
        let number = |key: &str| Ok::<u64, anyhow::Error>(field(key)?.parse()?);
        Ok(Probe {
            path: field("path")?.to_owned(),
            period: Duration::from_secs(number("periodSeconds")?),
            timeout: Duration::from_secs(number("timeoutSeconds")?),
            failures_max: number("failureThreshold")?,
        })
    }

    /// As templates/deployment.yaml computes it.
    fn termination_grace(&self) -> Result<Duration> {
        let seconds = self.number("drainTimeoutMs")?.div_ceil(1_000) + self.number("preStopSeconds")? + 10;
        Ok(Duration::from_secs(seconds))
    }
}

/// A relay, and a kubelet that asks it.
struct Pod {
    process: RelayProcess,
    ready: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    _kubelet: AbortOnDropHandle<()>,
}

impl Pod {
    fn start(relay: &Relay, chart: &Chart) -> Result<Self> {
        let process = relay.beside()?.run()?;
        let (ready, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let probes = (chart.probe("startup")?, chart.probe("liveness")?, chart.probe("readiness")?);
        let kubelet = kubelet(process.http_addr(), probes, ready.clone(), failed.clone());
        Ok(Self { process, ready, failed, _kubelet: AbortOnDropHandle::new(tokio::spawn(kubelet)) })
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn becomes_ready(&mut self) -> Result<()> {
        let ready =
            wait_until("a new relay is ready by the chart's probe", SOON, async || Ok(self.is_ready()));
        ready.await.with_context(|| self.process.log_tail())
    }

    /// A pod that is deleted is asked no more; it has its time to end.
    async fn delete(mut self, grace: Duration) -> Result<()> {
        ensure!(!self.failed.load(Ordering::Relaxed), "{}", self.process.log_tail());
        drop(self._kubelet);
        let ended = self.process.terminate(grace).await?;
        ensure!(ended.code() == Some(0), "it did not drain: {ended}\n{}", self.process.log_tail());
        Ok(())
    }
}

/// Startup first; then liveness and readiness, each with its own period. One success is enough to be ready, as the API has it.
async fn kubelet(
    addr: SocketAddr,
    (startup, liveness, readiness): (Probe, Probe, Probe),
    ready: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
) {
    let mut failures = 0;
    while !succeeds(addr, &startup).await {
        failures += 1;
        if failures >= startup.failures_max {
            return failed.store(true, Ordering::Relaxed);
        }
    }
    let live = async {
        let mut failures = 0;
        loop {
            failures = if succeeds(addr, &liveness).await { 0 } else { failures + 1 };
            if failures >= liveness.failures_max {
                failed.store(true, Ordering::Relaxed);
            }
        }
    };
    let mut failures = 0;
    let judge = async {
        loop {
            failures = if succeeds(addr, &readiness).await { 0 } else { failures + 1 };
            if failures == 0 {
                ready.store(true, Ordering::Relaxed);
            } else if failures >= readiness.failures_max {
                ready.store(false, Ordering::Relaxed);
            }
        }
    };
    tokio::join!(live, judge);
}

/// Asks once, and takes a period for it.
async fn succeeds(addr: SocketAddr, probe: &Probe) -> bool {
    let begun = tokio::time::Instant::now();
    let answer = tokio::time::timeout(probe.timeout, http::get(addr, &probe.path)).await;
    let is_well = matches!(answer, Ok(Ok(answer)) if (200..400).contains(&answer.status));
    tokio::time::sleep_until(begun + probe.period).await;
    is_well
}

/// The key of the last event.
const LAST: i64 = 99;

/// How often an event is committed: the gap in publishing is measured as finely as that.
const COMMIT_INTERVAL: Duration = Duration::from_millis(5);

/// Commits events until it is told to stop, and then the last one; how many.
async fn write_until(case: &Case, stop: CancellationToken) -> Result<usize> {
    let client = case.client().await?;
    let mut timer = tokio::time::interval(COMMIT_INTERVAL);
    let mut written = 0;
    while !stop.is_cancelled() {
        timer.tick().await;
        insert(&client, 1 + written % 5).await?;
        written += 1;
    }
    insert(&client, LAST).await?;
    Ok(usize::try_from(written)? + 1)
}

/// Reads to the last event; the longest time between two that arrived.
async fn longest_gap(case: &Case) -> Result<Duration> {
    let last = LAST.to_string();
    let received =
        case.topic.read_until("the last event", 4 * SOON, |record| record.key == last.as_bytes()).await?;
    let gaps = received.windows(2).map(|pair| pair[1].arrived - pair[0].arrived);
    gaps.max().context("nothing arrived")
}

/// A Deployment of two relays is brought to a new version as its controller does: maxSurge 1, maxUnavailable 0.
async fn roll(case: &Case, chart: &Chart, mut old: Vec<Pod>) -> Result<Vec<Pod>> {
    let mut new = Vec::new();
    while !old.is_empty() {
        let mut pod = Pod::start(&case.relay, chart)?;
        pod.becomes_ready().await?;
        new.push(pod);
        let unready = old.iter().chain(&new).filter(|pod| !pod.is_ready()).count();
        ensure!(unready == 0, "{unready} relays are not ready before one is ended");
        // The one that publishes goes first, and is the one that hurts.
        old.remove(0).delete(chart.termination_grace()?).await?;
    }
    Ok(new)
}

#[tokio::test]
async fn a_rolling_update_by_the_charts_probes_loses_and_repeats_nothing() -> Result<()> {
    let chart = Chart::read()?;
    let case =
        Case::new().await?.with("WALPOST_DRAIN_TIMEOUT_MS", &chart.number("drainTimeoutMs")?.to_string());
    case.relay.init().await?;
    let mut old = Vec::new();
    for _ in 0..chart.number("replicas")? {
        let mut pod = Pod::start(&case.relay, &chart)?;
        pod.becomes_ready().await?;
        old.push(pod);
    }
    old[0].process.status("the first publishes", |response| response.body.contains("\"streaming\"")).await?;

    let stop = CancellationToken::new();
    let rolling = async {
        let new = roll(&case, &chart, old).await?;
        let enough = published(&case).await? + 100;
        wait_until("the new relay publishes", SOON, async || Ok(published(&case).await? >= enough)).await?;
        stop.cancel();
        anyhow::Ok(new)
    };
    let begun = Instant::now();
    let (_new, written, gap) =
        tokio::try_join!(rolling, write_until(&case, stop.clone()), longest_gap(&case))?;
    let audit = case.audit().await?;
    eprintln!("rolled in {:?}, {audit}, longest gap {gap:?}", begun.elapsed());
    assert_eq!((audit.published, audit.duplicates), (written, 0), "{audit}");
    assert!(gap < GAP_MAX, "nothing was published for {gap:?}");
    Ok(())
}

async fn published(case: &Case) -> Result<i64> {
    Ok(case.topic.ends().await?.values().sum())
}
