//! What the program is set to do: every setting in one table, read and judged at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use settings::{MapSetting, Mistakes, Setting, Table, Values};

use crate::calls::{CallSettings, Token};
use crate::outbox::Outbox;
use crate::rest::{Origins, RestSettings};
use crate::serve::{ClientSettings, DrainSettings, TlsSettings};
use crate::store::{Database, PoolSettings, Pooling};
use crate::telemetry::{TelemetrySettings, TraceSettings};

/// The settings: flags, `PACKAGE_API_*` variables, keys of the file, defaults and documentation.
pub const TABLE: Table = Table {
    env_prefix: "PACKAGE_API",
    default_file: "logistic-package-api.toml",
    settings: &SETTINGS,
    maps: &[] as &[MapSetting],
    repeated: None,
    parts: None,
};

const SETTINGS: [Setting; 36] = [
    Setting::optional(
        "database-url",
        "URL",
        "The database, a connection string as libpq takes it: postgres://user:password@host:5432/name, or with several hosts, of which the primary is taken. libpq's variables (PGPASSWORD, ...) fill what it leaves out. Better from a file, which is read again for each connection, or the environment than from a flag, which others on the machine can read.",
    )
    .secret()
    .or_env(&["DATABASE_URL"]),
    Setting::new(
        "database-pooling",
        "session|transaction",
        "session",
        "What the way to the database keeps between transactions: `session`, by Postgres itself and by poolers in session mode, or `transaction`, which is nothing: by poolers in transaction mode. Migrations then need another way.",
    ),
    Setting::new("database-connections", "N", "10", "Connections to the database at most, 1 to 1000."),
    Setting::new("database-acquire-timeout-ms", "MS", "3000", "How long a call waits for a free connection, 1 to 600000."),
    Setting::new(
        "database-statement-timeout-ms",
        "MS",
        "10000",
        "How long Postgres lets a statement run, the wait for a row's lock included, 1 to 600000.",
    ),
    Setting::new(
        "database-lock-timeout-ms",
        "MS",
        "5000",
        "How long Postgres lets a statement wait for a row that another one changes, 1 to 600000.",
    ),
    Setting::new(
        "database-queue-max",
        "N",
        "1000",
        "Statements that wait for a connection at most; more are refused with RESOURCE_EXHAUSTED, 1 to 100000.",
    ),
    Setting::new(
        "outbox",
        "table|messages",
        "table",
        "Where the event of each change is written, in the change's transaction: `table`, a row of package_event, or `messages`, a logical message in the WAL and in no table, which walpost reads by its setting `messages`. Messages need no vacuum and no cleaning, and have no second copy: what a lost slot has not sent is lost.",
    ),
    Setting::new(
        "outbox-prefix",
        "PREFIX",
        "package_event",
        "With outbox=messages, the prefix by which walpost knows them: its setting `messages`.",
    ),
    Setting::new("migrate", Setting::SWITCH, "true", "Whether `serve` applies the migrations first."),
    Setting::new("grpc-addr", "IP:PORT", "0.0.0.0:8082", "Where gRPC listens. Port 0 takes a free one."),
    Setting::new("rest-addr", "IP:PORT", "0.0.0.0:8080", "Where REST listens."),
    Setting::new("status-addr", "IP:PORT", "0.0.0.0:8000", "Where /live, /ready and /version listen."),
    Setting::new("metrics-addr", "IP:PORT", "0.0.0.0:9100", "Where /metrics listens."),
    Setting::new("reflection", Setting::SWITCH, "true", "Whether gRPC reflection is served."),
    Setting::new(
        "openapi",
        Setting::SWITCH,
        "true",
        "Whether REST serves /openapi.json and, at /docs, a page to try each call.",
    ),
    Setting::optional(
        "cors-origins",
        "ORIGINS",
        "Origins whose pages may call REST from a browser, with commas between them, or * for all; none when absent.",
    ),
    Setting::optional("tls-cert", "FILE", "The certificate of gRPC and REST and those above it, PEM; without it they speak plain text."),
    Setting::optional("tls-key", "FILE", "The certificate's private key, PEM."),
    Setting::optional("tls-client-ca", "FILE", "Roots of client certificates, PEM; with it, clients without such a certificate are refused."),
    Setting::optional("auth-token", "TOKEN", "The bearer token that calls must bring by gRPC and REST (health excepted); none when absent.").secret(),
    Setting::new("calls-max", "N", "1000", "Calls under way at most; more are refused with RESOURCE_EXHAUSTED, 1 to 100000."),
    Setting::new("call-timeout-ms", "MS", "15000", "How long a call may take at most, whatever its client allows it, 1 to 600000."),
    Setting::new("connections-max", "N", "1000", "Connections of clients to each of gRPC and REST at most, 1 to 100000."),
    Setting::new("connection-age-s", "S", "1800", "After so long a client is asked to connect anew, so that load spreads, 1 to 604800."),
    Setting::new("idempotency-ttl-s", "S", "86400", "How long the answer to a change with an idempotency-key is kept, 1 to 2592000."),
    Setting::new("page-size-default", "N", "10", "Packages in a list that names no limit, 1 to 500."),
    Setting::new(
        "shutdown-delay-ms",
        "MS",
        "1000",
        "How long after SIGTERM or SIGINT connections are still accepted while /ready says no, for balancers to notice, 0 to 600000.",
    ),
    Setting::new(
        "shutdown-timeout-ms",
        "MS",
        "15000",
        "How long calls that were accepted may take to finish after SIGTERM or SIGINT, 0 to 600000.",
    ),
    Setting::new("log-level", "LEVEL", "info", "What is logged: off, error, warn, info, debug or trace."),
    Setting::new("log-format", "FORMAT", "json", "How it is logged: json or pretty."),
    Setting::new(
        "log-level-by-client",
        Setting::SWITCH,
        "false",
        "Whether metadata `log_level` (REST: a header of that name) raises the log level of its call.",
    ),
    Setting::optional("otlp-endpoint", "URL", "Where spans go, OTLP over gRPC: http://localhost:4317, or https://; nowhere when absent.")
        .or_env(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    Setting::new("trace-sample-ratio", "RATIO", "1", "Of the calls that bring no decision in `traceparent`, how many are traced, 0 to 1."),
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
    /// Where events are written.
    pub outbox: Outbox,
    /// Whether `serve` applies the migrations first.
    pub migrate: bool,
    /// What it listens on.
    pub listen: Listen,
    /// What gRPC serves, and how.
    pub grpc: GrpcSettings,
    /// What REST serves beside the calls.
    pub rest: RestSettings,
    /// Bounds on calls, and who may make them.
    pub calls: CallSettings,
    /// Bounds on connections.
    pub clients: ClientSettings,
    /// Whether clients are served by TLS.
    pub tls: Option<TlsSettings>,
    /// How long each step of the end may take.
    pub drain: DrainSettings,
    /// How it is heard.
    pub telemetry: TelemetrySettings,
    /// The environment that `/version` names.
    pub environment: String,
    /// The debug mark that `/version` shows.
    pub debug: bool,
    /// The URL of the database stands on the command line, where others can read it.
    pub database_url_from_flag: bool,
    /// Every setting and where it comes from, for people; secrets are hidden.
    pub shown: String,
}

/// The addresses to listen on; port 0 takes a free one.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// gRPC.
    pub grpc: SocketAddr,
    /// REST.
    pub rest: SocketAddr,
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
        let values = TABLE.load(matches, env);
        let shown = values.shown();
        Ok(Self { shown, ..Self::judge(values, env)? })
    }

    fn judge(mut values: Values, env: &[(String, String)]) -> Result<Self, Mistakes> {
        let typed = Self::read(&mut values, env);
        values.finish()?;
        // `read` gives nothing only where it has noted why.
        typed.ok_or_else(Mistakes::default)
    }

    /// Each setting is read before any is missed, so that all mistakes are noted.
    fn read(values: &mut Values, env: &[(String, String)]) -> Option<Self> {
        let database = database(values, env);
        let pool = pool(values);
        let outbox = outbox(values);
        let migrate = values.flag("migrate");
        let listen = listen(values);
        let grpc = grpc(values);
        let rest = rest(values);
        let calls = calls(values);
        let clients = clients(values);
        let tls = tls(values);
        let drain = drain(values);
        let telemetry = telemetry(values);
        let debug = values.flag("debug");
        Some(Self {
            database: database?,
            pool: pool?,
            outbox: outbox?,
            migrate: migrate?,
            listen: listen?,
            grpc: grpc?,
            rest: rest?,
            calls: calls?,
            clients: clients?,
            tls: tls?,
            drain: drain?,
            telemetry: telemetry?,
            environment: values.text("environment")?,
            debug: debug?,
            database_url_from_flag: values.from_flag("database-url"),
            shown: String::new(),
        })
    }
}

