//! Tokens to sign in to Kafka with (SASL/OAUTHBEARER).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{PrivateKafka, SecretFile, Topic, port, secure, wait_until};

use crate::case::{Case, SOON};
use crate::check;

/// Seconds that a token is good for: long enough for a busy machine to take the next one in time.
const LIFE: i64 = 10;

/// A file with a token, which goes when this is dropped.
struct TokenFile(PathBuf);

impl TokenFile {
    /// Puts a token of so many seconds in the place of the one before, as whole as Kubernetes does.
    fn renew(&self, seconds: i64) -> Result<()> {
        let new = self.0.with_extension("new");
        std::fs::write(&new, secure::token("walpost", seconds))?;
        Ok(std::fs::rename(new, &self.0)?)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A case whose relay comes to Kafka by a listener that wants a token, and the file for it.
async fn with_tokens() -> Result<(Case, TokenFile, PrivateKafka)> {
    let port = port::free()?.port();
    let kafka = secure::kafka_with_tokens(port).await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let file = TokenFile(std::env::temp_dir().join(format!("{}.token", case.database.name())));
    let case = case
        .with("WALPOST_KAFKA_BROKERS", &format!("127.0.0.1:{port}"))
        .with("WALPOST_KAFKA_PROPERTY_SECURITY_PROTOCOL", "SASL_PLAINTEXT");
    Ok((case, file, kafka))
}

#[tokio::test]
async fn tokens_are_renewed_before_they_expire_and_one_that_is_not_is_waited_for() -> Result<()> {
    let (case, file, _kafka) = with_tokens().await?;
    let case = case.with("WALPOST_KAFKA_TOKEN_FILE", &file.0.to_string_lossy());
    let case = case.with("WALPOST_STALL_TIMEOUT_MS", "2000").with("WALPOST_CONNECT_TIMEOUT_MS", "3000");
    file.renew(LIFE)?;
    let mut relay = case.relay.init_and_run().await?;
    // Brokers end a connection with the token by which it was made.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2 * LIFE.unsigned_abs()) {
        file.renew(LIFE)?;
        case.commit(10, 5, 1).await?;
        case.audit().await.with_context(|| relay.log_tail())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    relay.ready().await?;

    std::fs::remove_file(&file.0)?;
    // The connection is there as long as its token is good; then nothing is acknowledged.
    let stalled = wait_until("it stalls", SOON, async || {
        case.commit(1, 1, 1).await?;
        let ready = relay.get("/ready").await?;
        Ok(ready.status == 503 && ready.body.contains("\"stalled\""))
    });
    stalled.await.with_context(|| relay.log_tail())?;
    is_said_without_token(&relay.log())?;
    file.renew(3600)?;
    case.audit().await.with_context(|| relay.log_tail())?;
    relay.ready().await?;
    relay.terminate(SOON).await?;

    // One that starts without a token is waiting for it, too.
    std::fs::remove_file(&file.0)?;
    let mut relay = case.relay.run()?;
    let refused = relay.status("it has no token", |ready| ready.body.contains("no token")).await?;
    is_said_without_token(&refused.body)?;
    file.renew(3600)?;
    relay.ready().await?;
    relay.expect_running()
}

fn is_said_without_token(text: &str) -> Result<()> {
    ensure!(text.contains("no token to sign in to Kafka with") && text.contains("cannot be read"), "{text}");
    let token = secure::token("walpost", 1);
    let head = token.split_once('.').unwrap_or_default().0;
    ensure!(!text.contains(head), "a token is shown: {text}");
    Ok(())
}

#[tokio::test]
async fn every_command_signs_in_with_what_a_command_prints() -> Result<()> {
    let (case, file, _kafka) = with_tokens().await?;
    file.renew(3600)?;
    let case = case.with("WALPOST_KAFKA_TOKEN_COMMAND", &format!("cat {}", file.0.display()));
    case.relay.init().await?;
    check::is(&case, "topic", "ok", "3 partitions").await?;
    // What a topic is set to is asked by another client than the rest.
    case.topic.configure("retention.ms", "3600000").await?;
    check::is(&case, "record times", "warning", "60 min").await?;
    let mut relay = case.relay.run_ready().await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;

    let audited = case.relay.command(&["audit"]).await?;
    ensure!(audited.code() == 0, "{}{}", audited.stdout, audited.stderr);
    let replayed = case.relay.command(&["replay", "--where", "package_id = 1"]).await?;
    ensure!(replayed.code() == 0, "{}{}", replayed.stdout, replayed.stderr);
    relay.terminate(SOON).await?;

    // A topic is made by that other client, too.
    let made = Topic::unused_name();
    let config = SecretFile::new(case.database.name(), "[create_topics]\n\"test-*\" = { partitions = 2 }\n")?;
    let case = case.with("WALPOST_CONFIG", &config.path().to_string_lossy()).with("WALPOST_TOPIC", &made);
    let made = Topic::expected(&made, &case.topic.brokers, 2);
    let mut relay = case.relay.run_ready().await?;
    case.commit(1, 1, 1).await?;
    made.read(1, SOON).await.with_context(|| relay.log_tail())?;
    relay.expect_running()
}
