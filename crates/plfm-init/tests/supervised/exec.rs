//! `process.Process` without a terminal.

use std::time::Duration;

use plfm_api::envd::{self, Event, Input, Output, Selector, Signal};
use plfm_api::guest::ConfigureRequest;
use plfm_api::rpc::ErrorCode;
use tokio::task::JoinSet;

use super::daemon::{Daemon, hear, request, told};

fn stdin(bytes: &[u8]) -> Input {
    Input::Stdin(bytes.to_vec())
}

fn cat() -> envd::Command {
    envd::Command { stdin: true, ..envd::Command::new(["/bin/cat"]) }
}

#[tokio::test]
async fn ends_are_told_as_sdks_expect() {
    let daemon = Daemon::sandbox().await;
    for (script, expected) in [
        ("exit 0", (0, true, "exit status 0")),
        ("exit 3", (3, true, "exit status 3")),
        ("kill -TERM $$", (-1, false, "signal: terminated")),
        ("no-such-command 2>/dev/null", (127, true, "exit status 127")),
    ] {
        let (_, end) = hear(&mut daemon.shell(script).await).await;
        assert_eq!(told(&end), expected, "{script}");
        assert_eq!(end.error.is_none(), expected.0 == 0);
    }
}

#[tokio::test]
async fn outputs_are_apart_and_bytes_pass_unchanged() {
    let daemon = Daemon::sandbox().await;
    let (heard, _) = hear(&mut daemon.shell("printf 'a\\377b'; printf err >&2").await).await;
    assert_eq!((heard.stdout.as_slice(), heard.stderr.as_slice()), (&b"a\xFFb"[..], &b"err"[..]));
}

#[tokio::test]
async fn a_process_gets_its_users_environment_and_the_requests() {
    let daemon = Daemon::sandbox().await;
    let mut command = envd::Command::new(["/bin/sh", "-c", "echo $USER $LOGNAME $HOME $GREETING; pwd; id -u"]);
    command.env.insert("GREETING".into(), "hi".into());
    let (heard, _) = hear(&mut daemon.envd.start(command.clone()).await.unwrap()).await;
    assert_eq!(String::from_utf8(heard.stdout).unwrap(), "root root /root hi\n/root\n0\n");
    command.env.clear();
    command.cwd = Some("/usr".into());
    let nobody = daemon.envd.clone().as_user("nobody");
    let (heard, _) = hear(&mut nobody.start(command).await.unwrap()).await;
    assert_eq!(String::from_utf8(heard.stdout).unwrap(), "nobody nobody /nonexistent\n/usr\n65534\n");
}

#[tokio::test]
async fn a_daemon_of_an_ordinary_user_starts_what_that_user_may() {
    let nobody = 65534;
    if !nix::unistd::geteuid().is_root() {
        return eprintln!(
            "skipped: a_daemon_of_an_ordinary_user_starts_what_that_user_may: needs root to become another user"
        );
    }
    let daemon = Daemon::start_as(nobody).await;
    daemon.guest.configure(ConfigureRequest { sandbox: true, ..request([]) }).await.unwrap();
    let command = envd::Command { cwd: Some("/".into()), ..envd::Command::new(["/bin/sh", "-c", "id -u"]) };
    let (heard, _) = hear(&mut daemon.envd.start(command.clone()).await.unwrap()).await;
    assert_eq!(heard.stdout, b"65534\n");
    let refused = daemon.envd.clone().as_user("root").start(command).await.map(|session| session.pid).unwrap_err();
    assert_eq!(refused.message.as_deref(), Some("change the user of \"/bin/sh\": operation not permitted"));
}

#[tokio::test]
async fn what_cannot_start_is_the_callers_to_correct() {
    let daemon = Daemon::sandbox().await;
    let refused = |command| async { daemon.envd.start(command).await.map(|session| session.pid).unwrap_err() };
    let missing = refused(envd::Command::new(["/nope"])).await;
    assert_eq!(
        (missing.code, missing.message.as_deref()),
        (ErrorCode::InvalidArgument, Some("exec \"/nope\": no such file or directory"))
    );
    let nowhere = refused(envd::Command { cwd: Some("/nowhere".into()), ..cat() }).await;
    assert!(nowhere.code == ErrorCode::InvalidArgument && nowhere.message.unwrap().contains("/nowhere"));
    let stranger = daemon.envd.clone().as_user("stranger").start(cat()).await.map(|session| session.pid).unwrap_err();
    assert_eq!(
        (stranger.code, stranger.message.as_deref()),
        (ErrorCode::Unauthenticated, Some("invalid username: 'stranger'"))
    );
}

