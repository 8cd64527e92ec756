//! A schema as values are written by it: what Apache's parser understood, laid out flat, so that a type which names itself
//! needs no pointers.

use std::collections::BTreeMap;

use apache_avro::Schema as Parsed;
use apache_avro::schema::{InnerDecimalSchema, NamespaceRef, RecordSchema, UuidSchema};

/// What a value is written as.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
    Decimal(Decimal),
    /// As text, or as its 16 bytes, which `bytes` have a length before.
    Uuid(Uuid),
    Date,
    /// Of the day, in such parts of a second.
    TimeOfDay(Unit),
    Timestamp(Unit),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: usize,
    /// What stands there where the value has no such member.
    pub(super) default: Option<Fallback>,
}

/// A field's default: as the schema has it, and as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fallback {
    pub(super) json: String,
    pub(super) written: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decimal {
    pub(super) precision: usize,
    pub(super) scale: usize,
    /// Of a `fixed`.
    pub(super) size: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Uuid {
    Text,
    Bytes,
    Fixed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// The shapes of a schema by their numbers; that of the whole is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shapes {
    pub(super) shapes: Vec<Shape>,
    /// The names of records, enums and fixed types, for messages; of the others their type.
    pub(super) names: Vec<String>,
}

impl Shapes {
    pub(super) fn of(schema: &Parsed) -> Result<Self, String> {
        let mut compiler = Compiler::default();
        compiler.add(schema, None)?;
        Ok(compiler.shapes)
    }
}

#[derive(Default)]
struct Compiler {
    shapes: Shapes,
    named: BTreeMap<String, usize>,
}

impl Compiler {
    /// Adds a shape and those within it; its number.
    fn add(&mut self, schema: &Parsed, namespace: NamespaceRef<'_>) -> Result<usize, String> {
        if let Parsed::Ref { name } = schema {
            let name = name.fullname(namespace);
            return self.named.get(&name).copied().ok_or_else(|| format!("it has no type {name}"));
        }
        let number = self.shapes.shapes.len();
        self.shapes.shapes.push(Shape::Null);
        let name = schema.name().map(|name| name.fullname(namespace));
        if let Some(name) = &name {
            self.named.insert(name.clone(), number);
        }
        self.shapes.names.push(name.unwrap_or_default());
        let inner = schema.name().and_then(|name| name.namespace()).or(namespace);
        let (shape, kind) = self.shape(schema, inner)?;
        self.shapes.shapes[number] = shape;
        if self.shapes.names[number].is_empty() {
            kind.clone_into(&mut self.shapes.names[number]);
        }
        Ok(number)
    }

    fn shape(
        &mut self,
        schema: &Parsed,
        namespace: NamespaceRef<'_>,
    ) -> Result<(Shape, &'static str), String> {
        Ok(match schema {
            Parsed::Null => (Shape::Null, "null"),
            Parsed::Boolean => (Shape::Boolean, "boolean"),
            Parsed::Int => (Shape::Int, "int"),
            Parsed::Long => (Shape::Long, "long"),
            Parsed::Float => (Shape::Float, "float"),
            Parsed::Double => (Shape::Double, "double"),
            Parsed::Bytes => (Shape::Bytes, "bytes"),
            Parsed::String => (Shape::String, "string"),
            Parsed::Fixed(fixed) => (Shape::Fixed(fixed.size), "fixed"),
            Parsed::Enum(each) => (Shape::Enum(each.symbols.clone()), "enum"),
            Parsed::Array(array) => (Shape::Array(self.add(&array.items, namespace)?), "array"),
            Parsed::Map(map) => (Shape::Map(self.add(&map.types, namespace)?), "map"),
            Parsed::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.add(branch, namespace));
                (Shape::Union(branches.collect::<Result<_, _>>()?), "union")
            }
            Parsed::Record(record) => (Shape::Record(self.fields(record, namespace)?), "record"),
            Parsed::Decimal(decimal) => {
                let size = match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                };
                let (precision, scale) = (decimal.precision, decimal.scale);
                (Shape::Decimal(Decimal { precision, scale, size }), "decimal")
            }
            Parsed::Uuid(UuidSchema::String) => (Shape::Uuid(Uuid::Text), "uuid"),
            Parsed::Uuid(UuidSchema::Bytes) => (Shape::Uuid(Uuid::Bytes), "uuid"),
            Parsed::Uuid(UuidSchema::Fixed(_)) => (Shape::Uuid(Uuid::Fixed), "uuid"),
            Parsed::Date => (Shape::Date, "date"),
            Parsed::TimeMillis => (Shape::TimeOfDay(Unit::Millis), "time-millis"),
            Parsed::TimeMicros => (Shape::TimeOfDay(Unit::Micros), "time-micros"),
            Parsed::TimestampMillis => (Shape::Timestamp(Unit::Millis), "timestamp-millis"),
            Parsed::TimestampMicros => (Shape::Timestamp(Unit::Micros), "timestamp-micros"),
            Parsed::TimestampNanos => (Shape::Timestamp(Unit::Nanos), "timestamp-nanos"),
            Parsed::LocalTimestampMillis => (Shape::Timestamp(Unit::Millis), "local-timestamp-millis"),
            Parsed::LocalTimestampMicros => (Shape::Timestamp(Unit::Micros), "local-timestamp-micros"),
            Parsed::LocalTimestampNanos => (Shape::Timestamp(Unit::Nanos), "local-timestamp-nanos"),
            Parsed::Duration(_) => return Err("the logical type duration is not supported".into()),
            Parsed::BigDecimal => return Err("the logical type big-decimal is not supported".into()),
            Parsed::Ref { .. } => return Err("a type that stands for itself".into()),
        })
    }

    fn fields(&mut self, record: &RecordSchema, namespace: NamespaceRef<'_>) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        for field in &record.fields {
            let shape = self.add(&field.schema, namespace)?;
            let default =
                field.default.as_ref().map(|json| Fallback { json: json.to_string(), written: None });
            fields.push(Field { name: field.name.clone(), shape, default });
        }
        Ok(fields)
    }
}
