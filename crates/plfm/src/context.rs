//! What a command is about: which cluster, org, app and env. Flags come first, then variables (clap joins the two), then the
//! manifest, then the profile.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use plfm_api::client::{Client, Target};

use crate::cli::{AppArgs, EnvArgs, Global};
use crate::profile::{Config, Profile};
use crate::{CliError, manifest};

pub const DEFAULT_ORG: &str = "default";
/// The env of the profile that `plfm dev` writes.
pub const DEFAULT_ENV: &str = "dev";
const TOKEN_VARIABLE: &str = "PLFM_TOKEN";

pub struct Context {
    global: Global,
    profile: Option<Profile>,
    /// Where a manifest is looked for.
    here: PathBuf,
}

impl Context {
    pub fn new(global: &Global) -> Result<Self, CliError> {
        let profile = Config::read()?.choose(global.profile.as_deref())?.cloned();
        let here = env::current_dir().map_err(|source| CliError::Here { source })?;
        Ok(Self { global: global.clone(), profile, here })
    }

    /// A client of the cluster's API.
    pub fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.target()?)?)
    }

    /// The same API, with another token.
    pub fn client_as(&self, token: &str) -> Result<Client, CliError> {
        Ok(Client::new(&Target { token: Some(token.to_owned()), ..self.target()? })?)
    }

    pub fn target(&self) -> Result<Target, CliError> {
        let profile = self.profile.as_ref();
        let api_url = self.global.api_url.clone().or_else(|| profile.map(|it| it.api_url.clone()));
        let ca_file = self.global.ca_file.as_deref().or_else(|| profile.map(|it| it.ca_file.as_path()));
        let (api_url, ca_file) = (api_url.ok_or(CliError::NoCluster)?, ca_file.ok_or(CliError::NoCa)?);
        Ok(Target { api_url, ca_pem: read(ca_file, "CA certificate")?, token: self.token()?, identity: None })
    }

    /// None leaves it to the API to refuse.
    fn token(&self) -> Result<Option<String>, CliError> {
        if let Some(token) = env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()) {
            return Ok(Some(token));
        }
        let token = self.profile.as_ref().map(|profile| read(&profile.token_file, "token")).transpose()?;
        Ok(token.map(|token| token.trim().to_owned()))
    }

    pub fn org(&self) -> String {
        let saved = self.profile.as_ref().and_then(|profile| profile.org.clone());
        self.global.org.clone().or(saved).unwrap_or_else(|| DEFAULT_ORG.to_owned())
    }

    /// For looking.
    pub fn env(&self, args: &EnvArgs) -> String {
        self.chosen_env(args).unwrap_or_else(|| DEFAULT_ENV.to_owned())
    }

    /// For changing: never one that nobody chose (P-CLI-20).
    pub fn explicit_env(&self, args: &EnvArgs) -> Result<String, CliError> {
        self.chosen_env(args).ok_or(CliError::NoEnv)
    }

    fn chosen_env(&self, args: &EnvArgs) -> Option<String> {
        args.env.clone().or_else(|| self.profile.as_ref()?.env.clone())
    }

    pub fn app(&self, given: Option<&String>) -> Result<String, CliError> {
        self.app_if_any(given)?.ok_or(CliError::NoApp)
    }

    /// None when nothing names one.
    pub fn app_if_any(&self, given: Option<&String>) -> Result<Option<String>, CliError> {
        match (given, manifest::find(&self.here)) {
            (Some(app), _) => Ok(Some(app.clone())),
            (None, Some(path)) => Ok(manifest::check(&path)?.manifest.app.name),
            (None, None) => Ok(None),
        }
    }

    /// The app that a manifest is deployed as.
    pub fn app_of(&self, args: &AppArgs, manifest: &plfm_core::manifest::Manifest) -> Result<String, CliError> {
        args.app.clone().or_else(|| manifest.app.name.clone()).ok_or(CliError::NoApp)
    }

    pub fn manifest(&self, given: Option<&PathBuf>) -> Result<PathBuf, CliError> {
        let found = given.cloned().or_else(|| manifest::find(&self.here));
        found.ok_or_else(|| CliError::NoManifest { here: self.here.clone() })
    }
}

fn read(path: &Path, what: &'static str) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|source| CliError::File { what, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
