//! `plfm sandbox env`: a key, where to send it and whom to trust, as lines for a shell.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use plfm_core::digest::Digest;
use serde_json::json;

use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit, profile};

/// Where systems keep the authorities that everybody trusts.
const SYSTEM_BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub async fn run(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let target = context.target()?;
    let dir = directory(&target.api_url, &context.org())?;
    let (key_file, bundle) = (dir.join("key"), dir.join("ca-bundle.pem"));
    let key = match fs::read_to_string(&key_file).ok().map(|key| key.trim().to_owned()) {
        Some(key) if context.client_as(&key)?.knows_key().await? => key,
        _ => {
            let key = context.client()?.create_key(&context.org()).await?.key;
            write(&key_file, key.as_bytes())?;
            key
        }
    };
    write(&bundle, trusted(&target.ca_pem).as_bytes())?;
    let bundle = bundle.display().to_string();
    let url = target.api_url.trim_end_matches('/').to_owned();
    let variables = [
        ("E2B_API_KEY", key),
        ("E2B_API_URL", url.clone()),
        ("E2B_SANDBOX_URL", url),
        ("SSL_CERT_FILE", bundle.clone()),
        ("NODE_EXTRA_CA_CERTS", bundle),
    ];
    if out.is_json() {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        out.document("sandbox_env", &serde_json::Value::Object(variables.collect()))?;
        return Ok(Exit::Success);
    }
    for (name, value) in variables {
        out.line(format_args!("export {name}={}", quoted(&value)))?;
    }
    Ok(Exit::Success)
}

/// Of one cluster and org; only its owner may look inside.
fn directory(api_url: &str, org: &str) -> Result<PathBuf, CliError> {
    let name = Digest::of(format!("{api_url} {org}").as_bytes()).to_string();
    let name = name.rsplit(':').next().map(|hex| hex[..16].to_owned()).unwrap_or_default();
    let config = profile::path()?;
    let dir = config.parent().unwrap_or(Path::new(".")).join("e2b").join(name);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|source| CliError::FileWrite { path: dir.clone(), source })?;
    Ok(dir)
}

/// The cluster's authority beside those of the system: the program that is told so speaks with others too.
fn trusted(ca_pem: &str) -> String {
    let system = SYSTEM_BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    format!("{}\n{ca_pem}", system.trim_end())
}

fn write(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let written = opened.and_then(|mut file| file.write_all(content)).and_then(|()| fs::rename(&fresh, path));
    written.map_err(|source| CliError::FileWrite { path: path.to_owned(), source })
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        assert_eq!(quoted("https://[::1]:7443"), "'https://[::1]:7443'");
        assert_eq!(quoted("https://127.0.0.1:7443"), "https://127.0.0.1:7443");
        assert_eq!(quoted("/home/o'neill/x"), "'/home/o'\\''neill/x'");
    }
}
