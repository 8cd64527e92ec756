//! What is asked of a registry, by Confluent's interface
//! (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>), which Karapace, Apicurio and Redpanda have
//! as well.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use walpost_core::event::framing::{Registered, SchemaFile, SchemaKind, Version, Wanted};

use super::RegistryError;
use super::http::{Answer, ask};
use crate::config::{RegistrySettings, Settings};

/// Subject not found; version not found; schema not found.
const NO_SUBJECT: u64 = 40_401;
const NO_VERSION: u64 = 40_402;
const NO_SCHEMA: u64 = 40_403;

/// What a path takes as it is (RFC 3986, "Unreserved Characters").
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Of what a registry says so much is shown.
const SAID_CHARS: usize = 500;

/// A registry, and how long it may take.
pub(super) struct Registry<'a> {
    settings: &'a RegistrySettings,
    timeout: Duration,
}

impl<'a> Registry<'a> {
    pub(super) fn of(settings: &'a Settings) -> Option<Self> {
        Some(Self { settings: settings.registry.as_ref()?, timeout: settings.timing.connect_timeout })
    }

    fn url(&self) -> String {
        self.settings.url.to_string()
    }

    pub(super) fn unfit(&self, what: String) -> RegistryError {
        RegistryError::Unfit { url: self.url(), what }
    }

    /// The schema that the settings name. Where they have a file, it must be that.
    pub(super) async fn find(&self, wanted: &Wanted) -> Result<Registered, RegistryError> {
        let subject = &wanted.subject;
        let named = match wanted.version {
            Version::OfFile => None,
            version => Some(self.version(subject, version).await?),
        };
        let Some(file) = &wanted.file else {
            let missing = || RegistryError::NoFile { subject: subject.clone() };
            return named.ok_or_else(missing);
        };
        let Some(registered) = self.lookup(subject, file).await? else {
            return Err(RegistryError::NotOfSubject {
                url: self.url(),
                subject: subject.clone(),
                file: file.path.clone(),
            });
        };
        match named {
            Some(named) if named.id != registered.id => Err(RegistryError::AnotherVersion {
                file: file.path.clone(),
                version: registered.version,
                named: Box::new(named),
            }),
            _ => Ok(registered),
        }
    }

    /// A version of a subject.
    async fn version(&self, subject: &str, version: Version) -> Result<Registered, RegistryError> {
        let answer = self.ask(&format!("/subjects/{}/versions/{version}", encoded(subject)), None).await?;
        match (answer.status, code(&answer)) {
            (200, _) => self.registered(subject, &answer.body, SchemaKind::Avro),
            (404, Some(NO_VERSION)) => {
                Err(RegistryError::NoVersion { url: self.url(), subject: subject.to_owned(), version })
            }
            (404, Some(NO_SUBJECT)) => {
                Err(RegistryError::NoSubject { url: self.url(), subject: subject.to_owned() })
            }
            _ => Err(self.refused(&answer)),
        }
    }

    /// The version of a subject that a file is; `None` where it is none, or there is no such subject.
    pub(super) async fn lookup(
        &self,
        subject: &str,
        file: &SchemaFile,
    ) -> Result<Option<Registered>, RegistryError> {
        let answer = self.ask(&format!("/subjects/{}", encoded(subject)), Some(&body(file))).await?;
        match (answer.status, code(&answer)) {
            (200, _) => self.registered(subject, &answer.body, file.kind).map(Some),
            (404, Some(NO_SUBJECT | NO_SCHEMA)) => Ok(None),
            (409 | 422, _) => Err(self.not_taken(subject, file, &answer)),
            _ => Err(self.refused(&answer)),
        }
    }

    /// Makes a file a version of a subject. It is the one question that changes something.
    pub(super) async fn register(
        &self,
        subject: &str,
        file: &SchemaFile,
    ) -> Result<Registered, RegistryError> {
        let answer = self.ask(&format!("/subjects/{}/versions", encoded(subject)), Some(&body(file))).await?;
        match answer.status {
            200 => {}
            409 | 422 => return Err(self.not_taken(subject, file, &answer)),
            _ => return Err(self.refused(&answer)),
        }
        let registered = self.lookup(subject, file).await?;
        registered.ok_or_else(|| self.unfit(format!("it has not kept {} under {subject}", file.path)))
    }

    async fn ask(&self, path: &str, body: Option<&Value>) -> Result<Answer, RegistryError> {
        let away = |reason| RegistryError::Away { url: self.url(), reason };
        ask(self.settings, self.timeout, path, body).await.map_err(away)
    }

    /// The type is left out where it is Avro; some leave it out wherever the question has it.
    fn registered(&self, subject: &str, body: &Value, or: SchemaKind) -> Result<Registered, RegistryError> {
        let number = |name: &str| body[name].as_u64().and_then(|number| u32::try_from(number).ok());
        let kind = body["schemaType"].as_str().map_or(Some(or), SchemaKind::named);
        let read = || {
            Some(Registered {
                subject: subject.to_owned(),
                version: number("version")?,
                id: number("id")?,
                kind: kind?,
                text: body["schema"].as_str()?.to_owned(),
            })
        };
        let registered =
            read().ok_or_else(|| self.unfit(format!("what it says of {subject} makes no sense")))?;
        let refers = body["references"].as_array().is_some_and(|references| !references.is_empty());
        if refers && registered.kind == SchemaKind::Avro {
            return Err(self.unfit(format!(
                "{} refers to schemas of other subjects, which walpost does not follow: register it with those within it",
                registered.name()
            )));
        }
        Ok(registered)
    }

    fn refused(&self, answer: &Answer) -> RegistryError {
        let (url, status, said) = (self.url(), answer.status, said(answer));
        match status {
            401 | 403 => RegistryError::Denied { url, status, said },
            _ => RegistryError::Away { url, reason: format!("it answers {status}: {said}") },
        }
    }

    fn not_taken(&self, subject: &str, file: &SchemaFile, answer: &Answer) -> RegistryError {
        RegistryError::NotTaken {
            url: self.url(),
            subject: subject.to_owned(),
            file: file.path.clone(),
            status: answer.status,
            said: said(answer),
        }
    }
}

fn body(file: &SchemaFile) -> Value {
    let mut body = json!({ "schema": file.text });
    // It is the default, and the oldest registries know no other.
    if file.kind != SchemaKind::Avro {
        body["schemaType"] = file.kind.name().into();
    }
    body
}

fn code(answer: &Answer) -> Option<u64> {
    answer.body["error_code"].as_u64()
}

/// In its own words, on one line and without what would drive a terminal.
fn said(answer: &Answer) -> String {
    let message = answer.body["message"].as_str().unwrap_or("it does not say why");
    message.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SAID_CHARS).collect()
}

fn encoded(subject: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(subject, IN_A_PATH)
}
