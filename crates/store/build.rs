//! Makes Rust of etcd's protocol, without the `protoc` program.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/etcd.proto");
    let files = protox::compile(["etcd.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(true)
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
