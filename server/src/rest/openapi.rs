//! The OpenAPI document, from the descriptors and their comments, and a page to try each call.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::binding::{Binding, Bindings, Segment};

/// Nothing from outside: the page reads the document beside it.
pub(super) const PAGE: &[u8] = include_bytes!("openapi/page.html");

/// The document, OpenAPI 3.1.
pub(super) fn document(bindings: &Bindings) -> String {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut schemas = BTreeMap::new();
    for binding in &bindings.0 {
        let verb = binding.verb.as_str().to_lowercase();
        paths.entry(path(binding)).or_default().insert(verb, operation(binding, &mut schemas));
    }
    let error = json!({
        "type": "object",
        "properties": {
            "code": {"type": "integer", "description": "google.rpc.Code"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    });
    schemas.insert("Error".to_owned(), error);
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The logistic package API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": bindings.0.first().map(|binding| service_comment(&binding.method)),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    });
    document.to_string()
}

fn path(binding: &Binding) -> String {
    let segments = binding.template.iter().map(|segment| match segment {
        Segment::Literal(literal) => format!("/{literal}"),
        Segment::Field(name) => format!("/{{{name}}}"),
    });
    segments.collect()
}

fn operation(binding: &Binding, schemas: &mut BTreeMap<String, Value>) -> Value {
    let (input, output) = (binding.method.input(), binding.method.output());
    let in_path =
        |field: &FieldDescriptor| binding.template.contains(&Segment::Field(field.name().to_owned()));
    let mut parameters: Vec<_> = input
        .fields()
        .filter(in_path)
        .map(|field| parameter("path", field.name(), &field, schemas))
        .collect();
    let mut operation = json!({
        "operationId": binding.method.name(),
        "summary": method_comment(&binding.method),
        "responses": {
            "200": {"description": "The answer.", "content": content(&output, schemas)},
            "default": {
                "description": "An error, with the status of its code.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    });
    if binding.body {
        operation["requestBody"] = json!({"required": true, "content": content(&input, schemas)});
    } else {
        for field in input.fields().filter(|field| !in_path(field)) {
            match field.kind() {
                Kind::Message(inner) => {
                    parameters.extend(inner.fields().map(|of| {
                        parameter("query", &format!("{}.{}", field.name(), of.name()), &of, schemas)
                    }))
                }
                _ => parameters.push(parameter("query", field.name(), &field, schemas)),
            }
        }
    }
    operation["parameters"] = Value::Array(parameters);
    operation
}

fn parameter(
    place: &str,
    name: &str,
    field: &FieldDescriptor,
    schemas: &mut BTreeMap<String, Value>,
) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": field_comment(field),
        "schema": kind(&field.kind(), schemas),
    })
}

fn content(message: &MessageDescriptor, schemas: &mut BTreeMap<String, Value>) -> Value {
    json!({"application/json": {"schema": reference(message, schemas)}})
}

/// A message as a schema of its own.
fn reference(message: &MessageDescriptor, schemas: &mut BTreeMap<String, Value>) -> Value {
    let name = message.name().to_owned();
    if !schemas.contains_key(&name) {
        schemas.insert(name.clone(), Value::Null);
        let properties: Map<String, Value> = message
            .fields()
            .map(|field| {
                let mut schema = kind(&field.kind(), schemas);
                if field.is_list() {
                    schema = json!({"type": "array", "items": schema});
                }
                schema["description"] = field_comment(&field).into();
                (field.json_name().to_owned(), schema)
            })
            .collect();
        schemas.insert(name.clone(), json!({"type": "object", "properties": properties}));
    }
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn kind(kind: &Kind, schemas: &mut BTreeMap<String, Value>) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        // JSON's own numbers are exact to 2^53 only.
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            json!({"type": "string", "format": "date-time"})
        }
        Kind::Message(message) => reference(message, schemas),
        Kind::String | Kind::Bytes | Kind::Enum(_) => json!({"type": "string"}),
        _ => json!({"type": "integer"}),
    }
}

fn service_comment(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    comment(service.parent_file().file_descriptor_proto(), service.path())
}

fn method_comment(method: &MethodDescriptor) -> String {
    comment(method.parent_file().file_descriptor_proto(), method.path())
}

fn field_comment(field: &FieldDescriptor) -> String {
    comment(field.parent_file().file_descriptor_proto(), field.path())
}

fn comment(file: &prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let found = locations.into_iter().find(|location| location.path == path);
    let text = found.map(prost_types::source_code_info::Location::leading_comments).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
