//! Types that the stream names and the catalogue does not have yet: a transaction is in the stream as soon as its commit
//! is in the WAL, and visible to queries only a moment later, or, where a standby must acknowledge it, when that has.

use std::collections::BTreeMap;

use walpost_core::pgoutput::Oid;

/// So often a type is looked for, with the waits of any retry between: some seconds. After that it was dropped.
const LOOKS_MAX: u32 = 8;

/// The types, and how often each was looked for.
#[derive(Debug, Default)]
pub(super) struct UnknownTypes(BTreeMap<Oid, u32>);

impl UnknownTypes {
    /// The types to look up beside those of the table's columns.
    pub(super) fn seen(&self) -> Vec<Oid> {
        self.0.keys().copied().collect()
    }

    /// Notes a type; whether it is worth another look.
    pub(super) fn again(&mut self, oid: Oid) -> bool {
        let looks = self.0.entry(oid).or_default();
        *looks += 1;
        *looks <= LOOKS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_looked_for_some_times_and_not_for_ever() {
        let mut unknown = UnknownTypes::default();
        assert!((0..LOOKS_MAX).all(|_| unknown.again(16_400)));
        assert!(!unknown.again(16_400) && unknown.again(16_401));
        assert_eq!(unknown.seen(), [16_400, 16_401]);
    }
}
