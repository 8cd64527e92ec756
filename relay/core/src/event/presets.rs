//! Settings that go together under a name: outboxes that many have.
//!
//! This is the one place that knows of packages.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};

/// Settings under a name; each can be given anew.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Whose outbox it is, and what there is to know beside the settings.
    pub about: &'static str,
    /// Settings by their names, as the settings file has them.
    pub settings: &'static [(&'static str, &'static str)],
    /// The section `[headers]`.
    pub headers: &'static [(&'static str, &'static str)],
    /// The section `[fields]`.
    pub fields: &'static [(&'static str, &'static str)],
}

/// A gauge that the package API's dashboards know by this name: events read and not yet confirmed to Postgres.
pub const PACKAGE_GAUGE: &str = "logistic_package_api_retranslator_events_processing";

/// The preset whose users have [`PACKAGE_GAUGE`].
pub const PACKAGE: &str = "package-event";

/// All presets.
pub const PRESETS: [Preset; 5] = [
    Preset {
        name: "debezium",
        about: "The outbox of Debezium's EventRouter, with StringConverter. It expects the application to delete \
            the rows: the table has neither a number nor a time by which walpost could.",
        settings: &[
            ("topic", "outbox.event.{aggregatetype}"),
            ("key", "aggregateid"),
            ("value", "payload"),
            ("headers_from", ""),
            ("traceparent", ""),
            ("cloudevents", "off"),
        ],
        headers: &[("id", "{id}")],
        fields: &[],
    },
    Preset {
        name: "eventuate",
        about: "Eventuate Tram's eventuate.message. Its own CDC service must be stopped, or every message is published twice; \
            nobody sets `published` then, and nothing reads it but that service.",
        settings: &[
            ("table", "eventuate.message"),
            ("topic", "{destination}"),
            ("key", "{headers.PARTITION_ID ?? id}"),
            ("format", "json"),
            ("headers_from", ""),
            ("traceparent", ""),
            ("cloudevents", "off"),
        ],
        headers: &[],
        fields: &[("payload", "{payload}"), ("headers", "{headers|json}")],
    },
    Preset {
        name: "cap",
        about: "DotNetCore.CAP's cap.published. Its dispatcher publishes to the transport that is configured: give it the \
            in-memory one, or every message is published twice; it also removes rows that have expired.",
        settings: &[
            ("table", "cap.published"),
            ("topic", "{Name}"),
            ("key", "{Content.Headers.cap-kafka-key ?? Id}"),
            ("value", "{Content.Value}"),
            ("headers_from", "Content.Headers"),
            ("traceparent", ""),
            ("cloudevents", "off"),
        ],
        headers: &[],
        fields: &[],
    },
    Preset {
        name: "brighter",
        about: "Brighter's outbox. Its sweeper and its clearing of the outbox must be switched off, or messages are published \
            twice; nobody sets `dispatched` then, so archive by age with walpost (--clean) and not with its archiver.",
        settings: &[
            ("topic", "{topic}"),
            ("key", "{partitionkey ?? messageid}"),
            ("value", "body"),
            ("headers_from", "headerbag"),
            ("traceparent", ""),
            ("id", "messageid"),
            ("type", "type"),
            ("time", "timestamp"),
            ("ce_source", "{source}"),
            ("content_type", "{contenttype}"),
        ],
        headers: &[
            ("MessageType", "{messagetype}"),
            ("Topic", "{topic}"),
            ("MessageId", "{messageid}"),
            ("ContentType", "{contenttype}"),
            ("CorrelationId", "{correlationid}"),
            ("ReplyTo", "{replyto}"),
            ("PartitionKey", "{partitionkey}"),
            ("HandledCount", "0"),
            ("ce_subject", "{subject ?? partitionkey ?? messageid}"),
            ("ce_dataschema", "{dataschema}"),
            ("ce_traceparent", "{traceparent}"),
            ("ce_tracestate", "{tracestate}"),
            ("ce_baggage", "{baggage}"),
        ],
        fields: &[],
    },
    Preset {
        name: PACKAGE,
        about: "The outbox of the logistic package API, and its message hablof.proto.v1.PackageEvent.",
        settings: &[
            ("table", "public.package_event"),
            ("slot", "package_event_relay"),
            ("publication", "package_event_pub"),
            ("topic", "omp-package-events"),
            ("key", "package_id"),
            ("format", "protobuf"),
            ("message", PACKAGE_EVENT),
            ("headers_from", ""),
            ("traceparent", "traceparent"),
            ("cloudevents", "on"),
            ("id", "event_id"),
            ("type", "event_type"),
            ("time", "created_at"),
            ("ce_source", "/logistic-package-api"),
            ("ce_type", "hablof.logistic_package_api.package.{event_type|lower}"),
            ("tail_topics", "omp-tgbot-commands,omp-tgbot-cache-events"),
        ],
        headers: &[],
        fields: &[
            ("ID", "{package_event_id}"),
            ("PackageID", "{package_id}"),
            ("Type", "{event_type}"),
            ("Created", "{created_at}"),
            ("Payload", "{payload}"),
        ],
    },
];

/// The preset of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The full name of the package API's message.
const PACKAGE_EVENT: &str = "hablof.proto.v1.PackageEvent";

/// A message that needs no descriptor, since a preset has it.
#[must_use]
pub fn message(name: &str) -> Option<FileDescriptorProto> {
    (name == PACKAGE_EVENT).then(package_event)
}

/// `kafka_proto.proto`; a test holds what is written by it equal to what prost makes of that file.
fn package_event() -> FileDescriptorProto {
    let field = |name: &str, number, kind: Type, type_name: &str| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: (!type_name.is_empty()).then(|| type_name.to_owned()),
        ..FieldDescriptorProto::default()
    };
    let label = |(number, name): (i32, &str)| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        options: None,
    };
    FileDescriptorProto {
        package: Some("hablof.proto.v1".into()),
        syntax: Some("proto3".into()),
        message_type: vec![DescriptorProto {
            name: Some("PackageEvent".into()),
            field: vec![
                field("ID", 1, Type::Uint64, ""),
                field("PackageID", 2, Type::Uint64, ""),
                field("Type", 3, Type::Enum, ".hablof.proto.v1.EventType"),
                field("Created", 4, Type::Message, ".google.protobuf.Timestamp"),
                field("Payload", 5, Type::Bytes, ""),
            ],
            ..DescriptorProto::default()
        }],
        enum_type: vec![EnumDescriptorProto {
            name: Some("EventType".into()),
            value: (0..).zip(["Created", "Updated", "Removed"]).map(label).collect(),
            ..EnumDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}
