//! Commands before the workload: one after another, each has to end well and in time.

use std::sync::Arc;

use nix::sys::signal::Signal;
use plfm_api::guest::logs_response::Stream;
use plfm_core::reason::{Failure, Reason};
use tokio::time::timeout;

use super::{LAST_WORDS, collect, launch, name};
use crate::daemon::{Config, Daemon, Prestart};
use crate::reaper::Exit;
use crate::users::Account;

pub async fn run(daemon: &Arc<Daemon>, config: &Config, account: &Account) -> Result<(), Failure> {
    for prestart in &config.prestart {
        let ended = one(daemon, config, account, prestart).await;
        ended
            .map_err(|why| Failure::new(Reason::PrestartFailed, format!("prestart \"{}\": {why}", prestart.argv[0])))?;
    }
    Ok(())
}

pub async fn one(daemon: &Arc<Daemon>, config: &Config, account: &Account, prestart: &Prestart) -> Result<(), String> {
    let launch = launch(daemon, config, prestart.argv.clone(), account.clone());
    let started = launch.start(&daemon.place, &daemon.reaper).await.map_err(|cause| cause.to_string())?;
    let output = collect(daemon, started.ends, (Stream::STREAM_PRESTART, Stream::STREAM_PRESTART));
    let ended = timeout(prestart.timeout, started.exit).await;
    if ended.is_err() {
        daemon.reaper.signal_group(started.pid, Signal::SIGKILL);
    }
    let _ = timeout(LAST_WORDS, output).await;
    match ended {
        Ok(Ok(Exit::Code(0))) => Ok(()),
        Ok(Ok(Exit::Code(code))) => Err(format!("exit status {code}")),
        Ok(Ok(Exit::Signal(signal))) => Err(format!("ended by {}", name(signal))),
        Ok(Err(_)) => Err("its end was not seen".into()),
        Err(_) => Err(format!("did not end within {:?}", prestart.timeout)),
    }
}
