use std::path::Path;

use anyhow::{Context, Result};

/// What `protoc --include_imports --descriptor_set_out` makes of `source`.
pub(super) fn of(source: &Path) -> Result<Vec<u8>> {
    let folder = source.parent().context("a source is in a folder")?;
    let mut compiler = protox::Compiler::new([folder])?;
    compiler.include_imports(true).open_file(source)?;
    Ok(compiler.encode_file_descriptor_set())
}

#[test]
fn a_descriptor_holds_what_its_source_imports() -> Result<()> {
    use prost::Message;

    let source = super::example::folder().join("protobuf-from-columns/shop.proto");
    let set = prost_types::FileDescriptorSet::decode(of(&source)?.as_slice())?;
    let names: Vec<&str> = set.file.iter().map(prost_types::FileDescriptorProto::name).collect();
    assert_eq!(names, ["google/protobuf/timestamp.proto", "shop.proto"]);
    Ok(())
}
