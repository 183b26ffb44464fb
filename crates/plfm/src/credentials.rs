//! Who we are to registries: the file that `docker login` writes.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plfm_image::Credentials;
use serde::Deserialize;

use crate::CliError;

/// How Docker's own registry is called in that file.
const HUB: (&str, &str) = ("https://index.docker.io/v1/", "docker.io");

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// `USER:PASSWORD` in base64; not there when a helper keeps it.
    auth: Option<String>,
}

pub fn read(path: &Path) -> Result<BTreeMap<String, Credentials>, CliError> {
    let refuse = |why: String| CliError::RegistryConfig { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    parse(&text).map_err(refuse)
}

/// What is wrong is told without what is secret.
fn parse(text: &str) -> Result<BTreeMap<String, Credentials>, String> {
    let file: File =
        serde_json::from_str(text).map_err(|error| format!("line {} is not as it should be", error.line()))?;
    file.auths.into_iter().map(|(host, entry)| Ok((name(&host).to_owned(), credentials(&host, entry)?))).collect()
}

fn name(host: &str) -> &str {
    if host == HUB.0 {
        return HUB.1;
    }
    let host = host.trim_start_matches("https://").trim_start_matches("http://");
    host.split('/').next().unwrap_or(host)
}

fn credentials(host: &str, entry: Entry) -> Result<Credentials, String> {
    let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) else {
        return Err(format!("those of {host} are kept by a helper, which is not asked; write them into the file"));
    };
    let text = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or_else(|| format!("`auth` of {host} is not USER:PASSWORD in base64"))?;
    Ok(Credentials { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> String {
        match parse(text) {
            Ok(found) => {
                let line = |(host, it): (&String, &Credentials)| format!("{host} {} {}", it.username, it.password);
                found.iter().map(line).collect::<Vec<_>>().join(", ")
            }
            Err(why) => why,
        }
    }

    #[test]
    fn what_docker_login_writes_is_read() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "Y2k6aHVudGVyMjp4"},
            "ghcr.io": {"auth": "dTpw"}, "http://localhost:5000/v2/": {"auth": "dTpw"}}, "currentContext": "x"}"#;
        assert_eq!(seen(text), "docker.io ci hunter2:x, ghcr.io u p, localhost:5000 u p");
        assert_eq!(seen("{}"), "");
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (text, why) in [
            (r#"{"auths": {"ghcr.io": {}}, "credsStore": "pass"}"#, "those of ghcr.io are kept by a helper"),
            (r#"{"auths": {"ghcr.io": {"auth": "hunter2"}}}"#, "`auth` of ghcr.io is not USER:PASSWORD"),
            (r#"{"auths": {"ghcr.io": {"auth": 2}}}"#, "line 1 is not as it should be"),
            ("hunter2", "line 1 is not as it should be"),
        ] {
            let said = seen(text);
            assert!(said.starts_with(why) && !said.contains("hunter2"), "{said}");
        }
    }
}
