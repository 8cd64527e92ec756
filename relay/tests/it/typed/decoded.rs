use super::*;

const AVRO: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "uid", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "exactly", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": null},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}, "default": "NEW"},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "count", "type": "int", "default": 1}]}}, "default": []},
    {"name": "labels", "type": {"type": "map", "values": "double"}, "default": {}},
    {"name": "raw", "type": "bytes", "default": "ÿ"},
    {"name": "before", "type": ["null", "Order"], "default": null}]}"#;

#[tokio::test]
async fn avro_of_a_json_payload_is_what_its_author_meant() -> Result<()> {
    let typed = Typed::new("payload jsonb", "format = \"avro\"\n").await?;
    typed.knows("AVRO", AVRO);
    let mut relay = typed.relay.init_and_run().await?;
    let first = r#"{"sum": 1234.5, "id": 9007199254740993, "note": "häßlich \"q\" \\ \n", "at": "2026-03-01T10:00:00.5+01:00",
        "day": "2026-03-01", "uid": "30313233-3435-3637-3839-616263646566", "exactly": "2026-03-01T10:00:00.000001Z",
        "lines": [{"sku": "a"}, {"count": 7, "sku": "b"}], "labels": {"π \"": 3.25, "e": 2}, "raw": "AP9h", "state": "PAID",
        "before": {"id": -1, "sum": "-0.01", "day": 0, "at": 1, "uid": "00000000-0000-0000-0000-000000000000"}}"#;
    let client = typed.database.client().await?;
    let insert = "insert into outbox values ($1::bigint, 'o-' || $1, $2::text::jsonb)";
    client.execute(insert, &[&1i64, &first]).await?;
    let least = r#"{"id": 0, "sum": 0, "day": -1, "at": -1, "uid": "00000000-0000-0000-0000-000000000000"}"#;
    client.execute(insert, &[&2i64, &least]).await?;
    client.execute(insert, &[&3i64, &None::<&str>]).await?;
    let Some(read) = typed.decoded("avro", 3, &[]).await? else { return Ok(()) };
    let nothing = json!({"id": 0, "note": null, "sum": "0.00", "day": "1969-12-31", "at": "1969-12-31T23:59:59.999000+00:00",
        "uid": "00000000-0000-0000-0000-000000000000", "exactly": null, "state": "NEW", "lines": [], "labels": {},
        "raw": "/w==", "before": null});
    let mut before = nothing.clone();
    before["id"] = json!(-1);
    before["sum"] = json!("-0.01");
    before["day"] = json!("1970-01-01");
    before["at"] = json!("1970-01-01T00:00:00.001000+00:00");
    let expected = json!({"id": 9_007_199_254_740_993i64, "note": "häßlich \"q\" \\ \n", "sum": "1234.50",
        "uid": "30313233-3435-3637-3839-616263646566", "day": "2026-03-01", "at": "2026-03-01T09:00:00.500000+00:00",
        "exactly": "2026-03-01T10:00:00.000001+00:00", "state": "PAID",
        "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 7}], "labels": {"π \"": 3.25, "e": 2.0}, "raw": "AP9h",
        "before": before});
    assert_eq!(read[0]["value"], expected);
    assert_eq!(read[1]["value"], nothing);
    assert_eq!(
        read[2],
        json!({"key": "o-3", "value": null, "is_null": true}),
        "a deletion has nothing before it"
    );
    relay.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn avro_of_columns_has_each_column_in_its_field() -> Result<()> {
    let table = "sum numeric(10, 2), uid uuid, day date, at timestamptz, paid boolean, kind text, raw bytea, tags text[], \
                 more jsonb, ratio double precision";
    let settings = "format = \"avro\"\n[fields]\nid = \"{n}\"\nnote = \"{more.note}\"\nsum = \"{sum}\"\nuid = \"{uid}\"\n\
                    day = \"{day}\"\nat = \"{at}\"\n\"place.street\" = \"{more.street}\"\npaid = \"{paid}\"\nkind = \"{kind}\"\n\
                    raw = \"{raw}\"\ntags = \"{tags}\"\nratio = \"{ratio}\"\nlabel = \"{kind|lower}-{n}\"\n";
    let typed = Typed::new(table, settings).await?;
    typed.knows(
        "AVRO",
        r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "int"}, {"name": "note", "type": ["null", "string"]},
        {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "uid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
            {"name": "street", "type": "string"}, {"name": "city", "type": "string", "default": "?"}]}},
        {"name": "paid", "type": "boolean"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Made", "Paid"]}},
        {"name": "raw", "type": "bytes"}, {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "ratio", "type": "float"}, {"name": "label", "type": "string"}]}"#,
    );
    let mut relay = typed.relay.init_and_run().await?;
    typed
        .database
        .execute(
            "insert into outbox values (7, 'o-7', 12.30, '30313233-3435-3637-3839-616263646566', '2026-03-01', \
             '2026-03-01T10:00:00.000001Z', true, 'Paid', '\\x00ff', array['a', null], '{\"street\": \"Weg 1\"}', 0.5)",
        )
        .await?;
    let Some(read) = typed.decoded("avro", 1, &[]).await? else { return Ok(()) };
    let expected = json!({"id": 7, "note": null, "sum": "12.30", "uid": "30313233-3435-3637-3839-616263646566",
        "day": "2026-03-01", "at": "2026-03-01T10:00:00.000001+00:00", "place": {"street": "Weg 1", "city": "?"},
        "paid": true, "kind": "Paid", "raw": "AP8=", "tags": ["a", null], "ratio": 0.5, "label": "paid-7"});
    assert_eq!(read[0]["value"], expected);
    relay.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn json_behind_the_id_of_its_schema_is_read_and_valid() -> Result<()> {
    let schema = r#"{"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}"#;
    for (format, expected) in [("raw", json!({"id": 1, "more": [true]})), ("json", json!({"id": 1}))] {
        let fields = if format == "json" { "[fields]\nid = \"{payload.id}\"\n" } else { "" };
        let typed = Typed::new("payload jsonb", &format!("format = \"{format}\"\n{fields}")).await?;
        typed.knows("JSON", schema);
        let mut relay = typed.relay.init_and_run().await?;
        typed
            .database
            .execute("insert into outbox values (1, 'o-1', '{\"id\": 1, \"more\": [true]}')")
            .await?;
        let Some(read) = typed.decoded("json", 1, &[]).await? else { return Ok(()) };
        assert_eq!(read[0]["value"], expected, "{format}");
        relay.terminate(SOON).await?;
    }
    Ok(())
}

