//! The data of buttons: `logistic__package__list__{"offset":5}`. Such buttons stand in chats for years, so the form stays.

use serde::Deserialize;

/// What the data of a page's button begins with.
pub const BUTTON_PREFIX: &str = "logistic__package__list__";

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    offset: i64,
}

/// The data of a button that leads to the page at `offset`.
#[must_use]
pub fn button_data(offset: u64) -> String {
    format!("{BUTTON_PREFIX}{{\"offset\":{offset}}}")
}

/// The offset that a button leads to; `None` where it is none of ours. One below 0 is the beginning.
#[must_use]
pub fn page_of(data: &str) -> Option<u64> {
    let page: Page = serde_json::from_str(data.strip_prefix(BUTTON_PREFIX)?).ok()?;
    Some(page.offset.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"logistic__package__list__{"offset":5}"#, Some(5))]
    #[case(r#"logistic__package__list__{"offset":-5}"#, Some(0))]
    #[case(r#"logistic__package__list__{}"#, Some(0))]
    #[case("logistic__package__list__", None)]
    #[case("logistic__package__list__[", None)]
    #[case(r#"logistic__package__get__{"offset":5}"#, None)]
    #[case(r#"demo__subdomain__list__{"offset":5}"#, None)]
    #[case("", None)]
    fn a_button_leads_to_its_page_or_nowhere(#[case] data: &str, #[case] expected: Option<u64>) {
        assert_eq!(page_of(data), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_fits_a_button(offset in 0..=i64::MAX.unsigned_abs()) {
            let data = button_data(offset);
            prop_assert_eq!(page_of(&data), Some(offset));
            prop_assert!(data.len() <= 64, "{}", data.len());
        }

        #[test]
        fn hostile_data_is_read_or_refused(data in "(logistic__package__list__)?\\PC{0,40}") {
            let _ = page_of(&data);
        }
    }
}
