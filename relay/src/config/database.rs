//! Where Postgres is: a connection string as libpq takes it, with the libpq variables for what it leaves out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use conninfo::{Address, Conninfo, Source, Values as Words};
use settings::Values;

/// Where Postgres is, and how to connect.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// What the connection string says.
    pub conninfo: Conninfo,
    /// How long the server may be silent until it counts as gone.
    pub peer_timeout: Duration,
    source: Arc<Source>,
}

impl fmt::Display for DatabaseSettings {
    /// `host:port/database as user`: the place, without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.conninfo.addresses.iter().map(ToString::to_string).collect();
        write!(f, "{}/{} as {}", addresses.join(","), self.conninfo.database, self.conninfo.user)
    }
}

impl DatabaseSettings {
    pub(super) fn read(
        values: &mut Values,
        env: &[(String, String)],
        peer_timeout: Duration,
    ) -> Option<Self> {
        if values.text("database-url").is_some() {
            return Self::read_url(values, "database-url", env, peer_timeout);
        }
        if !env
            .iter()
            .any(|(name, value)| matches!(name.as_str(), "PGHOST" | "PGHOSTADDR") && !value.is_empty())
        {
            values.missing(
                "database-url",
                "give --database-url, WALPOST_DATABASE_URL, DATABASE_URL, or PGHOST and its kin",
            );
            return None;
        }
        let conninfo = parse("", env).map_err(|mistake| values.mistake(mistake)).ok()?;
        let source = Source::given(String::new().into(), env, conninfo.clone());
        Some(Self { conninfo, peer_timeout, source: Arc::new(source) })
    }

    /// The database by the role that asks how things are, which is given.
    pub(super) fn read_monitor(
        values: &mut Values,
        env: &[(String, String)],
        peer_timeout: Duration,
    ) -> Option<Self> {
        Self::read_url(values, "monitor-database-url", env, peer_timeout)
    }

    fn read_url(
        values: &mut Values,
        name: &str,
        env: &[(String, String)],
        peer_timeout: Duration,
    ) -> Option<Self> {
        let is_public = values.from_flag(name);
        let conninfo = values.parse_with(name, |text| {
            let conninfo = parse(text, env)?;
            if is_public && Words::parse(text)?.get("password").is_some_and(|password| !password.is_empty()) {
                let variable = format!("WALPOST_{}", name.replace('-', "_").to_uppercase());
                return Err(format!(
                    "every user of the machine can read a password on the command line: give the URL as {variable} or \
                        {variable}_FILE, or the password as PGPASSWORD"
                ));
            }
            Ok(conninfo)
        })?;
        let source = match values.file(name) {
            Some(path) => Source::file(path, env, conninfo.clone()),
            None => Source::given(values.text(name)?.into(), env, conninfo.clone()),
        };
        Some(Self { conninfo, peer_timeout, source: Arc::new(source) })
    }

    /// As they are now: the files that they came from are read again.
    #[must_use]
    pub fn current(&self) -> Self {
        Self { conninfo: self.source.current(), ..self.clone() }
    }

    /// The place at one of its addresses, as errors name it.
    #[must_use]
    pub fn place_at(&self, address: &Address) -> String {
        format!("{address}/{} as {}", self.conninfo.database, self.conninfo.user)
    }
}

/// A connection string, with what it leaves out. walpost follows the primary: of several servers it takes that one.
fn parse(text: &str, env: &[(String, String)]) -> Result<Conninfo, String> {
    Conninfo::parse(text, env)?.for_writes()
}
