use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::example::{Registry, Subject};

/// It answers what a client asks that writes: the latest version or a given one of a subject, and a schema by its id.
/// It ends when this is dropped.
pub(super) struct RegistryServer {
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

type Answer = (StatusCode, Json<Value>);

impl RegistryServer {
    /// One that knows `registry`.
    pub(super) async fn start(registry: &Registry) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let router = Router::new()
            .route("/subjects/{subject}/versions/{version}", get(version))
            .route("/schemas/ids/{id}", get(schema))
            .with_state(registry.subjects.clone());
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { addr, serving })
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn version(
    State(known): State<Vec<Subject>>,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    let of_subject = known.into_iter().filter(|found| found.subject == subject);
    let found = match version.as_str() {
        "latest" => of_subject.max_by_key(|found| found.version),
        number => of_subject.into_iter().find(|found| found.version.to_string() == number),
    };
    answer(
        found,
        40_401,
        "subject",
        |found| json!({"subject": found.subject, "id": found.id, "version": found.version, "schema": found.schema}),
    )
}

async fn schema(State(known): State<Vec<Subject>>, Path(id): Path<u32>) -> Answer {
    let found = known.into_iter().find(|found| found.id == id);
    answer(found, 40_403, "schema", |found| json!({"schema": found.schema}))
}

/// As Confluent's registry has it: the type is left out where it is Avro, and an error has a code of its own.
fn answer(found: Option<Subject>, code: u32, what: &str, shown: impl Fn(&Subject) -> Value) -> Answer {
    let Some(found) = found else {
        let error = json!({"error_code": code, "message": format!("there is no such {what}")});
        return (StatusCode::NOT_FOUND, Json(error));
    };
    let mut shown = shown(&found);
    if found.kind != "AVRO" {
        shown["schemaType"] = json!(found.kind);
    }
    (StatusCode::OK, Json(shown))
}

#[tokio::test]
async fn the_registry_knows_its_subjects_and_no_others() -> Result<()> {
    let registry = json!({"subjects": [
        {"subject": "a", "id": 3, "version": 1, "type": "JSON", "schema": "{}"},
        {"subject": "a", "id": 4, "version": 2, "type": "AVRO", "schema": "\"long\""},
    ]});
    let server = RegistryServer::start(&serde_json::from_value(registry)?).await?;
    let asked = async |path: &str| harness::http::get(server.addr, path).await;
    let latest = asked("/subjects/a/versions/latest").await?;
    let body: Value = serde_json::from_str(&latest.body)?;
    assert_eq!(body, json!({"subject": "a", "id": 4, "version": 2, "schema": "\"long\""}));
    assert!(asked("/schemas/ids/3").await?.body.contains("\"schemaType\":\"JSON\""));
    assert_eq!(asked("/subjects/b/versions/latest").await?.status, 404);
    Ok(())
}
