//! `plfm doctor`: whether this machine can run instances, and whether the API answers.

use std::path::Path;

use plfm_core::reason::chain;
use plfm_runtime::doctor::{self, Check, Facts};
use plfm_runtime::microvm::{Config, MicroVmRuntime, Verdict, kvm_opens};
use serde::Serialize;

use crate::cli::{DoctorArgs, MonitorArgs};
use crate::context::Context;
use crate::printer::{Colour, Printer};
use crate::{CliError, Exit, role};

/// Without these nothing runs; without the others it runs slower or less walled off.
const REQUIRED: &[&str] = &["qemu", "kernel", "mke2fs", "free_disk"];

pub async fn run(args: DoctorArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let data = role::data_dir(args.data.as_deref())?;
    let kvm = kvm(&data, &args.monitor).await;
    let config = role::runtime(&args.monitor, &data, data.clone());
    let facts = Facts::gather(&config, kvm).await;
    let mut findings: Vec<Finding> = doctor::checks(&facts).into_iter().map(Finding::of).collect();
    let api = api(context).await;
    findings.extend(api.as_ref().map(|(finding, _)| finding.clone()));
    let exit = api.map_or(Exit::Success, |(_, exit)| exit);
    let ready = findings.iter().all(|it| it.ok || !it.required);
    show(&findings, ready, out)?;
    if ready { Ok(exit) } else { Ok(Exit::Failure) }
}

#[derive(Debug, Clone, Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    required: bool,
    detail: String,
    fix: String,
}

impl Finding {
    fn of(check: Check) -> Self {
        let Check { name, ok, detail, fix } = check;
        Self { name, ok, required: REQUIRED.contains(&name), detail, fix: fix.to_owned() }
    }
}

/// What a node found since this host was started; else a guest is tried now.
async fn kvm(data: &Path, args: &MonitorArgs) -> Verdict {
    if let Err(verdict) = kvm_opens() {
        return verdict;
    }
    match Verdict::known(&data.join(role::MACHINES)) {
        Some(verdict) => verdict,
        None => tried(role::runtime(args, data, data.join(format!("doctor-{}", std::process::id())))).await,
    }
}

/// In a directory of its own, which is gone afterwards.
async fn tried(config: Config) -> Verdict {
    let dir = config.dir.clone();
    let opened = MicroVmRuntime::open(config).await;
    let _ = std::fs::remove_dir_all(dir);
    let untried = |error| Verdict { usable: false, detail: format!("no guest could be tried: {}", chain(&error)) };
    opened.map_or_else(untried, |runtime| runtime.kvm().clone())
}

/// None when no cluster is configured: that is no finding about this machine.
async fn api(context: &Context) -> Option<(Finding, Exit)> {
    let client = match context.client() {
        Err(CliError::NoCluster) => return None,
        client => client,
    };
    let finding = |ok, detail, fix| Finding { name: "api", ok, required: false, detail, fix };
    let answer = match client {
        Ok(client) => client.capabilities().await.map(|it| (client, it)).map_err(CliError::from),
        Err(error) => Err(error),
    };
    Some(match answer {
        Ok((client, server)) => {
            let detail = format!("{} answers, version {}", client.api_url(), server.version);
            (finding(true, detail, String::new()), Exit::Success)
        }
        Err(error) => (finding(false, error.to_string(), error.hint()), error.exit()),
    })
}

fn show(findings: &[Finding], ready: bool, out: &mut Printer) -> Result<(), CliError> {
    if out.is_json() {
        return Ok(out.document("doctor", &serde_json::json!({ "ready": ready, "checks": findings }))?);
    }
    let width = findings.iter().map(|it| it.name.len()).max().unwrap_or(0);
    for it in findings {
        let mark = match (it.ok, it.required) {
            (true, _) => out.paint(Colour::Green, "ok  "),
            (false, true) => out.paint(Colour::Red, "FAIL"),
            (false, false) => out.paint(Colour::Yellow, "warn"),
        };
        out.line(format_args!("{mark}  {:<width$}  {}", it.name, it.detail))?;
        if !it.ok {
            out.line(format_args!("      {:<width$}  fix: {}", "", it.fix))?;
        }
    }
    if !ready {
        out.note("this machine cannot run instances yet: do what stands beside FAIL, then run `plfm doctor` again");
    }
    Ok(())
}
