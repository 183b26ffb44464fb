//! A request to start, turned into a launch (W-PR-2 to W-PR-5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectrpc::{ConnectError, RequestContext};
use plfm_api::envd::{PTY, ProcessConfig, StartRequest};

use super::CGROUP;
use crate::daemon::{Config, Daemon};
use crate::launch::{DEFAULT_PATH, Launch, LaunchError, Size, Wiring};
use crate::machine;
use crate::users::{self, Account};

pub async fn launch(daemon: &Daemon, context: &RequestContext, request: &StartRequest) -> Result<Launch, ConnectError> {
    let config = daemon.config().ok_or_else(|| ConnectError::unavailable("this machine is not configured"))?;
    let process =
        request.process.as_option().ok_or_else(|| ConnectError::invalid_argument("the request names no process"))?;
    let account = account(daemon, context, config).await?;
    check(process)?;
    Ok(Launch {
        argv: std::iter::once(&process.cmd).chain(&process.args).cloned().collect(),
        env: environment(daemon.name().map(|name| name.env).unwrap_or_default(), &account, process),
        cwd: directory(process.cwd.as_deref(), if config.sandbox { &account.home } else { &config.cwd }, &account.home),
        account,
        wiring: match request.pty.as_option() {
            Some(pty) => Wiring::Terminal(size(pty)),
            None => Wiring::Pipes { stdin: request.stdin.unwrap_or(true) },
        },
        cgroup: machine::cgroup(daemon, CGROUP),
        no_new_privs: !config.sandbox,
    })
}

/// What the system refuses is the caller's to correct; `unstartable` and missing directories alike.
pub fn refused(error: &LaunchError) -> ConnectError {
    ConnectError::invalid_argument(error.to_string())
}

pub fn size(pty: &PTY) -> Size {
    pty.size.as_option().map_or(Size::new(80, 24), |size| Size::new(size.cols, size.rows))
}

async fn account(daemon: &Daemon, context: &RequestContext, config: &Config) -> Result<Account, ConnectError> {
    let user = acting_user(context).unwrap_or_else(|| config.user.clone());
    let name = user.clone();
    let account = daemon.place.run(move || users::look_up(&user)).await;
    account.map_err(|_| ConnectError::unauthenticated(format!("invalid username: '{name}'")))
}

/// The name of HTTP's basic authorization; there is no password to check, the channel is the host's.
pub(super) fn acting_user(context: &RequestContext) -> Option<String> {
    let value = context.header("authorization")?.to_str().ok()?;
    let decoded = STANDARD.decode(value.strip_prefix("Basic ")?.trim()).ok()?;
    let name = String::from_utf8_lossy(&decoded).split(':').next()?.to_owned();
    Some(name).filter(|name| !name.is_empty())
}

fn check(process: &ProcessConfig) -> Result<(), ConnectError> {
    let texts = process.args.iter().chain([&process.cmd]).chain(process.envs.values()).chain(&process.cwd);
    if process.cmd.is_empty() {
        return Err(ConnectError::invalid_argument("the command is empty"));
    }
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(ConnectError::invalid_argument("a command, argument, value or directory holds a NUL byte"));
    }
    if process.envs.keys().any(|key| key.is_empty() || key.contains(['=', '\0'])) {
        return Err(ConnectError::invalid_argument("a name of the environment is empty or holds `=`"));
    }
    Ok(())
}

/// The user's, then the machine's, then the request's.
fn environment(env: Vec<(String, String)>, account: &Account, process: &ProcessConfig) -> Vec<(String, String)> {
    let own = [("PATH", DEFAULT_PATH), ("HOME", &account.home), ("USER", &account.name), ("LOGNAME", &account.name)];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let asked = process.envs.iter().map(|(key, value)| (key.clone(), value.clone()));
    own.chain(env).chain(asked).collect()
}

/// From where one starts: home in a sandbox (W-PATH-1), the workload's own directory in an app.
pub(super) fn directory(asked: Option<&str>, start: &str, home: &str) -> String {
    let below = |dir: &str, rest: &str| format!("{}/{rest}", dir.trim_end_matches('/'));
    match asked.unwrap_or_default() {
        "" => start.to_owned(),
        "~" => home.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => relative.strip_prefix("~/").map_or_else(|| below(start, relative), |rest| below(home, rest)),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn paths_begin_at_home() {
        let home = "/home/user";
        let found = ["", "~", "~/x", "x/y", "/srv", "~other"].map(|path| directory(Some(path), home, home));
        assert_eq!(found, ["/home/user", "/home/user", "/home/user/x", "/home/user/x/y", "/srv", "/home/user/~other"]);
        assert_eq!((directory(None, home, home), directory(Some("x"), "/", "/")), (home.into(), "/x".into()));
    }

    #[test]
    fn the_acting_user_is_the_basic_name() {
        let acting = |value: &'static str| {
            let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static(value))]);
            acting_user(&RequestContext::new(headers))
        };
        assert_eq!(acting("Basic cm9vdDo="), Some("root".into()));
        assert_eq!(acting("Basic cm9vdA=="), Some("root".into()));
        for none in ["Basic !!", "Basic ", "Basic Og==", "Bearer cm9vdDo="] {
            assert_eq!(acting(none), None, "{none}");
        }
    }
}
