//! From a connection string to a connection by the driver.
//!
//! The driver takes one host, by its name, and makes its TLS itself. What of a connection string it cannot do is refused
//! by name (`check`), and what it does not do of itself is done here: several hosts, of which the primary is taken; a name
//! with a dead address among its own; a second try with, or without, encryption.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use conninfo::{
    Address, ChannelBinding, Conninfo, Encryption, Keepalive, Place, Roots, SslMode, Target, TlsVersion,
    by_mode, depends_on_encryption, first_to_answer, is_starting,
};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::{Instant, timeout};

use super::StoreError;

/// Refuses what the driver cannot do. `env` is the environment, part of which it reads by itself.
///
/// # Errors
/// What it is, and what to give instead.
pub(super) fn check(conninfo: &Conninfo, env: &[(String, String)]) -> Result<(), String> {
    let refused = |is: bool, why: &str| if is { Err(why.to_owned()) } else { Ok(()) };
    let tls = &conninfo.tls;
    // The driver trusts public authorities beside the one that is named, and any of them could then vouch for any server.
    refused(
        tls.mode == SslMode::VerifyCa,
        "a certificate whose name is not compared is not enough here (sslmode=verify-ca, or require with sslrootcert): \
            give sslmode=verify-full",
    )?;
    refused(tls.direct, "sslnegotiation=direct is not known here: leave it out")?;
    refused(!tls.sni, "sslsni=0 is not known here: leave it out")?;
    refused(
        tls.oldest != TlsVersion::V1_2 || tls.newest != TlsVersion::V1_3,
        "bounds on the version of TLS are not known here: leave them out; 1.2 and 1.3 are spoken",
    )?;
    refused(
        conninfo.channel_binding == ChannelBinding::Require,
        "channel_binding=require is not known here: give sslmode=verify-full",
    )?;
    let by_kernel = Keepalive { enabled: true, idle: None, interval: None, count: None, user_timeout: None };
    refused(
        conninfo.keepalive != by_kernel,
        "keepalives and tcp_user_timeout are not known here: leave them out; silence is noticed by \
            database-statement-timeout-ms",
    )?;
    let is_elsewhere = |address: &Address| match &address.place {
        Place::Tcp { host, addr: Some(addr) } => *host != addr.to_string(),
        _ => false,
    };
    refused(
        tls.mode >= SslMode::Require && conninfo.addresses.iter().any(is_elsewhere),
        "hostaddr beside host is not known here with TLS, which needs the name: leave it out",
    )?;
    if let Roots::File(path) = &tls.roots
        && tls.mode == SslMode::VerifyFull
    {
        check_roots(path)?;
    }
    options(conninfo)?;
    let is_set = |name| env.iter().any(|(variable, value)| variable == name && !value.is_empty());
    let of_env = env.iter().find(|(name, _)| name == "PGOPTIONS").map(|(_, value)| value.as_str());
    refused(
        is_set("PGOPTIONS") && conninfo.options.as_deref() != of_env,
        "options are given, and others in PGOPTIONS, which the driver would add: give them in one place",
    )?;
    let is_there = |name| env.iter().any(|(variable, _)| variable == name);
    refused(
        (is_there("PGSSLCERT") || is_there("PGSSLKEY"))
            && tls.mode != SslMode::Disable
            && tls.client.is_none(),
        "PGSSLCERT or PGSSLKEY is set, and there is no client certificate to be sent: unset both",
    )
}

/// Without a certificate in it only those would be trusted that are built in.
fn check_roots(path: &Path) -> Result<(), String> {
    let wrong = |why: String| format!("sslrootcert `{}`: {why}", path.display());
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let marks = b"-----BEGIN CERTIFICATE-----";
    match text.windows(marks.len()).any(|window| window == marks) {
        true => Ok(()),
        false => Err(wrong("there is no certificate in it".into())),
    }
}

