//! Answers as grpc-gateway v2 writes them.

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, SerializeOptions,
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::binding::Binding;
use super::json;

/// 64-bit numbers as strings, and every field, set or not.
const OPTIONS: SerializeOptions =
    SerializeOptions::new().stringify_64_bit_integers(true).skip_default_fields(false);

const JSON: &str = "application/json";

/// The message of an rpc, and its metadata as headers.
pub(super) fn message(binding: &Binding, metadata: &HeaderMap, bytes: Bytes) -> Response<Full<Bytes>> {
    let text = DynamicMessage::decode(binding.output.clone(), bytes)
        .map_err(|error| error.to_string())
        .and_then(|message| json_of(&message).map_err(|error| error.to_string()));
    match text {
        Ok(text) => {
            let mut response = content(JSON, Bytes::from(text.to_string()));
            let passed_on = metadata.iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(format!("grpc-metadata-{name}")).ok()?, value.clone()))
            });
            response.headers_mut().extend(passed_on);
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                Bytes::from_static(br#"{"code":13,"message":"internal error","details":[]}"#),
            )
        }
    }
}

fn json_of(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    let mut json = message.serialize_with_options(serde_json::value::Serializer, &OPTIONS)?;
    write_as_go(&mut json, &message.descriptor());
    Ok(json)
}

/// Messages that are absent are null and floats are short, as Go's protojson writes them.
fn write_as_go(json: &mut Value, descriptor: &MessageDescriptor) {
    let Value::Object(fields) = json else { return };
    for field in descriptor.fields() {
        let kind = field.kind();
        let write = |value: &mut Value| match &kind {
            Kind::Message(of) => write_as_go(value, of),
            Kind::Float => json::shorten(value),
            _ => {}
        };
        if matches!(kind, Kind::Message(_) | Kind::Float) {
            match fields.entry(field.json_name()).or_insert(Value::Null) {
                Value::Array(items) => items.iter_mut().for_each(write),
                one => write(one),
            }
        }
    }
}

/// A status, with its details in words where the descriptors know them.
pub(super) fn error(pool: &DescriptorPool, status: &Status) -> Response<Full<Bytes>> {
    let body = json!({
        "code": i32::from(status.code()),
        "message": status.message(),
        "details": details(pool, status.details()).unwrap_or_default(),
    });
    let mut response = respond(http_status(status.code()), JSON, Bytes::from(body.to_string()));
    if status.code() == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A body that did not arrive, or not as a whole. The connection ends with the answer: what may still come of the body is
/// nobody's request.
pub(super) fn not_received(
    pool: &DescriptorPool,
    cause: &(dyn Error + Send + Sync + 'static),
) -> Response<Full<Bytes>> {
    let status = match cause.downcast_ref::<Status>() {
        Some(status) => status.clone(),
        None => Status::resource_exhausted(format!("the body was not read: {cause}")),
    };
    let mut response = error(pool, &status);
    // RFC 9110, section 15.5.9: the request came too slowly. 504 would blame the database.
    if status.code() == Code::DeadlineExceeded {
        *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    }
    response
}

/// `google.rpc.Status` holds them, each in an `Any`.
fn details(pool: &DescriptorPool, bytes: &[u8]) -> Option<Vec<Value>> {
    let whole = DynamicMessage::decode(pool.get_message_by_name("google.rpc.Status")?, bytes).ok()?;
    json_of(&whole).ok()?.get("details")?.as_array().cloned()
}

pub(super) fn content(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, content_type, body)
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// `runtime.HTTPStatusFromCode` of grpc-gateway.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
