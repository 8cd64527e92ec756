//! From `google.api.http` in the descriptor to a message: which rpc a request is for, and what it says.

use http::{Method, Uri};
use logistic_package_proto::COMMENTED_FILE_DESCRIPTOR_SET;
use percent_encoding::percent_decode_str;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};
use tonic::Status;

use super::form::{Form, Pairs};
use super::json;

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
type InPath<'a> = Vec<(&'a str, Vec<u8>)>;

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
    pub(super) fn find(
        &self,
        verb: Method,
        path: &str,
        form: Form,
    ) -> Result<(&Binding, InPath<'_>), Status> {
        let at_path: Vec<_> = self.0.iter().filter_map(|one| Some((one, one.values_in(path)?))).collect();
        let known = !at_path.is_empty();
        let meant = at_path.iter().position(|(one, _)| one.verb == verb);
        // "Path length fallback" of grpc-gateway: a GET whose parameters are too long for its URL.
        let instead = || {
            let stands_for_get = form == Form::InsteadOfGet && verb == Method::POST;
            at_path.iter().position(|(one, _)| stands_for_get && one.verb == Method::GET)
        };
        match meant.or_else(instead).and_then(|number| at_path.into_iter().nth(number)) {
            Some(found) => Ok(found),
            // grpc-gateway's own words.
            None if known => Err(Status::unimplemented("Method Not Allowed")),
            None => Err(Status::not_found("Not Found")),
        }
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
                    values.push((name.as_str(), percent_decode_str(found).collect()));
                }
                _ => return None,
            }
        }
        Some(values)
    }

    /// The request's message, encoded. The path wins over the query and a form, these over the body.
    pub(super) fn message(
        &self,
        path: &[(&str, Vec<u8>)],
        query: &str,
        body: &[u8],
        form: Form,
    ) -> Result<Vec<u8>, Status> {
        // Where no body is expected an object means something all the same, whatever it is called: `curl -d` calls
        // everything a form. Anything else that is not a form is not looked at, as it never was.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let unexpected = matches!(self.verb, Method::PUT | Method::PATCH) && is_object;
        let mut message = match self.body || unexpected {
            true => json::read(body, &self.input).map_err(|error| {
                Status::invalid_argument(format!("the body is not JSON of this request: {error}"))
            })?,
            false => DynamicMessage::new(self.input.clone()),
        };
        if self.reads_query(path) {
            let mut pairs = Pairs::default();
            if form != Form::No && !is_object {
                let body = std::str::from_utf8(body)
                    .map_err(|_| Status::invalid_argument("the form is not UTF-8"))?;
                pairs.add(body)?;
            }
            pairs.add(query)?;
            for (name, values) in pairs.0 {
                if path.iter().all(|(in_path, _)| *in_path != name) {
                    set(&mut message, &name, &name, &values)?;
                }
            }
        }
        for (name, value) in path {
            set(&mut message, name, name, std::slice::from_ref(value))?;
        }
        Ok(message.encode_to_vec())
    }

    /// Where every field has its place elsewhere the query is not read at all.
    fn reads_query(&self, path: &[(&str, Vec<u8>)]) -> bool {
        !self.body && self.input.fields().any(|field| path.iter().all(|(name, _)| *name != field.name()))
    }
}

/// Sets a field by its path, `Reusable.Reusable`, which is the end of the parameter `whole`. One that does not exist is
/// ignored.
fn set(message: &mut DynamicMessage, path: &str, whole: &str, values: &[Vec<u8>]) -> Result<(), Status> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let descriptor = message.descriptor();
    let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
    let Some(field) = field else { return Ok(()) };
    match rest {
        None => {
            let value = one_value(&field, whole, values)?;
            message.set_field(&field, value);
            Ok(())
        }
        Some(rest) => match message.get_field_mut(&field).as_message_mut() {
            Some(inner) => set(inner, rest, whole, values),
            None => Err(Status::invalid_argument(format!("invalid path: {name:?} is not a message"))),
        },
    }
}

fn one_value(field: &FieldDescriptor, path: &str, values: &[Vec<u8>]) -> Result<Value, Status> {
    let [text] = values else {
        return Err(Status::invalid_argument(format!("too many values for field {:?}", field.name())));
    };
    let text = std::str::from_utf8(text).map_err(|_| {
        Status::invalid_argument(format!("type mismatch, parameter: {path}: it is not UTF-8"))
    })?;
    value(&field.kind(), text).map_err(|expected| {
        Status::invalid_argument(format!("type mismatch, parameter: {path}: `{text}` is not {expected}"))
    })
}

fn value(kind: &Kind, text: &str) -> Result<Value, &'static str> {
    let value = match kind {
        // Go's strconv.ParseUint takes no sign.
        Kind::Uint64 | Kind::Fixed64 if !text.starts_with('+') => text.parse().ok().map(Value::U64),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 if !text.starts_with('+') => text.parse().ok().map(Value::U32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
        // Go's strconv.ParseFloat refuses what is out of range, and takes infinity by name.
        Kind::Float => {
            text.parse().ok().filter(|float: &f32| float.is_finite() || is_name(text)).map(Value::F32)
        }
        Kind::Double => {
            text.parse().ok().filter(|float: &f64| float.is_finite() || is_name(text)).map(Value::F64)
        }
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

/// `inf`, `Infinity` or `NaN`, with a sign or without.
fn is_name(text: &str) -> bool {
    !text.contains(|one: char| one.is_ascii_digit())
}
