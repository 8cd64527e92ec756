//! The side of the schema registry, where values have a schema.

use super::Side;
use crate::config::Settings;
use crate::registry::{self, RegistryError};

/// Looks at every schema. The settings with them, as far as the registry has them, so that the table is held against them.
pub(super) async fn check(settings: &Settings, side: &mut Side<'_>) -> Settings {
    match registry::with_schemas(settings).await {
        Ok(source) => {
            show(settings, side).await;
            Settings { source, ..settings.clone() }
        }
        Err(error) => {
            fail(side, &error);
            settings.clone()
        }
    }
}

async fn show(settings: &Settings, side: &mut Side<'_>) {
    for wanted in registry::wanted(&settings.source) {
        match registry::find(settings, &wanted).await {
            Ok(registered) => side.ok("schema", registered.name()),
            Err(error) => fail(side, &error),
        }
    }
}

fn fail(side: &mut Side<'_>, error: &RegistryError) {
    let name = if matches!(error, RegistryError::Away { .. }) { "connection" } else { "schema" };
    side.fail(name, error.to_string(), error.remedy());
}
