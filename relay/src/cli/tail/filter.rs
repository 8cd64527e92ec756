//! Which records are shown.

use super::content::{Content, ce_type, type_name};
use crate::kafka::consumer::StoredRecord;

/// Which records are shown; an empty one shows all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those with this key, exactly.
    pub key: Option<String>,
    /// Those with one of these types, in any case: the event's own, or the end of the header `ce_type`.
    pub types: Vec<String>,
}

impl Filter {
    pub(super) fn passes(&self, record: &StoredRecord, content: &Content<'_>) -> bool {
        let key_fits = self.key.as_ref().is_none_or(|key| record.key.as_deref() == Some(key.as_bytes()));
        key_fits && (self.types.is_empty() || self.types.iter().any(|kind| is_type(record, content, kind)))
    }
}

fn is_type(record: &StoredRecord, content: &Content<'_>, kind: &str) -> bool {
    let is_event = matches!(content, Content::Event(event, _) if type_name(event).eq_ignore_ascii_case(kind));
    is_event || ce_type(record).is_some_and(|name| ends_with(name, kind))
}

/// `created` ends `shop.order.created`, and so does `order.created`, but `ed` does not.
fn ends_with(name: &str, end: &str) -> bool {
    let start = name.len().checked_sub(end.len());
    let Some((before, found)) = start.and_then(|start| name.split_at_checked(start)) else { return false };
    found.eq_ignore_ascii_case(end) && (before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn passes(filter: &Filter, record: &StoredRecord) -> bool {
        filter.passes(record, &Content::of(record.value.as_deref()))
    }

    fn of_types(types: &[&str]) -> Filter {
        Filter { key: None, types: types.iter().map(|kind| (*kind).to_owned()).collect() }
    }

    #[test]
    fn a_key_is_the_whole_key() {
        let filter = Filter { key: Some("7".into()), types: Vec::new() };
        let record = samples::updated(b"");
        assert!(passes(&Filter::default(), &record));
        assert!(passes(&filter, &record));
        assert!(!passes(&filter, &StoredRecord { key: Some(b"77".to_vec()), ..record.clone() }));
        assert!(!passes(&filter, &StoredRecord { key: None, ..record }));
    }

    #[test]
    fn a_type_is_the_events_own_or_the_end_of_its_header() {
        let event = samples::updated(b"");
        assert!(passes(&of_types(&["updated"]), &event));
        assert!(passes(&of_types(&["Created", "UPDATED"]), &event));
        assert!(!passes(&of_types(&["Created"]), &event));

        let headers = vec![("ce_type".into(), Some(b"shop.order.shipped".to_vec()))];
        let other = StoredRecord { headers, ..samples::record(Some(b"{}")) };
        assert!(passes(&of_types(&["Shipped"]), &other));
        assert!(passes(&of_types(&["order.shipped"]), &other));
        assert!(!passes(&of_types(&["ipped"]), &other));
        assert!(!passes(&of_types(&["shipped"]), &samples::record(Some(b"{}"))));
    }
}