const SHOP: &str = r#"syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other { string x = 1; message Inner { message Innermost { int64 n = 1; } string y = 1; } }
message Order { int64 id = 1; string note = 2; google.protobuf.Timestamp at = 3; }
"#;

/// The descriptor of [`SHOP`], as protoc writes it.
fn descriptor(folder: &Path) -> Result<Vec<u8>> {
    fs::write(folder.join("shop.proto"), SHOP)?;
    let mut compiler = protox::Compiler::new([folder])?;
    compiler.include_imports(true).open_file("shop.proto")?;
    Ok(compiler.encode_file_descriptor_set())
}

#[tokio::test]
async fn protobuf_of_any_message_of_a_file_is_found_by_its_indexes() -> Result<()> {
    for (message, settings, expected) in [
        (
            "shop.Order",
            "[fields]\nid = \"{n}\"\nnote = \"{aggregate_id}\"\n",
            json!({"id": "1", "note": "o-1"}),
        ),
        ("shop.Other.Inner.Innermost", "[fields]\nn = \"{n}\"\n", json!({"n": "1"})),
        ("shop.{payload.kind}", "", json!({"x": "hi"})),
    ] {
        let format = format!("format = \"protobuf\"\ndescriptor = \"shop.binpb\"\nmessage = \"{message}\"\n");
        // Without fields the payload is the message.
        let value = if settings.is_empty() { "value = \"{payload.body}\"\n" } else { "" };
        let typed = Typed::new("payload jsonb", &format!("{format}{value}{settings}")).await?;
        let path = typed.file("shop.binpb", &descriptor(&typed.folder)?)?;
        typed.knows("PROTOBUF", SHOP);
        let mut relay = typed.relay.init_and_run().await?;
        let payload = json!({"kind": "Other", "body": {"x": "hi"}});
        typed.database.execute(&format!("insert into outbox values (1, 'o-1', '{payload}')")).await?;
        let name = message.replace("{payload.kind}", "Other");
        let path = path.to_str().context("a path")?;
        let Some(read) = typed.decoded("protobuf", 1, &[path, &name]).await? else { return Ok(()) };
        assert_eq!(read[0]["value"], expected, "{message}");
        relay.terminate(SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_a_datum_already_are_framed_as_they_are() -> Result<()> {
    let typed = Typed::new("payload bytea", "").await?;
    typed.knows("AVRO", ORDER);
    let mut relay = typed.relay.init_and_run().await?;
    typed.database.execute("insert into outbox values (1, 'o-1', '\\x52020468 69')").await?;
    let Some(read) = typed.decoded("avro", 1, &[]).await? else { return Ok(()) };
    assert_eq!(read[0]["value"], json!({"id": 41, "note": "hi"}));
    relay.terminate(SOON).await.map(drop)
}
