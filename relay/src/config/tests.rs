#![allow(clippy::unwrap_used)]

use conninfo::SslMode;
use secrecy::ExposeSecret;

use super::*;

fn typed(args: &[&str], env: &[(&str, &str)]) -> (Values, Vec<(String, String)>) {
    let command = clap::Command::new("walpost").args(TABLE.args());
    let matches = command.get_matches_from(std::iter::once(&"walpost").chain(args));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (TABLE.load(&matches, &env), env)
}

fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    let (values, env) = typed(args, env);
    Settings::read(values, &env)
}

const URL: (&str, &str) = ("WALPOST_DATABASE_URL", "postgres://me:secret@db:6432/shop?sslmode=require");

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = read(&[], &[URL]).unwrap();
    assert_eq!(settings.kafka.brokers, "localhost:9092");
    assert!(settings.kafka.topics.is_empty());
    assert_eq!(settings.source.slot, "walpost");
    assert_eq!(settings.source.publication, "walpost");
    assert_eq!(settings.http_addr.to_string(), "[::]:9101");
    assert_eq!(settings.source.tables[0].name(), "public.outbox");
}

#[test]
fn a_preset_lies_beneath_what_is_given_and_above_the_defaults() {
    let settings = read(&["--preset=package-event"], &[URL]).unwrap();
    assert_eq!(settings.kafka.topics, ["omp-package-events"]);
    assert_eq!(settings.source.slot, "package_event_relay");
    assert_eq!(settings.source.publication, "package_event_pub");
    assert_eq!(settings.source.tables[0].name(), "public.package_event");
    let mapping = &settings.source.tables[0].mapping;
    assert_eq!((mapping.format.name(), mapping.fields.len(), mapping.headers.len()), ("protobuf", 5, 0));

    let own = ["--preset=debezium", "--topic=shop.{aggregatetype}", "--header=eventType={type}", "--key="];
    let settings = read(&own, &[URL, ("WALPOST_SLOT", "mine")]).unwrap();
    let mapping = &settings.source.tables[0].mapping;
    assert_eq!(settings.source.slot, "mine");
    assert_eq!(mapping.topic.given().unwrap().source, "shop.{aggregatetype}");
    assert_eq!(mapping.key, walpost_core::event::mapping::Choice::Absent);
    let headers: Vec<_> = mapping.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["eventType", "id"]);
    let text = read(&["--preset=debezum"], &[URL]).unwrap_err().to_string();
    assert!(text.contains("debezium, eventuate, cap, brighter, package-event"), "{text}");
}

#[test]
fn each_preset_is_one_that_can_be_read() {
    for preset in &walpost_core::event::presets::PRESETS {
        let argument = format!("--preset={}", preset.name);
        let settings = read(&[&argument], &[URL]).unwrap();
        assert_eq!(settings.preset, Some(preset.name));
        for (key, _) in preset.settings {
            assert!(TABLE.settings.iter().any(|setting| setting.key() == *key), "{}: {key}", preset.name);
        }
    }
}

