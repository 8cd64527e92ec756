//! A table with all that is guessed of it.

use std::sync::Arc;

use super::error::{Mistakes, OutboxError, unknown_column};
use super::guess;
use super::mapping::{Guesses, Mapping};
use super::plan::{Plan, columns, named};
use super::table::{FILTER, OutboxTable};
use super::types::Types;
use crate::pgoutput::Relation;

impl OutboxTable {
    /// The same table with all that is guessed of it, as far as `kept` does not have it from before.
    ///
    /// # Errors
    /// What cannot be guessed, and what does not fit.
    pub fn guessed(&self, relation: &Relation, types: &Types, kept: &Guesses) -> Result<Self, OutboxError> {
        let with_kept = Self { mapping: Arc::new(self.mapping.with_guesses(kept)), ..self.clone() };
        let mapping = with_kept.complete(relation, types)?;
        let order = self
            .order
            .as_deref()
            .map(|order| mapping.name_among(order, |name| relation.has(name)).to_owned());
        let mut guesses = self.mapping.guesses(&mapping);
        guesses.insert(FILTER.into(), self.filter.clone());
        Ok(Self { mapping: Arc::new(mapping), order, guesses, ..self.clone() })
    }

    /// The mapping with what is guessed of it.
    fn complete(&self, relation: &Relation, types: &Types) -> Result<Mapping, OutboxError> {
        // All mistakes are said at once: so it is compiled, too. It is the table as it is now, so its order must be there.
        if let Some(order) = &self.order {
            let name = self.mapping.name_among(order, |name| relation.has(name));
            if !relation.has(name) {
                let mistakes = vec![unknown_column("order", &format!("`{name}`"), name, relation)];
                let (table, columns) = (relation.full_name(), columns(relation, types));
                return Err(OutboxError::Mistakes(Box::new(Mistakes { table, columns, mistakes })));
            }
        }
        Plan::new(self, &Arc::new(relation.clone()), types)?;
        Ok(guess::complete(&named(&self.mapping, relation), relation, &mut Vec::new()))
    }
}
