//! Reflection, in both versions that clients ask for.

use tonic::codec::CompressionEncoding;
use tonic_reflection::server::{Builder, Error, v1, v1alpha};

/// The service in both versions; both or neither are served.
pub type Reflection<V1, V1Alpha> = (v1::ServerReflectionServer<V1>, v1alpha::ServerReflectionServer<V1Alpha>);

/// What clients need to decode everything this server answers: our services, health, and the `google.rpc` messages
/// in the details of a status.
const DESCRIPTORS: [&[u8]; 3] = [
    logistic_package_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// Both versions.
///
/// # Errors
/// When the descriptors contradict each other.
pub fn reflection() -> Result<Reflection<impl v1::ServerReflection, impl v1alpha::ServerReflection>, Error> {
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    let gzip = CompressionEncoding::Gzip;
    Ok((v1.accept_compressed(gzip), v1alpha.accept_compressed(gzip)))
}

fn builder() -> Builder<'static> {
    DESCRIPTORS
        .into_iter()
        .fold(Builder::configure(), |builder, set| builder.register_encoded_file_descriptor_set(set))
}