#[tokio::test]
async fn nothing_starts_before_the_machine_is_configured() {
    let daemon = Daemon::start().await;
    let refused = daemon.envd.start(cat()).await.map(|session| session.pid).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn stdin_is_fed_and_closed() {
    let daemon = Daemon::sandbox().await;
    let mut session = daemon.envd.start(cat()).await.unwrap();
    daemon.envd.send_input(session.selector(), stdin(b"one ")).await.unwrap();
    daemon.envd.send_input(session.selector(), stdin(b"")).await.unwrap();
    daemon.envd.stream_input(session.selector(), vec![stdin(b"two "), stdin(b"three")]).await.unwrap();
    daemon.envd.close_stdin(session.selector()).await.unwrap();
    daemon
        .envd
        .close_stdin(session.selector())
        .await
        .or_else(|error| if error.code == ErrorCode::NotFound { Ok(()) } else { Err(error) })
        .unwrap();
    let (heard, end) = hear(&mut session).await;
    assert_eq!((heard.stdout.as_slice(), end.exit_code), (&b"one two three"[..], 0));
}

#[tokio::test]
async fn input_that_has_nowhere_to_go_is_an_error() {
    let daemon = Daemon::sandbox().await;
    let mut without = daemon.shell("cat; sleep 1000").await;
    assert!(daemon.envd.send_input(without.selector(), stdin(b"x")).await.is_err());
    let with = daemon.envd.start(cat()).await.unwrap();
    assert!(daemon.envd.send_input(with.selector(), Input::Pty(b"x".to_vec())).await.is_err());
    let missing = daemon.envd.send_input(Selector::Pid(4_000_000), stdin(b"x")).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    daemon.envd.signal(without.selector(), Signal::SIGNAL_SIGKILL).await.unwrap();
    assert_eq!(told(&hear(&mut without).await.1), (-1, false, "signal: killed"));
}

#[tokio::test]
async fn a_killed_process_ends_though_others_hold_its_output() {
    let daemon = Daemon::sandbox().await;
    let mut session = daemon.shell("sleep 1000 & echo up; wait").await;
    assert!(matches!(session.next().await.unwrap(), Some(Event::Data(_))));
    daemon.envd.signal(session.selector(), Signal::SIGNAL_SIGKILL).await.unwrap();
    assert_eq!(told(&hear(&mut session).await.1), (-1, false, "signal: killed"));
    let gone = daemon.envd.signal(session.selector(), Signal::SIGNAL_SIGKILL).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn other_signals_are_not_offered() {
    let daemon = Daemon::sandbox().await;
    let session = daemon.envd.start(cat()).await.unwrap();
    let refused = daemon.envd.signal(session.selector(), Signal::SIGNAL_UNSPECIFIED).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unimplemented);
}

#[tokio::test]
async fn processes_are_listed_and_joined_by_pid_or_tag() {
    let daemon = Daemon::sandbox().await;
    let first = daemon.envd.start(envd::Command { tag: Some("reader".into()), ..cat() }).await.unwrap();
    let listed = daemon.envd.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].pid, listed[0].tag.as_deref()), (first.pid, Some("reader")));
    let mut joined = daemon.envd.connect(Selector::Tag("reader".into())).await.unwrap();
    assert_eq!(joined.pid, first.pid);
    drop(first);
    daemon.envd.send_input(joined.selector(), stdin(b"still here")).await.unwrap();
    daemon.envd.close_stdin(joined.selector()).await.unwrap();
    let (heard, _) = hear(&mut joined).await;
    assert_eq!(heard.stdout, b"still here");
    assert!(daemon.envd.list().await.unwrap().is_empty());
    let mut late = daemon.envd.connect(joined.selector()).await.unwrap();
    assert_eq!(hear(&mut late).await.1.exit_code, 0);
}

#[tokio::test]
async fn a_deadline_kills_the_process_and_says_so() {
    let daemon = Daemon::sandbox().await;
    let command =
        envd::Command { timeout: Some(Duration::from_millis(300)), ..envd::Command::new(["/bin/sleep", "1000"]) };
    let mut session = daemon.envd.start(command).await.unwrap();
    let mut other = daemon.envd.connect(session.selector()).await.unwrap();
    let late = session.next().await.unwrap_err();
    assert_eq!(late.code, ErrorCode::DeadlineExceeded);
    assert_eq!(told(&hear(&mut other).await.1), (-1, false, "signal: killed"));
}

#[tokio::test]
async fn concurrent_short_processes_all_report_their_own_status() {
    let daemon = Daemon::sandbox().await;
    let mut running = JoinSet::new();
    for code in 0..160 {
        let client = daemon.envd.clone();
        running.spawn(async move {
            let script = format!("echo {code}; exit {code}");
            let mut session = client.start(envd::Command::new(["/bin/sh", "-c", &script])).await.unwrap();
            let (heard, end) = hear(&mut session).await;
            (code, String::from_utf8(heard.stdout).unwrap(), end.exit_code)
        });
    }
    let mut seen = 0;
    while let Some(done) = running.join_next().await {
        let (code, text, reported) = done.unwrap();
        assert_eq!((text, reported), (format!("{code}\n"), code));
        seen += 1;
    }
    assert_eq!(seen, 160);
}

#[tokio::test]
async fn much_output_waits_for_its_reader_and_arrives_whole() {
    const BYTES: usize = 64 << 20;
    let daemon = Daemon::sandbox().await;
    let mut session = daemon.shell(&format!("head -c {BYTES} /dev/zero; echo done >&2")).await;
    // The writer cannot be done while nobody reads: other calls answer meanwhile, and the process still runs.
    for _ in 0..20 {
        assert_eq!(daemon.envd.list().await.unwrap().len(), 1);
    }
    let mut seen = 0;
    let end = loop {
        match session.next().await.unwrap().unwrap() {
            Event::Data(data) => match data.output.unwrap() {
                Output::Stdout(bytes) => {
                    assert!(bytes.len() <= 32 << 10);
                    seen += bytes.len();
                }
                other => assert_eq!(other, Output::Stderr(b"done\n".to_vec())),
            },
            Event::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((seen, end.exit_code), (BYTES, 0));
}
