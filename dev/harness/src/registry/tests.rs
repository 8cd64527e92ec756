#![allow(clippy::unwrap_used)]

use anyhow::Result;
use serde_json::{Value, json};

use super::{SchemaRegistry, Version};
use crate::http;

const OLD: &str = r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}"#;

async fn posted(registry: &SchemaRegistry, path: &str, body: &Value) -> Result<(u16, Value)> {
    let headers = [("Content-Type", "application/json")];
    let answer = http::send(registry.addr(), "POST", path, &headers, &body.to_string()).await?;
    Ok((answer.status, serde_json::from_str(&answer.body)?))
}

async fn got(registry: &SchemaRegistry, path: &str) -> Result<(u16, Value)> {
    let answer = http::get(registry.addr(), path).await?;
    Ok((answer.status, serde_json::from_str(&answer.body)?))
}

#[tokio::test]
async fn it_knows_its_subjects_and_no_others() -> Result<()> {
    let registry = SchemaRegistry::start().await?;
    let version = |id, version, kind: &str, schema: &str| Version {
        subject: "a".into(),
        version,
        id,
        kind: kind.into(),
        schema: schema.into(),
    };
    registry.store().put(version(3, 1, "JSON", "{}"));
    registry.store().put(version(4, 2, "AVRO", "\"long\""));
    let latest = got(&registry, "/subjects/a/versions/latest").await?;
    assert_eq!(latest, (200, json!({"subject": "a", "id": 4, "version": 2, "schema": "\"long\""})));
    assert_eq!(got(&registry, "/schemas/ids/3").await?.1["schemaType"], "JSON");
    for (path, code) in [
        ("/subjects/b/versions/latest", 40_401),
        ("/subjects/a/versions/9", 40_402),
        ("/schemas/ids/9", 40_403),
    ] {
        let (status, body) = got(&registry, path).await?;
        assert_eq!((status, body["error_code"].as_u64()), (404, Some(code)), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn it_registers_what_is_compatible_once() -> Result<()> {
    let registry = SchemaRegistry::start().await?;
    let new = OLD.replace(']', r#", {"name": "note", "type": "string", "default": ""}]"#);
    for (schema, id) in [(OLD, 1), (OLD, 1), (new.as_str(), 2)] {
        let answer = posted(&registry, "/subjects/a/versions", &json!({ "schema": schema })).await?;
        assert_eq!(answer, (200, json!({ "id": id })));
    }
    let spaced = OLD.replace(',', " , ");
    let found = posted(&registry, "/subjects/a", &json!({ "schema": spaced })).await?;
    assert_eq!((found.0, found.1["version"].as_u64()), (200, Some(1)));
    let without_default = OLD.replace(']', r#", {"name": "sum", "type": "string"}]"#);
    let refused = posted(&registry, "/subjects/a/versions", &json!({ "schema": without_default })).await?;
    assert_eq!((refused.0, refused.1["error_code"].as_u64()), (409, Some(409)));
    let invalid = posted(&registry, "/subjects/b/versions", &json!({ "schema": "no schema" })).await?;
    assert_eq!((invalid.0, invalid.1["error_code"].as_u64()), (422, Some(42_201)));
    let unknown = posted(&registry, "/subjects/c", &json!({ "schema": OLD })).await?;
    assert_eq!((unknown.0, unknown.1["error_code"].as_u64()), (404, Some(40_401)));
    Ok(())
}

#[tokio::test]
async fn it_asks_who_it_is_and_can_be_away() -> Result<()> {
    let mut registry = SchemaRegistry::start().await?;
    registry.ask_for("me", "secret");
    assert_eq!(got(&registry, "/subjects").await?.0, 401);
    let headers = [("Authorization", "Basic bWU6c2VjcmV0")];
    let answer = http::send(registry.addr(), "GET", "/subjects", &headers, "").await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    registry.go();
    crate::wait_until("it is gone", std::time::Duration::from_secs(10), async || {
        Ok(http::get(registry.addr(), "/subjects").await.is_err())
    })
    .await?;
    registry.come().await?;
    assert_eq!(got(&registry, "/subjects").await?.0, 401);
    Ok(())
}
