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

/// Whether a connection string says itself where the server is.
pub(super) fn names_host(text: &str) -> bool {
    Words::parse(text).is_ok_and(|words| words.get("host").is_some_and(|host| !host.is_empty()))
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
        let source = Source::new(String::new().into(), None, env, |_, _| Ok(()));
        let source = source.map_err(|mistake| values.mistake(mistake)).ok()?;
        Some(Self { conninfo: source.last(), peer_timeout, source: Arc::new(source) })
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
        let (is_public, file) = (values.from_flag(name), values.file(name));
        let source = values.parse_with(name, |text| {
            if is_public && Words::parse(text)?.get("password").is_some_and(|password| !password.is_empty()) {
                let variable = format!("WALPOST_{}", name.replace('-', "_").to_uppercase());
                return Err(format!(
                    "every user of the machine can read a password on the command line: give the URL as {variable} or \
                        {variable}_FILE, or the password as PGPASSWORD"
                ));
            }
            Source::new(text.into(), file, env, |_, _| Ok(()))
        })?;
        Some(Self { conninfo: source.last(), peer_timeout, source: Arc::new(source) })
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
