//! What the types of columns are.
//!
//! A value's binary form is what its type's send function writes, and a type of somebody's own says nothing by its
//! object id: so it is looked up. A domain sends as its base type does, but the stream describes the column with the
//! domain's own object id. Two sources know better: the catalogue, as it is now, and the stream's own message about
//! each type that is not built in, which names a domain's base type as it was when the rows were written.

use std::collections::HashMap;

use super::value::Kind;
use crate::pgoutput::{Oid, TypeName};

/// Object ids from here on are not of built-in types (`FirstNormalObjectId`, `access/transam.h`).
const FIRST_USER_OID: Oid = 16_384;

/// A type, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeFact {
    /// Its object id.
    pub oid: Oid,
    /// Its schema.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How its values are laid out.
    pub kind: Kind,
    /// What it is, in words: `a composite type`, `a domain over integer[]`.
    pub what: String,
    /// The labels of an enum, or of a domain over one.
    pub labels: Vec<String>,
}

/// What is known of types that are not built in.
#[derive(Debug, Clone, Default)]
pub struct Types {
    facts: HashMap<Oid, TypeFact>,
    /// As the stream named them: what the name is of is the base type, for a domain.
    named: HashMap<Oid, TypeName>,
}

impl Types {
    /// What the catalogue says.
    #[must_use]
    pub fn new(facts: impl IntoIterator<Item = TypeFact>) -> Self {
        Self { facts: facts.into_iter().map(|fact| (fact.oid, fact)).collect(), named: HashMap::new() }
    }

    /// The stream names a type.
    pub fn named(&mut self, name: TypeName) {
        self.named.insert(name.oid, name);
    }

    /// How the values of a type are laid out; `None` when nothing is known of it.
    #[must_use]
    pub fn kind(&self, oid: Oid) -> Option<Kind> {
        if oid < FIRST_USER_OID {
            return Some(Kind::of(oid));
        }
        if let Some(fact) = self.facts.get(&oid) {
            return Some(fact.kind);
        }
        // The catalogue has it no more. The stream names a domain's base type; and a type that has the same name now, an
        // enum that was dropped and made anew, sends its values in the same way.
        let TypeName { namespace, name, .. } = self.named.get(&oid)?;
        if namespace == "pg_catalog" {
            return Some(Kind::named(name));
        }
        let same = |fact: &&TypeFact| fact.namespace == *namespace && fact.name == *name;
        self.facts.values().find(same).map(|fact| fact.kind)
    }

    /// The labels of an enum; empty for another type.
    #[must_use]
    pub fn labels(&self, oid: Oid) -> &[String] {
        self.facts.get(&oid).map_or(&[], |fact| &fact.labels)
    }

    /// A type as messages name it.
    #[must_use]
    pub fn shown(&self, oid: Oid) -> String {
        match (self.facts.get(&oid), self.named.get(&oid)) {
            (Some(fact), _) if oid < FIRST_USER_OID => fact.name.clone(),
            (Some(fact), _) => format!("{}.{} ({})", fact.namespace, fact.name, fact.what),
            (None, Some(named)) => format!("{}.{} (oid {oid})", named.namespace, named.name),
            (None, None) => Kind::name_of(oid).map_or_else(|| format!("with oid {oid}"), str::to_owned),
        }
    }
}
