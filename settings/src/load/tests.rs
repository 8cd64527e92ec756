#![allow(clippy::unwrap_used)]

use super::*;
use crate::Mistakes;

const TABLE: Table = Table {
    env_prefix: "APP",
    default_file: "no-such-file.toml",
    settings: &[
        Setting::new("topic", "NAME", "events", "The topic."),
        Setting::new("window-records", "N", "100", "How many."),
        Setting::optional("database-url", "URL", "Where.").secret().or_env(&["DATABASE_URL"]),
    ],
    maps: &[
        MapSetting {
            name: "kafka-property",
            section: "kafka.properties",
            from_env: true,
            of_tables: false,
            help: "Passed on.",
        },
        MapSetting {
            name: "create-topic",
            section: "create_topics",
            from_env: false,
            of_tables: true,
            help: "Made.",
        },
    ],
    repeated: None,
    parts: None,
};

fn load(args: &[&str], env: &[(&str, &str)]) -> Values {
    let command = clap::Command::new("app").args(TABLE.args());
    let matches = command.get_matches_from(std::iter::once(&"app").chain(args));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TABLE.load(&matches, &env)
}

fn file(name: &str, text: &str) -> String {
    let path = std::env::temp_dir().join(format!("settings-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let path = file("order.toml", "topic = \"from-file\"");
    assert_eq!(load(&[], &[]).text("topic").unwrap(), "events");
    assert_eq!(load(&["--config", &path], &[]).text("topic").unwrap(), "from-file");
    let env = [("APP_TOPIC", "from-env"), ("APP_CONFIG", path.as_str())];
    assert_eq!(load(&[], &env).text("topic").unwrap(), "from-env");
    assert_eq!(load(&["--topic", "from-flag"], &env).text("topic").unwrap(), "from-flag");
}

#[test]
fn every_mistake_is_reported_in_one_go_with_its_origin() {
    let path = file("mistakes.toml", "windowrecords = 5\n");
    let mut values =
        load(&["--kafka-property", "oops", "--config", &path], &[("APP_WINDOW_RECORDS", "many")]);
    assert_eq!(values.number("window-records", 1..=1_000), None);
    let Mistakes(all) = values.finish().unwrap_err();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].contains("--kafka-property: `oops`"), "{all:?}");
    assert!(all[1].contains("`windowrecords` is not a setting"), "{all:?}");
    assert_eq!(all[2], "APP_WINDOW_RECORDS: `many`: expected a whole number from 1 to 1000");
}

#[test]
fn a_secret_may_stand_in_a_file_and_is_never_shown() {
    let path = file("secret", "hunter2\n");
    let mut values = load(&[], &[("APP_DATABASE_URL_FILE", &path), ("DATABASE_URL", "other")]);
    assert_eq!(values.text("database-url").unwrap(), "hunter2");
    assert_eq!(values.number("database-url", 0..=1), None);
    let text = values.finish().unwrap_err().to_string();
    assert!(!text.contains("hunter2") && text.contains("<hidden>"), "{text}");
}

#[test]
fn free_keys_come_from_the_file_the_environment_and_flags() {
    let path = file("map.toml", "[kafka.properties]\n\"linger.ms\" = 5\n\"acks\" = \"all\"\n");
    let env = [("APP_KAFKA_PROPERTY_SASL_USERNAME", "me"), ("APP_KAFKA_PROPERTY_LINGER_MS", "6")];
    let values = load(&["--config", &path, "--kafka-property", "linger.ms=7"], &env);
    let map = values.map("kafka-property");
    assert_eq!(map["acks"], "all");
    assert_eq!(map["sasl.username"], "me");
    assert_eq!(map["linger.ms"], "7");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line() {
    let path = file("broken.toml", "topic = \"a\"\nwindow_records = = 5\n");
    let text = load(&["--config", &path], &[]).finish().unwrap_err().to_string();
    assert!(text.contains("broken.toml, line 2: not TOML"), "{text}");
}

#[test]
fn the_documentation_names_every_form_of_every_setting() {
    let text = crate::markdown(&TABLE);
    for form in [
        "--topic",
        "APP_TOPIC",
        "`window_records`",
        "APP_DATABASE_URL_FILE",
        "APP_KAFKA_PROPERTY_",
        "DATABASE_URL",
    ] {
        assert!(text.contains(form), "{form} in {text}");
    }
}

#[test]
fn a_switch_may_stand_alone() {
    const SWITCHES: Table =
        Table { settings: &[Setting::switch("exit-on-halt", "Exit.")], maps: &[], ..TABLE };
    let read = |args: &[&str]| {
        let command = clap::Command::new("app").args(SWITCHES.args());
        let matches = command.get_matches_from(std::iter::once(&"app").chain(args));
        SWITCHES.load(&matches, &[]).flag("exit-on-halt")
    };
    assert_eq!(read(&[]), Some(false));
    assert_eq!(read(&["--exit-on-halt"]), Some(true));
    assert_eq!(read(&["--exit-on-halt=false"]), Some(false));
}

#[test]
fn a_map_of_tables_keeps_each_whole_whatever_dots_are_in_its_names() {
    let path = file(
        "tables.toml",
        "[create_topics]\n\"shop.*\" = { partitions = 6, \"cleanup.policy\" = \"compact,delete\" }\n\"empty\" = {}\n\
         [create_topics.\"a.b\"]\npartitions = 1\n",
    );
    let flag = r#"a.b={ partitions = 2, "retention.ms" = -1 }"#;
    let values = load(&["--config", &path, "--create-topic", flag], &[]);
    let tables = values.tables("create-topic");
    let said =
        |name: &str| tables[name].iter().map(|(key, text)| format!("{key}={text}")).collect::<Vec<_>>();
    assert_eq!(tables.len(), 3);
    assert_eq!(said("shop.*"), ["cleanup.policy=compact,delete", "partitions=6"]);
    assert!(said("empty").is_empty());
    assert_eq!(said("a.b"), ["partitions=2", "retention.ms=-1"], "a flag wins");
    values.finish().unwrap();
}

#[test]
fn a_name_without_its_quotes_and_a_value_that_is_no_table_are_mistakes() {
    let path = file(
        "not-tables.toml",
        "[create_topics]\nshop.orders = { partitions = 6 }\nplain = 7\nok = { cleanup.policy = \"compact\" }\n",
    );
    let values = load(&["--config", &path, "--create-topic", "flag={ partitions"], &[]);
    let Mistakes(all) = values.finish().unwrap_err();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[0].contains("`ok`") && all[0].contains("\"cleanup.…\""), "{all:?}");
    assert!(all[1].contains("`plain`") && all[1].contains("{ … }"), "{all:?}");
    assert!(all[2].contains("`shop`") && all[2].contains("\"shop.orders\""), "{all:?}");
    assert!(all[3].contains("create-topic: `flag`"), "{all:?}");
}
