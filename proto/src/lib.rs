//! Messages and services of the logistic package API, generated from the .proto files beside this crate.
//!
//! | module | .proto package | what it holds |
//! |---|---|---|
//! | [`package_api`] | `hablof.logistic_package_api.v1` | the gRPC service and its messages |
//! | [`package_event`] | `hablof.proto.v1` | the value of a record in Kafka |
//!
//! The .proto files name fields in PascalCase (`PackageID`); in Rust they are in snake case (`package_id`).

/// The gRPC service `LogisticPackageApiService`: messages, client and server.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod package_api {
    tonic::include_proto!("hablof.logistic_package_api.v1");
}

/// The event that every change of a package sends to Kafka.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod package_event {
    tonic::include_proto!("hablof.proto.v1");
}

/// Every .proto file of this crate and what they import, as an encoded `google.protobuf.FileDescriptorSet`.
///
/// It holds the `google.api.http` options, so reflection and REST transcoding can read them from here.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/file_descriptor_set.bin"));

/// The same with the comments of the .proto files, for documents that are made from them.
pub const COMMENTED_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/commented_file_descriptor_set.bin"));

#[cfg(test)]
mod tests;