fn pool(values: &mut Values) -> Option<PoolSettings> {
    let connections_max = number(values, "database-connections", 1, 1000);
    let acquire_timeout = millis(values, "database-acquire-timeout-ms", 1);
    let statement_timeout = millis(values, "database-statement-timeout-ms", 1);
    let lock_timeout = millis(values, "database-lock-timeout-ms", 1);
    let queue_max = number(values, "database-queue-max", 1, 100_000);
    let idempotency_ttl = seconds(values, "idempotency-ttl-s", 2_592_000);
    Some(PoolSettings {
        connections_max: connections_max?,
        acquire_timeout: acquire_timeout?,
        statement_timeout: statement_timeout?,
        lock_timeout: lock_timeout?,
        queue_max: queue_max?,
        idempotency_ttl: idempotency_ttl?,
    })
}

fn outbox(values: &mut Values) -> Option<Outbox> {
    let prefix = values.parse_with("outbox-prefix", |prefix| match prefix {
        "" => Err("expected the prefix that walpost has as its setting `messages`".to_owned()),
        _ => Ok(Arc::from(prefix)),
    });
    let is_prefix_said = values.is_said("outbox-prefix");
    let are_messages = values.parse_with("outbox", |text| match text {
        "table" if is_prefix_said => Err("outbox-prefix goes with outbox=messages".to_owned()),
        "table" => Ok(false),
        "messages" => Ok(true),
        _ => Err("expected table or messages".to_owned()),
    });
    let prefix = prefix?;
    Some(if are_messages? { Outbox::Messages { prefix } } else { Outbox::Table })
}

