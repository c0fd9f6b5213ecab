//! Generates the Rust types from the `.proto` files. `protox` parses them, so no `protoc` is needed.

use std::{env, fs, path::Path};

use prost::Message;

const FILES: [&str; 7] = [
    "galen/v1/agent.proto",
    "galen/v1/control.proto",
    "galen/v1/event.proto",
    "galen/v1/incident.proto",
    "galen/v1/log.proto",
    "galen/v1/query.proto",
    "pprof/profile.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Batches are taken over as slices of the receive buffer, never copied. See `galen_proto` for who must copy.
    tonic_prost_build::configure()
        .bytes(".galen.v1.Batch")
        .bytes(".galen.v1.LogRecord")
        .bytes(".galen.v1.Event.data")
        .bytes(".galen.v1.Attachment")
        .bytes(".galen.v1.GetProfileResponse")
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
