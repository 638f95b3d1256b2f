//! Compiles `proto/dos/v1/*.proto` with the pure-Rust `protox`, so that no `protoc` is needed.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script has no simulation and no crash to survive"
)]

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let mut files: Vec<PathBuf> = fs::read_dir(proto.join("dos/v1"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
    files.sort();
    let descriptors = protox::compile(&files, [&proto])?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut config = prost_build::Config::new();
    config.bytes(["."]); // payloads are slices of the receive buffer, never copies
    fs::write(
        out.join("dos.v1.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_client(true)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
