//! The schema registry: which schema values are framed with, asked for before anything is sent, and never for an event.
//!
//! What was asked for stays for the life of the process: a session that begins again asks nothing, so that a registry that is
//! away meanwhile holds nothing up, and a row that comes again has the same bytes. All that can be wrong may pass by itself,
//! since somebody can register what is missing: nothing here halts the relay.

mod api;
mod error;
mod http;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use walpost_core::event::framing::{Registered, Wanted};
use walpost_core::event::{Mapping, OutboxMessages, OutboxTable};

use crate::config::{Settings, SourceSettings};
use api::Registry;
pub use error::RegistryError;

/// The same outboxes with the schemas that the registry has; nothing is asked where there is nothing to ask.
///
/// # Errors
/// When the registry does not answer, or does not have what the settings name.
pub async fn with_schemas(settings: &Settings) -> Result<SourceSettings, RegistryError> {
    let Some(registry) = Registry::of(settings) else { return Ok(settings.source.clone()) };
    let mut asked = Asked { registry, known: BTreeMap::new() };
    let mut source = settings.source.clone();
    for table in &mut source.tables {
        if let Some(mapping) = asked.mapping(&table.mapping).await? {
            *table = OutboxTable { mapping: Arc::new(mapping), ..table.clone() };
        }
    }
    for messages in &mut source.messages {
        if let Some(mapping) = asked.mapping(messages.mapping()).await? {
            *messages = messages.with_mapping(mapping);
        }
    }
    Ok(source)
}

/// What was asked already: several outboxes may have one subject.
struct Asked<'a> {
    registry: Registry<'a>,
    known: BTreeMap<String, (Arc<Wanted>, Registered)>,
}

impl Asked<'_> {
    async fn mapping(&mut self, mapping: &Mapping) -> Result<Option<Mapping>, RegistryError> {
        let Some(wanted) = mapping.wanted() else { return Ok(None) };
        let known = self.known.get(&wanted.subject).filter(|(known, _)| known == wanted);
        let registered = match known {
            Some((_, registered)) => registered.clone(),
            None => self.registry.find(wanted).await?,
        };
        self.known.insert(wanted.subject.clone(), (Arc::clone(wanted), registered.clone()));
        let mapping = mapping.with_schema(&registered);
        mapping.map(Some).map_err(|what| self.registry.unfit(what))
    }
}

/// The schemas that the settings name: each once, in their order.
#[must_use]
pub fn wanted(source: &SourceSettings) -> Vec<Arc<Wanted>> {
    let tables = source.tables.iter().map(|table| table.mapping.as_ref());
    let messages = source.messages.iter().map(OutboxMessages::mapping);
    let mut wanted: Vec<Arc<Wanted>> = Vec::new();
    for each in tables.chain(messages).filter_map(Mapping::wanted) {
        if !wanted.contains(each) {
            wanted.push(Arc::clone(each));
        }
    }
    wanted
}

/// The schema that the settings name, as the registry has it.
///
/// # Errors
/// When the registry does not answer, or does not have it.
pub async fn find(settings: &Settings, wanted: &Wanted) -> Result<Registered, RegistryError> {
    let registry = Registry::of(settings).ok_or(RegistryError::NoRegistry)?;
    registry.find(wanted).await
}

/// Registers the schemas of the settings' files where the registry does not have them; what was done, a line each.
///
/// # Errors
/// When an outbox has no file, or the registry refuses.
pub async fn register(settings: &Settings) -> Result<Vec<String>, RegistryError> {
    let registry = Registry::of(settings).ok_or(RegistryError::NoRegistry)?;
    let wanted = wanted(&settings.source);
    if let Some(without) = wanted.iter().find(|wanted| wanted.file.is_none()) {
        return Err(RegistryError::NoFile { subject: without.subject.clone() });
    }
    let mut steps = Vec::new();
    for wanted in wanted {
        let Some(file) = &wanted.file else { continue };
        let there = registry.lookup(&wanted.subject, file).await?;
        let (what, registered) = match there {
            Some(registered) => ("there", registered),
            None => ("registered", registry.register(&wanted.subject, file).await?),
        };
        let Registered { subject, version, id, .. } = registered;
        steps.push(format!("subject {subject}: {} {what}, version {version}, id {id}", file.path));
    }
    Ok(steps)
}
