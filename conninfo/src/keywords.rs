//! The words of a connection string, and the variables that stand for them (PostgreSQL, "Parameter Key Words").

use std::collections::BTreeMap;
use std::fmt;

/// What becomes of a word.
enum Use {
    /// It is read.
    Read,
    /// It has no effect on what is done here, nor with a libpq that is built without the library that it is about.
    Idle,
    /// It is refused, for this reason.
    Refused(&'static str),
}

struct Keyword {
    name: &'static str,
    variable: Option<&'static str>,
    use_: Use,
}

const fn read(name: &'static str, variable: &'static str) -> Keyword {
    Keyword { name, variable: Some(variable), use_: Use::Read }
}

const fn plain(name: &'static str) -> Keyword {
    Keyword { name, variable: None, use_: Use::Read }
}

const fn idle(name: &'static str, variable: &'static str) -> Keyword {
    Keyword { name, variable: Some(variable), use_: Use::Idle }
}

const fn refused(name: &'static str, variable: Option<&'static str>, why: &'static str) -> Keyword {
    Keyword { name, variable, use_: Use::Refused(why) }
}

const OAUTH: &str = "tokens of OAuth are not fetched here";

/// As in `PQconninfoOptions` of libpq 18.
const KEYWORDS: [Keyword; 51] = [
    refused("service", Some("PGSERVICE"), "service files are not read: give what the service stands for"),
    refused(
        "servicefile",
        Some("PGSERVICEFILE"),
        "service files are not read: give what the service stands for",
    ),
    read("user", "PGUSER"),
    read("password", "PGPASSWORD"),
    read("passfile", "PGPASSFILE"),
    read("channel_binding", "PGCHANNELBINDING"),
    read("connect_timeout", "PGCONNECT_TIMEOUT"),
    read("dbname", "PGDATABASE"),
    read("host", "PGHOST"),
    read("hostaddr", "PGHOSTADDR"),
    read("port", "PGPORT"),
    // Texts come as UTF-8 whatever is asked for.
    idle("client_encoding", "PGCLIENTENCODING"),
    read("options", "PGOPTIONS"),
    read("application_name", "PGAPPNAME"),
    plain("fallback_application_name"),
    plain("keepalives"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    plain("keepalives_count"),
    plain("tcp_user_timeout"),
    read("sslmode", "PGSSLMODE"),
    read("sslnegotiation", "PGSSLNEGOTIATION"),
    // Long gone from the protocol, and from libpq's builds.
    idle("sslcompression", "PGSSLCOMPRESSION"),
    read("sslcert", "PGSSLCERT"),
    read("sslkey", "PGSSLKEY"),
    read("sslcertmode", "PGSSLCERTMODE"),
    refused("sslpassword", None, "a key that is encrypted cannot be read here: give one that is not"),
    read("sslrootcert", "PGSSLROOTCERT"),
    refused("sslcrl", Some("PGSSLCRL"), "lists of revoked certificates are not read"),
    refused("sslcrldir", Some("PGSSLCRLDIR"), "lists of revoked certificates are not read"),
    read("sslsni", "PGSSLSNI"),
    refused("requirepeer", Some("PGREQUIREPEER"), "the owner of a socket is not looked at"),
    refused(
        "require_auth",
        Some("PGREQUIREAUTH"),
        "the method of authentication cannot be chosen here; channel_binding=require asks for SCRAM with TLS",
    ),
    refused("scram_client_key", None, "keys in place of a password are not taken"),
    refused("scram_server_key", None, "keys in place of a password are not taken"),
    read("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    read("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    read("gssencmode", "PGGSSENCMODE"),
    idle("krbsrvname", "PGKRBSRVNAME"),
    idle("gsslib", "PGGSSLIB"),
    idle("gssdelegation", "PGGSSDELEGATION"),
    refused("replication", None, "which connection is one for replication is the program's to say"),
    read("target_session_attrs", "PGTARGETSESSIONATTRS"),
    read("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    read("min_protocol_version", "PGMINPROTOCOLVERSION"),
    read("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    refused("sslkeylogfile", None, "the keys of connections are not written down"),
    refused("oauth_issuer", None, OAUTH),
    refused("oauth_client_id", None, OAUTH),
    refused("oauth_client_secret", None, OAUTH),
    refused("oauth_scope", None, OAUTH),
];

/// What a string and its surroundings say, by word. A word that is given twice has its last value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, String>);

impl fmt::Debug for Values {
    /// The words alone: a password is among the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Values {
    /// The value of a word, where it is given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same, where it is more than nothing.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        // As before there was sslmode.
        if name == "requiressl" {
            let mode = if value.starts_with('1') { "require" } else { "prefer" };
            return self.set("sslmode", mode.to_owned());
        }
        let keyword = KEYWORDS.iter().find(|keyword| keyword.name == name);
        // Which one it is is not said: a word that stands where a name should may be a part of a password.
        let keyword = keyword.ok_or_else(|| {
            format!("a word in the connection string is no option of libpq's; what is known: {}", known())
        })?;
        if let Use::Refused(why) = keyword.use_ {
            return Err(format!("the connection option {name}: {why}"));
        }
        self.0.insert(keyword.name, value);
        Ok(())
    }

    /// Takes from the environment what is not given. An empty variable counts as absent, as Compose files set them.
    pub(crate) fn fill(&mut self, env: &[(String, String)]) -> Result<(), String> {
        for keyword in &KEYWORDS {
            let Some(variable) = keyword.variable else { continue };
            let Some(value) = variable_of(env, variable).filter(|_| self.get(keyword.name).is_none()) else {
                continue;
            };
            if let Use::Refused(why) = keyword.use_ {
                return Err(format!("the variable {variable}: {why}"));
            }
            self.0.insert(keyword.name, value.to_owned());
        }
        // As before there was PGSSLMODE.
        if self.get("sslmode").is_none()
            && variable_of(env, "PGREQUIRESSL").is_some_and(|on| on.starts_with('1'))
        {
            self.0.insert("sslmode", "require".to_owned());
        }
        Ok(())
    }
}

fn known() -> String {
    let read = KEYWORDS.iter().filter(|keyword| matches!(keyword.use_, Use::Read));
    read.map(|keyword| keyword.name).collect::<Vec<_>>().join(", ")
}

pub(crate) fn variable_of<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
}
