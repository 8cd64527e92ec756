//! Settings whose values have a schema that a registry knows.

use std::sync::Arc;

use super::avro;
use super::framing::{Frame, Framing, Registered, SchemaKind, Wanted};
use super::mapping::{Format, Mapping};

impl Mapping {
    /// The schema that is yet to be asked for.
    #[must_use]
    pub fn wanted(&self) -> Option<&Arc<Wanted>> {
        match &self.framing {
            Framing::Asked(wanted) => Some(wanted),
            Framing::None | Framing::Known(_) => None,
        }
    }

    /// The same settings with the schema that the registry has.
    ///
    /// # Errors
    /// When values of the format are not what it describes, or it cannot be read.
    pub fn with_schema(&self, registered: &Registered) -> Result<Self, String> {
        let kind = registered.kind;
        let expected = match &self.format {
            Format::Raw | Format::CloudEvents => kind,
            Format::Json => SchemaKind::Json,
            Format::Protobuf(_) | Format::ProtobufJson(_) => SchemaKind::Protobuf,
            Format::Avro(_) | Format::AvroJson(_) => SchemaKind::Avro,
        };
        if kind != expected {
            return Err(format!(
                "{} is a schema in {}, and values of the format {} need one in {}",
                registered.name(),
                kind.name(),
                self.format.name(),
                expected.name()
            ));
        }
        let message = self.wanted().and_then(|wanted| wanted.message.as_deref());
        let frame = Frame::of(registered, message)?;
        let schema = || {
            let read = avro::Schema::read(&registered.text);
            read.map(|schema| Some(Arc::new(schema)))
                .map_err(|error| format!("{} cannot be written: {error}", registered.name()))
        };
        let format = match &self.format {
            Format::Avro(_) => Format::Avro(schema()?),
            Format::AvroJson(_) => Format::AvroJson(schema()?),
            other => other.clone(),
        };
        Ok(Self { format, framing: Framing::Known(Arc::new(frame)), ..self.clone() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::framing::tests::registered;

    #[test]
    fn a_schema_in_a_language_that_the_format_does_not_write_is_refused() {
        let avro = Mapping { format: Format::AvroJson(None), ..Mapping::default() };
        let told = avro.with_schema(&registered(SchemaKind::Json, "{}")).unwrap_err();
        assert_eq!(
            told,
            "version 3 of the subject orders-value (id 16909060) is a schema in JSON, and values of the format avro need one in \
             AVRO"
        );
        assert!(
            avro.with_schema(&registered(SchemaKind::Avro, "{}")).unwrap_err().contains("cannot be written")
        );
        let known = avro.with_schema(&registered(SchemaKind::Avro, "\"long\"")).unwrap();
        assert!(matches!(known.format, Format::AvroJson(Some(_))) && known.wanted().is_none());
        let raw = Mapping::default();
        assert!(
            raw.with_schema(&registered(SchemaKind::Protobuf, "no proto"))
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
