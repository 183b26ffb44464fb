//! `plfm.guest.v1`: hello, configure, watch, logs, shutdown.

use std::time::Duration;

use plfm_api::guest::{self, ConfigureRequest, Phase, Prestart, PutSecretsRequest, logs_response::Stream};
use plfm_api::rpc::ErrorCode;

use super::daemon::{Daemon, request};

fn with(workload: guest::Workload) -> ConfigureRequest {
    ConfigureRequest { workload: workload.into(), ..request([]) }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

#[tokio::test]
async fn hello_says_what_is_there() {
    let daemon = Daemon::start().await;
    let hello = daemon.guest.hello().await.unwrap();
    assert_eq!((hello.protocol, hello.instance_id.as_str()), (1, ""));
    assert!(
        !hello.kernel_release.is_empty()
            && hello.memory_total_kib > 0
            && hello.cpus > 0
            && hello.kernel_boot_id.len() == 36
    );
    daemon.guest.configure(request(["/bin/sleep", "1000"])).await.unwrap();
    let hello = daemon.guest.hello().await.unwrap();
    assert_eq!((hello.instance_id.as_str(), hello.boot_id.as_str()), ("inst_1", "boot_1"));
}

#[tokio::test]
async fn a_configuration_is_said_once_or_again_but_not_anew() {
    let daemon = Daemon::start().await;
    let asked = request(["/bin/sleep", "1000"]);
    daemon.guest.configure(asked.clone()).await.unwrap();
    let pid = |phase| if let Phase::Running(running) = phase { running.pid } else { 0 };
    let first = pid(daemon.until(|phase| matches!(phase, Phase::Running(_))).await);
    let again =
        daemon.guest.configure(ConfigureRequest { realtime_ns: 5, entropy: vec![1; 32], ..asked }).await.unwrap();
    assert_eq!(pid(again), first);
    let other = daemon.guest.configure(request(["/bin/true"])).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn output_and_exit_codes_are_reported() {
    for code in [0, 3] {
        let daemon = Daemon::running(["/bin/sh", "-c", &format!("echo out; echo err >&2; exit {code}")]).await;
        assert_eq!(daemon.end().await, (code, 0, format!("exit status {code}")));
        assert_eq!(daemon.log(Stream::STREAM_STDOUT).await, "out\n");
        assert_eq!(daemon.log(Stream::STREAM_STDERR).await, "err\n");
    }
}

#[tokio::test]
async fn a_signal_is_told_from_a_code() {
    let daemon = Daemon::running(["/bin/sh", "-c", "kill -KILL $$"]).await;
    assert_eq!(daemon.end().await, (137, 9, "ended by SIGKILL".into()));
}

#[tokio::test]
async fn the_workload_gets_its_environment_directory_and_user() {
    let daemon = Daemon::start().await;
    let workload = guest::Workload {
        argv: words(["sh", "-c", "echo $GREETING $HOME $HOSTNAME $(pwd) $(id -u):$(id -g)"]),
        env: [("GREETING".to_owned(), "hi".to_owned())].into_iter().collect(),
        cwd: "/usr".into(),
        user: "12345:54321".into(),
        ..Default::default()
    };
    daemon.guest.configure(ConfigureRequest { hostname: "web-1".into(), ..with(workload) }).await.unwrap();
    assert_eq!(daemon.end().await.0, 0);
    assert_eq!(daemon.log(Stream::STREAM_STDOUT).await, "hi / web-1 /usr 12345:54321\n");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let cases = [
        (guest::Workload { argv: words(["/nope"]), ..Default::default() }, "exec \"/nope\": no such file or directory"),
        (guest::Workload { argv: words(["nope"]), ..Default::default() }, "exec \"nope\": no such file or directory"),
        (
            guest::Workload { argv: words(["/etc/passwd"]), ..Default::default() },
            "exec \"/etc/passwd\": permission denied",
        ),
        (
            guest::Workload { argv: words(["/bin/true"]), cwd: "/nowhere".into(), ..Default::default() },
            "chdir \"/nowhere\": no such file or directory",
        ),
        (
            guest::Workload { argv: words(["/bin/true"]), user: "nobody-here".into(), ..Default::default() },
            "user \"nobody-here\" is not in the image's /etc/passwd",
        ),
        (guest::Workload::default(), "no command: neither the image nor the manifest names one"),
    ];
    for (workload, detail) in cases {
        let daemon = Daemon::start().await;
        daemon.guest.configure(with(workload)).await.unwrap();
        assert_eq!(daemon.failure().await, ("workload_start_failed".into(), detail.into()));
    }
}

#[tokio::test]
async fn prestart_comes_first_and_has_to_end_well() {
    let prestart = |argv, timeout_ms| Prestart { argv, timeout_ms, ..Default::default() };
    let run = |prestarts| async move {
        let daemon = Daemon::start().await;
        let asked = ConfigureRequest { prestart: prestarts, ..request(["/bin/echo", "workload"]) };
        daemon.guest.configure(asked).await.unwrap();
        daemon
    };
    let daemon =
        run(vec![prestart(words(["/bin/echo", "one"]), 30_000), prestart(words(["/bin/echo", "two"]), 30_000)]).await;
    assert_eq!(daemon.end().await.0, 0);
    assert_eq!(daemon.log(Stream::STREAM_PRESTART).await, "one\ntwo\n");
    assert_eq!(daemon.log(Stream::STREAM_STDOUT).await, "workload\n");
    let daemon = run(vec![prestart(words(["/bin/sh", "-c", "exit 4"]), 30_000)]).await;
    assert_eq!(daemon.failure().await, ("prestart_failed".into(), "prestart \"/bin/sh\": exit status 4".into()));
    let daemon = run(vec![prestart(words(["/bin/sleep", "1000"]), 50)]).await;
    assert_eq!(
        daemon.failure().await,
        ("prestart_failed".into(), "prestart \"/bin/sleep\": did not end within 50ms".into())
    );
}

#[tokio::test]
async fn logs_can_be_followed() {
    let daemon = Daemon::running(["/bin/sh", "-c", "echo one; sleep 0.2; echo two; sleep 1000"]).await;
    let mut logs = daemon.guest.logs(0, true).await.unwrap();
    let first = logs.next().await.unwrap().unwrap();
    let second = logs.next().await.unwrap().unwrap();
    assert_eq!(
        (first.seq, first.data.as_slice(), second.seq, second.data.as_slice()),
        (1, &b"one\n"[..], 2, &b"two\n"[..])
    );
    let mut rest = daemon.guest.logs(2, false).await.unwrap();
    assert_eq!(rest.next().await.unwrap().unwrap().seq, 2);
    assert!(rest.next().await.unwrap().is_none());
}

#[tokio::test]
async fn old_logs_make_room_and_are_counted() {
    let daemon = Daemon::running(["/bin/sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' x"]).await;
    assert_eq!(daemon.end().await.0, 0);
    let mut logs = daemon.guest.logs(1, false).await.unwrap();
    let oldest = logs.next().await.unwrap().unwrap();
    assert!(oldest.dropped > 0 && oldest.seq == oldest.dropped + 1, "{} {}", oldest.seq, oldest.dropped);
}

#[tokio::test]
async fn a_stop_asks_then_kills() {
    let script = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let mut daemon = Daemon::running(["/bin/sh", "-c", script]).await;
    ready(&daemon).await;
    let mut watch = daemon.guest.watch().await.unwrap();
    daemon.guest.shutdown(Duration::from_secs(30), Duration::ZERO).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(Some(phase)) = watch.next().await {
        seen.push(phase);
    }
    assert!(matches!(seen.last(), Some(Phase::Exited(end)) if end.code == 7), "{seen:?}");
    assert!(daemon.gone().await);
}

#[tokio::test]
async fn a_stop_signal_of_the_image_is_used_and_the_stubborn_are_killed() {
    let mut daemon = Daemon::start().await;
    let argv = words(["/bin/sh", "-c", "trap '' TERM; trap 'echo int' INT; echo up; while :; do sleep 0.05; done"]);
    let workload = guest::Workload { argv, stop_signal: "SIGINT".into(), ..Default::default() };
    daemon.guest.configure(with(workload)).await.unwrap();
    ready(&daemon).await;
    let mut watch = daemon.guest.watch().await.unwrap();
    daemon.guest.shutdown(Duration::from_millis(100), Duration::ZERO).await.unwrap();
    let mut last = None;
    while let Ok(Some(phase)) = watch.next().await {
        last = Some(phase);
    }
    assert!(matches!(&last, Some(Phase::Exited(end)) if end.signal == 9 && !end.oom), "{last:?}");
    assert!(daemon.gone().await);
}

async fn ready(daemon: &Daemon) {
    let mut logs = daemon.guest.logs(0, true).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().data, b"up\n");
}

#[tokio::test]
async fn secrets_that_nobody_expects_are_refused() {
    let daemon = Daemon::running(["/bin/sleep", "1000"]).await;
    let refused =
        daemon.guest.put_secrets(PutSecretsRequest { data: b"x".to_vec(), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn a_workload_that_needs_secrets_waits_for_them() {
    let daemon = Daemon::start().await;
    let asked = ConfigureRequest { expects_secrets: true, ..request(["/bin/true"]) };
    daemon.guest.configure(asked).await.unwrap();
    daemon.until(|phase| matches!(phase, Phase::AwaitingSecrets(_))).await;
    let too_many = PutSecretsRequest { data: vec![b'x'; 300 << 10], ..Default::default() };
    let refused = daemon.guest.put_secrets(too_many).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_new_host_takes_over_where_the_old_one_left() {
    let daemon = Daemon::running(["/bin/sh", "-c", "echo up; sleep 1000"]).await;
    ready(&daemon).await;
    let second = guest::Client::over(daemon.attach_again().await);
    assert_eq!(second.hello().await.unwrap().instance_id, "inst_1");
    assert!(daemon.guest.hello().await.is_err());
    let mut logs = second.logs(0, false).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().data, b"up\n");
}
