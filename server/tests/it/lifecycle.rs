//! From serving to stopped: status, health, reflection, counters, and the drain.

use anyhow::Result;
use harness::{Database, PrivatePostgres, wait_until};
use logistic_package_api::store;
use logistic_package_proto::package_api::DescribePackageV1Request;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{self, Client, DEADLINE, Setup, TestServer, box_of_wood, new_title, settings};

const SERVICE: &str = "hablof.logistic_package_api.v1.LogisticPackageApiService";

#[tokio::test]
async fn the_status_port_says_live_ready_and_which_version() -> Result<()> {
    let setup = Setup::with(&["--environment", "test", "--debug"]).await?;
    assert_eq!(setup.server.status("/live").await?.0, 200);
    assert_eq!(setup.server.status("/ready").await?.0, 200);
    assert_eq!(setup.server.status("/elsewhere").await?.0, 404);
    let (code, body) = setup.server.status("/version").await?;
    let version: Value = serde_json::from_str(&body)?;
    assert_eq!(code, 200);
    assert_eq!(version["name"], "logistic-package-api");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&version["debug"], &version["environment"]), (&Value::Bool(true), &Value::from("test")));
    assert!(version["commitHash"].is_string());
    Ok(())
}

/// Readiness and the migrator are of one mind.
#[tokio::test]
async fn a_database_is_ready_when_it_has_the_migrations_of_this_build() -> Result<()> {
    let setup = Setup::new().await?;
    let ready = async || setup.server.status("/ready").await;
    let migrate = async || store::migrate(&settings(&setup.database.url, &[]).database, DEADLINE).await;
    assert_eq!(ready().await?.0, 200);

    // A newer build has been here: the release before serves on.
    setup.database.execute(LATER).await?;
    assert_eq!(ready().await?.0, 200);
    let newer: Vec<_> = migrate().await?.iter().map(ToString::to_string).collect();
    assert_eq!(newer, ["9999 (later)"]);
    let beside = TestServer::start(settings(&setup.database.url, &[])).await?;
    assert_eq!(beside.status("/ready").await?.0, 200);

    // One that is of neither.
    let odd = "update _sqlx_migrations set checksum = checksum || '\\x00' where version = 1";
    setup.database.execute(odd).await?;
    let (code, text) = ready().await?;
    assert!(code == 503 && text.contains("another version of this program"), "{code} {text}");
    assert!(migrate().await.unwrap_err().to_string().contains("another version of this program"));

    setup.database.execute("delete from _sqlx_migrations where version in (1, 9999)").await?;
    let (code, text) = ready().await?;
    assert!(code == 503 && text.contains("lacks migrations"), "{code} {text}");
    migrate().await?;
    assert_eq!(ready().await?.0, 200);
    Ok(())
}

/// A migration of a build that is newer than this one.
const LATER: &str = "insert into _sqlx_migrations(version, description, success, checksum, execution_time)
    values (9999, 'later', true, '\\x00', 0)";

#[tokio::test]
async fn calls_are_counted() -> Result<()> {
    let mut setup = Setup::new().await?;
    let id = setup.create("box").await?;
    setup.client.update_package_v1(new_title(id, "crate")).await?;
    setup.describe(id).await?;
    for missing in [id + 1, u64::MAX] {
        let _ = setup.describe(missing).await.unwrap_err();
        let _ = setup.client.update_package_v1(new_title(missing, "x")).await.unwrap_err();
    }
    let _ = setup.describe(0).await.unwrap_err();
    assert_eq!(setup.server.metric("logistic_package_api_cud_event_total").await?, 2.0);
    assert_eq!(setup.server.metric("logistic_package_api_not_found_total").await?, 4.0);
    Ok(())
}

