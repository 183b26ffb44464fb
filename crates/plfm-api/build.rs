//! Compiles the services' descriptions, in Rust and only when a feature asks for them.

fn main() {
    #[cfg(feature = "rpc")]
    rpc::compile();
}

#[cfg(feature = "rpc")]
mod rpc {
    use std::path::PathBuf;

    const SERVICES: &[&str] = &["plfm/guest/v1/guest.proto", "process/process.proto", "filesystem/filesystem.proto"];

    pub fn compile() {
        println!("cargo:rerun-if-changed=proto");
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names the output directory"));
        let descriptors = out.join("services.binpb");
        let set = protox::Compiler::new(["proto"])
            .and_then(|mut compiler| {
                compiler.include_imports(true).include_source_info(false).open_files(SERVICES)?;
                Ok(compiler.encode_file_descriptor_set())
            })
            .expect("the services' descriptions compile");
        std::fs::write(&descriptors, set).expect("the output directory can be written");
        connectrpc_build::Config::new()
            .files(SERVICES)
            .descriptor_set(&descriptors)
            .emit_rerun_directives(false)
            .include_file("_connectrpc.rs")
            .compile()
            .expect("the services' code is generated");
    }
}
