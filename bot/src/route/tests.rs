#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn in_chat(kind: &str, text: &str) -> Route {
    let command = text.split(char::is_whitespace).next().unwrap_or_default();
    let entities = if command.starts_with('/') {
        vec![
            serde_json::json!({ "type": "bot_command", "offset": 0, "length": command.encode_utf16().count() }),
        ]
    } else {
        Vec::new()
    };
    let sent = serde_json::json!({
        "message_id": 1, "from": { "id": 7, "first_name": "I" }, "chat": { "id": 5, "type": kind },
        "text": text, "entities": entities,
    });
    message(&serde_json::from_value(sent).unwrap(), "omp_bot")
}

fn private(text: &str) -> Route {
    in_chat("private", text)
}

fn mistake(text: &str) -> Mistake {
    match private(text) {
        Route::Mistake(mistake) => mistake,
        other => panic!("{text}: {other:?}"),
    }
}

#[rstest]
#[case("/start", Command::Start)]
#[case("/start payload", Command::Start)]
#[case("/help@OMP_bot", Command::Start)]
#[case("hello", Command::Start)]
#[case("/help__logistic__package", Command::Help)]
#[case("/list__logistic__package whatever", Command::List)]
#[case("/LIST", Command::List)]
#[case("/get__logistic__package 9", Command::Get(9))]
#[case("/get__logistic__package   9  ", Command::Get(9))]
#[case("/get__logistic__package\n9", Command::Get(9))]
#[case("/get 9", Command::Get(9))]
#[case("/Get__Logistic__Package@omp_bot 9", Command::Get(9))]
#[case("/delete 8", Command::Delete(8))]
fn commands_are_taken_in_their_forms(#[case] text: &str, #[case] expected: Command) {
    assert_eq!(private(text), Route::Command(expected));
}

#[test]
fn commands_for_another_bot_are_its_own() {
    assert_eq!(private("/help@other_bot"), Route::Nowhere);
    assert_eq!(private("/delete__logistic__package@other_bot 5"), Route::Nowhere);
}

#[test]
fn in_groups_only_commands_are_answered() {
    assert_eq!(in_chat("supergroup", "hello"), Route::Nowhere);
    assert_eq!(in_chat("group", "/list"), Route::Command(Command::List));
    assert_eq!(in_chat("group", "/weather"), Route::Nowhere);
    let unknown = |text: &str| matches!(in_chat("group", text), Route::Mistake(Mistake::UnknownCommand(_)));
    assert!(unknown("/weather@omp_bot") && unknown("/gte__logistic__package 5"));
}

#[rstest]
#[case("/gte__logistic__package")]
#[case("/list__demo__subdomain")]
#[case("/list__logistic__package__more")]
#[case("/list__logistic")]
fn an_unknown_command_is_named(#[case] text: &str) {
    assert_eq!(mistake(text), Mistake::UnknownCommand(text[1..].to_owned()));
}

#[rstest]
#[case("/get__logistic__package", Mistake::NotAnId(Kind::Get))]
#[case("/get__logistic__package abc", Mistake::NotAnId(Kind::Get))]
#[case("/delete__logistic__package 1 2", Mistake::NotAnId(Kind::Delete))]
#[case("/get__logistic__package 0", Mistake::ZeroId)]
#[case("/delete__logistic__package 000", Mistake::ZeroId)]
#[case("/edit__logistic__package 0; название=a", Mistake::ZeroId)]
#[case("/new__logistic__package", Mistake::FieldCount)]
#[case("/new__logistic__package название=a; материал=b; объём=5", Mistake::FieldCount)]
#[case("/edit__logistic__package", Mistake::NotAnEditId(String::new()))]
#[case("/edit__logistic__package abc ; название=a", Mistake::NotAnEditId("abc ".into()))]
#[case("/edit__logistic__package 15", Mistake::NothingToChange)]
#[case("/edit__logistic__package 15;", Mistake::NothingToChange)]
#[case(
    "/edit__logistic__package 15; название=a; foo=1; материал=b",
    Mistake::Field(Kind::Edit, FieldMistake::Unknown("foo".into()))
)]
fn mistakes_are_told_apart(#[case] text: &str, #[case] expected: Mistake) {
    assert_eq!(mistake(text), expected);
}

#[test]
fn a_trailing_semicolon_is_no_field() {
    let text = "/new__logistic__package название=a; материал=b; объём=1,5; многоразовая=+;";
    let fields = Fields {
        title: Some("a".into()),
        material: Some("b".into()),
        volume: Some(1.5),
        reusable: Some(true),
    };
    assert_eq!(private(text), Route::Command(Command::New(fields)));
}

#[test]
fn a_command_in_the_middle_is_text() {
    let sent = serde_json::json!({
        "message_id": 1, "chat": { "id": 5, "type": "private" }, "text": "see /list",
        "entities": [{ "type": "bot_command", "offset": 4, "length": 5 }],
    });
    assert_eq!(message(&serde_json::from_value(sent).unwrap(), "omp_bot"), Route::Command(Command::Start));
}

proptest! {
    /// Neither text nor entities can be so odd that it panics: lengths may lie, and may cut a character in half.
    #[test]
    fn hostile_messages_are_routed(
        text in "(/get|/new__logistic__package|/edit__logistic__package 5;|🔹|=|;|@|\\PC){0,8}",
        offset in 0usize..3,
        length in 0usize..60,
    ) {
        let sent = serde_json::json!({
            "message_id": 1, "chat": { "id": 5, "type": "private" }, "text": text,
            "entities": [{ "type": "bot_command", "offset": offset, "length": length }],
        });
        let _ = message(&serde_json::from_value(sent).unwrap(), "omp_bot");
    }

    #[test]
    fn each_id_is_asked_for_as_it_was_typed(id in 1u64.., zeros in 0usize..4) {
        let text = format!("/get__logistic__package {}{id}", "0".repeat(zeros));
        prop_assert_eq!(private(&text), Route::Command(Command::Get(id)));
    }
}
