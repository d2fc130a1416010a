//! Makes Rust of the Container Runtime Interface, without the `protoc` program.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/runtime.proto");
    let files = protox::compile(["runtime.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(true)
        .build_transport(true)
        .compile_fds(files)?;
    Ok(())
}
