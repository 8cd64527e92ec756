//! Where the schema registry is, and what is asked of it for an outbox.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;
use secrecy::{ExposeSecret as _, SecretString};
use settings::{Values, read_secret};
use walpost_core::event::avro;
use walpost_core::event::framing::{Framing, SchemaFile, SchemaKind, Version, Wanted};
use walpost_core::event::mapping::Format;
use walpost_core::event::template::Template;

use super::kafka::literal_topic;

/// Where the registry is, and how walpost signs in to it.
#[derive(Clone)]
pub struct RegistrySettings {
    /// `http` or `https`, host, port and what stands before each path.
    pub url: RegistryUrl,
    /// Name and password, where it asks for them.
    pub user: Option<RegistryUser>,
    /// A file with the authorities that its certificate may come from; absent: those of the system.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistrySettings({})", self.url)
    }
}

/// Where a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    /// Whether it speaks TLS.
    pub is_secure: bool,
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before each path: empty, or `/registry`.
    pub prefix: String,
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

impl RegistryUrl {
    /// `host:port`, as a request names it.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(EXPECTED),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(
                "a name and a password in it would be seen wherever it is shown: give --registry-user, and the \
                 password as WALPOST_REGISTRY_PASSWORD or WALPOST_REGISTRY_PASSWORD_FILE",
            );
        }
        if uri.query().is_some() {
            return Err(EXPECTED);
        }
        Ok(Self {
            is_secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

const EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT";

/// Who signs in.
#[derive(Clone)]
pub struct RegistryUser {
    /// The name.
    pub name: String,
    password: SecretString,
    /// Where the password was read from, and is read again.
    file: Option<PathBuf>,
}

impl RegistryUser {
    /// The password as it is now: its file is read again. Where that cannot be read, what it said first counts.
    #[must_use]
    pub fn password(&self) -> SecretString {
        let Some(file) = &self.file else { return self.password.clone() };
        match read_secret(file) {
            Ok(text) if !text.is_empty() => text.into(),
            Ok(_) => self.password.clone(),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the registry's password cannot be read: the first one counts");
                self.password.clone()
            }
        }
    }
}

impl RegistrySettings {
    /// `None` where a setting is wrong; `Some(None)` where there is no registry.
    pub(super) fn read(values: &mut Values) -> Option<Option<Self>> {
        let Some(text) = values.text("registry-url") else {
            for name in ["registry-user", "registry-password", "registry-ca"] {
                if values.text(name).is_some() {
                    values.mistake(format!("{name} is set, and registry-url is not"));
                }
            }
            return Some(None);
        };
        // The text itself is not shown: it may hold a password.
        let url =
            RegistryUrl::parse(&text).map_err(|what| values.mistake(format!("registry-url: {what}"))).ok();
        let user = user(values);
        let ca = values.text("registry-ca").map(PathBuf::from);
        if let (Some(_), Some(RegistryUrl { is_secure: false, .. })) = (&ca, &url) {
            values.mistake("registry-ca is for a registry at https://");
        }
        Some(Some(Self { url: url?, user: user?, ca }))
    }
}

fn user(values: &mut Values) -> Option<Option<RegistryUser>> {
    if values.from_flag("registry-password") {
        values.mistake(
            "registry-password: every user of the machine can read a password on the command line: give it as \
             WALPOST_REGISTRY_PASSWORD or WALPOST_REGISTRY_PASSWORD_FILE",
        );
        return None;
    }
    match (values.text("registry-user"), values.secret("registry-password")) {
        (None, None) => Some(None),
        (Some(name), Some(password)) if !name.contains(':') && !password.expose_secret().is_empty() => {
            Some(Some(RegistryUser { name, password, file: values.file("registry-password") }))
        }
        (Some(name), _) if name.contains(':') => {
            values.mistake("registry-user: a name has no colon");
            None
        }
        (Some(_), _) => {
            values.missing(
                "registry-password",
                "give WALPOST_REGISTRY_PASSWORD or WALPOST_REGISTRY_PASSWORD_FILE",
            );
            None
        }
        (None, Some(_)) => {
            values.missing("registry-user", "registry-password is of no use without it");
            None
        }
    }
}

/// A schema's file, where the settings name one.
pub(super) fn schema_file(values: &mut Values, format: &str) -> Option<Option<SchemaFile>> {
    if values.text("schema").is_none() {
        return Some(None);
    }
    let format = format.to_owned();
    values
        .parse_with("schema", |path| {
            let kind = match (format.as_str(), path.rsplit_once('.')) {
                ("avro", _) | ("raw", Some((_, "avsc"))) => SchemaKind::Avro,
                ("protobuf", _) | ("raw", Some((_, "proto"))) => SchemaKind::Protobuf,
                ("json", _) | ("raw", Some((_, "json"))) => SchemaKind::Json,
                _ => return Err("expected a file whose name ends with .avsc, .json or .proto".into()),
            };
            let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
            Ok(SchemaFile { path: path.to_owned(), kind, text })
        })
        .map(Some)
}

/// What stands before the values of an outbox.
pub(super) fn framing(values: &mut Values, format: &str, file: Option<SchemaFile>) -> Option<Framing> {
    let has_registry = values.text("registry-url").is_some();
    let is_framed = match values.text("framing") {
        None => has_registry,
        Some(_) => values.parse_with("framing", |text| match text {
            "confluent" => Ok(true),
            "none" => Ok(false),
            _ => Err("expected confluent or none".into()),
        })?,
    };
    if !is_framed {
        return unframed(values, format, file.is_some());
    }
    if !has_registry {
        values.missing("registry-url", "values are framed by the schemas of a registry: say where it is");
        return None;
    }
    if format == "cloudevents" {
        values.mistake(
            "format = cloudevents is not framed: consumers of CloudEvents in structured mode expect JSON; use json, or \
             framing = none",
        );
        return None;
    }
    let subject = subject(values);
    let version = version(values, file.is_some());
    let message = values.text("message").filter(|_| format == "raw");
    let wanted = Wanted { subject: subject?, version: version?, file, message };
    Some(Framing::Asked(Arc::new(wanted)))
}

/// What is said of a schema, and has no use without a registry.
fn unframed(values: &mut Values, format: &str, has_schema: bool) -> Option<Framing> {
    for name in ["subject", "schema-version"] {
        if values.text(name).is_some() && values.text("framing").is_none() {
            values.mistake(format!("{name} is set, and registry-url is not"));
        }
    }
    if has_schema && format != "avro" && values.text("framing").is_none() {
        values.mistake(
            "schema is set, and registry-url is not: only the format avro needs a schema without a registry",
        );
    }
    Some(Framing::None)
}

/// The default is the strategy of most clients (TopicNameStrategy).
fn subject(values: &mut Values) -> Option<String> {
    if let Some(subject) = values.text("subject") {
        let is_fixed = Template::text(&subject).is_ok_and(|text| text.as_constant().is_some());
        if subject.is_empty() || !is_fixed {
            values.mistake(format!(
                "subject: `{subject}`: expected the name of one subject: what differs between topics goes to an [[outbox]] \
                 each"
            ));
            return None;
        }
        return Some(subject);
    }
    let topic = literal_topic(values);
    if topic.is_none() {
        values.missing(
            "subject",
            "the topic is not the same for each row, so say which subject has the schema",
        );
    }
    topic.map(|topic| format!("{topic}-value"))
}

fn version(values: &mut Values, has_file: bool) -> Option<Version> {
    if values.text("schema-version").is_none() {
        return Some(if has_file { Version::OfFile } else { Version::Latest });
    }
    values.parse_with("schema-version", |text| match (text, text.parse()) {
        ("latest", _) => Ok(Version::Latest),
        (_, Ok(number)) if number > 0 => Ok(Version::Number(number)),
        _ => Err("expected latest, or the number of a version".into()),
    })
}

/// The format avro, with its schema where that is in a file and no registry is asked.
pub(super) fn avro_format(
    values: &mut Values,
    has_fields: bool,
    file: Option<&SchemaFile>,
    framing: &Framing,
) -> Option<Format> {
    let mut schema = None;
    if let Some(file) = file {
        let read = avro::Schema::read(&file.text);
        let read = read.map_err(|error| values.mistake(format!("schema: `{}`: {error}", file.path))).ok()?;
        schema = Some(Arc::new(read));
    } else if *framing == Framing::None {
        values.missing("schema", "the format avro needs one: a file, or registry-url for that of a registry");
        return None;
    }
    // The one that the registry has is asked for, and counts.
    let schema = schema.filter(|_| *framing == Framing::None);
    Some(if has_fields { Format::Avro(schema) } else { Format::AvroJson(schema) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_is_a_place_and_no_secret() {
        let shown = |text: &str| RegistryUrl::parse(text).map(|url| url.to_string());
        assert_eq!(shown("http://sr:8081"), Ok("http://sr:8081".into()));
        assert_eq!(shown("https://sr.example/registry/"), Ok("https://sr.example:443/registry".into()));
        assert_eq!(shown("http://[::1]:8081/"), Ok("http://[::1]:8081".into()));
        for wrong in ["sr:8081", "ftp://sr", "http://", "", "http://sr?x=y"] {
            assert_eq!(shown(wrong), Err(EXPECTED), "{wrong}");
        }
        assert!(shown("http://me:secret@sr").unwrap_err().contains("--registry-user"));
    }
}
