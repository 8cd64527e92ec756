#![allow(clippy::unwrap_used)]

use super::*;

fn toml(text: &str) -> (toml::Table, String) {
    let text = translate(text).unwrap();
    (text.parse().unwrap(), text)
}

#[test]
fn the_least_connector_becomes_what_the_preset_says() {
    let json = r#"{"name": "outbox", "config": {"connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "db", "database.user": "me", "database.password": "hunter2", "database.dbname": "shop",
        "plugin.name": "pgoutput", "slot.name": "shop_outbox",
        "table.include.list": "public.outbox", "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter"}}"#;
    let (table, text) = toml(json);
    assert_eq!(table["slot"].as_str(), Some("shop_outbox"));
    assert_eq!(table["publication"].as_str(), Some("dbz_publication"));
    let preset = walpost_core::event::presets::named("debezium").unwrap();
    for (key, value) in preset.settings.iter().filter(|(key, _)| *key != "traceparent") {
        assert_eq!(table[*key].as_str(), Some(*value), "{key}");
    }
    assert_eq!(table["headers"]["id"].as_str(), Some("{id}"));
    assert_eq!(table["table"].as_str(), Some("public.outbox"));
    assert!(text.contains("postgres://me@db:5432/shop") && !text.contains("hunter2"), "{text}");
    assert!(!text.contains("not carried over"), "{text}");
}

#[test]
fn properties_of_the_server_with_placements_and_quotes() {
    let properties = "# a comment\ndebezium.sink.type=kafka\ndebezium.source.table.include.list=shop\\\\.events\n\
        debezium.transforms=route,other\ndebezium.transforms.route.type=io.debezium.transforms.outbox.EventRouter\n\
        debezium.transforms.route.route.by.field=aggregate_type\n\
        debezium.transforms.route.route.topic.replacement=${routedByValue}.events\n\
        debezium.transforms.route.table.field.event.timestamp=created_at\n\
        debezium.transforms.route.table.fields.additional.placement=type:header:eventType,version:envelope,lane:partition\n\
        debezium.transforms.route.route.tombstone.on.empty.payload=true\n\
        debezium.source.key.converter=org.apache.kafka.connect.json.JsonConverter\n\
        debezium.source.key.converter.schemas.enable=false\n";
    let (table, text) = toml(properties);
    for (key, value) in [
        ("table", "shop.events"),
        ("topic", "{aggregate_type}.events"),
        ("key", "{aggregateid|quote}"),
        ("timestamp", "created_at"),
        ("partition", "lane"),
        ("tombstone", "empty"),
        ("format", "json"),
    ] {
        assert_eq!(table[key].as_str(), Some(value), "{key}\n{text}");
    }
    assert_eq!(table["headers"]["eventType"].as_str(), Some("{type}"));
    assert_eq!(table["fields"]["payload"].as_str(), Some("{payload}"));
    assert_eq!(table["fields"]["version"].as_str(), Some("{version}"));
    assert!(text.contains("the transform other: walpost has none"), "{text}");
}

#[test]
fn what_has_no_counterpart_is_named() {
    let json = r#"{"transforms": "outbox", "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.table.expand.json.payload": "true",
        "transforms.outbox.route.topic.regex": "(.*)Event", "table.include.list": "a.b,c[.]d", "some.option": "x",
        "value.converter": "io.confluent.connect.avro.AvroConverter"}"#;
    let (table, text) = toml(json);
    assert!(table.get("slot").is_none() && table.get("publication").is_none(), "{text}");
    for part in [
        "table.expand.json.payload: walpost writes",
        "the slot debezium is of the plugin decoderbufs",
        "route.topic.regex = (.*)Event: walpost has no regular expressions",
        "table.include.list = a.b,c[.]d: walpost has no regular expressions",
        "some.option = x is not carried over",
        "AvroConverter: its schemas are Debezium's; with one of your own in the registry",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for (text, says) in [("{", "it is not JSON"), ("{}", "no transform of the type"), ("a=b", "no transform")]
    {
        assert!(translate(text).unwrap_err().contains(says), "{text}");
    }
}

#[test]
fn several_tables_are_an_outbox_each_and_topics_are_made_as_they_were() {
    let json = r#"{"transforms": "outbox", "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "plugin.name": "pgoutput", "table.include.list": "a.outbox, b\\.outbox",
        "topic.creation.default.partitions": "6", "topic.creation.default.replication.factor": "-1",
        "topic.creation.default.cleanup.policy": "compact", "topic.creation.groups": "big",
        "topic.creation.big.include": "big.*", "topic.creation.big.partitions": "60"}"#;
    let (table, text) = toml(json);
    let tables: Vec<_> =
        table["outbox"].as_array().unwrap().iter().map(|one| one["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["a.outbox", "b.outbox"], "{text}");
    let made = table["create_topics"]["*"].as_table().unwrap();
    assert_eq!(made["partitions"].as_integer(), Some(6));
    assert_eq!(made["cleanup.policy"].as_str(), Some("compact"));
    assert!(!made.contains_key("replication"), "the brokers' own: {text}");
    assert!(text.contains("topic.creation.big.include = big.*"), "{text}");
}
