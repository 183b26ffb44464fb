//! How an end is told (W-PR-6), in the words of upstream's runtime, which SDKs print.

use nix::libc;
use plfm_api::envd::process_event::EndEvent;

use crate::reaper::Exit;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    exit: Exit,
}

impl End {
    pub fn of(exit: Exit) -> Self {
        Self { exit }
    }
}

impl From<&End> for EndEvent {
    fn from(end: &End) -> Self {
        let (exit_code, exited, status) = match end.exit {
            Exit::Code(code) => (code, true, format!("exit status {code}")),
            Exit::Signal(signal) => (-1, false, format!("signal: {}", words(signal))),
        };
        let error = (end.exit != Exit::Code(0)).then(|| status.clone());
        Self { exit_code, exited, status, error, ..Default::default() }
    }
}

fn words(signal: i32) -> String {
    let words = match signal {
        libc::SIGABRT => "aborted",
        libc::SIGALRM => "alarm clock",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGHUP => "hangup",
        libc::SIGILL => "illegal instruction",
        libc::SIGINT => "interrupt",
        libc::SIGKILL => "killed",
        libc::SIGPIPE => "broken pipe",
        libc::SIGQUIT => "quit",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGTERM => "terminated",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGUSR2 => "user defined signal 2",
        other => return format!("signal {other}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(exit: Exit) -> (i32, bool, String, Option<String>) {
        let end = EndEvent::from(&End::of(exit));
        (end.exit_code, end.exited, end.status, end.error)
    }

    #[test]
    fn only_a_clean_zero_is_no_error() {
        assert_eq!(told(Exit::Code(0)), (0, true, "exit status 0".into(), None));
        assert_eq!(told(Exit::Code(3)), (3, true, "exit status 3".into(), Some("exit status 3".into())));
        assert_eq!(told(Exit::Signal(9)), (-1, false, "signal: killed".into(), Some("signal: killed".into())));
        assert_eq!(told(Exit::Signal(34)).2, "signal: signal 34");
    }
}
