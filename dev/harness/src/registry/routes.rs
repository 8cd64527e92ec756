//! What is asked, and what is answered.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::{Value, json};

use super::Shared;
use super::store::{Asked, Refusal, Version};

type Answer = (StatusCode, Json<Value>);

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/schemas/ids/{id}", get(schema))
        .layer(from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

/// Notes what is asked, and asks who it is.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    shared.store().asked.push(Asked { method, path });
    let expected = shared.user().as_ref().map(|user| format!("Basic {}", BASE64_STANDARD.encode(user)));
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if expected.is_some() && expected.as_deref() != given {
        return refused(StatusCode::UNAUTHORIZED, 401, "Unauthorized").into_response();
    }
    next.run(request).await
}

fn refused(status: StatusCode, code: u32, message: &str) -> Answer {
    (status, Json(json!({"error_code": code, "message": message})))
}

fn no_subject(subject: &str) -> Answer {
    refused(StatusCode::NOT_FOUND, 40_401, &format!("Subject '{subject}' not found."))
}

async fn subjects(State(shared): State<Arc<Shared>>) -> Answer {
    let store = shared.store();
    let mut names: Vec<_> = store.all().map(|version| version.subject.clone()).collect();
    names.dedup();
    (StatusCode::OK, Json(names.into()))
}

async fn versions(State(shared): State<Arc<Shared>>, Path(subject): Path<String>) -> Answer {
    let numbers: Vec<_> = shared.store().of_subject(&subject).map(|version| version.version).collect();
    if numbers.is_empty() { no_subject(&subject) } else { (StatusCode::OK, Json(numbers.into())) }
}

async fn version(
    State(shared): State<Arc<Shared>>,
    Path((subject, version)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let store = shared.store();
    if store.of_subject(&subject).next().is_none() {
        return no_subject(&subject);
    }
    match store.version(&subject, &version) {
        Some(found) => {
            let mut shown = shown(found, query.as_deref());
            shown["subject"] = found.subject.clone().into();
            shown["version"] = found.version.into();
            shown["id"] = found.id.into();
            (StatusCode::OK, Json(shown))
        }
        None => refused(StatusCode::NOT_FOUND, 40_402, &format!("Version {version} not found.")),
    }
}

async fn schema(State(shared): State<Arc<Shared>>, Path(id): Path<u32>, RawQuery(query): RawQuery) -> Answer {
    match shared.store().by_id(id) {
        Some(found) => (StatusCode::OK, Json(shown(found, query.as_deref()))),
        None => refused(StatusCode::NOT_FOUND, 40_403, &format!("Schema {id} not found")),
    }
}

async fn lookup(
    State(shared): State<Arc<Shared>>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let (kind, schema) = given(&body);
    let store = shared.store();
    if store.of_subject(&subject).next().is_none() {
        return no_subject(&subject);
    }
    match store.lookup(&subject, kind, schema) {
        Some(found) => {
            let mut shown = shown(found, None);
            shown["subject"] = found.subject.clone().into();
            shown["version"] = found.version.into();
            shown["id"] = found.id.into();
            (StatusCode::OK, Json(shown))
        }
        None => refused(StatusCode::NOT_FOUND, 40_403, "Schema not found"),
    }
}

async fn register(
    State(shared): State<Arc<Shared>>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Answer {
    let (kind, schema) = given(&body);
    match shared.store().register(&subject, kind, schema) {
        Ok(id) => (StatusCode::OK, Json(json!({ "id": id }))),
        Err(Refusal::Invalid(what)) => refused(StatusCode::UNPROCESSABLE_ENTITY, 42_201, &what),
        Err(Refusal::Incompatible(what)) => refused(StatusCode::CONFLICT, 409, &what),
    }
}

fn given(body: &Value) -> (&str, &str) {
    (body["schemaType"].as_str().unwrap_or("AVRO"), body["schema"].as_str().unwrap_or_default())
}

/// The type is left out where it is Avro.
fn shown(version: &Version, query: Option<&str>) -> Value {
    let is_serialized = query.is_some_and(|query| query.split('&').any(|pair| pair == "format=serialized"));
    let mut schema = version.schema.clone();
    if version.kind == "PROTOBUF"
        && is_serialized
        && let Ok(descriptor) = descriptor(&version.schema)
    {
        schema = BASE64_STANDARD.encode(descriptor);
    }
    let mut shown = json!({ "schema": schema });
    if version.kind != "AVRO" {
        shown["schemaType"] = version.kind.clone().into();
    }
    shown
}

/// A source of Protobuf alone, and what Google's own files have.
struct Source(String);

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            NAME => File::from_source(name, &self.0),
            other => Err(protox::Error::file_not_found(other)),
        }
    }
}

const NAME: &str = "default";

/// The serialised `FileDescriptorProto` of a source.
pub(super) fn descriptor(source: &str) -> Result<Vec<u8>> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Source(source.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(NAME)?;
    let set = compiler.file_descriptor_set();
    let file = set.file.iter().find(|file| file.name() == NAME).context("the file itself")?;
    Ok(file.encode_to_vec())
}
