//! The program from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::RedisCache;
use crate::command::Commands;
use crate::config::Settings;
use crate::handler::{Handler, Me};
use crate::journal::Journal;
use crate::kafka::{self, KafkaWriter};
use crate::observe::health::{Health, Neighbour};
use crate::observe::http;
use crate::observe::metrics::Metrics;
use crate::packages::Client;
use crate::setup;
use crate::source::{Source, WrongToken, is_wrong_token};
use crate::telegram::Api;

/// Between two looks at what the bot needs beside Telegram.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Connections to the pages at once, at most: a few probes, a Prometheus, a person.
const CONNECTIONS_MAX: usize = 64;
/// Pauses while Telegram cannot be reached at the start.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Of records, at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// A poll may take so much longer than Telegram was asked to wait before it counts as hung.
const POLL_LATE: Duration = Duration::from_secs(30);

/// Runs the bot until `stop`.
///
/// # Errors
/// When Telegram does not know the token, or a setting turns out to be unusable. What is away is waited for.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let health = Health::new(settings.telegram.poll_timeout + POLL_LATE);
    let packages = Client::new(&settings.grpc).map_err(|mistake| anyhow!(mistake))?;
    let cache = RedisCache::new(&settings.cache, settings.grpc.timeout);
    let writer =
        Arc::new(KafkaWriter::new(&settings.kafka, metrics.clone()).map_err(|mistake| anyhow!(mistake))?);
    let api = Api::new(&settings.telegram.url, settings.telegram.token.clone(), metrics.clone())
        .map_err(|mistake| anyhow!(mistake))?;

    // They serve until the end, beyond `stop`.
    let mut beside = JoinSet::new();
    let end = CancellationToken::new();
    serve(&mut beside, &settings, &health, &metrics).await?;
    beside.spawn({
        let (cache, end) = (cache.clone(), end.clone());
        async move { cache.keep_clean(end).await }
    });
    beside.spawn(look(health.clone(), packages.clone(), cache.clone(), Arc::clone(&writer)));
    beside.spawn(follow(settings.clone(), cache.clone(), metrics.clone(), end.clone()));

    let Some(me) = whoami(&api, &health, &stop).await? else { return Ok(()) };
    setup::introduce(&api).await;
    tracing::info!(bot = me.username, id = me.id, "polling");
    if settings.allowed.0.is_empty() {
        tracing::warn!("everybody who finds the bot may change packages: allowed-ids names nobody");
    }

    let journal = Arc::new(Journal::new(writer.clone(), metrics.clone()));
    let commands =
        Commands::new(packages, cache, Arc::clone(&journal), settings.page_size, settings.allowed.clone());
    let handler = Arc::new(Handler::new(api.clone(), commands, journal, me, metrics.clone()));
    let mut source = Source::new(api, handler, health.clone(), metrics, settings.telegram.poll_timeout);
    let ran = source.run(&stop).await;
    health.stopping();
    source.drain(settings.drain_timeout).await;
    end.cancel();
    // It blocks.
    let _ = tokio::task::spawn_blocking(move || writer.flush(FLUSH_TIMEOUT)).await;
    wait_for_followers(beside).await;
    ran.map_err(anyhow::Error::from)
}

/// Those that hear of the end get a moment for it; the others have nothing to lose.
async fn wait_for_followers(mut beside: JoinSet<()>) {
    let _ = tokio::time::timeout(Duration::from_millis(500), beside.join_next()).await;
    beside.shutdown().await;
}

/// Who the bot is, as soon as Telegram can be reached; nothing when it is told to stop before.
async fn whoami(api: &Api, health: &Health, stop: &CancellationToken) -> anyhow::Result<Option<Me>> {
    let mut pause = PAUSE_MIN;
    loop {
        let Some(asked) = stop.run_until_cancelled(api.me()).await else { return Ok(None) };
        let error = match asked {
            Ok(me) => return Ok(Some(Me { id: me.id, username: me.username.unwrap_or_default() })),
            Err(error) if is_wrong_token(&error) => return Err(WrongToken.into()),
            Err(error) => error,
        };
        tracing::warn!(%error, "Telegram does not answer: trying again");
        health.not_polling(error.to_string());
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(None);
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn serve(
    beside: &mut JoinSet<()>,
    settings: &Settings,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.http_addr).await;
    let listener = listener.with_context(|| format!("http-addr: cannot listen on {}", settings.http_addr))?;
    tracing::info!(address = %listener.local_addr()?, "serving /live, /ready and /metrics");
    let router = http::router(health.clone(), metrics.clone());
    beside.spawn(clients::serve_pages(listener, router, CONNECTIONS_MAX, CancellationToken::new()));
    Ok(())
}

async fn follow(settings: Settings, cache: RedisCache, metrics: Metrics, end: CancellationToken) {
    if let Err(error) = kafka::follow(&settings.kafka, cache, metrics, end).await {
        tracing::error!(
            error,
            "package events are not followed: what others change stays in the cache for its time"
        );
    }
}

/// Looks now and then at what the bot needs beside Telegram.
async fn look(health: Health, packages: Client, cache: RedisCache, writer: Arc<KafkaWriter>) {
    loop {
        let kafka = tokio::task::spawn_blocking({
            let writer = Arc::clone(&writer);
            move || writer.is_there()
        });
        let (api, redis, kafka) = tokio::join!(packages.is_there(), cache.is_there(), kafka);
        health.looked(Neighbour::Packages, api);
        health.looked(Neighbour::Cache, redis);
        health.looked(Neighbour::Kafka, kafka.unwrap_or(false));
        health.refused(packages.is_refused());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
