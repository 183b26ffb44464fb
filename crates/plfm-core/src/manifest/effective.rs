//! What one process runs with, after `env` and the process are joined (P-MAN-9).

use std::collections::BTreeMap;

use super::{Manifest, Settings};

/// Without the `PLFM_*` variables, which the platform adds.
#[derive(Clone, PartialEq, Eq)]
pub struct Effective {
    /// None: the image's entrypoint and command.
    pub command: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// In the order of running.
    pub prestart: Vec<Prestart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prestart {
    pub argv: Vec<String>,
    pub timeout_seconds: u32,
}

impl Manifest {
    /// None when the manifest has no such process.
    pub fn merged(&self, process: &str) -> Option<Effective> {
        let process = self.processes.get(process)?;
        let (shared, own) = (&self.env, &process.settings);
        let mut env = shared.vars.clone();
        env.extend(own.vars.clone());
        Some(Effective {
            command: process.command.clone(),
            env,
            workdir: own.workdir.clone().or_else(|| shared.workdir.clone()),
            user: own.user.clone().or_else(|| shared.user.clone()),
            prestart: [shared, own].into_iter().filter_map(prestart).collect(),
        })
    }
}

fn prestart(settings: &Settings) -> Option<Prestart> {
    let argv = settings.prestart.clone();
    (!argv.is_empty()).then_some(Prestart { argv, timeout_seconds: settings.prestart_timeout_seconds })
}
