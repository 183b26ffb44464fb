use super::*;

mod canonical;
mod cases;
mod image;
mod properties;
mod rendering;

/// Three lines; what a test appends belongs to the process `web`.
const WEB: &str = "schema_version = \"v1\"\n[processes.web]\nresources.memory = \"64Mi\"\n";

/// Uses every field.
const FULL: &str = include_str!("tests/full.toml");

fn parse(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{}", render(&errors, "plfm.toml")))
}

fn web(more: &str) -> Manifest {
    parse(&format!("{WEB}{more}"))
}

/// The code, path and line of each error.
fn errors(bytes: &[u8]) -> Vec<(Code, String, u32)> {
    let errors = Manifest::parse(bytes).expect_err("the manifest is wrong");
    errors.into_iter().map(|error| (error.code, error.path, error.line)).collect()
}
