//! Following one deploy until it has succeeded, failed, or patience ends.

use std::time::{Duration, Instant};

use plfm_api::client::{ApiError, Client};
use plfm_api::views::{DeployReceipt, EnvView};
use plfm_core::phase::DeployStatus;
use plfm_core::reason::{Failure, Reason};
use tokio::time::timeout;

use super::progress_lines;
use crate::commands::looks::Looks;
use crate::printer::{Live, Printer};
use crate::{CliError, Exit};

pub struct Rollout<'a> {
    pub client: &'a Client,
    pub org: &'a str,
    pub app: &'a str,
    pub env: &'a str,
    pub receipt: &'a DeployReceipt,
}

pub enum Outcome {
    /// Nobody has waited.
    Accepted,
    /// Someone has stopped waiting; the deploy goes on.
    Detached,
    Converged {
        env: Box<EnvView>,
        took: Duration,
    },
}

impl Outcome {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Detached => "detached",
            Self::Converged { .. } => "converged",
        }
    }

    pub const fn exit(&self) -> Exit {
        if matches!(self, Self::Detached) { Exit::Transient } else { Exit::Success }
    }
}

impl Rollout<'_> {
    pub async fn follow(&self, patience: Duration, out: &mut Printer) -> Result<Outcome, CliError> {
        let (begun, mut live) = (Instant::now(), out.live());
        let end = tokio::select! {
            end = timeout(patience, self.until_final(&mut live, out)) => end,
            _ = tokio::signal::ctrl_c() => Ok(Ok(None)),
        };
        live.end();
        let env =
            end.map_err(|_| CliError::WaitTimeout { deploy: self.receipt.deploy, app: self.app.to_owned() })??;
        let took = begun.elapsed();
        Ok(env.map_or(Outcome::Detached, |env| Outcome::Converged { env: Box::new(env), took }))
    }

    /// The env with the deploy in place; always some.
    async fn until_final(&self, live: &mut Live, out: &mut Printer) -> Result<Option<EnvView>, CliError> {
        let mut looks = Looks::default();
        loop {
            match self.client.env(self.org, self.app, self.env).await {
                // A server that only follows may not know of the deploy yet.
                Ok(env) if env.seq < self.receipt.seq => {}
                Ok(env) => {
                    live.show(out, &progress_lines(&env));
                    if self.is_done(&env)? {
                        return Ok(Some(env));
                    }
                }
                Err(error) if error.is_retryable() => live.show(out, &[lost(&error)]),
                Err(error) => return Err(error.into()),
            }
            looks.wait().await;
        }
    }

    fn is_done(&self, env: &EnvView) -> Result<bool, CliError> {
        let Some(deploy) = &env.deploy else { return Ok(false) };
        if deploy.id != self.receipt.deploy {
            return Err(self.superseded(deploy.id.to_string()));
        }
        match deploy.status {
            DeployStatus::Succeeded => Ok(true),
            DeployStatus::Failed => Err(self.failed(deploy.failure.clone())),
            DeployStatus::Superseded => Err(self.superseded("a later one".to_owned())),
            DeployStatus::Queued | DeployStatus::Rolling => Ok(false),
        }
    }

    fn failed(&self, failure: Option<Failure>) -> CliError {
        let failure = failure.unwrap_or_else(|| Failure::new(Reason::StartupTimeout, "no reason was given"));
        let (app, env) = (self.app.to_owned(), self.env.to_owned());
        CliError::DeployFailed { deploy: self.receipt.deploy, app, env, failure }
    }

    fn superseded(&self, by: String) -> CliError {
        CliError::Superseded { deploy: self.receipt.deploy, by }
    }
}

fn lost(error: &ApiError) -> String {
    format!("{error}; trying again")
}
