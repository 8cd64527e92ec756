use anyhow::{Result, ensure};
use harness::cluster::{PASSWORD, USER};
use harness::rights::{self, Right};
use harness::{PrivateKafkaCluster, Program};

use crate::case::{Case, write_numbered};

/// Comes by the listener that asks for a name and a password.
fn by_name(program: Program, cluster: &PrivateKafkaCluster, password: &str) -> Program {
    program
        .env("PACKAGE_FACADE_KAFKA_BROKERS", cluster.proxied())
        .env("PACKAGE_FACADE_KAFKA_PROPERTY_SECURITY_PROTOCOL", "sasl_plaintext")
        .env("PACKAGE_FACADE_KAFKA_PROPERTY_SASL_MECHANISM", "PLAIN")
        .env("PACKAGE_FACADE_KAFKA_PROPERTY_SASL_USERNAME", USER)
        .env("PACKAGE_FACADE_KAFKA_PROPERTY_SASL_PASSWORD", password)
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_waited_for() -> Result<()> {
    let cluster = PrivateKafkaCluster::start().await?;
    let case = Case::on(cluster.brokers()).await?;
    write_numbered(&case.commands, 0..1).await?;
    rights::open_to(USER, &case.commands).await?;
    rights::deny(USER, &case.commands, Right::Describe).await?;

    let mut wrong = case.start_with(by_name(case.program(), &cluster, "wrong-donkey"))?;
    wrong.answers(503, "SASL authentication error").await?;
    wrong.stop().await?;
    ensure!(!wrong.process.log().contains("wrong-donkey"), "{}", wrong.process.log());

    let mut facade = case.start_with(by_name(case.program(), &cluster, PASSWORD))?;
    facade.answers(503, &format!("may not see {}", case.commands.name)).await?;
    // The others are read meanwhile, which makes it no more ready.
    write_numbered(&case.cache, 7..8).await?;
    facade.prints("\"n\": 7\n").await?;
    facade.answers(503, &format!("may not see {}", case.commands.name)).await?;
    rights::deny_no_longer(USER, &case.commands, Right::Describe).await?;
    facade.prints("\"n\": 0\n").await?;
    facade.is_ready().await?;
    ensure!(!facade.process.log().contains(PASSWORD), "{}", facade.process.log());
    facade.stop().await
}
