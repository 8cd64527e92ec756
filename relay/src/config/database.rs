//! Where Postgres is: a URL or key-value string, with the libpq variables for what it leaves out.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use settings::Values;
use tokio_postgres::config::Host;

/// Where Postgres is, and how to connect.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// A host name, an address, or a folder with the server's socket.
    pub host: String,
    /// The port, also part of a socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password, where it needs one.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// Whether the connection is encrypted, and what is verified.
    pub ssl_mode: SslMode,
    /// A PEM file with the authorities to trust instead of the public ones.
    pub ssl_root_cert: Option<PathBuf>,
    /// How long the server may be silent until it counts as gone.
    pub peer_timeout: Duration,
}

/// Whether a connection is encrypted, and what is verified
/// (PostgreSQL, libpq, "Protection Provided in Different Modes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can; nothing is verified.
    Prefer,
    /// Encrypted; nothing is verified.
    Require,
    /// Encrypted; the server's certificate and name are verified.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" | "allow" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-full" => Ok(Self::VerifyFull),
            "verify-ca" => {
                Err("sslmode verify-ca is not supported: verify-full checks the server's name as well".into())
            }
            other => Err(format!("sslmode `{other}`: expected disable, prefer, require or verify-full")),
        }
    }
}

impl fmt::Display for DatabaseSettings {
    /// `host:port/database as user`: the place, without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{} as {}", self.host, self.port, self.database, self.user)
    }
}

impl DatabaseSettings {
    pub(super) fn read(
        values: &mut Values,
        env: &[(String, String)],
        peer_timeout: Duration,
    ) -> Option<Self> {
        let settings = Self::read_place(values, env)?;
        Some(Self { peer_timeout, ..settings })
    }

    fn read_place(values: &mut Values, env: &[(String, String)]) -> Option<Self> {
        let variables = LibpqVariables(env);
        if values.text("database-url").is_none() {
            if variables.get("PGHOST").is_none() {
                values.missing(
                    "database-url",
                    "give --database-url, WALPOST_DATABASE_URL, DATABASE_URL, or PGHOST and its kin",
                );
                return None;
            }
            return Self::parse("", &variables).map_err(|mistake| values.mistake(mistake)).ok();
        }
        Self::read_url(values, "database-url", &variables)
    }

    /// The database by the role that asks how things are, which is given.
    pub(super) fn read_monitor(
        values: &mut Values,
        env: &[(String, String)],
        peer_timeout: Duration,
    ) -> Option<Self> {
        let settings = Self::read_url(values, "monitor-database-url", &LibpqVariables(env))?;
        Some(Self { peer_timeout, ..settings })
    }

    fn read_url(values: &mut Values, name: &str, variables: &LibpqVariables<'_>) -> Option<Self> {
        let is_public = values.from_flag(name);
        values.parse_with(name, |text| {
            let settings = Self::parse(text, variables)?;
            if is_public && has_password(text) {
                let variable = format!("WALPOST_{}", name.replace('-', "_").to_uppercase());
                return Err(format!(
                    "every user of the machine can read a password on the command line: give the URL as {variable} or \
                        {variable}_FILE, or the password as PGPASSWORD"
                ));
            }
            Ok(settings)
        })
    }

    fn parse(text: &str, env: &LibpqVariables<'_>) -> Result<Self, String> {
        let (rest, ssl) = SslOptions::take(text)?;
        let config: tokio_postgres::Config = rest
            .parse()
            .map_err(|_| "expected postgres://user:password@host:port/database, or host=… user=… dbname=…")?;
        let host = match config.get_hosts() {
            [] => env.get("PGHOST").unwrap_or_else(|| "localhost".into()),
            [Host::Tcp(host)] => host.clone(),
            [Host::Unix(folder)] => folder.display().to_string(),
            _ => {
                return Err(
                    "one host only: the slot is on the primary, name it or an address that follows it".into(),
                );
            }
        };
        let port = match config.get_ports().first() {
            Some(port) => *port,
            None => env.get("PGPORT").map_or(Ok(5432), |port| {
                port.parse().map_err(|_| format!("PGPORT `{port}` is not a port"))
            })?,
        };
        let user = config
            .get_user()
            .map(str::to_owned)
            .or_else(|| env.get("PGUSER"))
            .ok_or("no user: add one, or set PGUSER")?;
        let password = match config.get_password() {
            Some(password) => Some(String::from_utf8_lossy(password).into_owned()),
            None => env.get("PGPASSWORD"),
        };
        let database = config
            .get_dbname()
            .map(str::to_owned)
            .or_else(|| env.get("PGDATABASE"))
            .unwrap_or_else(|| user.clone());
        let ssl_mode: SslMode =
            ssl.mode.or_else(|| env.get("PGSSLMODE")).map_or(Ok(SslMode::Prefer), |mode| mode.parse())?;
        if ssl_mode == SslMode::VerifyFull && host.parse::<IpAddr>().is_ok() {
            return Err(
                "sslmode=verify-full verifies the server's name: give its name instead of its address".into(),
            );
        }
        Ok(Self {
            host,
            port,
            user,
            password: password.map(SecretString::from),
            database,
            ssl_mode,
            ssl_root_cert: ssl.root_cert.or_else(|| env.get("PGSSLROOTCERT")).map(PathBuf::from),
            peer_timeout: Duration::ZERO,
        })
    }

    /// Whether the host is a folder with a socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        Path::new(&self.host).is_absolute()
    }
}

/// Whether a URL or key-value string that parses has a password in it.
fn has_password(text: &str) -> bool {
    let config =
        SslOptions::take(text).ok().and_then(|(rest, _)| rest.parse::<tokio_postgres::Config>().ok());
    config.is_some_and(|config| config.get_password().is_some())
}

/// The options about TLS: tokio-postgres knows a part of them only.
#[derive(Default)]
struct SslOptions {
    mode: Option<String>,
    root_cert: Option<String>,
}

impl SslOptions {
    /// Takes the options out of a URL or a key-value string and returns what is left of it.
    fn take(text: &str) -> Result<(String, Self), String> {
        let mut ssl = Self::default();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            let rest: Vec<_> = text.split_whitespace().filter(|option| !ssl.takes(option)).collect();
            return Ok((rest.join(" "), ssl));
        }
        let Some((base, query)) = text.split_once('?') else { return Ok((text.to_owned(), ssl)) };
        let rest: Vec<_> = query.split('&').filter(|option| !ssl.takes(option)).collect();
        let separator = if rest.is_empty() { "" } else { "?" };
        Ok((format!("{base}{separator}{}", rest.join("&")), ssl))
    }

    fn takes(&mut self, option: &str) -> bool {
        match option.split_once('=') {
            Some(("sslmode", mode)) => self.mode = Some(mode.to_owned()),
            Some(("sslrootcert", path)) => self.root_cert = Some(path.replace("%2F", "/")),
            _ => return false,
        }
        true
    }
}

/// The variables that libpq reads.
struct LibpqVariables<'a>(&'a [(String, String)]);

impl LibpqVariables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.clone())
    }
}
