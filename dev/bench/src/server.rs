//! The package API, beside pgbench with the same statements.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::program::sibling;
use harness::{Database, Process, Program, http, port, wait_until};
use logistic_package_api::store::statements;
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use logistic_package_proto::package_api::{
    CreatePackageV1Request, DescribePackageV1Request, ListPackagesV1Request, UpdatePackageV1Request,
};
use tonic::transport::{Channel, Endpoint};

use crate::load::{Pgbench, rate};
use crate::section::{Plot, Section, Table, median, percentile};
use crate::{Bench, cpu};

/// How long each measurement lasts.
const LASTS: Duration = Duration::from_secs(5);

/// Packages that are there.
pub(crate) const PACKAGES: u64 = 100_000;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Update,
    Describe,
    List,
}

impl Call {
    const ALL: [Self; 4] = [Self::Create, Self::Update, Self::Describe, Self::List];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Describe => "describe",
            Self::List => "list, 10 of 100,000",
        }
    }

    /// The server's own statement, with values in the place of parameters.
    fn script(self) -> String {
        let (statement, values): (_, &[&str]) = match self {
            Self::Create => {
                (statements::CREATE.table, &["'a title'", "'cardboard'", "700.5", "true", "null"])
            }
            Self::Update => {
                (statements::UPDATE.table, &[":id", "'a title'", "null", "700.5::real", "null", "null"])
            }
            Self::Describe => (statements::DESCRIBE, &[":id"]),
            Self::List => (statements::LIST, &["10", ":id % 1000"]),
        };
        with_values(statement, values)
    }

    /// Makes it once, of the package `id` where it is of one.
    pub(crate) async fn make(
        self,
        client: &mut LogisticPackageApiServiceClient<Channel>,
        id: u64,
    ) -> Result<(), tonic::Status> {
        let (title, material) = ("a title".to_owned(), "cardboard".to_owned());
        match self {
            Self::Create => {
                let request =
                    CreatePackageV1Request { title, material, maximum_volume: 700.5, reusable: true };
                client.create_package_v1(request).await.map(drop)
            }
            Self::Update => {
                let request = UpdatePackageV1Request {
                    package_id: id,
                    title,
                    maximum_volume: 700.5,
                    ..UpdatePackageV1Request::default()
                };
                client.update_package_v1(request).await.map(drop)
            }
            Self::Describe => {
                client.describe_package_v1(DescribePackageV1Request { package_id: id }).await.map(drop)
            }
            Self::List => {
                let request = ListPackagesV1Request { offset: id % 1_000, limit: 10 };
                client.list_packages_v1(request).await.map(drop)
            }
        }
    }
}

/// A statement for pgbench, with values in the place of parameters; `:id` is a package at random.
pub(crate) fn with_values(statement: &str, values: &[&str]) -> String {
    // pgbench would take these for variables; the planner makes a constant of it again.
    let mut text = statement.replace("HH24:MI:SS", "HH24'||chr(58)||'MI'||chr(58)||'SS");
    for (number, value) in (1..).zip(values) {
        text = text.replace(&format!("${number}"), value);
    }
    format!("\\set id random(1, {PACKAGES})\n{text};\n")
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let database = Database::fresh(&bench.stack.database_url).await?;
    let (mut process, addr) = serve(&database).await?;
    fill(&database).await?;
    let columns = ["", "connections", "of pgbench", "requests/s", "pgbench/s", "p50 ms", "p99 ms"];
    let (mut table, mut bars) = (Table::new(&columns), Vec::new());
    for call in Call::ALL {
        for connections in [1, 8, 32] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..bench.rounds {
                ours.push(calls(call, connections, &addr).await?);
                let pgbench = Pgbench::new(&database, &call.script(), connections).await?;
                let lasts = crate::load::seconds(LASTS);
                theirs.push(rate(&pgbench.arg("--time", &lasts).run(&database).await?)?);
            }
            let of = |figure: fn(&Measured) -> f64| median(ours.iter().map(figure).collect());
            let (own, base) = (of(|round| round.rate), median(theirs));
            println!("  {} at {connections}: {:.2} of pgbench", call.name(), own / base);
            if connections == 32 {
                bars.push((call.name().to_owned(), own / base));
            }
            table.row([
                call.name().to_owned(),
                connections.to_string(),
                format!("{:.2}", own / base),
                format!("{own:.0}"),
                format!("{base:.0}"),
                format!("{:.1}", of(|round| round.p50)),
                format!("{:.1}", of(|round| round.p99)),
            ]);
        }
    }
    let memory = cpu::peak_memory(process.id()).context("the server's memory")? >> 20;
    process.terminate(Duration::from_secs(20)).await?;
    Ok(Section {
        name: "server".into(),
        title: "The package API".into(),
        text: format!(
            "gRPC calls over as many connections, one call at a time on each, beside pgbench (prepared) with the server's \
             own statements on as many connections; {} rounds in turn of {} s each, medians; `synchronous_commit=on`. \
             Server, Postgres and the load itself share two cores. Under load calls that wait at the same time share a statement. The server's memory was {memory} MiB at its peak.",
            bench.rounds,
            LASTS.as_secs()
        ),
        tables: vec![table],
        plots: vec![Plot { file: "server".into(), title: "Of pgbench's rate, 32 connections".into(), bars }],
    })
}

/// Makes the packages that are there.
pub(crate) async fn fill(database: &Database) -> Result<()> {
    let fill = format!(
        "insert into package (title, material, max_volume, reusable, created_at) \
         select 'a title', 'cardboard', 700.5, true, now() from generate_series(1, {PACKAGES}); \
         analyze package"
    );
    database.execute(&fill).await
}

/// Starts the server; gives where it takes gRPC.
pub(crate) async fn serve(database: &Database) -> Result<(Process, String)> {
    let (grpc, status) = (port::free()?, port::free()?);
    let mut process = Program::new(sibling("logistic-package-api")?)
        .env("PACKAGE_API_DATABASE_URL", &database.url)
        .env("PACKAGE_API_GRPC_ADDR", grpc.to_string())
        .env("PACKAGE_API_REST_ADDR", port::free()?.to_string())
        .env("PACKAGE_API_STATUS_ADDR", status.to_string())
        .env("PACKAGE_API_METRICS_ADDR", port::free()?.to_string())
        .spawn(&["serve"])?;
    wait_until("the server is ready", Duration::from_secs(20), async || {
        process.expect_running()?;
        Ok(http::get(status, "/ready").await.is_ok_and(|response| response.status == 200))
    })
    .await?;
    Ok((process, format!("http://{grpc}")))
}

struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
}

async fn calls(call: Call, connections: u64, addr: &str) -> Result<Measured> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut clients = Vec::new();
    for _ in 0..connections {
        let channel = Endpoint::from_shared(addr.to_owned())?.tcp_nodelay(true).connect().await?;
        clients.push(LogisticPackageApiServiceClient::new(channel));
    }
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < LASTS {
                let id = 1 + NEXT.fetch_add(7_919, Ordering::Relaxed) % PACKAGES;
                let before = Instant::now();
                call.make(&mut client, id).await?;
                latencies.push(before.elapsed().as_secs_f64() * 1_000.0);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let made = u32::try_from(latencies.len()).map(f64::from)?;
    Ok(Measured { rate: made / seconds, p50: percentile(&latencies, 0.5), p99: percentile(&latencies, 0.99) })
}
