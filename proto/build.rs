//! Generates the Rust code of the .proto files and keeps their descriptors, without an installed `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// Ours, relative to this folder.
const FILES: [&str; 2] = [
    "hablof/logistic_package_api/v1/logistic_package_api.proto",
    "hablof/logistic_package_api/v1/kafka_proto.proto",
];
/// Where imports are looked up; `google/protobuf/*` comes with the compiler.
const INCLUDES: [&str; 2] = [".", "third_party"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=hablof");
    println!("cargo::rerun-if-changed=third_party");

    let mut compiler = protox::Compiler::new(INCLUDES)?;
    compiler.open_files(FILES)?;

    compiler.include_imports(true);

    // With source info, since comments become the documentation of the generated code.
    let commented = compiler.include_source_info(true).file_descriptor_set();
    tonic_prost_build::configure().compile_fds(commented)?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("commented_file_descriptor_set.bin"), compiler.encode_file_descriptor_set())?;

    // Reflection needs the `google.api.http` options too. The compiler's own encoding keeps them; a set that went
    // through prost's types would have lost every extension.
    let whole = compiler.include_source_info(false).encode_file_descriptor_set();
    fs::write(out_dir.join("file_descriptor_set.bin"), whole)?;
    Ok(())
}
