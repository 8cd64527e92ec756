#![allow(clippy::unwrap_used)]

use clap::Command;

use super::*;

fn load(arguments: &[&str], env: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    let command = Command::new("test").args(TABLE.args());
    let matches = command.get_matches_from(std::iter::once(&"test").chain(arguments));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::load(&matches, &env)
}

const TOKEN: (&str, &str) = ("TOKEN", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw");

#[test]
fn the_defaults_are_those_of_compose() {
    let settings = load(&[], &[TOKEN]).unwrap();
    assert_eq!(settings.grpc.url, "http://logistic-package-api:8082");
    assert_eq!(settings.http_addr.to_string(), "0.0.0.0:9102");
    assert_eq!((settings.page_size, settings.cache.ttl_s), (5, 3600));
    assert_eq!(settings.kafka.commands_topic, "omp-tgbot-commands");
    assert_eq!(settings.kafka.cache_events_topic, "omp-tgbot-cache-events");
    assert!(settings.allowed.0.is_empty());
}

#[test]
fn the_bots_own_variable_wins_over_the_common_one() {
    let settings = load(&[], &[TOKEN, ("PACKAGE_BOT_TELEGRAM_TOKEN", "1:own")]).unwrap();
    assert_eq!(settings.telegram.token.expose_secret(), "1:own");
    assert_eq!(load(&[], &[TOKEN]).unwrap().telegram.token.expose_secret(), TOKEN.1);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let env = [
        ("PACKAGE_BOT_PAGE_SIZE", "36"),
        ("PACKAGE_BOT_LOG_LEVEL", "loud"),
        ("PACKAGE_BOT_GRPC_URL", "here"),
    ];
    let mistakes = load(&["--allowed-ids", "7,ivan", "--kafka-property", "acks=0"], &env).unwrap_err().0;
    let text = mistakes.join("\n");
    assert_eq!(mistakes.len(), 6, "{text}");
    for part in
        ["telegram-token is not set", "from 1 to 35", "loud", "expected a URL", "expected numbers", "acks"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_a_library_would_refuse_later_is_refused_at_once() {
    let property = load(&["--kafka-property", "no.such=1"], &[TOKEN]).unwrap_err().to_string();
    assert!(property.contains("kafka-property") && property.contains("no.such"), "{property}");
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let no_root =
        load(&["--grpc-url", "https://h:1", "--grpc-ca", "Cargo.toml"], &[TOKEN]).unwrap_err().to_string();
    assert!(no_root.contains("grpc-ca"), "{no_root}");
}

#[test]
fn secrets_are_neither_shown_nor_taken_from_the_command_line() {
    let redis = ("PACKAGE_BOT_REDIS_URL", "redis://:hunter2@redis:6379/0");
    let settings = load(&[], &[TOKEN, redis, ("PACKAGE_BOT_GRPC_AUTH_TOKEN", "hunter3")]).unwrap();
    let shown = format!("{settings:?}{}", settings.shown);
    for secret in [TOKEN.1, "hunter3"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!settings.shown.contains("hunter2"));
    for flag in ["--telegram-token", "--grpc-auth-token", "--redis-url"] {
        let text = load(&[flag, "redis://:hunter2@h:1/0"], &[TOKEN]).unwrap_err().to_string();
        assert!(text.contains(&format!("{flag}: other users")) && !text.contains("hunter2"), "{text}");
    }
    assert!(load(&["--redis-url", "redis://h:1/0"], &[TOKEN]).is_ok(), "without a password it is no secret");
}

#[test]
fn a_wrong_secret_is_not_shown() {
    for (name, value) in [("TOKEN", "hunter2 with blanks"), ("PACKAGE_BOT_REDIS_URL", "hunter2://x")] {
        let text =
            load(&[], &[TOKEN, (name, value)].into_iter().rev().collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bot.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (head, rest) =
        text.split_once("<!-- settings -->\n").expect("docs/bot.md marks where the settings begin");
    let (committed, tail) =
        rest.split_once("<!-- end of settings -->").expect("docs/bot.md marks where they end");
    let expected = settings::markdown(&TABLE);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{head}<!-- settings -->\n{expected}<!-- end of settings -->{tail}");
        std::fs::write(path, text).unwrap();
        return;
    }
    assert_eq!(committed, expected, "set UPDATE_DOCS=1 and run this test to write it anew");
}
