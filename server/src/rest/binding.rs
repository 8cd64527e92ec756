//! From `google.api.http` in the descriptor to a message: which rpc a request is for, and what it says.

use http::{Method, Uri};
use logistic_package_proto::COMMENTED_FILE_DESCRIPTOR_SET;
use percent_encoding::percent_decode_str;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};
use tonic::Status;

/// Why the descriptors cannot be served: a mistake in the build.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// They do not decode.
    #[error(transparent)]
    Pool(#[from] prost_reflect::DescriptorError),
    /// An option that needs what is not built here.
    #[error("{method}: google.api.http {what} is not supported")]
    Option {
        /// The rpc.
        method: String,
        /// What of its option.
        what: String,
    },
}

/// The HTTP form of an rpc.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) verb: Method,
    pub(super) template: Vec<Segment>,
    /// Whether the body is the message.
    pub(super) body: bool,
    /// Of the gRPC call.
    pub(super) path: Uri,
    pub(super) method: MethodDescriptor,
    input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
}

/// A part of a path between slashes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    /// The name of the field whose value stands there.
    Field(String),
}

/// The fields whose values stand in a path, and these.
type InPath<'a> = Vec<(&'a str, String)>;

/// All of them.
#[derive(Debug)]
pub(super) struct Bindings(pub(super) Vec<Binding>);

/// Our files with their comments, and those of error details.
pub(super) fn pool() -> Result<DescriptorPool, DescriptorError> {
    let mut pool = DescriptorPool::decode(COMMENTED_FILE_DESCRIPTOR_SET)?;
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    Ok(pool)
}

impl Bindings {
    pub(super) fn of(pool: &DescriptorPool) -> Result<Self, DescriptorError> {
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let bindings = methods.filter_map(|method| binding(pool, method).transpose());
        Ok(Self(bindings.collect::<Result<_, _>>()?))
    }

    /// The rpc that a request is for, and the values in its path.
    pub(super) fn find<'a>(&'a self, verb: &Method, path: &str) -> Result<(&'a Binding, InPath<'a>), Status> {
        let mut known = false;
        for binding in &self.0 {
            if let Some(values) = binding.values_in(path) {
                if binding.verb == *verb {
                    return Ok((binding, values));
                }
                known = true;
            }
        }
        // grpc-gateway's own words.
        Err(if known { Status::unimplemented("Method Not Allowed") } else { Status::not_found("Not Found") })
    }
}

fn binding(pool: &DescriptorPool, method: MethodDescriptor) -> Result<Option<Binding>, DescriptorError> {
    let unsupported = |what: String| DescriptorError::Option { method: method.full_name().to_owned(), what };
    let Some(extension) = pool.get_extension_by_name("google.api.http") else { return Ok(None) };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let option = options.get_extension(&extension);
    let Some(rule) = option.as_message() else { return Ok(None) };
    let verbs = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let found = verbs.into_iter().find(|(name, _)| rule.has_field_by_name(name));
    let (name, verb) = found.ok_or_else(|| unsupported("custom".into()))?;
    let text = |name: &str| {
        rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let body = match text("body").as_str() {
        "" => false,
        "*" => true,
        other => return Err(unsupported(format!("body {other}"))),
    };
    let template = template(&text(name)).ok_or_else(|| unsupported(text(name)))?;
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse().map_err(|_| unsupported(path.clone()))?;
    let (input, output) = (method.input(), method.output());
    Ok(Some(Binding { verb, template, body, path, input, output, method }))
}

/// Literals and whole fields; nothing else is used.
fn template(text: &str) -> Option<Vec<Segment>> {
    let segments = text.strip_prefix('/')?.split('/').map(|segment| match segment.strip_prefix('{') {
        Some(field) => field.strip_suffix('}').map(|field| Segment::Field(field.to_owned())),
        None => Some(Segment::Literal(segment.to_owned())),
    });
    segments.collect()
}

impl Binding {
    fn values_in(&self, path: &str) -> Option<InPath<'_>> {
        let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        if segments.len() != self.template.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, found) in self.template.iter().zip(segments) {
            match segment {
                Segment::Literal(literal) if literal == found => {}
                Segment::Field(name) if !found.is_empty() => {
                    values.push((name.as_str(), percent_decode_str(found).decode_utf8().ok()?.into_owned()));
                }
                _ => return None,
            }
        }
        Some(values)
    }

    /// The request's message, encoded. The path wins over the query, that over the body.
    pub(super) fn message(
        &self,
        path: &[(&str, String)],
        query: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Status> {
        // A body that is not expected is read all the same where it can mean something.
        let reads_body = self.body || matches!(self.verb, Method::PUT | Method::PATCH);
        let mut message = if reads_body && !body.trim_ascii().is_empty() {
            self.read_json(body)?
        } else {
            DynamicMessage::new(self.input.clone())
        };
        if !self.body {
            for (name, value) in form_urlencoded::parse(query.as_bytes()) {
                set(&mut message, &name, &value)?;
            }
        }
        for (name, value) in path {
            set(&mut message, name, value)?;
        }
        Ok(message.encode_to_vec())
    }

    fn read_json(&self, body: &[u8]) -> Result<DynamicMessage, Status> {
        let invalid = |error: serde_json::Error| {
            Status::invalid_argument(format!("the body is not JSON of this request: {error}"))
        };
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let mut json = serde_json::Deserializer::from_slice(body);
        let message = DynamicMessage::deserialize_with_options(self.input.clone(), &mut json, &options)
            .map_err(invalid)?;
        json.end().map_err(invalid)?;
        Ok(message)
    }
}

/// Sets a field by its path, `Reusable.Reusable`. One that does not exist is ignored.
fn set(message: &mut DynamicMessage, path: &str, text: &str) -> Result<(), Status> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let descriptor = message.descriptor();
    let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
    let Some(field) = field else { return Ok(()) };
    if let (Some(rest), Kind::Message(_)) = (rest, field.kind()) {
        return match message.get_field_mut(&field).as_message_mut() {
            Some(inner) => set(inner, rest, text),
            None => Ok(()),
        };
    }
    if rest.is_some() {
        return Ok(());
    }
    let value = value(&field.kind(), text).map_err(|expected| {
        Status::invalid_argument(format!("type mismatch, parameter: {path}: `{text}` is not {expected}"))
    })?;
    message.set_field(&field, value);
    Ok(())
}

fn value(kind: &Kind, text: &str) -> Result<Value, &'static str> {
    let value = match kind {
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(Value::U64),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(Value::U32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
        Kind::Float => text.parse().ok().map(Value::F32),
        Kind::Double => text.parse().ok().map(Value::F64),
        // What Go's strconv.ParseBool takes.
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::String => Some(Value::String(text.to_owned())),
        _ => None,
    };
    value.ok_or(match kind {
        Kind::Bool => "true or false",
        Kind::Float | Kind::Double => "a number",
        Kind::Message(_) => "a message: name a field of it",
        _ => "a whole number in its range",
    })
}
