//! Which clusters this user knows: `$XDG_CONFIG_HOME/plfm/config.json`.
//!
//! A profile says where an API is and which files hold its CA and the token; it holds no secret itself.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The profile of the cluster that `plfm dev` runs here.
pub const DEV: &str = "dev";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
    /// The one that is used when none is named.
    #[serde(default)]
    pub current: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub api_url: String,
    pub ca_file: PathBuf,
    pub token_file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("neither XDG_CONFIG_HOME nor HOME says where the configuration is")]
    NoHome,
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a configuration of plfm", path = path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("there is no profile `{0}`")]
    NoSuchProfile(String),
}

/// Writes the profile `dev`. It becomes the current one unless another was chosen; the answer says whether it is.
pub fn write_dev(api_url: &str, ca_file: &Path, token_file: &Path) -> Result<bool, ProfileError> {
    write_dev_at(&path()?, api_url, ca_file, token_file)
}

fn write_dev_at(path: &Path, api_url: &str, ca_file: &Path, token_file: &Path) -> Result<bool, ProfileError> {
    let absolute = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut config = Config::load(path)?;
    let profile = Profile {
        api_url: api_url.to_owned(),
        ca_file: absolute(ca_file),
        token_file: absolute(token_file),
        org: Some(crate::context::DEFAULT_ORG.to_owned()),
        env: Some(crate::context::DEFAULT_ENV.to_owned()),
    };
    config.profiles.insert(DEV.to_owned(), profile);
    let current = config.current.get_or_insert_with(|| DEV.to_owned()) == DEV;
    config.save(path)?;
    Ok(current)
}

/// Where the configuration is.
pub fn path() -> Result<PathBuf, ProfileError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    Ok(home.ok_or(ProfileError::NoHome)?.join("plfm/config.json"))
}

impl Config {
    /// Of this user.
    pub fn read() -> Result<Self, ProfileError> {
        Self::load(&path()?)
    }

    /// No file is an empty configuration.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| ProfileError::Json { path: path.to_owned(), source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ProfileError::Read { path: path.to_owned(), source }),
        }
    }

    /// In one step, readable by the user alone.
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        replace(path, self).map_err(|source| ProfileError::Write { path: path.to_owned(), source })
    }

    /// The named one, else the current one, if there is any.
    pub fn choose(&self, name: Option<&str>) -> Result<Option<&Profile>, ProfileError> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        let profile = self.profiles.get(name);
        profile.map(Some).ok_or_else(|| ProfileError::NoSuchProfile(name.to_owned()))
    }
}

fn replace(path: &Path, config: &Config) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file: File = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    serde_json::to_writer_pretty(&mut file, config)?;
    writeln!(file)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn dev_is_written_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plfm/config.json");
        assert!(write_dev_at(&path, "https://127.0.0.1:8080", Path::new("/d/ca.pem"), Path::new("/d/token")).unwrap());
        expect![[r#"
            {
              "profiles": {
                "dev": {
                  "api_url": "https://127.0.0.1:8080",
                  "ca_file": "/d/ca.pem",
                  "token_file": "/d/token",
                  "org": "default",
                  "env": "dev"
                }
              },
              "current": "dev"
            }
        "#]]
        .assert_eq(&fs::read_to_string(&path).unwrap());
        let config = Config::load(&path).unwrap();
        assert_eq!(config.choose(None).unwrap(), config.choose(Some(DEV)).unwrap());
        assert_eq!(config.choose(Some("prod")).unwrap_err().to_string(), "there is no profile `prod`");
    }

    #[test]
    fn a_chosen_profile_stays_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        Config { current: Some("prod".to_owned()), ..Config::default() }.save(&path).unwrap();
        assert!(!write_dev_at(&path, "https://127.0.0.1:8080", Path::new("/ca"), Path::new("/token")).unwrap());
        assert_eq!(Config::load(&path).unwrap().current.as_deref(), Some("prod"));
    }

    #[test]
    fn no_file_is_no_profile_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(Config::load(&path).unwrap().choose(None).unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert!(matches!(Config::load(&path), Err(ProfileError::Json { .. })));
    }
}