/// A connection to the first address at which the server is that is meant. A server that answers and refuses ends it, as
/// with libpq, unless it is still starting.
///
/// # Errors
/// Why the last one that was tried did not do.
pub(super) async fn to_the_first(
    conninfo: &Conninfo,
    patience: Duration,
) -> Result<PgConnection, StoreError> {
    let (addresses, deadline) = (conninfo.in_turn(), Instant::now() + patience);
    let mut failed = StoreError::NoAnswer(patience);
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        // So that the last one has its turn; what one leaves is for the others.
        let rest = deadline.saturating_duration_since(Instant::now());
        let each = rest / u32::try_from(left).unwrap_or(u32::MAX);
        let each = conninfo.connect_timeout.map_or(each, |asked| asked.min(each));
        let trying = async {
            let mut connection = to(conninfo, address).await?;
            if conninfo.wants_primary() && !is_meant(conninfo, &mut connection).await {
                let _ = connection.close().await;
                return Err(StoreError::Standby);
            }
            Ok(connection)
        };
        match timeout(each, trying).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if error.sqlstate().is_some_and(|code| !is_starting(&code)) => return Err(error),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = StoreError::NoAnswer(each),
        }
    }
    Err(failed)
}

async fn to(conninfo: &Conninfo, address: &Address) -> Result<PgConnection, StoreError> {
    let way = &way(conninfo, address).await?;
    let connect = |encryption| async move {
        let options = options_for(conninfo, address, way, encryption)?;
        options.connect().await
    };
    let mode = match address.place {
        // As in libpq: nobody listens to a socket of the machine's own.
        Place::Socket(_) => SslMode::Disable,
        Place::Tcp { .. } => conninfo.tls.mode,
    };
    Ok(by_mode(mode, may_do_otherwise, connect).await.map_err(without_password)?)
}

/// The driver names the character of a password that it cannot prepare for SCRAM (RFC 4013).
fn without_password(error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Protocol(text) if text.contains("saslprep") => {
            sqlx::Error::Protocol("the password has a character that SCRAM does not know".into())
        }
        other => other,
    }
}

/// The host that the driver is given: its name or, where it has several addresses and the first of them does not answer,
/// one that does. A certificate is compared with the name, so there the driver tries one after the other; and a proxy that
/// tells databases apart by the name in the TLS handshake needs it as well.
async fn way(conninfo: &Conninfo, address: &Address) -> Result<String, sqlx::Error> {
    let Place::Tcp { host, addr } = &address.place else { return Ok(String::new()) };
    if let Some(addr) = addr {
        return Ok(addr.to_string());
    }
    if conninfo.tls.mode == SslMode::VerifyFull {
        return Ok(host.clone());
    }
    let addrs: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), address.port)).await?.collect();
    let first = addrs.first().copied();
    if addrs.len() < 2 {
        return Ok(host.clone());
    }
    let answers = first_to_answer(addrs).await?.peer_addr()?;
    Ok(if Some(answers) == first { host.clone() } else { answers.ip().to_string() })
}

fn options_for(
    conninfo: &Conninfo,
    address: &Address,
    way: &str,
    encryption: Encryption,
) -> Result<PgConnectOptions, sqlx::Error> {
    let to = PgConnectOptions::new_without_pgpass().port(address.port);
    let to = match &address.place {
        Place::Socket(folder) => to.socket(folder),
        Place::Tcp { .. } => to.host(way),
    };
    let to = to.username(&conninfo.user).database(&conninfo.database).ssl_mode(match encryption {
        Encryption::None => PgSslMode::Disable,
        Encryption::IfOffered => PgSslMode::Prefer,
        Encryption::Always => match conninfo.tls.mode {
            // Not taken: see `check`.
            SslMode::VerifyCa | SslMode::VerifyFull => PgSslMode::VerifyFull,
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => PgSslMode::Require,
        },
    });
    // Without one the driver would take that of the environment, which was not meant.
    let to = to.password(address.password.as_ref().map_or("", |password| password.expose_secret()));
    let to = match &conninfo.tls.roots {
        Roots::File(path) => to.ssl_root_cert(path),
        // Those that are built in.
        Roots::System | Roots::Unnamed => to.ssl_root_cert_from_pem(Vec::new()),
    };
    let to = match &conninfo.tls.client {
        Some((certificate, key)) => to.ssl_client_cert(certificate).ssl_client_key(key),
        None => to,
    };
    let named = conninfo.application_name.as_deref().unwrap_or(env!("CARGO_PKG_NAME"));
    let options = options(conninfo).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    // Poolers refuse a startup parameter that they do not follow, and the digits are such. See `Session::SETTINGS`.
    let to = to.application_name(named).extra_float_digits(None).disable_statement_logging();
    Ok(if options.is_empty() { to } else { to.options(options) })
}

