//! `demo run`: up until Ctrl-C.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness::program::sibling;

use crate::screen::Screen;
use crate::servers::Servers;
use crate::system::{Ports, System};

/// How soon a process that ended by itself is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

const SERVICE: &str = "hablof.logistic_package_api.v1.LogisticPackageApiService";

/// Brings the system up, says what to do with it, and waits.
pub(crate) async fn run(screen: &Screen) -> Result<()> {
    let servers = Servers::up(screen).await?;
    let ports = Ports::documented()?;
    let mut system = System::start(screen, &servers, &ports).await?;
    print_commands(screen, &system, &ports)?;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        system.expect_running()?;
    }
}

fn print_commands(screen: &Screen, system: &System, ports: &Ports) -> Result<()> {
    let walpost = as_typed(&sibling("walpost")?);
    let url = &system.database.url;
    screen.section("Up. In another terminal:");
    for (what, method, body) in [
        (
            "create a package",
            "CreatePackageV1",
            r#"{"Title":"crate","Material":"wood","MaximumVolume":48000}"#,
        ),
        ("update it", "UpdatePackageV1", r#"{"PackageID":"1","Title":"big crate"}"#),
        ("remove it", "RemovePackageV1", r#"{"PackageID":"1"}"#),
    ] {
        screen.command(what, &format!("grpcurl -plaintext -d '{body}' {} {SERVICE}/{method}", ports.grpc));
    }
    screen.command("the same by REST", &format!("curl http://{}/v1/packages", ports.rest));
    screen.command("a page to try each call", &format!("http://{}/docs", ports.rest));
    let settings = [
        ("WALPOST_DATABASE_URL", format!("'{url}'")),
        ("WALPOST_PRESET", "package-event".to_owned()),
        ("WALPOST_SLOT", system.database.slot_name()),
        ("WALPOST_KAFKA_BROKERS", system.topic.brokers.clone()),
        ("WALPOST_TOPIC", system.topic.name.clone()),
        ("WALPOST_HTTP_ADDR", ports.relay.to_string()),
    ];
    let exports: Vec<_> = settings.iter().map(|(name, value)| format!("export {name}={value}")).collect();
    screen.command("for what follows", &exports.join("\n  "));
    screen.command("watch the events arrive", &format!("{walpost} tail"));
    screen.command("the relay's own page", &format!("http://{}/", ports.relay));
    screen.command("the same in a terminal", &format!("{walpost} status --watch"));
    let (relay, service) = (ports.relay, ports.metrics);
    let metrics = format!("curl http://{relay}/metrics\n  curl http://{service}/metrics");
    screen.command("the relay's metrics, and the service's", &metrics);
    let slots = r#"psql "$WALPOST_DATABASE_URL" -x -c 'table pg_replication_slots'"#;
    screen.command("what Postgres keeps for the relay", slots);
    screen.section("Ctrl-C stops everything and removes the database, the slot and the topic.");
    Ok(())
}

/// The path from where the person stands.
fn as_typed(program: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| program.strip_prefix(here).ok());
    relative.unwrap_or(program).display().to_string()
}