#[test]
fn a_mistake_in_a_template_is_said_with_its_setting() {
    let args = ["--topic={a", "--header=x={b|upper}", "--key=a b", "--format=xml", "--field=f={@nothing}"];
    let text = read(&args, &[URL]).unwrap_err().to_string();
    for part in [
        "--topic: `{a`: the brace at character 1",
        "[headers] x: `{b|upper}`: {b|upper}: there is no filter `upper`",
        "--key: `a b`: {a b}: `b` is not understood",
        "--format: `xml`: expected raw, json, cloudevents, protobuf or avro",
        "[fields] f: `{@nothing}`",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = read(&["--format=protobuf"], &[URL]).unwrap_err().to_string();
    assert!(text.contains("message is not set"), "{text}");
    let args = ["--format=protobuf", "--message=shop.Order", "--descriptor=/does/not/exist"];
    let text = read(&args, &[URL]).unwrap_err().to_string();
    assert!(text.contains("--descriptor: `/does/not/exist`: cannot be read"), "{text}");
}

#[test]
fn a_database_url_gives_the_place_and_the_libpq_variables_fill_what_is_absent() {
    let database = read(&[], &[URL]).unwrap().database;
    assert_eq!(database.to_string(), "db:6432/shop as me");
    assert_eq!(database.conninfo.tls.mode, SslMode::Require);
    let password = database.conninfo.addresses[0].password.as_ref();
    assert_eq!(password.unwrap().expose_secret(), "secret");

    let env = [
        ("PGHOST", "db"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "pw"),
        ("PGSSLMODE", "disable"),
        ("PGPORT", "7777"),
    ];
    let database = read(&[], &env).unwrap().database;
    assert_eq!(database.to_string(), "db:7777/me as me");
    assert_eq!(database.conninfo.tls.mode, SslMode::Disable);

    let env = [("DATABASE_URL", "host=/run/pg user=me dbname=shop sslmode=disable"), ("PGDATABASE", "other")];
    let database = read(&[], &env).unwrap().database;
    assert_eq!(database.to_string(), "/run/pg:5432/shop as me");
}

#[test]
fn of_several_servers_the_primary_is_meant_and_a_standby_is_never_asked_for() {
    let of = |url: &str| read(&[], &[("WALPOST_DATABASE_URL", url)]).map(|settings| settings.database);
    assert!(!of("postgres://me@a/shop").unwrap().conninfo.wants_primary());
    assert!(of("postgres://me@a,b:7/shop").unwrap().conninfo.wants_primary());
    assert_eq!(of("postgres://me@a,b:7/shop").unwrap().to_string(), "a:5432,b:7/shop as me");
    let text = of("host=a,b user=me target_session_attrs=prefer-standby").unwrap_err().to_string();
    assert!(text.contains("the primary is needed"), "{text}");
}

#[test]
fn every_mistake_is_named_and_no_secret_is_shown() {
    let env = [
        ("WALPOST_DATABASE_URL", "postgres://me:hunter2@db/shop?sslmode=verify"),
        ("WALPOST_SLOT", "My-Slot"),
        ("WALPOST_WINDOW_RECORDS", "0"),
        ("WALPOST_HTTP_ADDR", "9101"),
        ("WALPOST_KAFKA_BROKERS", "kafka"),
        ("WALPOST_KAFKA_PROPERTY_ACKS", "1"),
    ];
    let text = read(&["--topic", "a {b"], &env).unwrap_err().to_string();
    for part in [
        "7 wrong settings",
        "verify-ca",
        "WALPOST_SLOT",
        "1 to 1000000",
        "WALPOST_HTTP_ADDR",
        "host:port",
        "`acks` is refused",
        "--topic",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn without_a_database_the_remedy_is_named() {
    let text = read(&[], &[]).unwrap_err().to_string();
    assert!(text.contains("WALPOST_DATABASE_URL"), "{text}");
}

fn read_tail(args: &[&str], env: &[(&str, &str)]) -> Result<TailSettings, Mistakes> {
    let (values, _) = typed(args, env);
    TailSettings::read(values)
}

#[test]
fn the_topics_of_tail_need_no_database() {
    let preset = "--preset=package-event";
    let settings = read_tail(&[preset], &[]).unwrap();
    assert_eq!(settings.topics, ["omp-package-events", "omp-tgbot-commands", "omp-tgbot-cache-events"]);
    assert_eq!(read_tail(&[preset, "--tail-topics="], &[]).unwrap().topics, ["omp-package-events"]);
    let text = read_tail(&["--topic={topic}"], &[]).unwrap_err().to_string();
    assert!(text.contains("tail-topics is not set: rows say their topics"), "{text}");
    assert_eq!(read_tail(&["--tail-topics=a,b"], &[]).unwrap().topics, ["a", "b"]);
}

#[test]
fn a_topic_of_tail_is_shown_once() {
    let settings = read_tail(&["--topic=a", "--tail-topics=b, a,c,b"], &[]).unwrap();
    assert_eq!(settings.topics, ["a", "b", "c"]);
}

#[test]
fn a_topic_of_tail_that_can_not_be_is_named() {
    let text = read_tail(&["--tail-topics=a,b c", "--topic=,"], &[]).unwrap_err().to_string();
    for part in ["2 wrong settings", "--tail-topics", "`b c`", "topic: `,`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn settings_are_shown_without_secrets() {
    let env = [URL, ("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", "hunter2")];
    let text = format!("{:?}", read(&[], &env).unwrap());
    assert!(!text.contains("hunter2") && !text.contains("secret@"), "{text}");
    assert!(text.contains("sasl.password"), "{text}");
}

#[test]
fn a_token_brings_the_properties_it_needs() {
    let properties = |args: &[&str]| read(args, &[URL]).unwrap().kafka.properties;
    let set = properties(&["--kafka-token-file=/run/token"]);
    let expected = [("sasl.mechanism", "OAUTHBEARER"), ("security.protocol", "SASL_SSL")];
    for (name, value) in expected {
        assert_eq!(set.get(name).map(String::as_str), Some(value), "{name}");
    }
    let args = [
        "--kafka-token-command=print-token",
        "--kafka-property=sasl.mechanisms=oauthbearer",
        "--kafka-property=security.protocol=SASL_PLAINTEXT",
        "--kafka-property=sasl.oauthbearer.extensions=logicalCluster=lkc-1, identityPoolId=pool-1",
    ];
    let set = properties(&args);
    let left: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(left, [("sasl.mechanisms", "oauthbearer"), ("security.protocol", "SASL_PLAINTEXT")]);
}

#[test]
fn a_token_that_cannot_be_is_named() {
    let mistake = |args: &[&str]| read(args, &[URL]).unwrap_err().to_string();
    let both = ["--kafka-token-file=/run/token", "--kafka-token-command=print-token"];
    assert!(mistake(&both).contains("not both"));
    let none = mistake(&["--kafka-property=sasl.mechanism=OAUTHBEARER"]);
    assert!(none.contains("--kafka-token-file or --kafka-token-command"), "{none}");
    let other = mistake(&["--kafka-token-file=/run/token", "--kafka-property=sasl.mechanism=PLAIN"]);
    assert!(other.contains("a token is for"), "{other}");
    let extension = "--kafka-property=sasl.oauthbearer.extensions=lkc";
    assert!(mistake(&["--kafka-token-file=/run/token", extension]).contains("NAME=VALUE"));
}

/// `UPDATE_DOCS=1 cargo test -p walpost` writes the page anew.
#[test]
fn the_page_of_settings_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/walpost-settings.md");
    let page = format!(
        "# Settings of walpost\n\nA flag wins over the environment, that over the file (`--config`, `WALPOST_CONFIG`, else \
         `walpost.toml` where there is one), that over the default.\n\n{}",
        settings::markdown(&TABLE)
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        page,
        "run UPDATE_DOCS=1 cargo test -p walpost"
    );
}

#[test]
fn a_secret_on_the_command_line_is_refused_with_the_way_to_give_it() {
    let arguments = [
        "--database-url=postgres://me:hunter2@db/shop",
        "--kafka-property=sasl.password=hunter2",
        "--kafka-property=ssl.key.password=hunter2",
    ];
    let text = read(&arguments, &[]).unwrap_err().to_string();
    for named in ["WALPOST_DATABASE_URL_FILE", "WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", "ssl.key.password"] {
        assert!(text.contains(named), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert!(read(&["--database-url=postgres://me@db/shop"], &[]).is_ok());
}

/// As it is looked at while the relay sends letters there.
#[test]
fn the_topic_of_dead_letters_may_be_looked_at() {
    let args = ["--topic", "letters"];
    let env = [URL, ("WALPOST_POISON", "dead-letter"), ("WALPOST_DEAD_LETTER_TOPIC", "letters")];
    let settings = read_tail(&args, &env).unwrap();
    assert_eq!((settings.kafka.topics, settings.kafka.dead_letter_topic), (vec!["letters".to_owned()], None));
    assert!(read(&args, &env).is_err(), "the relay must not mix them");
}

const REGISTRY: (&str, &str) = ("WALPOST_REGISTRY_URL", "http://sr:8081");

#[test]
fn values_are_framed_where_there_is_a_registry_and_nowhere_else() {
    use walpost_core::event::framing::Version;
    let settings = read(&["--topic=orders"], &[URL]).unwrap();
    assert!(settings.registry.is_none() && !settings.source.is_typed());
    let wanted = |args: &[&str]| {
        let settings = read(args, &[URL, REGISTRY]).unwrap();
        settings.source.tables[0].mapping.wanted().unwrap().as_ref().clone()
    };
    let default = wanted(&["--topic=orders"]);
    assert_eq!((default.subject.as_str(), default.version), ("orders-value", Version::Latest));
    assert_eq!(wanted(&["--topic=orders", "--rename-topic=orders=sales"]).subject, "sales-value");
    let said = wanted(&["--topic={kind}", "--subject=all", "--schema-version=7", "--format=avro"]);
    assert_eq!((said.subject.as_str(), said.version), ("all", Version::Number(7)));
}

#[test]
fn settings_of_a_schema_that_do_not_go_together_are_said_at_once() {
    let told = |args: &[&str], env: &[(&str, &str)]| read(args, env).unwrap_err().to_string();
    let typed = [URL, REGISTRY];
    for (args, part) in [
        (&["--topic={kind}"][..], "subject is not set: the topic is not the same for each row"),
        (&["--topic=t", "--subject={@topic}-value"], "expected the name of one subject"),
        (&["--topic=t", "--schema-version=0"], "expected latest, or the number of a version"),
        (&["--topic=t", "--framing=magic"], "expected confluent or none"),
        (&["--topic=t", "--framing=none"], "no outbox has framing = confluent"),
        (&["--topic=t", "--format=cloudevents"], "format = cloudevents is not framed"),
        (&["--topic=t", "--schema=/nowhere.avsc"], "cannot be read"),
        (&["--topic=t", "--schema=/etc/hostname"], "whose name ends with .avsc, .json or .proto"),
        (&["--topic=t", "--registry-user=me"], "registry-password is not set"),
        (&["--topic=t", "--registry-ca=/ca.pem"], "registry-ca is for a registry at https://"),
    ] {
        let told = told(args, &typed);
        assert!(told.contains(part), "{args:?}: {told}");
    }
    for (args, part) in [
        (&["--topic=t", "--framing=confluent"][..], "registry-url is not set"),
        (&["--topic=t", "--subject=s"], "subject is set, and registry-url is not"),
        (&["--topic=t", "--format=avro"], "schema is not set: the format avro needs one"),
        (&["--topic=t", "--registry-user=me"], "registry-user is set, and registry-url is not"),
    ] {
        let told = told(args, &[URL]);
        assert!(told.contains(part), "{args:?}: {told}");
    }
}
