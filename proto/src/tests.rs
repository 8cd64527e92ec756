#![allow(clippy::unwrap_used)]

use prost::Message;
use prost_types::FileDescriptorSet;

use super::FILE_DESCRIPTOR_SET;
use super::package_event::{EventType, PackageEvent};

#[test]
fn the_descriptor_set_holds_our_files_and_their_imports() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let names: Vec<_> = set.file.iter().map(|file| file.name()).collect();
    for name in [
        "google/api/annotations.proto",
        "google/api/http.proto",
        "google/protobuf/timestamp.proto",
        "hablof/logistic_package_api/v1/kafka_proto.proto",
        "hablof/logistic_package_api/v1/logistic_package_api.proto",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn the_descriptor_set_keeps_the_http_options() {
    // prost's own types drop extensions, so the option is looked for in the bytes.
    let path = b"/v1/packages/{PackageID}";
    let times = FILE_DESCRIPTOR_SET.windows(path.len()).filter(|window| window == path).count();
    assert_eq!(times, 3, "describe, remove and update");
}

#[test]
fn both_files_keep_their_go_package() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let go_packages: Vec<_> = set
        .file
        .iter()
        .filter(|file| file.name().starts_with("hablof/"))
        .filter_map(|file| file.options.as_ref()?.go_package.clone())
        .collect();
    assert_eq!(
        go_packages,
        [
            "github.com/hablof/logistic-package-api/pkg/logistic-package-api;logistic_package_api",
            "github.com/hablof/logistic-package-api/pkg/kafka-proto;kafka_proto",
        ]
    );
}

#[test]
fn an_event_is_on_the_wire_what_go_consumers_read() {
    let event = PackageEvent {
        id: 1,
        package_id: 7,
        r#type: EventType::Removed.into(),
        created: Some(prost_types::Timestamp { seconds: 2, nanos: 0 }),
        payload: b"{}".to_vec(),
    };
    let fields = [0x08, 1, 0x10, 7, 0x18, 2, 0x22, 2, 0x08, 2, 0x2a, 2, b'{', b'}'];
    assert_eq!(event.encode_to_vec(), fields);
}
