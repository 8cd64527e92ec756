//! What the program is set to do: every setting in one table, read and judged at once.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;
use secrecy::ExposeSecret;
use settings::{MapSetting, Mistakes, Setting, Table, Values};

use crate::store::{Database, PoolSettings};
use crate::telemetry::{LogFormat, LogLevel};

/// The settings: flags, `PACKAGE_API_*` variables, keys of the file, defaults and documentation.
pub const TABLE: Table = Table {
    env_prefix: "PACKAGE_API",
    default_file: "logistic-package-api.toml",
    settings: &SETTINGS,
    maps: &[] as &[MapSetting],
};

const SETTINGS: [Setting; 16] = [
    Setting::optional(
        "database-url",
        "URL",
        "The database, postgres://user:password@host:5432/name. Better from a file or the environment than from a flag, which others on the machine can read.",
    )
    .secret()
    .or_env(&["DATABASE_URL"]),
    Setting::new("database-connections", "N", "10", "Connections to the database at most, 1 to 1000."),
    Setting::new("database-acquire-timeout-ms", "MS", "3000", "How long a call waits for a free connection, 1 to 600000."),
    Setting::new(
        "database-statement-timeout-ms",
        "MS",
        "10000",
        "How long Postgres lets a statement run, the wait for a row's lock included, 1 to 600000.",
    ),
    Setting::new(
        "database-queue-max",
        "N",
        "1000",
        "Statements that wait for a connection at most; more are refused with RESOURCE_EXHAUSTED, 1 to 100000.",
    ),
    Setting::new("migrate", Setting::SWITCH, "true", "Whether `serve` applies the migrations first."),
    Setting::new("grpc-addr", "IP:PORT", "0.0.0.0:8082", "Where gRPC listens. Port 0 takes a free one."),
    Setting::new("status-addr", "IP:PORT", "0.0.0.0:8000", "Where /live, /ready and /version listen."),
    Setting::new("metrics-addr", "IP:PORT", "0.0.0.0:9100", "Where /metrics listens."),
    Setting::new("reflection", Setting::SWITCH, "true", "Whether gRPC reflection is served."),
    Setting::new("page-size-default", "N", "10", "Packages in a list that names no limit, 1 to 500."),
    Setting::new(
        "shutdown-timeout-ms",
        "MS",
        "15000",
        "How long calls that were accepted may take to finish after SIGTERM or SIGINT, 0 to 600000.",
    ),
    Setting::new("log-level", "LEVEL", "info", "What is logged: off, error, warn, info, debug or trace."),
    Setting::new("log-format", "FORMAT", "json", "How it is logged: json or pretty."),
    Setting::new("environment", "NAME", "development", "The environment that /version names."),
    Setting::new("debug", Setting::SWITCH, "false", "The debug mark that /version shows."),
];

/// Packages in a list at most, whatever it asks for.
pub const PAGE_SIZE_MAX: u32 = 500;

/// An hour would be a mistake in the unit, not a wish.
const MS_MAX: u64 = 600_000;

/// The settings, judged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the packages are.
    pub database: Database,
    /// How connections to it are bounded.
    pub pool: PoolSettings,
    /// Whether `serve` applies the migrations first.
    pub migrate: bool,
    /// What it listens on.
    pub listen: Listen,
    /// What gRPC serves, and how.
    pub grpc: GrpcSettings,
    /// How long accepted calls may take to finish once it stops.
    pub shutdown_timeout: Duration,
    /// What is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The environment that `/version` names.
    pub environment: String,
    /// The debug mark that `/version` shows.
    pub debug: bool,
    /// The URL of the database stands on the command line, where others can read it.
    pub database_url_from_flag: bool,
}

/// The addresses to listen on; port 0 takes a free one.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// gRPC.
    pub grpc: SocketAddr,
    /// `/live`, `/ready`, `/version`.
    pub status: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
}

/// What gRPC serves, and how.
#[derive(Debug, Clone, Copy)]
pub struct GrpcSettings {
    /// Whether reflection is served.
    pub reflection: bool,
    /// Packages in a list that names no limit.
    pub page_size_default: u32,
}

impl Settings {
    /// Reads them from the command line, the environment and the file.
    ///
    /// # Errors
    /// Every mistake, together.
    pub fn load(matches: &ArgMatches, env: &[(String, String)]) -> Result<Self, Mistakes> {
        Self::judge(TABLE.load(matches, env))
    }

    fn judge(mut values: Values) -> Result<Self, Mistakes> {
        let typed = Self::read(&mut values);
        values.finish()?;
        // `read` gives nothing only where it has noted why.
        typed.ok_or_else(Mistakes::default)
    }

    /// Each setting is read before any is missed, so that all mistakes are noted.
    fn read(values: &mut Values) -> Option<Self> {
        let database = database(values);
        let connections_max = number(values, "database-connections", 1, 1000);
        let acquire_timeout = millis(values, "database-acquire-timeout-ms", 1);
        let statement_timeout = millis(values, "database-statement-timeout-ms", 1);
        let queue_max = number(values, "database-queue-max", 1, 100_000);
        let migrate = values.flag("migrate");
        let grpc_addr = address(values, "grpc-addr");
        let status_addr = address(values, "status-addr");
        let metrics_addr = address(values, "metrics-addr");
        let reflection = values.flag("reflection");
        let page_size_default = number(values, "page-size-default", 1, PAGE_SIZE_MAX);
        let shutdown_timeout = millis(values, "shutdown-timeout-ms", 0);
        let log_level = values.parse("log-level");
        let log_format = values.parse("log-format");
        let debug = values.flag("debug");
        Some(Self {
            database: database?,
            pool: PoolSettings {
                connections_max: connections_max?,
                acquire_timeout: acquire_timeout?,
                statement_timeout: statement_timeout?,
                queue_max: queue_max?,
            },
            migrate: migrate?,
            listen: Listen { grpc: grpc_addr?, status: status_addr?, metrics: metrics_addr? },
            grpc: GrpcSettings { reflection: reflection?, page_size_default: page_size_default? },
            shutdown_timeout: shutdown_timeout?,
            log_level: log_level?,
            log_format: log_format?,
            environment: values.text("environment")?,
            debug: debug?,
            database_url_from_flag: values.from_flag("database-url"),
        })
    }
}

fn database(values: &mut Values) -> Option<Database> {
    let Some(url) = values.secret("database-url") else {
        values.missing(
            "database-url",
            "give PACKAGE_API_DATABASE_URL, PACKAGE_API_DATABASE_URL_FILE or DATABASE_URL",
        );
        return None;
    };
    values.parse_with("database-url", |_| Database::parse(url.expose_secret()))
}

fn address(values: &mut Values, name: &str) -> Option<SocketAddr> {
    values.parse_with(name, |text| {
        text.parse().map_err(|_| "expected IP:PORT, such as 0.0.0.0:8082".to_owned())
    })
}

fn number(values: &mut Values, name: &str, min: u32, max: u32) -> Option<u32> {
    let number = values.number(name, u64::from(min)..=u64::from(max))?;
    u32::try_from(number).ok()
}

fn millis(values: &mut Values, name: &str, min: u64) -> Option<Duration> {
    values.number(name, min..=MS_MAX).map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
