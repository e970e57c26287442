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
    let mut messages = tonic_prost_build::Config::new();
    messages.btree_map(["."]).enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::strict::Codec")
        .compile_fds_with_config(descriptors, messages)?;
    Ok(())
}
