use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::secure::{self, Certificates, TlsFront};
use harness::{PrivateKafka, PrivatePostgres, RelayProcess, port, wait_until};

use crate::case::{Case, SOON};

const PASSWORD: &str = "correct-horse";

/// A case whose relay comes to Kafka with TLS and SCRAM.
async fn with_secure_kafka(certificates: &Certificates, more: &[&str]) -> Result<(Case, PrivateKafka)> {
    let port = port::free()?.port();
    let kafka = secure::kafka(certificates, port, &format!("walpost:{PASSWORD}"), more).await?;
    let case = Case::on_kafka(kafka.brokers()).await?;
    let case = case
        .with("WALPOST_KAFKA_BROKERS", &format!("localhost:{port}"))
        .with("WALPOST_CONNECT_TIMEOUT_MS", "3000")
        .with("WALPOST_KAFKA_PROPERTY_SECURITY_PROTOCOL", "SASL_SSL")
        .with("WALPOST_KAFKA_PROPERTY_SASL_MECHANISM", "SCRAM-SHA-512")
        .with("WALPOST_KAFKA_PROPERTY_SASL_USERNAME", "walpost")
        .with("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", PASSWORD)
        .with("WALPOST_KAFKA_PROPERTY_SSL_CA_LOCATION", &certificates.authority().to_string_lossy());
    Ok((case, kafka))
}

#[tokio::test]
async fn events_are_published_over_tls_with_scram_and_a_wrong_authority_or_password_is_refused() -> Result<()>
{
    let certificates = Certificates::for_name("localhost")?;
    let (case, _kafka) = with_secure_kafka(&certificates, &[]).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    relay.terminate(SOON).await?;

    let other = Certificates::for_name("localhost")?;
    let trusting_another =
        case.relay.clone().env("WALPOST_KAFKA_PROPERTY_SSL_CA_LOCATION", other.authority().into_os_string());
    let mut relay = trusting_another.run()?;
    relay.status("the certificate is named", |answer| answer.body.contains("certificate")).await?;
    drop(relay);

    let with_another_password =
        case.relay.clone().env("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", "wrong-donkey");
    let mut relay = with_another_password.run()?;
    relay
        .status("the refusal is named", |answer| answer.body.to_lowercase().contains("authentication"))
        .await?;
    let said = format!("{}{}", relay.log(), relay.get("/ready").await?.body);
    ensure!(!said.contains("wrong-donkey") && !said.contains(PASSWORD), "a password is told: {said}");
    Ok(())
}

/// A Kafka that allows nothing to the relay's user.
pub(crate) async fn that_denies(certificates: &Certificates) -> Result<(Case, PrivateKafka)> {
    let rules = [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ];
    with_secure_kafka(certificates, &rules).await
}

/// Allows an operation on the topic, or takes that back.
async fn rule(kafka: &PrivateKafka, case: &Case, change: &str, operation: &str) -> Result<()> {
    rule_on(kafka, ["--topic", &case.topic.name], change, operation).await
}

/// The same on anything that has rules.
pub(crate) async fn rule_on(
    kafka: &PrivateKafka,
    what: [&str; 2],
    change: &str,
    operation: &str,
) -> Result<()> {
    let rule = [change, "--force", "--allow-principal", "User:walpost", "--operation", operation];
    let class = "org.apache.kafka.tools.AclCommand";
    kafka.tool(class, &[&rule[..], &what].concat()).await.map(drop)
}

/// The relay tries again, and says what is missing.
pub(crate) async fn is_denied(relay: &mut RelayProcess) -> Result<()> {
    let denied = |answer: &harness::http::Response| {
        answer.status == 503
            && answer.body.contains("\"retrying\"")
            && ["denies access", "WRITE"].iter().all(|part| answer.body.contains(part))
    };
    relay.status("what is denied is said", denied).await.map(drop)
}

