//! `logistic-package-api serve | migrate | check-config`.

use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use logistic_package_api::cli::{self, NO_MIGRATE};
use logistic_package_api::config::Settings;
use logistic_package_api::serve::Server;
use logistic_package_api::{shutdown, store, telemetry};
use program::{files, service};

/// Wrong usage or settings; clap uses the same.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    // Before any connection: whoever comes first decides for all, and the database client must not find none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let matches = cli::command().get_matches();
    let env = settings::environment();
    let settings = match Settings::load(&matches, &env) {
        Ok(settings) => settings,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if matches.subcommand_name() == Some("check-config") {
        println!("{}", describe(&settings));
        return ExitCode::SUCCESS;
    }
    match run(&matches, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For a person, beside the log.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches, mut settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let _guard = runtime.enter();
    // Dropped last: it sends the spans that are left.
    let _exporting = telemetry::init(&settings.telemetry);
    if settings.database_url_from_flag {
        tracing::warn!(
            "--database-url stands on the command line, where other users of the machine can read it"
        );
    }
    match matches.subcommand() {
        Some(("serve", serve_matches)) => {
            settings.migrate &= !serve_matches.get_flag(NO_MIGRATE);
            runtime.block_on(serve(settings))
        }
        _ => runtime.block_on(migrate(settings)),
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    files::allow_open();
    let shutdown = shutdown::on_signal().context("cannot listen for signals")?;
    let server = tokio::select! {
        started = Server::start(settings) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let telling = service::keep_telling(|| std::future::ready((true, "serving".to_owned())));
    let stopping = async {
        shutdown.cancelled().await;
        service::stopping();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server.run(shutdown.clone()) => served?,
        () = async { tokio::join!(telling, stopping); } => {}
    }
    Ok(())
}

async fn migrate(settings: Settings) -> anyhow::Result<()> {
    let newer = store::migrate(&settings.database, settings.pool.acquire_timeout).await?;
    if !newer.is_empty() {
        let newer = newer.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!(
            "{} is newer than this build, which does not know its migrations {newer}: nothing to do",
            settings.database.place()
        );
    }
    Ok(())
}

/// Without the password, which nobody needs to see to know where the settings lead.
fn describe(settings: &Settings) -> String {
    format!("the settings are good\n  {}\n\n{}", settings.database.place(), settings.shown)
}
