//! From what came of a command to what is sent: pure.

use serde::Serialize;

use crate::command::{Outcome, Sender};
use crate::packages::ServiceError;
use crate::pages::Page;
use crate::rich::Rich;
use crate::route::{Kind, Mistake, button_data};
use crate::texts;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub rich: Rich,
    /// One row of buttons.
    pub buttons: Vec<Button>,
}

/// A button under a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Button {
    /// What it says.
    pub text: &'static str,
    /// What comes back when it is pressed.
    pub callback_data: String,
}

impl Reply {
    /// A message without buttons.
    #[must_use]
    pub fn of(rich: Rich) -> Self {
        Self { rich, buttons: Vec::new() }
    }

    /// What is wrong with a command.
    #[must_use]
    pub fn to_mistake(mistake: &Mistake) -> Self {
        Self::of(texts::mistake(mistake))
    }

    /// What came of a command.
    #[must_use]
    pub fn to_outcome(outcome: &Outcome, sender: Sender, trace_id: &str) -> Self {
        Self::of(match outcome {
            Outcome::Page(page) => return Self::page(page),
            Outcome::Start => texts::general_help(),
            Outcome::Help => texts::help(),
            Outcome::Package(package) => texts::package(package),
            Outcome::Created(id) => texts::created(*id),
            Outcome::Changed(kind, id, done) => texts::changed(*kind, *id, *done),
            Outcome::NotFound(kind, id) => texts::not_found(*kind, *id),
            Outcome::Forbidden => texts::forbidden(sender.user_id, sender.chat_id),
            Outcome::Failed(kind, error) => failure(*kind, error, trace_id),
        })
    }

    fn page(page: &Page) -> Self {
        let button = |text, offset: Option<u64>| {
            offset.map(|offset| Button { text, callback_data: button_data(offset) })
        };
        let buttons = [button(texts::BACK, page.previous), button(texts::NEXT, page.next)];
        Self {
            rich: texts::page(page.offset, &page.packages),
            buttons: buttons.into_iter().flatten().collect(),
        }
    }
}

fn failure(kind: Kind, error: &ServiceError, trace_id: &str) -> Rich {
    match error {
        ServiceError::Invalid(field) => texts::refused_field(field),
        ServiceError::NoChanges => texts::mistake(&Mistake::NothingToChange),
        ServiceError::Away => texts::away(kind),
        ServiceError::Unanswered => texts::unanswered(kind),
        // NOT_FOUND has an outcome of its own where it can happen.
        ServiceError::NotFound | ServiceError::Refused | ServiceError::Failed(_) => texts::failed(trace_id),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SENDER: Sender = Sender { user_id: 7, chat_id: 5 };

    fn text(kind: Kind, error: ServiceError) -> String {
        Reply::to_outcome(&Outcome::Failed(kind, error), SENDER, "abc").rich.text
    }

    #[rstest]
    #[case(ServiceError::Away)]
    #[case(ServiceError::Unanswered)]
    #[case(ServiceError::Refused)]
    #[case(ServiceError::Failed("disk full".into()))]
    fn a_failed_service_is_named_and_nothing_internal(#[case] error: ServiceError) {
        for kind in Kind::ALL {
            let text = text(kind, error.clone());
            assert!(text.contains("Ошибка сервиса") && !text.contains("disk"), "{text}");
            assert!(text.encode_utf16().count() <= 200, "it fits the answer to a button: {text}");
        }
    }

    #[test]
    fn of_a_change_that_was_not_answered_it_is_said_that_it_may_be_made() {
        assert!(text(Kind::New, ServiceError::Unanswered).contains("неизвестно"));
        assert!(!text(Kind::Get, ServiceError::Unanswered).contains("неизвестно"));
    }

    #[test]
    fn a_failure_has_a_code_to_quote() {
        assert!(text(Kind::Get, ServiceError::Failed(String::new())).ends_with("abc"));
    }

    #[rstest]
    #[case("MaximumVolume", "Некорректный аргумент: \"Объём\"")]
    #[case("Title", "Некорректный аргумент: \"Название\"")]
    #[case("PackageID", "Некорректный аргумент: \"PackageID\"")]
    fn a_refused_field_has_the_name_that_people_know(#[case] field: &str, #[case] expected: &str) {
        assert_eq!(text(Kind::New, ServiceError::Invalid(field.into())), expected);
    }

    #[test]
    fn an_empty_list_says_so_and_has_no_buttons() {
        let page = Page { offset: 0, packages: vec![], previous: None, next: None };
        let reply = Reply::to_outcome(&Outcome::Page(page), SENDER, "");
        assert!(reply.rich.text.contains("упаковок пока нет") && reply.buttons.is_empty());
    }
}
