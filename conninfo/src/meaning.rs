//! What the values mean together, and what of them is refused.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::{self, Address};
use crate::files;
use crate::keywords::{Values, variable_of};
use crate::{ChannelBinding, Conninfo, Keepalive, Password, Roots, SslMode, Target, Tls, TlsVersion};

pub(crate) fn of(values: &Values, env: &[(String, String)]) -> Result<Conninfo, String> {
    check_the_rest(values)?;
    let home = variable_of(env, "HOME");
    let user = values.some("user").ok_or("no user: add one, or set PGUSER")?.to_owned();
    let database = values.some("dbname").unwrap_or(&user).to_owned();
    let addresses = address::all(values)?;
    let addresses = with_passwords(addresses, values, home, &database, &user);
    let tls = tls(values, home)?;
    Ok(Conninfo {
        addresses,
        shuffled: one_of(values, "load_balance_hosts", &[("disable", false), ("random", true)], false)?,
        user,
        database,
        target: one_of(values, "target_session_attrs", &TARGETS, Target::Any)?,
        channel_binding: channel_binding(values, &tls)?,
        tls,
        options: values.some("options").map(str::to_owned),
        application_name: values
            .some("application_name")
            .or_else(|| values.some("fallback_application_name"))
            .map(str::to_owned),
        connect_timeout: connect_timeout(values)?,
        keepalive: keepalive(values)?,
    })
}

const TARGETS: [(&str, Target); 6] = [
    ("any", Target::Any),
    ("read-write", Target::ReadWrite),
    ("read-only", Target::ReadOnly),
    ("primary", Target::Primary),
    ("standby", Target::Standby),
    ("prefer-standby", Target::PreferStandby),
];

const MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

/// The value of a word that has one of a few.
fn one_of<T: Copy>(values: &Values, name: &str, known: &[(&str, T)], default: T) -> Result<T, String> {
    let Some(given) = values.get(name) else { return Ok(default) };
    let found = known.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("{name} `{given}`: expected {}", words.join(", "))
    })
}

/// Words that may have one value only.
fn check_the_rest(values: &Values) -> Result<(), String> {
    one_of(values, "gssencmode", &[("disable", ()), ("prefer", ())], ())
        .map_err(|error| format!("{error}: connections are not encrypted by GSSAPI here"))?;
    one_of(values, "min_protocol_version", &[("3.0", ())], ())
        .map_err(|error| format!("{error}: the protocol 3.0 is spoken, which every server knows"))?;
    one_of(values, "max_protocol_version", &[("3.0", ()), ("3.2", ()), ("latest", ())], ())?;
    one_of(values, "sslcompression", &[("0", ()), ("1", ())], ())
}

fn with_passwords(
    addresses: Vec<Address>,
    values: &Values,
    home: Option<&str>,
    database: &str,
    user: &str,
) -> Vec<Address> {
    let file = values.some("passfile").map(PathBuf::from).or_else(|| files::at_home(home, ".pgpass"));
    let given = values.some("password").map(str::to_owned);
    let password_at = |address: &Address| {
        given.clone().or_else(|| files::password(file.as_ref()?, address, database, user)).map(Password::from)
    };
    addresses.into_iter().map(|address| Address { password: password_at(&address), ..address }).collect()
}

