//! What a call passes through: tokens, TLS, room, deadlines, levels, counts.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::http::send;
use harness::secure::Certificates;
use harness::wait_until;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, DescribePackageV1Request, ListPackagesV1Request,
};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{self, Client, DEADLINE, Setup, TestServer, box_of_wood, new_title, settings};

#[tokio::test]
async fn without_the_token_no_call_is_made() -> Result<()> {
    let database = support::database().await?;
    let file = tempfile_with("s3cret-token\n")?;
    let env = [("PACKAGE_API_AUTH_TOKEN_FILE", file.to_str().context("a path")?)];
    let server = TestServer::start(support::settings_with(&database.url, &[], &env)).await?;
    let mut client = Client::new(server.channel().await?);
    for shown in [None, Some("Bearer wrong"), Some("s3cret-token"), Some("Basic s3cret-token")] {
        let mut request = Request::new(box_of_wood());
        if let Some(shown) = shown {
            request.metadata_mut().insert("authorization", shown.parse()?);
        }
        let status = client.create_package_v1(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{shown:?}");
        assert!(!status.message().contains("s3cret"));
    }
    let mut request = Request::new(box_of_wood());
    request.metadata_mut().insert("authorization", "bearer s3cret-token".parse()?);
    client.create_package_v1(request).await?;

    let rest = server.addresses.rest;
    let refused = send(rest, "GET", "/v1/packages", &[], "").await?;
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
    let shown = [("Authorization", "Bearer s3cret-token")];
    assert_eq!(send(rest, "GET", "/v1/packages", &shown, "").await?.status, 200);
    // Probes need none.
    let mut health = HealthClient::new(server.channel().await?);
    health.check(HealthCheckRequest::default()).await?;
    Ok(())
}

fn tempfile_with(text: &str) -> Result<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("package-api-{}-{}", std::process::id(), text.len()));
    std::fs::write(&path, text)?;
    Ok(path)
}

#[tokio::test]
async fn with_certificates_grpc_and_rest_speak_tls_alone() -> Result<()> {
    // As the program does: the client of this test needs one too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ours, clients) = (Certificates::for_name("localhost")?, Certificates::for_name("client")?);
    let (path, name) = (|path: std::path::PathBuf| path.display().to_string(), "localhost");
    let database = support::database().await?;
    let (certificate, key, roots) = (path(ours.server()), path(ours.server()), path(clients.authority()));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let server = TestServer::start(settings(&database.url, &tls)).await?;
    let ca = Certificate::from_pem(std::fs::read(ours.authority())?);
    let trusting = ClientTlsConfig::new().ca_certificate(ca).domain_name(name);
    let secure = |server: &TestServer, tls: ClientTlsConfig| {
        let endpoint = Channel::from_shared(format!("https://{}", server.addresses.grpc));
        async move { anyhow::Ok(endpoint?.tls_config(tls)?.connect_timeout(DEADLINE).connect().await?) }
    };
    Client::new(secure(&server, trusting.clone()).await?).create_package_v1(box_of_wood()).await?;
    let in_plain = async {
        Client::new(server.channel().await?)
            .create_package_v1(box_of_wood())
            .await
            .map_err(anyhow::Error::from)
    };
    assert!(in_plain.await.is_err());
    assert!(send(server.addresses.rest, "GET", "/v1/packages", &[], "").await.is_err());

    let mutual =
        TestServer::start(settings(&database.url, &[&tls[..], &["--tls-client-ca", &roots]].concat()))
            .await?;
    let stranger = async {
        Client::new(secure(&mutual, trusting.clone()).await?)
            .create_package_v1(box_of_wood())
            .await
            .map_err(anyhow::Error::from)
    };
    assert!(stranger.await.is_err());
    let identity = Identity::from_pem(std::fs::read(clients.server())?, std::fs::read(clients.server())?);
    Client::new(secure(&mutual, trusting.identity(identity)).await?).create_package_v1(box_of_wood()).await?;

    let missing = settings(&database.url, &["--tls-cert", "/none.pem", "--tls-key", &key]);
    let error = TestServer::start(missing).await?.running.await?.err().context("no error")?.to_string();
    assert!(error.contains("/none.pem") && error.contains("--tls-cert"), "{error}");
    Ok(())
}

