//! REST as the clients of grpc-gateway know it, its document, and its page.

use anyhow::{Context, Result};
use harness::http::{Response, send};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Setup;

async fn call(setup: &Setup, verb: &str, path: &str, body: &str) -> Result<Response> {
    send(setup.server.addresses.rest, verb, path, &[], body).await
}

fn json(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

const BOX: &str = r#"{"Title":"box","Material":"wood","MaximumVolume":700.5,"Reusable":false,"unknown":[1]}"#;

#[tokio::test]
async fn a_package_lives_by_rest_as_it_did() -> Result<()> {
    let setup = Setup::new().await?;
    let text = [("Content-Type", "text/plain")];
    let created = send(setup.server.addresses.rest, "POST", "/v1/packages?Title=ignored", &text, BOX).await?;
    assert_eq!((created.status, created.body.as_str()), (200, r#"{"ID":"1"}"#));
    assert!(created.head.contains("content-type: application/json"), "{}", created.head);
    assert!(created.head.contains("grpc-metadata-content-type: application/grpc"), "{}", created.head);

    let described = json(&call(&setup, "GET", "/v1/packages/1?unknown=x", "").await?);
    let created_at = described["Value"]["Created"].as_str().context("no time")?;
    assert!(created_at.ends_with('Z'), "{created_at}");
    let package = json!({
        "ID": "1", "Title": "box", "Material": "wood", "MaximumVolume": 700.5, "Reusable": false,
        "Created": created_at, "Updated": null,
    });
    assert_eq!(described, json!({"Value": package}));
    let listed = json(&call(&setup, "GET", "/v1/packages?Limit=5&Offset=0", "").await?);
    assert_eq!(listed, json!({"PackageTitle": [], "Packages": [package]}));
    let empty = json(&call(&setup, "GET", "/v1/packages?Offset=7", "").await?);
    assert_eq!(empty, json!({"PackageTitle": [], "Packages": []}));

    let by_query = "/v1/packages/1?Title=crate%20%D0%B6&Reusable.Reusable=true&MaximumVolume=1.5";
    assert_eq!(call(&setup, "PUT", by_query, "").await?.body, r#"{"Suc":true}"#);
    let by_body = r#"{"Material":"pine","PackageID":"77"}"#;
    assert_eq!(call(&setup, "PUT", "/v1/packages/1", by_body).await?.body, r#"{"Suc":true}"#);
    let updated = json(&call(&setup, "GET", "/v1/packages/1", "").await?);
    let value = &updated["Value"];
    assert_eq!((&value["Title"], &value["Material"]), (&json!("crate ж"), &json!("pine")));
    assert_eq!((&value["MaximumVolume"], &value["Reusable"]), (&json!(1.5), &json!(true)));
    assert!(value["Updated"]["Time"].is_string(), "{value}");

    assert_eq!(call(&setup, "DELETE", "/v1/packages/1", "").await?.body, r#"{"Suc":true}"#);
    assert_eq!(setup.server.metric("http_microservice_requests_total").await?, 8.0);
    Ok(())
}

#[rstest]
#[case::unknown_path("GET", "/v2/packages", "", 404, 5, "Not Found")]
#[case::slash("GET", "/v1/packages/", "", 404, 5, "Not Found")]
#[case::wrong_method("PATCH", "/v1/packages/1", "", 501, 12, "Method Not Allowed")]
#[case::wrong_method_of_all("DELETE", "/v1/packages", "", 501, 12, "Method Not Allowed")]
#[case::no_number("GET", "/v1/packages/one", "", 400, 3, "type mismatch, parameter: PackageID")]
#[case::negative("GET", "/v1/packages/-1", "", 400, 3, "type mismatch, parameter: PackageID")]
#[case::past_64_bits("GET", "/v1/packages/18446744073709551616", "", 400, 3, "type mismatch")]
#[case::query("GET", "/v1/packages?Limit=many", "", 400, 3, "type mismatch, parameter: Limit")]
#[case::no_json("POST", "/v1/packages", "{", 400, 3, "the body is not JSON")]
#[case::wrong_type("POST", "/v1/packages", r#"{"Title":7}"#, 400, 3, "the body is not JSON")]
#[case::two("POST", "/v1/packages", "{} {}", 400, 3, "Title")]
#[case::nothing("POST", "/v1/packages", "", 400, 3, "Title")]
#[case::missing("GET", "/v1/packages/9", "", 404, 5, "package not found")]
#[tokio::test]
async fn what_is_refused_is_refused_as_it_was(
    #[case] verb: &str,
    #[case] path: &str,
    #[case] body: &str,
    #[case] status: u16,
    #[case] code: i32,
    #[case] message: &str,
) -> Result<()> {
    let setup = Setup::new().await?;
    let response = call(&setup, verb, path, body).await?;
    let error = json(&response);
    assert_eq!((response.status, &error["code"]), (status, &json!(code)), "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.starts_with(message)), "{error}");
    assert!(error["details"].is_array(), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_body_above_4_mib_is_refused() -> Result<()> {
    let setup = Setup::new().await?;
    let body = format!("{{\"Title\":\"{}\"}}", "x".repeat(5 << 20));
    // The server need not read it to the end.
    if let Ok(response) = call(&setup, "POST", "/v1/packages", &body).await {
        assert_eq!((response.status, &json(&response)["code"]), (429, &json!(8)));
    }
    assert_eq!(call(&setup, "GET", "/v1/packages", "").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn headers_become_metadata() -> Result<()> {
    let setup = Setup::new().await?;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for name in ["traceparent", "Grpc-Metadata-Traceparent"] {
        send(setup.server.addresses.rest, "POST", "/v1/packages", &[(name, trace)], BOX).await?;
    }
    let count = "select count(*) from package_event where traceparent = $1";
    let row = setup.database.client().await?.query_one(count, &[&trace]).await?;
    assert_eq!(row.get::<_, i64>(0), 2);
    Ok(())
}

#[tokio::test]
async fn pages_of_named_origins_may_call() -> Result<()> {
    let ask = [("Origin", "https://shop.example"), ("Access-Control-Request-Method", "PUT")];
    let closed = Setup::new().await?;
    let refused = send(closed.server.addresses.rest, "OPTIONS", "/v1/packages/1", &ask, "").await?;
    assert!(!refused.head.contains("access-control-allow-origin"), "{}", refused.head);

    let open = Setup::with(&["--cors-origins", "https://shop.example,http://localhost:3000"]).await?;
    let allowed = send(open.server.addresses.rest, "OPTIONS", "/v1/packages/1", &ask, "").await?;
    assert_eq!(allowed.status, 200);
    assert!(allowed.head.contains("access-control-allow-origin: https://shop.example"), "{}", allowed.head);
    assert!(allowed.head.contains("put"), "{}", allowed.head);
    let other = [("Origin", "https://evil.example")];
    let stranger = send(open.server.addresses.rest, "GET", "/v1/packages", &other, "").await?;
    assert!(!stranger.head.contains("access-control-allow-origin"), "{}", stranger.head);
    Ok(())
}

#[tokio::test]
async fn the_document_names_every_call_and_field() -> Result<()> {
    let setup = Setup::new().await?;
    let document = json(&call(&setup, "GET", "/openapi.json", "").await?);
    let operations: Vec<_> = ["/v1/packages", "/v1/packages/{PackageID}"]
        .iter()
        .flat_map(|path| document["paths"][path].as_object().unwrap())
        .map(|(verb, call)| format!("{verb} {}", call["operationId"].as_str().unwrap()))
        .collect();
    let expected = [
        "get ListPackagesV1",
        "post CreatePackageV1",
        "delete RemovePackageV1",
        "get DescribePackageV1",
        "put UpdatePackageV1",
    ];
    assert_eq!(operations, expected);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Package"]["properties"]["ID"]["format"], "uint64");
    assert_eq!(schemas["Package"]["properties"]["Created"]["format"], "date-time");
    let title = &schemas["CreatePackageV1Request"]["properties"]["Title"]["description"];
    assert_eq!(title, "1 to 32 characters (code points).");

    let off = Setup::with(&["--openapi=false"]).await?;
    assert_eq!(call(&off, "GET", "/openapi.json", "").await?.status, 404);
    assert_eq!(call(&off, "GET", "/docs", "").await?.status, 404);
    Ok(())
}
