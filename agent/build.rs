//! Generates the types of the Container Runtime Interface. `protox` parses the file, so no `protoc` is needed.

const API: &str = "src/containers/cri/api.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={API}");
    let descriptors = protox::compile([API], ["."])?;
    tonic_prost_build::configure().generate_default_stubs(true).compile_fds(descriptors)?;
    Ok(())
}