fn listen(values: &mut Values) -> Option<Listen> {
    let grpc = address(values, "grpc-addr");
    let rest = address(values, "rest-addr");
    let status = address(values, "status-addr");
    let metrics = address(values, "metrics-addr");
    Some(Listen { grpc: grpc?, rest: rest?, status: status?, metrics: metrics? })
}

fn grpc(values: &mut Values) -> Option<GrpcSettings> {
    let reflection = values.flag("reflection");
    let page_size_default = number(values, "page-size-default", 1, PAGE_SIZE_MAX);
    Some(GrpcSettings { reflection: reflection?, page_size_default: page_size_default? })
}

fn rest(values: &mut Values) -> Option<RestSettings> {
    let openapi = values.flag("openapi");
    let origins = values.text("cors-origins").map_or(Some(Origins::None), |_| values.parse("cors-origins"));
    Some(RestSettings { openapi: openapi?, origins: origins? })
}

fn calls(values: &mut Values) -> Option<CallSettings> {
    let calls_max = number(values, "calls-max", 1, 100_000);
    let timeout = millis(values, "call-timeout-ms", 1);
    let log_level_by_client = values.flag("log-level-by-client");
    let token = match values.secret("auth-token") {
        None => Some(None),
        Some(token) => values.parse_with("auth-token", |_| Token::new(token).map(Some)),
    };
    if values.from_flag("auth-token") {
        values.mistake("--auth-token: other users of the machine can read the command line: give it as PACKAGE_API_AUTH_TOKEN or PACKAGE_API_AUTH_TOKEN_FILE");
    }
    Some(CallSettings {
        calls_max: usize::try_from(calls_max?).ok()?,
        timeout: timeout?,
        token: token?,
        log_level_by_client: log_level_by_client?,
    })
}

fn clients(values: &mut Values) -> Option<ClientSettings> {
    let connections_max = number(values, "connections-max", 1, 100_000);
    let age_max = seconds(values, "connection-age-s", 604_800);
    Some(ClientSettings { connections_max: usize::try_from(connections_max?).ok()?, age_max: age_max? })
}

/// A certificate and its key, or neither.
fn tls(values: &mut Values) -> Option<Option<TlsSettings>> {
    let file = |name| values.text(name).map(PathBuf::from);
    let client_ca = file("tls-client-ca");
    match (file("tls-cert"), file("tls-key")) {
        (Some(certificate), Some(key)) => Some(Some(TlsSettings { certificate, key, client_ca })),
        (None, None) if client_ca.is_none() => Some(None),
        _ => {
            values.mistake("tls-cert and tls-key go together, and tls-client-ca with both of them");
            None
        }
    }
}

fn drain(values: &mut Values) -> Option<DrainSettings> {
    let delay = millis(values, "shutdown-delay-ms", 0);
    let timeout = millis(values, "shutdown-timeout-ms", 0);
    Some(DrainSettings { delay: delay?, timeout: timeout? })
}

fn telemetry(values: &mut Values) -> Option<TelemetrySettings> {
    let log_level = values.parse("log-level");
    let log_format = values.parse("log-format");
    let log_level_by_client = values.flag("log-level-by-client");
    let sample_ratio = values.parse_with("trace-sample-ratio", |text| {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| "expected a number from 0 to 1".to_owned())
    });
    let collector = values.collector("otlp-endpoint");
    let environment = values.text("environment");
    let traces =
        TraceSettings { collector: collector?, sample_ratio: sample_ratio?, environment: environment? };
    Some(TelemetrySettings {
        log_level: log_level?,
        log_format: log_format?,
        log_level_by_client: log_level_by_client?,
        traces,
    })
}

fn database(values: &mut Values, env: &[(String, String)]) -> Option<Database> {
    let pooling: Option<Pooling> = values.parse("database-pooling");
    let Some(url) = values.secret("database-url") else {
        values.missing(
            "database-url",
            "give PACKAGE_API_DATABASE_URL, PACKAGE_API_DATABASE_URL_FILE or DATABASE_URL",
        );
        return None;
    };
    let file = values.file("database-url");
    let database = values.parse_with("database-url", |_| Database::parse(url, file, env));
    Some(database?.pooled(pooling?))
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

fn seconds(values: &mut Values, name: &str, max: u64) -> Option<Duration> {
    values.number(name, 1..=max).map(Duration::from_secs)
}

fn millis(values: &mut Values, name: &str, min: u64) -> Option<Duration> {
    values.number(name, min..=MS_MAX).map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
