//! Connection strings of Postgres, read as libpq reads them (PostgreSQL, "Connection Strings"), or refused by name.
//!
//! Three stages, a file each: a string becomes words and values (`text.rs`, `uri.rs`); the environment fills what it leaves
//! out (`keywords.rs`); and what all of it means is worked out, or refused (`meaning.rs`). An option that these programs
//! cannot honour is never dropped in silence: a connection that was to be verified, or to lead elsewhere, would be made
//! all the same.

mod address;
mod files;
mod keywords;
mod meaning;
mod reach;
mod source;
mod string;
mod text;
mod uri;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

pub use address::{Address, Place};
pub use keywords::Values;
pub use reach::{Encryption, by_mode, depends_on_encryption, first_to_answer, is_starting};
pub use source::{Judge, Source};

/// Where Postgres is, as whom, and how.
#[derive(Debug, Clone)]
pub struct Conninfo {
    /// Where it may be, in the order in which they are tried; at least one.
    pub addresses: Vec<Address>,
    /// Whether that order is made anew for each connection (`load_balance_hosts=random`).
    pub shuffled: bool,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// What is to be there.
    pub target: Target,
    /// Encryption.
    pub tls: Tls,
    /// Whether the proof of the password is bound to the encrypted channel.
    pub channel_binding: ChannelBinding,
    /// Command-line options for the server process (`options`).
    pub options: Option<String>,
    /// The name of the application, where one is given.
    pub application_name: Option<String>,
    /// How long each address may take, where that is given.
    pub connect_timeout: Option<Duration>,
    /// When silence is noticed.
    pub keepalive: Keepalive,
}

/// Which server is wanted (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The first that answers.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is.
    Standby,
    /// One that is, or else any.
    PreferStandby,
}

/// Whether a connection is encrypted, and what is verified
/// (PostgreSQL, libpq, "Protection Provided in Different Modes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server wants it; nothing is verified.
    Allow,
    /// Encrypted where the server can; nothing is verified.
    Prefer,
    /// Encrypted; nothing is verified, unless there is a root certificate: then as [`SslMode::VerifyCa`].
    Require,
    /// Encrypted; the server's certificate is verified.
    VerifyCa,
    /// Encrypted; the server's certificate and name are verified.
    VerifyFull,
}

/// Encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether, and what is verified.
    pub mode: SslMode,
    /// Whom to trust.
    pub roots: Roots,
    /// A certificate to show to the server, and its key: two PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether the handshake comes first, without asking (`sslnegotiation=direct`).
    pub direct: bool,
    /// Whether the server's name is sent in the handshake.
    pub sni: bool,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// The newest.
    pub newest: TlsVersion,
}

/// Whom to trust (`sslrootcert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Nobody is named, and there is no file at the usual place.
    Unnamed,
    /// Those that the system trusts.
    System,
    /// The authorities in a PEM file.
    File(PathBuf),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2, the oldest that is spoken here.
    V1_2,
    /// 1.3.
    V1_3,
}

/// Whether the proof of the password is bound to the encrypted channel (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Or there is no connection.
    Require,
}

/// When silence is noticed; what is not given is the program's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether the kernel asks.
    pub enabled: bool,
    /// After so much silence.
    pub idle: Option<Duration>,
    /// Again after so much.
    pub interval: Option<Duration>,
    /// So many times.
    pub count: Option<u32>,
    /// How long sent bytes may stay without an acknowledgement.
    pub user_timeout: Option<Duration>,
}

impl Conninfo {
    /// Reads a URI or a string of keywords and values. `env` has the variables that fill what it leaves out (`PGHOST` and
    /// its kin, `HOME`).
    ///
    /// # Errors
    /// What is wrong with it; no text holds a password.
    pub fn parse(text: &str, env: &[(String, String)]) -> Result<Self, String> {
        let mut values = Values::parse(text)?;
        values.fill(env)?;
        meaning::of(&values, env)
    }
}

/// A password, by its own type so that it is not shown.
type Password = SecretString;

#[cfg(test)]
mod tests;