fn tls(values: &Values, home: Option<&str>) -> Result<Tls, String> {
    let roots = match values.some("sslrootcert") {
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => files::at_home(home, ".postgresql/root.crt").map_or(Roots::Unnamed, Roots::File),
    };
    let default = if roots == Roots::System { SslMode::VerifyFull } else { SslMode::Prefer };
    let mode = one_of(values, "sslmode", &MODES, default)?;
    if roots == Roots::System && mode != SslMode::VerifyFull {
        return Err("sslrootcert=system trusts so many that a weaker sslmode than verify-full is none".into());
    }
    // Whoever has a certificate of an authority that all trust would pass.
    if mode == SslMode::VerifyCa && roots == Roots::Unnamed {
        return Err(
            "sslmode=verify-ca needs the authority's certificate: give sslrootcert, or verify-full".into()
        );
    }
    // As it was before there was verify-ca, and has to stay: who names an authority has it verified.
    let is_verified = mode == SslMode::Require && matches!(roots, Roots::File(_));
    let direct = one_of(values, "sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
    if direct && mode < SslMode::Require {
        return Err("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full".into());
    }
    if mode >= SslMode::Require && files::at_home(home, ".postgresql/root.crl").is_some() {
        return Err(
            "there is a list of revoked certificates (~/.postgresql/root.crl), which is not read here".into(),
        );
    }
    let (oldest, newest) = versions(values)?;
    Ok(Tls {
        mode: if is_verified { SslMode::VerifyCa } else { mode },
        roots,
        client: if mode == SslMode::Disable { None } else { client(values, home)? },
        direct,
        sni: one_of(values, "sslsni", &[("0", false), ("1", true)], true)?,
        oldest,
        newest,
    })
}

fn client(values: &Values, home: Option<&str>) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let is_sent = one_of(values, "sslcertmode", &[("disable", false), ("allow", true)], true)
        .map_err(|error| format!("{error}: whether the server asked for a certificate is not known here"))?;
    if !is_sent {
        return Ok(None);
    }
    let certificate = values.some("sslcert").map(PathBuf::from);
    let Some(certificate) = certificate.or_else(|| files::at_home(home, ".postgresql/postgresql.crt")) else {
        return Ok(None);
    };
    let key = values.some("sslkey").map(PathBuf::from);
    let key = key.or_else(|| files::at_home(home, ".postgresql/postgresql.key"));
    let key = key.ok_or("there is a client certificate (sslcert) and no key for it: give sslkey")?;
    Ok(Some((certificate, key)))
}

fn versions(values: &Values) -> Result<(TlsVersion, TlsVersion), String> {
    use TlsVersion::{V1_2, V1_3};
    let old = [("TLSv1", V1_2), ("TLSv1.1", V1_2), ("TLSv1.2", V1_2), ("TLSv1.3", V1_3), ("", V1_2)];
    let oldest = one_of(values, "ssl_min_protocol_version", &old, V1_2)?;
    let new = [("TLSv1.2", V1_2), ("TLSv1.3", V1_3), ("", V1_3)];
    let newest = one_of(values, "ssl_max_protocol_version", &new, V1_3)
        .map_err(|error| format!("{error}: nothing older is spoken here"))?;
    if oldest > newest {
        return Err("ssl_min_protocol_version is above ssl_max_protocol_version".into());
    }
    Ok((oldest, newest))
}

fn channel_binding(values: &Values, tls: &Tls) -> Result<ChannelBinding, String> {
    let binding = one_of(values, "channel_binding", &BINDINGS, ChannelBinding::Prefer)?;
    if binding == ChannelBinding::Require && tls.mode == SslMode::Disable {
        return Err(
            "channel_binding=require needs a connection that is encrypted, and sslmode is disable".into()
        );
    }
    Ok(binding)
}

/// Zero and less: none. One second is taken for two, since a look-up may take that long.
fn connect_timeout(values: &Values) -> Result<Option<Duration>, String> {
    let seconds = number(values, "connect_timeout")?.filter(|seconds| *seconds > 0);
    Ok(seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs().max(2))))
}

fn keepalive(values: &Values) -> Result<Keepalive, String> {
    let positive = |name: &str| Ok::<_, String>(number(values, name)?.filter(|number| *number > 0));
    let seconds = |name: &str| {
        Ok::<_, String>(positive(name)?.map(|seconds| Duration::from_secs(seconds.unsigned_abs())))
    };
    let millis = positive("tcp_user_timeout")?.map(|millis| Duration::from_millis(millis.unsigned_abs()));
    Ok(Keepalive {
        enabled: number(values, "keepalives")?.is_none_or(|on| on != 0),
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: positive("keepalives_count")?.and_then(|count| u32::try_from(count).ok()),
        user_timeout: millis,
    })
}

/// A whole number, with blanks around it.
fn number(values: &Values, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = values.some(name) else { return Ok(None) };
    let parsed: Option<i32> = text.trim().parse().ok();
    parsed.map(|number| Some(i64::from(number))).ok_or_else(|| format!("{name} `{text}` is no whole number"))
}
