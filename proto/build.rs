//! Compiles `memorygate/**/*.proto` without `protoc`, which a newcomer may not have.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["memorygate/v1/memorygate.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::strict::Codec")
        .btree_map(".")
        .enable_type_names()
        .compile_fds(descriptors)?;
    Ok(())
}
