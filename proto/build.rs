//! Compiles `memorygate/**/*.proto` without `protoc`, which a newcomer may not have.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "memorygate/v1/memorygate.proto",
        "memorygate/v1/cluster.proto",
        "memorygate/v1/consolidation.proto",
    ];
    let peer_files = ["memorygate/peer/v1/peer.proto"];
    for file in files.iter().chain(&peer_files) {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let messages = || {
        let mut config = tonic_prost_build::Config::new();
        config.btree_map(["."]).enable_type_names();
        config
    };
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::strict::Codec")
        .compile_fds_with_config(descriptors.clone(), messages())?;
    // Only requests are read strictly: a client that refused a new field of a reply would fail with
    // every newer server.
    let clients = out.join("clients");
    fs::create_dir_all(&clients)?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".memorygate.v1", "crate::v1")
        .out_dir(clients)
        .compile_fds_with_config(descriptors, messages())?;
    // Members of different versions talk to each other, so neither end is strict; what is carried is
    // not copied.
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure()
        .codec_path("crate::fitted::Codec")
        .compile_fds_with_config(protox::compile(peer_files, ["."])?, config)?;
    Ok(())
}