#[tokio::test]
async fn health_is_known_for_the_server_and_the_service() -> Result<()> {
    let setup = Setup::new().await?;
    let mut health = HealthClient::new(setup.server.channel().await?);
    for service in ["", SERVICE] {
        let status =
            health.check(HealthCheckRequest { service: service.into() }).await?.into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn watchers_hear_of_the_end_and_do_not_hold_it_up() -> Result<()> {
    let setup = Setup::new().await?;
    let mut health = HealthClient::new(setup.server.channel().await?);
    let mut watch = health.watch(HealthCheckRequest { service: SERVICE.into() }).await?.into_inner();
    assert_eq!(watch.message().await?.unwrap().status(), ServingStatus::Serving);
    setup.server.stop().await?;
    assert_eq!(watch.message().await?.unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() -> Result<()> {
    let setup = Setup::new().await?;
    let expected = [SERVICE, "grpc.health.v1.Health"];

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(setup.server.channel().await?);
    let names = MessageRequest::ListServices(String::new());
    let details = MessageRequest::FileContainingSymbol("google.rpc.BadRequest".into());
    let requests = [names, details]
        .map(|message| v1::ServerReflectionRequest { host: String::new(), message_request: Some(message) });
    let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await?.into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await?.unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    let details = answers.message().await?.unwrap().message_response;
    assert!(matches!(details, Some(MessageResponse::FileDescriptorResponse(_))), "{details:?}");

    let mut old =
        v1alpha::server_reflection_client::ServerReflectionClient::new(setup.server.channel().await?);
    let names = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(names) };
    let answer =
        old.server_reflection_info(tokio_stream::once(request)).await?.into_inner().message().await?;
    assert!(format!("{answer:?}").contains(SERVICE));
    Ok(())
}

#[tokio::test]
async fn reflection_can_be_switched_off() -> Result<()> {
    let setup = Setup::with(&["--reflection=false"]).await?;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(setup.server.channel().await?);
    let refused = client.server_reflection_info(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    Ok(())
}

/// An update that waits for the lock another session has on its package. The lock ends with the client it returns.
async fn update_that_waits(
    setup: &mut Setup,
) -> Result<(tokio_postgres::Client, JoinHandle<Result<Response<impl Sized + use<>>, Status>>)> {
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    let mut client = setup.client.clone();
    let call = tokio::spawn(async move { client.update_package_v1(new_title(id, "crate")).await });
    let observer = setup.database.client().await?;
    let waits = async || Ok(support::statements_that_wait(&observer).await? == 1);
    wait_until("the update waits for the lock", DEADLINE, waits).await?;
    Ok((holder, call))
}

#[tokio::test]
async fn a_call_that_was_accepted_is_finished_before_the_end() -> Result<()> {
    let mut setup = Setup::new().await?;
    let (holder, call) = update_that_waits(&mut setup).await?;

    setup.server.shutdown.cancel();
    let grpc = setup.server.addresses.grpc;
    wait_until("nothing is accepted any more", DEADLINE, async || {
        Ok(TcpStream::connect(grpc).await.is_err())
    })
    .await?;
    assert_eq!(setup.server.status("/ready").await?, (503, "stopping\n".to_owned()));
    assert_eq!(setup.server.status("/live").await?.0, 200);
    assert!(!setup.server.running.is_finished() && !call.is_finished());

    holder.batch_execute("commit").await?;
    call.await??;
    setup.server.stop().await?;
    let events = setup.database.client().await?.query("select from package_event", &[]).await?;
    assert_eq!(events.len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() -> Result<()> {
    let mut setup = Setup::with(&["--shutdown-timeout-ms", "100"]).await?;
    let (holder, call) = update_that_waits(&mut setup).await?;
    setup.server.stop().await?;
    let status = call.await?.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is stopping"));
    drop(holder);
    Ok(())
}

#[tokio::test]
async fn a_statement_that_waits_too_long_gives_its_connection_back() -> Result<()> {
    let mut setup = Setup::with(&["--database-statement-timeout-ms", "100"]).await?;
    let id = setup.create("box").await?;
    let holder = setup.database.client().await?;
    holder.batch_execute("begin; select from package for update").await?;
    let status = setup.client.update_package_v1(new_title(id, "crate")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the database is unavailable"));
    assert_eq!(setup.server.status("/ready").await?.0, 200);
    drop(holder);
    Ok(())
}

/// On a server of its own, to be stopped.
#[tokio::test]
async fn without_its_database_the_server_is_not_ready_and_comes_back_with_it() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let database = Database::fresh(postgres.url()).await?;
    let server =
        TestServer::start(settings(&database.url, &["--database-acquire-timeout-ms", "500"])).await?;
    let mut client = Client::new(server.channel().await?);
    let id = client.create_package_v1(box_of_wood()).await?.into_inner().id;

    postgres.stop().await?;
    wait_until("it is not ready", DEADLINE, async || Ok(server.status("/ready").await?.0 == 503)).await?;
    let describe = DescribePackageV1Request { package_id: id };
    let status = client.describe_package_v1(describe).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(server.status("/live").await?.0, 200);

    postgres.start_again().await?;
    wait_until("it is ready again", DEADLINE, async || Ok(server.status("/ready").await?.0 == 200)).await?;
    let package = client.describe_package_v1(describe).await?.into_inner().value.unwrap();
    assert_eq!(package.id, id);
    server.stop().await
}

#[tokio::test]
async fn servers_beside_each_other_share_a_database() -> Result<()> {
    let database = support::database().await?;
    let (one, other) = tokio::join!(
        TestServer::start(settings(&database.url, &[])),
        TestServer::start(settings(&database.url, &[]))
    );
    let (one, other) = (one?, other?);
    let id = Client::new(one.channel().await?).create_package_v1(box_of_wood()).await?.into_inner().id;
    let describe = DescribePackageV1Request { package_id: id };
    Client::new(other.channel().await?).describe_package_v1(describe).await?;
    one.stop().await?;
    other.stop().await
}