/// The settings among the options for the server process, which are split as Postgres does it (`pg_split_opts`).
fn options(conninfo: &Conninfo) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut words = words(conninfo.options.as_deref().unwrap_or_default()).into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.as_str(), word.strip_prefix("--"), word.strip_prefix("-c")) {
            ("-c", ..) => words.next(),
            (_, Some(setting), _) | (_, _, Some(setting)) => Some(setting.to_owned()),
            _ => None,
        };
        let setting = setting.as_deref().and_then(|setting| setting.split_once('='));
        let (name, value) =
            setting.ok_or("options: only settings are known here, such as -c search_path=shop")?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether it may be otherwise with, or without, encryption.
fn may_do_otherwise(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| depends_on_encryption(&code)),
        sqlx::Error::Tls(_) => true,
        // So the driver reports a handshake that failed.
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Whether it is the server that is meant, of several or of those that can be written. One that cannot even say so is not.
async fn is_meant(conninfo: &Conninfo, connection: &mut PgConnection) -> bool {
    let question = match conninfo.target {
        Target::ReadWrite => {
            "select not pg_is_in_recovery() and not current_setting('transaction_read_only')::bool"
        }
        _ => "select not pg_is_in_recovery()",
    };
    let answer = sqlx::raw_sql(question).fetch_one(connection).await;
    answer.and_then(|row| row.try_get(0)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, env: &[(&str, &str)]) -> Result<(), String> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        check(&Conninfo::parse(text, &env)?, &env)
    }

    #[test]
    fn what_the_driver_cannot_do_is_refused_by_name() {
        for (refused, names) in [
            ("sslmode=verify-ca sslrootcert=/ca", "verify-full"),
            ("sslmode=require sslrootcert=/ca", "verify-full"),
            ("sslmode=require sslnegotiation=direct", "sslnegotiation"),
            ("sslsni=0", "sslsni"),
            ("ssl_min_protocol_version=TLSv1.3", "version of TLS"),
            ("channel_binding=require", "channel_binding"),
            ("keepalives_idle=5", "keepalives"),
            ("tcp_user_timeout=5000", "tcp_user_timeout"),
            ("sslmode=verify-full host=db hostaddr=10.0.0.5", "hostaddr"),
            ("sslmode=require host=db hostaddr=10.0.0.5", "hostaddr"),
            ("sslmode=verify-full sslrootcert=/none", "sslrootcert"),
            ("sslmode=verify-full sslrootcert=/etc/hostname", "no certificate"),
            ("options='-B 5'", "options"),
        ] {
            let error = checked(&format!("user=me {refused}"), &[]).expect_err(refused);
            assert!(error.contains(names), "{refused}: {error}");
        }
        for taken in [
            "host=db hostaddr=10.0.0.5 sslmode=disable",
            "hostaddr=10.0.0.5 sslmode=verify-full",
            "host=a,b target_session_attrs=read-write",
            "sslmode=verify-full sslrootcert=system",
            "sslmode=allow connect_timeout=5 keepalives=1",
            "options='-c search_path=shop --statement-timeout=5'",
        ] {
            checked(&format!("user=me {taken}"), &[]).expect(taken);
        }
    }

    #[test]
    fn what_the_driver_reads_of_the_environment_does_not_add_to_what_is_given() {
        let of_env = [("PGOPTIONS", "-c a=1")];
        assert!(checked("user=me", &of_env).is_ok());
        assert!(checked("user=me options='-c b=1'", &of_env).is_err());
        let certificate = [("PGSSLCERT", "/cert"), ("PGSSLKEY", "/key")];
        assert!(checked("user=me", &certificate).is_ok());
        assert!(checked("user=me sslcertmode=disable", &certificate).is_err());
        assert!(checked("user=me", &[("PGSSLCERT", ""), ("PGSSLKEY", "")]).is_err());
        assert!(checked("user=me", &[("PGSSLKEY", "/key")]).is_err());
        assert!(checked("user=me sslmode=disable", &[("PGSSLKEY", "/key")]).is_ok());
    }

    #[test]
    fn options_are_split_as_postgres_does_it() {
        let of = |text: &str| {
            let mut conninfo = Conninfo::parse("user=me", &[]).expect("a string");
            conninfo.options = Some(text.into());
            options(&conninfo)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of("").expect("none"), []);
        let all = of(" -c a=1 -cb=2  --c-d=e\\ f\\\\ ").expect("settings");
        assert_eq!(all, [pair("a", "1"), pair("b", "2"), pair("c_d", "e f\\")]);
        for wrong in ["-c", "-c a", "-e", "a=1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
