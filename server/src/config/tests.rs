#![allow(clippy::unwrap_used)]

use clap::Command;

use super::*;

fn load(arguments: &[&str], env: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    let command = Command::new("test").args(TABLE.args());
    let matches = command.get_matches_from(std::iter::once(&"test").chain(arguments));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::load(&matches, &env)
}

const URL: (&str, &str) = ("PACKAGE_API_DATABASE_URL", "postgres://u:hunter2@db/packages");

#[test]
fn the_defaults_are_the_contract() {
    let settings = load(&[], &[URL]).unwrap();
    assert_eq!(settings.listen.grpc.to_string(), "0.0.0.0:8082");
    assert_eq!(settings.listen.status.to_string(), "0.0.0.0:8000");
    assert_eq!(settings.listen.metrics.to_string(), "0.0.0.0:9100");
    assert_eq!(settings.grpc.page_size_default, 10);
    assert!(settings.grpc.reflection && settings.migrate);
    assert_eq!(settings.drain.timeout, Duration::from_secs(15));
}

#[test]
fn a_flag_wins_over_the_environment() {
    let env = [URL, ("PACKAGE_API_GRPC_ADDR", "127.0.0.1:1")];
    assert_eq!(load(&[], &env).unwrap().listen.grpc.port(), 1);
    assert_eq!(load(&["--grpc-addr", "127.0.0.1:2"], &env).unwrap().listen.grpc.port(), 2);
}

#[test]
fn events_are_rows_unless_messages_are_asked_for() {
    let outbox = |arguments: &[&str]| load(arguments, &[URL]).map(|settings| settings.outbox);
    let messages = |prefix: &str| Outbox::Messages { prefix: prefix.into() };
    assert_eq!(outbox(&[]).unwrap(), Outbox::Table);
    assert_eq!(outbox(&["--outbox=messages"]).unwrap(), messages("package_event"));
    assert_eq!(outbox(&["--outbox=messages", "--outbox-prefix=p"]).unwrap(), messages("p"));
    for refused in
        [&["--outbox=rows"][..], &["--outbox-prefix=p"], &["--outbox=messages", "--outbox-prefix="]]
    {
        assert!(outbox(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn the_databases_own_variable_wins_over_the_common_one() {
    let common = ("DATABASE_URL", "postgres://u@db/common");
    assert!(load(&[], &[common]).unwrap().database.place().contains("`common`"));
    assert!(load(&[], &[common, URL]).unwrap().database.place().contains("`packages`"));
}

#[test]
fn every_mistake_is_reported_at_once() {
    let env = [("PACKAGE_API_GRPC_ADDR", "localhost"), ("PACKAGE_API_LOG_LEVEL", "loud")];
    let mistakes = load(&["--page-size-default", "501", "--migrate=yes"], &env).unwrap_err().0;
    let text = mistakes.join("\n");
    assert_eq!(mistakes.len(), 5, "{text}");
    for part in ["database-url is not set", "PACKAGE_API_GRPC_ADDR", "loud", "from 1 to 500", "true or false"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_wrong_url_is_not_shown() {
    for url in ["mysql://u:hunter2@db/packages", "postgres://u:hunter2@db:port/packages", "hunter2"] {
        let mistakes = load(&[], &[("PACKAGE_API_DATABASE_URL", url)]).unwrap_err().to_string();
        assert!(mistakes.contains("PACKAGE_API_DATABASE_URL"), "{mistakes}");
        assert!(!mistakes.contains("hunter2"), "{mistakes}");
    }
}

#[test]
fn the_settings_do_not_show_the_password() {
    let settings = load(&[], &[URL]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn the_example_file_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let expected = settings::sample_file(&TABLE);
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(path, &expected).unwrap();
        return;
    }
    assert_eq!(committed, expected, "set UPDATE_EXAMPLES=1 and run this test to write it anew");
}
