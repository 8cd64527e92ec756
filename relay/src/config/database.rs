//! Where Postgres is: a connection string as libpq takes it, with the libpq variables for what it leaves out.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conninfo::{Address, Conninfo, Target, Values as Words};
use secrecy::{ExposeSecret, SecretString};
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

/// Where all this is written. It is read again for each connection: passwords are rotated, and tokens run out, be they in
/// the connection string or in a file of passwords.
struct Source {
    text: Text,
    /// The variables of libpq, for what it leaves out.
    env: Vec<(String, String)>,
    /// What it said last.
    last: Mutex<Conninfo>,
}

enum Text {
    Given(SecretString),
    File(PathBuf),
}

impl fmt::Debug for Source {
    /// Passwords are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    fn read(&self) -> Result<Conninfo, String> {
        match &self.text {
            Text::Given(text) => parse(text.expose_secret(), &self.env),
            Text::File(path) => {
                let text = settings::read_secret(path).map_err(|error| error.to_string())?;
                // A file that is being written: with no words at all the defaults would lead anywhere.
                if text.trim().is_empty() {
                    return Err("it is empty".into());
                }
                parse(&text, &self.env)
            }
        }
    }

    /// What it says now or, where it cannot be read or makes no sense, what it said last.
    fn current(&self) -> Conninfo {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read() {
            Ok(conninfo) => *last = conninfo,
            Err(error) => {
                tracing::warn!(error, "what says where Postgres is cannot be read: what it said last counts")
            }
        }
        last.clone()
    }
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
        Some(Self::of(conninfo, Text::Given(String::new().into()), env, peer_timeout))
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
        let given = || values.text(name).map(|text| Text::Given(text.into()));
        let text = values.file(name).map(Text::File).or_else(given)?;
        Some(Self::of(conninfo, text, env, peer_timeout))
    }

    fn of(conninfo: Conninfo, text: Text, env: &[(String, String)], peer_timeout: Duration) -> Self {
        let env = env.iter().filter(|(name, _)| name.starts_with("PG") || name == "HOME").cloned().collect();
        let source = Arc::new(Source { text, env, last: Mutex::new(conninfo.clone()) });
        Self { conninfo, peer_timeout, source }
    }

    /// As they are now: the files that they came from are read again.
    #[must_use]
    pub fn current(&self) -> Self {
        Self { conninfo: self.source.current(), ..self.clone() }
    }

    /// The addresses in the order in which they are tried now.
    #[must_use]
    pub fn in_turn(&self) -> Vec<Address> {
        let mut addresses = self.conninfo.addresses.clone();
        if self.conninfo.shuffled {
            rand::seq::SliceRandom::shuffle(addresses.as_mut_slice(), &mut rand::rng());
        }
        addresses
    }

    /// The place at one of its addresses, as errors name it.
    #[must_use]
    pub fn place_at(&self, address: &Address) -> String {
        format!("{address}/{} as {}", self.conninfo.database, self.conninfo.user)
    }

    /// Whether a server that is in recovery is not the one that is meant, and the next address is tried. With one address
    /// there is no choice, and what is there has a name.
    #[must_use]
    pub fn wants_primary(&self) -> bool {
        self.conninfo.target != Target::Any || self.conninfo.addresses.len() > 1
    }
}

/// A connection string, with what it leaves out. walpost follows the primary: of several servers it takes that one.
fn parse(text: &str, env: &[(String, String)]) -> Result<Conninfo, String> {
    let conninfo = Conninfo::parse(text, env)?;
    match conninfo.target {
        Target::Any | Target::ReadWrite | Target::Primary => Ok(conninfo),
        Target::ReadOnly | Target::Standby | Target::PreferStandby => Err(
            "target_session_attrs asks for a standby, and walpost follows the primary: give primary, or any"
                .into(),
        ),
    }
}
