#![allow(clippy::unwrap_used)]

use clap::Command;

use super::*;

fn load(arguments: &[&str], env: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    let command = Command::new("test").args(TABLE.args());
    let matches = command.get_matches_from(std::iter::once(&"test").chain(arguments));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::load(&matches, &env)
}

fn names(settings: &Settings) -> Vec<(&str, Kind)> {
    settings.topics.iter().map(|(name, kind)| (name.as_str(), *kind)).collect()
}

#[test]
fn the_defaults_are_those_of_the_go_program() {
    let settings = load(&[], &[]).unwrap();
    assert_eq!(settings.kafka.group, "logistic-package-api");
    let expected = [
        ("omp-package-events", Kind::PackageEvent),
        ("omp-tgbot-commands", Kind::Json),
        ("omp-tgbot-cache-events", Kind::Json),
    ];
    assert_eq!(names(&settings), expected);
}

#[test]
fn topics_are_left_out_and_added() {
    let arguments = ["--commands-topic=", "--cache-events-topic", "", "--other-topics=a, b,"];
    let expected = [("omp-package-events", Kind::PackageEvent), ("a", Kind::Guess), ("b", Kind::Guess)];
    assert_eq!(names(&load(&arguments, &[]).unwrap()), expected);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_common_variable() {
    let common = ("KAFKA_BROKERS", "common:1");
    let own = ("PACKAGE_FACADE_KAFKA_BROKERS", "own:1,own:2");
    assert_eq!(load(&[], &[common]).unwrap().kafka.brokers, "common:1");
    assert_eq!(load(&[], &[common, own]).unwrap().kafka.brokers, "own:1,own:2");
    assert_eq!(load(&["--kafka-brokers=flag:1"], &[common, own]).unwrap().kafka.brokers, "flag:1");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let env = [
        ("PACKAGE_FACADE_KAFKA_BROKERS", "kafka"),
        ("PACKAGE_FACADE_HTTP_ADDR", "localhost"),
        ("PACKAGE_FACADE_COMMANDS_TOPIC", "a b"),
        ("PACKAGE_FACADE_LOG_LEVEL", "loud"),
        ("PACKAGE_FACADE_LOG_FORMAT", "xml"),
        ("PACKAGE_FACADE_DRAIN_TIMEOUT_MS", "-1"),
        ("PACKAGE_FACADE_OTHER_TOPICS", "omp-package-events"),
    ];
    let mistakes = load(&["--group", " ", "--ready-lag-max=many"], &env).unwrap_err().0;
    let text = mistakes.join("\n");
    assert_eq!(mistakes.len(), 9, "{text}");
    for (name, _) in &env[..6] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    for part in ["--group", "--ready-lag-max", "`omp-package-events` is named twice"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let none = ["--package-events-topic=", "--commands-topic=", "--cache-events-topic="];
    assert!(load(&none, &[]).unwrap_err().to_string().contains("no topic to read"));
}

#[test]
fn a_property_that_would_break_a_promise_or_is_none_is_refused_by_name() {
    let mistake = |property: &str| load(&["--kafka-property", property], &[]).unwrap_err().to_string();
    for name in ["enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "group.id"] {
        assert!(mistake(&format!("{name}=x")).contains(&format!("`{name}` is refused")), "{name}");
    }
    assert!(mistake("no.such=1").contains("`no.such`"), "{}", mistake("no.such=1"));
    assert!(mistake("session.timeout.ms=soon").contains("`session.timeout.ms`"));
    assert!(load(&["--kafka-property=session.timeout.ms=20000"], &[]).is_ok());
}

#[test]
fn a_password_is_not_shown() {
    let password = ("PACKAGE_FACADE_KAFKA_PROPERTY_SASL_PASSWORD", "hunter2");
    let settings = load(&[], &[password]).unwrap();
    assert!(!format!("{settings:?}{}", settings.shown).contains("hunter2"));
    let text = load(&["--kafka-property=sasl.password=hunter2"], &[]).unwrap_err().to_string();
    assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
    let wrong = load(&[], &[password, ("PACKAGE_FACADE_KAFKA_PROPERTY_NO_SUCH", "1")]).unwrap_err();
    assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
}
