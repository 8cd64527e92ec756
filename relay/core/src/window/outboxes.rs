//! Whose rows are events, of all that the stream describes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{OutboxError, OutboxTable, Plan};
use crate::lsn::Lsn;
use crate::pgoutput::{Oid, Relation};

/// Whose rows are events.
#[derive(Debug, Default)]
pub struct Outboxes {
    /// Tables, each with its object id now.
    pub tables: Vec<(OutboxTable, Oid)>,
    /// What stands for many tables: those that are not among the above by now.
    pub patterns: Vec<OutboxTable>,
    /// Tables that a pattern stands for, and that were looked for in vain at this position: they were dropped since, or taken
    /// out of the publication, and what the stream has of them up to there is all there is.
    pub gone: BTreeMap<Oid, Lsn>,
    /// Tables that were followed once.
    pub remembered: Vec<Oid>,
    /// Whose logical messages are events, each by its prefix.
    pub messages: Vec<(String, Arc<Plan>)>,
}

impl Outboxes {
    /// One table.
    #[must_use]
    pub fn one(table: OutboxTable, oid: Oid) -> Self {
        Self { tables: vec![(table, oid)], ..Self::default() }
    }

    /// What the settings say of a table that the stream describes in a transaction; `None`: its rows are no events.
    ///
    /// # Errors
    /// When its rows may be events and nothing says so, or how.
    pub fn settings_of(&self, relation: &Relation, commit: Lsn) -> Result<Option<OutboxTable>, OutboxError> {
        let named = self.followed(relation).cloned();
        if named.is_some() {
            return Ok(named);
        }
        for (table, oid) in &self.tables {
            table.check_name(relation, *oid)?;
        }
        let (schema, name, oid) = (&relation.namespace, &relation.name, relation.id);
        let stands_for_it =
            |table: &&OutboxTable| table.pattern().is_some_and(|all| all.matches(schema, name));
        if let Some(pattern) = self.patterns.iter().find(stands_for_it) {
            let is_gone = self.gone.get(&oid).is_some_and(|looked| commit <= *looked);
            return if is_gone {
                Ok(Some(pattern.named(schema, name)))
            } else {
                Err(OutboxError::Appeared { table: relation.full_name(), oid })
            };
        }
        match self.remembered.contains(&oid) {
            true => Err(OutboxError::Forgotten { table: relation.full_name(), oid }),
            false => Ok(None),
        }
    }

    /// How the messages of a prefix become records; `None`: they are no events.
    #[must_use]
    pub fn messages_of(&self, prefix: &[u8]) -> Option<&Arc<Plan>> {
        self.messages.iter().find(|(known, _)| known.as_bytes() == prefix).map(|(_, plan)| plan)
    }

    /// The table by its object id; then one that it was before, by the name first: two may have been told of the same one.
    fn followed(&self, relation: &Relation) -> Option<&OutboxTable> {
        let by_oid = self.tables.iter().find(|(_, oid)| *oid == relation.id);
        let was = |table: &OutboxTable| table.predecessors.contains(&relation.id);
        let is_name =
            |table: &OutboxTable| table.schema == relation.namespace && table.table == relation.name;
        let by_name = || self.tables.iter().find(|(table, _)| was(table) && is_name(table));
        let by_word = || self.tables.iter().find(|(table, _)| was(table));
        by_oid.or_else(by_name).or_else(by_word).map(|(table, _)| table)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::event::Mapping;

    fn table(schema: &str, name: &str) -> OutboxTable {
        OutboxTable::new(schema, name, Mapping::default())
    }

    fn relation(id: Oid, schema: &str, name: &str) -> Relation {
        Relation { id, namespace: schema.to_owned(), name: name.to_owned(), columns: Vec::new() }
    }

    fn named(outboxes: &Outboxes, relation: &Relation) -> Result<Option<String>, OutboxError> {
        Ok(outboxes.settings_of(relation, Lsn(100))?.map(|table| table.name()))
    }

    #[test]
    fn it_is_the_table_that_counts_and_not_its_name() {
        let mut outboxes = Outboxes::one(table("public", "outbox"), 1);
        let ours = Some("public.outbox".to_owned());
        assert_eq!(named(&outboxes, &relation(1, "public", "outbox")), Ok(ours.clone()));
        assert_eq!(
            named(&outboxes, &relation(1, "public", "other")),
            Ok(ours.clone()),
            "renamed since, or back"
        );
        assert_eq!(named(&outboxes, &relation(9, "public", "other")), Ok(None), "another table");
        let error = named(&outboxes, &relation(9, "public", "outbox")).unwrap_err();
        assert!(error.to_string().contains("oid 9") && error.remedy().contains("--table-was=9"), "{error}");
        outboxes.tables[0].0.predecessors = vec![9];
        assert_eq!(named(&outboxes, &relation(9, "public", "outbox")), Ok(ours));
    }

    #[test]
    fn what_is_followed_by_its_object_id_is_no_other_tables_predecessor() {
        let mut outboxes = Outboxes::one(table("public", "outbox"), 1);
        outboxes.tables.push((table("public", "before"), 2));
        // Table 2 was called as table 1 is now.
        let found = named(&outboxes, &relation(2, "public", "outbox"));
        assert_eq!(found, Ok(Some("public.before".into())));
        // What was told for all of them goes to the one of its name.
        outboxes.tables.iter_mut().for_each(|(table, _)| table.predecessors = vec![7]);
        assert_eq!(named(&outboxes, &relation(7, "public", "before")), Ok(Some("public.before".into())));
    }

    #[test]
    fn a_table_that_a_pattern_stands_for_is_looked_for_and_published_where_it_is_gone() {
        let mut outboxes = Outboxes { patterns: vec![table("tenant_*", "outbox")], ..Outboxes::default() };
        let new = relation(5, "tenant_b", "outbox");
        assert!(matches!(named(&outboxes, &new), Err(OutboxError::Appeared { oid: 5, .. })));
        outboxes.gone.insert(5, Lsn(99));
        assert!(matches!(named(&outboxes, &new), Err(OutboxError::Appeared { .. })), "behind the look");
        outboxes.gone.insert(5, Lsn(100));
        assert_eq!(named(&outboxes, &new), Ok(Some("tenant_b.outbox".into())));
        assert_eq!(named(&outboxes, &relation(6, "walpost", "outbox")), Ok(None));
    }

    #[test]
    fn a_table_that_was_followed_and_is_not_named_any_more_is_not_passed_over() {
        let outboxes = Outboxes { remembered: vec![3], ..Outboxes::one(table("public", "outbox"), 1) };
        assert!(matches!(
            named(&outboxes, &relation(3, "b", "outbox")),
            Err(OutboxError::Forgotten { oid: 3, .. })
        ));
    }
}