#[tokio::test]
async fn a_client_that_may_not_write_is_not_ready_names_the_rights_and_goes_on_when_it_may() -> Result<()> {
    let certificates = Certificates::for_name("localhost")?;
    let (case, kafka) = that_denies(&certificates).await?;
    case.relay.init().await?;
    let checked = case.relay.command(&["check"]).await?;
    ensure!(checked.code() == 1 && checked.stdout.contains("grant"), "{}", checked.stdout);
    let mut relay = case.relay.run()?;
    is_denied(&mut relay).await?;
    // It sees the topic, and may not write to it: the first record is what is denied, and each new producer's.
    rule(&kafka, &case, "--add", "Describe").await?;
    case.commit(10, 3, 1).await?;
    is_denied(&mut relay).await?;
    let restarts = relay.metric("walpost_producer_restarts_total").await?;
    ensure!(restarts < 100.0, "{restarts} producers");
    rule(&kafka, &case, "--add", "Write").await?;
    assert_eq!(case.audit().await?.published, 10);
    relay.ready().await?;

    rule(&kafka, &case, "--remove", "Write").await?;
    case.commit(10, 3, 1).await?;
    is_denied(&mut relay).await?;
    rule(&kafka, &case, "--add", "Write").await?;
    assert_eq!(case.audit().await?.published, 20);
    relay.ready().await
}

/// The case with its relay's way to Postgres through TLS.
async fn with_tls(name: &str) -> Result<(Case, TlsFront, Certificates)> {
    let case = Case::new().await?;
    let certificates = Certificates::for_name(name)?;
    let front = TlsFront::start(case.database.addr()?, &certificates).await?;
    Ok((case, front, certificates))
}

/// The relay's URL through `front`, with what is asked of its certificate.
fn url(case: &Case, front: &TlsFront, asked: &str) -> String {
    let (user, rest) = case.database.relay_url.rsplit_once('@').unwrap_or_default();
    let database = rest.rsplit_once('/').unwrap_or_default().1;
    format!("{user}@localhost:{}/{database}?{asked}", front.addr().port())
}

#[tokio::test]
async fn both_connections_to_postgres_are_encrypted_and_verified() -> Result<()> {
    let (case, front, certificates) = with_tls("localhost").await?;
    let verified = format!("sslmode=verify-full&sslrootcert={}", certificates.authority().display());
    let case_url = url(&case, &front, &verified);
    let case = case.with("WALPOST_DATABASE_URL", &case_url);
    let _relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    Ok(())
}

/// A server that encrypts by itself.
async fn with_tls_of_its_own() -> Result<(Case, PrivatePostgres, Certificates)> {
    let postgres = PrivatePostgres::start_version("17").await?;
    let certificates = Certificates::for_name("localhost")?;
    let case = Case::on_postgres(postgres.url()).await?;
    let client = case.client().await?;
    let data: String = client.query_one("select current_setting('data_directory')", &[]).await?.get(0);
    let (pem, owner) = (Path::new(&data).join("server.pem"), std::fs::metadata(&data)?);
    std::fs::copy(certificates.server(), &pem)?;
    std::os::unix::fs::chown(&pem, Some(owner.uid()), Some(owner.gid()))?;
    std::fs::set_permissions(&pem, std::fs::Permissions::from_mode(0o600))?;
    for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.pem'", "ssl = on"] {
        client.batch_execute(&format!("alter system set {setting}")).await?;
    }
    client.batch_execute("select pg_reload_conf()").await?;
    wait_until("the server encrypts", SOON, async || {
        Ok(client.query_one("select current_setting('ssl')", &[]).await?.get::<_, String>(0) == "on")
    })
    .await?;
    Ok((case, postgres, certificates))
}

