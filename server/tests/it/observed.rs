//! What is seen of a call from outside its answer: its spans, and its log.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::collector::Collector;
use harness::http::send;
use harness::{Database, Process, Program, port, wait_until};
use tonic::Request;
use tonic::transport::Channel;

use crate::support::{self, Client, DEADLINE, box_of_wood, new_title};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

struct Serving {
    process: Process,
    grpc: SocketAddr,
    rest: SocketAddr,
}

/// The program itself: how it is heard is the whole process's.
async fn serve(database: &Database, env: &[(&str, &str)]) -> Result<Serving> {
    let (grpc, rest, status) = (port::free()?, port::free()?, port::free()?);
    let mut program = Program::new(env!("CARGO_BIN_EXE_logistic-package-api"))
        .env("PACKAGE_API_DATABASE_URL", &database.url)
        .env("PACKAGE_API_GRPC_ADDR", grpc.to_string())
        .env("PACKAGE_API_REST_ADDR", rest.to_string())
        .env("PACKAGE_API_STATUS_ADDR", status.to_string())
        .env("PACKAGE_API_METRICS_ADDR", port::free()?.to_string())
        .env("PACKAGE_API_SHUTDOWN_DELAY_MS", "0");
    for (name, value) in env {
        program = program.env(name, *value);
    }
    let mut process = program.spawn(&["serve"])?;
    wait_until("the server is ready", DEADLINE, async || {
        process.expect_running()?;
        Ok(harness::http::get(status, "/ready").await.is_ok_and(|response| response.status == 200))
    })
    .await?;
    Ok(Serving { process, grpc, rest })
}

async fn client(serving: &Serving) -> Result<Client> {
    Ok(Client::new(Channel::from_shared(format!("http://{}", serving.grpc))?.connect().await?))
}

fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn a_call_is_a_tree_of_spans_that_its_event_continues() -> Result<()> {
    let (collector, addr) = Collector::start()?;
    let database = support::database().await?;
    let endpoint = format!("http://{addr}");
    let serving = serve(&database, &[("PACKAGE_API_OTLP_ENDPOINT", &endpoint)]).await?;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let request = with(box_of_wood(), "traceparent", &traceparent);
    client(&serving).await?.create_package_v1(request).await?;

    wait_until("four spans arrive", DEADLINE, async || Ok(collector.trace(TRACE).len() >= 4)).await?;
    let spans = collector.trace(TRACE);
    let child_of = |parent: &str| spans.iter().find(|span| span.parent_id == parent).context("no such span");
    let rpc = child_of(PARENT)?;
    assert_eq!(rpc.name, "hablof.logistic_package_api.v1.LogisticPackageApiService/CreatePackageV1");
    assert_eq!(rpc.attribute("rpc.grpc.status_code"), Some("0"));
    let service = child_of(&rpc.span_id)?;
    let repository = child_of(&service.span_id)?;
    let sql = child_of(&repository.span_id)?;
    assert_eq!((service.name.as_str(), repository.name.as_str()), ("CreatePackageV1", "create"));
    let text = sql.attribute("db.query.text").context("no statement")?;
    assert!(text.contains("insert into package (") && !text.contains("wood"), "{text}");
    assert!(spans.iter().all(|span| span.time.0 >= rpc.time.0 && span.time.1 <= rpc.time.1), "{spans:?}");
    assert_eq!(spans.len(), 4);

    // The event hangs beneath a span of this call.
    let select = "select traceparent from package_event";
    let kept: String = database.client().await?.query_one(select, &[]).await?.get(0);
    assert_eq!(kept, format!("00-{TRACE}-{}-01", service.span_id));
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_costs_no_call_anything() -> Result<()> {
    let database = support::database().await?;
    // One that accepts and never answers, and one that is not there.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    for addr in [silent.local_addr()?, port::free()?] {
        let endpoint = format!("http://{addr}");
        let mut serving = serve(&database, &[("PACKAGE_API_OTLP_ENDPOINT", &endpoint)]).await?;
        let mut client = client(&serving).await?;
        for _ in 0..1_000 {
            client.list_packages_v1(with(Default::default(), "grpc-timeout", "5S")).await?;
        }
        drop(client);
        assert!(serving.process.terminate(Duration::from_secs(60)).await?.success());
    }
    Ok(())
}

#[tokio::test]
async fn a_client_may_raise_the_log_level_of_its_own_call_alone() -> Result<()> {
    let database = support::database().await?;
    let env = [("PACKAGE_API_LOG_LEVEL", "info"), ("PACKAGE_API_LOG_LEVEL_BY_CLIENT", "true")];
    let serving = serve(&database, &env).await?;
    let mut client = client(&serving).await?;
    let id = client.create_package_v1(with(box_of_wood(), "log_level", "DeBuG")).await?.into_inner().id;
    client.update_package_v1(new_title(id, "crate")).await?;
    client.update_package_v1(with(new_title(id, "crate"), "log_level", "nonsense")).await?;
    let path = format!("/v1/packages/{id}");
    send(serving.rest, "GET", &path, &[("log_level", "debug")], "").await?;
    send(serving.rest, "GET", "/v1/packages", &[], "").await?;
    send(serving.rest, "DELETE", &path, &[("Grpc-Metadata-Log_Level", "debug")], "").await?;

    wait_until("the last call is logged", DEADLINE, async || {
        Ok(serving.process.log().contains("RemovePackageV1"))
    })
    .await?;
    let log = serving.process.log();
    let said = |text: &str| log.lines().filter(|line| line.contains("DEBUG") && line.contains(text)).count();
    assert_eq!(said("\"CreatePackageV1\""), 1, "{log}");
    assert_eq!(said("\"DescribePackageV1\""), 1, "{log}");
    assert_eq!(said("asking the database"), 3, "{log}");
    assert_eq!(said("UpdatePackageV1") + said("ListPackagesV1"), 0, "{log}");

    let closed = serve(&database, &[("PACKAGE_API_LOG_LEVEL", "info")]).await?;
    let mut client = Client::new(Channel::from_shared(format!("http://{}", closed.grpc))?.connect().await?);
    client.create_package_v1(with(box_of_wood(), "log_level", "debug")).await?;
    assert!(!closed.process.log().contains("DEBUG"));
    Ok(())
}