/// An update that waits for a lock that its own test holds.
async fn stuck(setup: &mut Setup) -> Result<(tokio_postgres::Client, u64)> {
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    Ok((holder, id))
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_its_statement() -> Result<()> {
    let late = ["--database-lock-timeout-ms", "600000", "--database-statement-timeout-ms", "600000"];
    let mut setup = Setup::with(&late).await?;
    let (_holder, id) = stuck(&mut setup).await?;
    let mut request = Request::new(new_title(id, "crate"));
    request.metadata_mut().insert("grpc-timeout", "200m".parse()?);
    let status = setup.client.update_package_v1(request).await.unwrap_err();
    // The client's own clock may be the first to say so.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    let late = [("Grpc-Timeout", "100m")];
    let answer =
        send(setup.server.addresses.rest, "PUT", &format!("/v1/packages/{id}?Title=x"), &late, "").await?;
    assert_eq!(answer.status, 504, "{}", answer.body);

    let observer = setup.database.client().await?;
    let none_waits = async || Ok(support::statements_that_wait(&observer).await? == 0);
    wait_until("the statements are cancelled", DEADLINE, none_waits).await?;
    let mut request = Request::new(new_title(id, "crate"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse()?);
    assert_eq!(setup.client.update_package_v1(request).await.unwrap_err().code(), Code::InvalidArgument);
    Ok(())
}

#[tokio::test]
async fn a_call_takes_no_longer_than_the_server_allows() -> Result<()> {
    // Time enough for the creation that comes first, on a slow machine.
    let mut setup = Setup::with(&["--call-timeout-ms", "2000"]).await?;
    let (_holder, id) = stuck(&mut setup).await?;
    let status = setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    Ok(())
}

#[tokio::test]
async fn a_row_that_stays_locked_is_not_waited_for_for_ever() -> Result<()> {
    let mut setup = Setup::with(&["--database-lock-timeout-ms", "100"]).await?;
    let (_holder, id) = stuck(&mut setup).await?;
    let status = setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    Ok(())
}

#[tokio::test]
async fn what_finds_no_room_is_refused_at_once() -> Result<()> {
    let mut setup = Setup::with(&["--calls-max", "1"]).await?;
    let (holder, id) = stuck(&mut setup).await?;
    let mut client = setup.client.clone();
    let waiting = tokio::spawn(async move { client.update_package_v1(new_title(id, "crate")).await });
    let observer = setup.database.client().await?;
    wait_until("it waits", DEADLINE, async || Ok(support::statements_that_wait(&observer).await? == 1))
        .await?;

    assert_eq!(setup.describe(id).await.unwrap_err().code(), Code::ResourceExhausted);
    let rest = send(setup.server.addresses.rest, "GET", "/v1/packages", &[], "").await?;
    assert_eq!(rest.status, 429);
    holder.batch_execute("commit").await?;
    waiting.await??;
    setup.describe(id).await?;
    Ok(())
}

#[tokio::test]
async fn what_finds_no_place_in_the_queue_is_refused_at_once() -> Result<()> {
    let mut setup = Setup::with(&["--database-connections", "1", "--database-queue-max", "1"]).await?;
    let (holder, id) = stuck(&mut setup).await?;
    let mut client = setup.client.clone();
    let running = tokio::spawn(async move { client.update_package_v1(new_title(id, "crate")).await });
    let observer = setup.database.client().await?;
    wait_until("it waits", DEADLINE, async || Ok(support::statements_that_wait(&observer).await? == 1))
        .await?;
    let mut client = setup.client.clone();
    let queued = tokio::spawn(async move { client.list_packages_v1(ListPackagesV1Request::default()).await });
    let name = "logistic_package_api_db_statements_waiting";
    wait_until("one is queued", DEADLINE, async || Ok(setup.server.metric(name).await? == 1.0)).await?;
    assert_eq!(setup.describe(id).await.unwrap_err().code(), Code::ResourceExhausted);
    holder.batch_execute("commit").await?;
    running.await??;
    queued.await??;
    Ok(())
}

#[tokio::test]
async fn a_message_above_4_mib_exhausts_a_resource() -> Result<()> {
    let mut setup = Setup::new().await?;
    let large = CreatePackageV1Request { title: "x".repeat(5 << 20), ..box_of_wood() };
    assert_eq!(setup.client.create_package_v1(large).await.unwrap_err().code(), Code::ResourceExhausted);
    let fits = CreatePackageV1Request { title: "x".repeat(3 << 20), ..box_of_wood() };
    assert_eq!(setup.client.create_package_v1(fits).await.unwrap_err().code(), Code::InvalidArgument);
    Ok(())
}

#[tokio::test]
async fn what_a_client_compressed_is_taken_within_the_same_bound() -> Result<()> {
    let setup = Setup::new().await?;
    let mut client = setup.client.clone().send_compressed(CompressionEncoding::Gzip);
    client.create_package_v1(box_of_wood()).await?;
    let mut health =
        HealthClient::new(setup.server.channel().await?).send_compressed(CompressionEncoding::Gzip);
    health.check(HealthCheckRequest::default()).await?;
    // Some 100 kB on the way, and a hundred times as much behind it.
    let bomb = CreatePackageV1Request { title: "x".repeat(100 << 20), ..box_of_wood() };
    let status = client.create_package_v1(bomb).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    Ok(())
}

#[tokio::test]
async fn clients_are_asked_to_connect_anew_and_lose_nothing() -> Result<()> {
    let mut setup = Setup::with(&["--connection-age-s", "1"]).await?;
    let (begin, mut answered, mut refused) = (std::time::Instant::now(), 0, 0);
    while begin.elapsed() < Duration::from_millis(2_500) {
        // A client that begins a call while it is told to go may find its connection closed before it was sent.
        match setup.create("box").await {
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
    }
    setup.create("after it").await?;
    let count = "select count(*) from package_event";
    let made: i64 = setup.database.client().await?.query_one(count, &[]).await?.get(0);
    assert_eq!(made, answered + 1, "a call was carried out and not answered");
    assert!(refused <= 4, "{refused} calls of {answered} found their connection closed");
    Ok(())
}

#[tokio::test]
async fn every_call_is_counted_by_its_code() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.create("box").await?;
    let _ = setup.describe(77).await.unwrap_err();
    send(setup.server.addresses.rest, "POST", "/v1/packages", &[], "{}").await?;
    let page = harness::http::get(setup.server.addresses.metrics, "/metrics").await?.body;
    let line = |name: &str, code: &str, method: &str| {
        let labels = [code, method].map(|text| format!("\"{text}\""));
        let found = page
            .lines()
            .find(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        found.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert_eq!(line("grpc_server_handled_total", "OK", "CreatePackageV1"), Some(1.0), "{page}");
    assert_eq!(line("grpc_server_handled_total", "InvalidArgument", "CreatePackageV1"), Some(1.0));
    assert_eq!(line("grpc_server_handled_total", "NotFound", "DescribePackageV1"), Some(1.0));
    assert_eq!(line("grpc_server_started_total", "unary", "CreatePackageV1"), Some(2.0));
    assert_eq!(line("grpc_server_handling_seconds_count", "unary", "DescribePackageV1"), Some(1.0));
    assert!(page.contains("process_resident_memory_bytes"));
    assert_eq!(setup.server.metric("logistic_package_api_db_connections_max").await?, 10.0);
    assert!(setup.server.metric("logistic_package_api_db_connections_open").await? >= 1.0);
    Ok(())
}

#[tokio::test]
async fn not_ready_comes_before_the_end_of_accepting() -> Result<()> {
    let mut setup = Setup::with(&["--shutdown-delay-ms", "3000"]).await?;
    setup.server.shutdown.cancel();
    let not_ready = async || Ok(setup.server.status("/ready").await? == (503, "stopping\n".to_owned()));
    wait_until("it is not ready", DEADLINE, not_ready).await?;
    let mut late = Client::new(setup.server.channel().await?);
    let id = late.create_package_v1(box_of_wood()).await?.into_inner().id;
    assert_eq!(setup.describe(id).await?.id, id);
    drop(late);
    let described = late_describe(&setup, id).await;
    setup.server.stop().await?;
    assert!(described.is_ok());
    Ok(())
}

async fn late_describe(setup: &Setup, package_id: u64) -> Result<()> {
    let mut client = Client::new(setup.server.channel().await?);
    client.describe_package_v1(DescribePackageV1Request { package_id }).await?;
    Ok(())
}