#[tokio::test]
async fn the_password_is_bound_to_the_channel_on_both_connections() -> Result<()> {
    let (case, _postgres, certificates) = with_tls_of_its_own().await?;
    let (user, rest) = case.database.relay_url.rsplit_once('@').context("a URL")?;
    let place = rest.replacen("127.0.0.1", "localhost", 1);
    let authority = certificates.authority();
    let asked = format!("sslmode=verify-full&sslrootcert={}&channel_binding=require", authority.display());
    let case_url = format!("{user}@{place}?{asked}");
    let case = case.with("WALPOST_DATABASE_URL", &case_url);
    let _relay = case.relay.init_and_run().await?;
    let encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                     where application_name = 'walpost' and ssl";
    let sessions: i64 = case.client().await?.query_one(encrypted, &[]).await?.get(0);
    ensure!(sessions >= 2, "{sessions} sessions are encrypted");
    case.commit(10, 3, 1).await?;
    assert_eq!(case.audit().await?.published, 10);
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_another_name_is_refused() -> Result<()> {
    let (case, front, certificates) = with_tls("another.example").await?;
    let other = Certificates::for_name("localhost")?;
    for authority in [certificates.authority(), other.authority()] {
        let asked = format!("sslmode=verify-full&sslrootcert={}", authority.display());
        let relay = case.relay.clone().env("WALPOST_DATABASE_URL", url(&case, &front, &asked));
        let ended = relay.command(&["init"]).await?;
        ensure!(ended.code() == 1, "{}", ended.stderr);
        ensure!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_verified_as_libpq_does_by_each_sslmode() -> Result<()> {
    let (case, front, certificates) = with_tls("another.example").await?;
    let other = Certificates::for_name("localhost")?;
    let (right, wrong) = (certificates.authority(), other.authority());
    let (right, wrong) = (right.display(), wrong.display());
    for (asked, works) in [
        // The name is none of its business.
        (format!("sslmode=verify-ca&sslrootcert={right}"), true),
        (format!("sslmode=verify-ca&sslrootcert={wrong}"), false),
        // Who names an authority has it verified.
        (format!("sslmode=require&sslrootcert={right}"), true),
        (format!("sslmode=require&sslrootcert={wrong}"), false),
        (format!("sslmode=verify-full&sslrootcert={right}"), false),
        (format!("sslmode=prefer&sslrootcert={wrong}"), true),
        ("sslrootcert=system".into(), false),
        // A server behind somebody who ends the encryption cannot bind the password to it.
        ("sslmode=require&channel_binding=require".into(), false),
        ("sslmode=require&channel_binding=disable".into(), true),
    ] {
        let relay = case.relay.clone().env("WALPOST_DATABASE_URL", url(&case, &front, &asked));
        let ended = relay.command(&["init"]).await?;
        ensure!((ended.code() == 0) == works, "{asked}: {}{}", ended.stdout, ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_wants_tls_is_not_spoken_to_without() -> Result<()> {
    let (case, front, _certificates) = with_tls("localhost").await?;
    for (mode, works) in [("require", true), ("prefer", true), ("disable", false)] {
        let relay = case.relay.clone();
        let relay = relay.env("WALPOST_DATABASE_URL", url(&case, &front, &format!("sslmode={mode}")));
        let ended = relay.command(&["init"]).await?;
        ensure!((ended.code() == 0) == works, "{mode}: {}{}", ended.stdout, ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn no_password_is_ever_told() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_LOG_LEVEL", "trace");
    let case = case.with("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", PASSWORD);
    let url = case.database.relay_url.clone();
    let password =
        url.split("://").nth(1).and_then(|rest| rest.split(['@', ':']).nth(1)).context("a password")?;
    case.relay.init().await?;
    let mut relay = case.relay.run_ready().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    let mut said = format!("{}{}", relay.get("/ready").await?.body, relay.get("/metrics").await?.body);
    for arguments in [
        &["--help"][..],
        &["status", "--json"],
        &["check", "--json"],
        &["recover", "--dry-run"],
        &["run", "--slot", "Not A Slot"],
        &["init", "--table", "no.such_table"],
    ] {
        let ended = case.relay.command(arguments).await?;
        said += &format!("{}{}", ended.stdout, ended.stderr);
    }
    relay.terminate(SOON).await?;
    said += &relay.log();
    for secret in [password, PASSWORD] {
        ensure!(!said.contains(secret), "a password is told");
    }
    ensure!(said.contains("TRACE") || said.contains("DEBUG"), "the log was not at its most talkative");
    Ok(())
}
