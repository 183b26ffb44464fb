//! `process.Process` with a terminal.

use plfm_api::envd::{self, Event, Input, Session, Size};

use super::daemon::{Daemon, Heard, hear};

async fn shell(daemon: &Daemon, script: &str) -> Session {
    let terminal = Some(Size { cols: 91, rows: 37 });
    daemon.envd.start(envd::Command { terminal, ..envd::Command::new(["/bin/sh", "-c", script]) }).await.unwrap()
}

async fn until(session: &mut Session, wanted: &str) -> String {
    let mut heard = Heard::default();
    while !String::from_utf8_lossy(&heard.terminal).contains(wanted) {
        match session.next().await.unwrap().unwrap() {
            Event::Data(data) => heard.take(data.output.unwrap()),
            other => panic!("{other:?} before {wanted:?}, after {heard:?}"),
        }
    }
    String::from_utf8_lossy(&heard.terminal).into_owned()
}

fn typed(text: &str) -> Input {
    Input::Pty(text.as_bytes().to_vec())
}

#[tokio::test]
async fn what_is_typed_is_echoed_and_read() {
    let daemon = Daemon::sandbox().await;
    let mut session = shell(&daemon, "tty; echo ready; read line; echo got $line").await;
    let greeting = until(&mut session, "ready").await;
    assert!(greeting.starts_with("/dev/pts/"), "{greeting}");
    daemon.envd.send_input(session.selector(), typed("hello\n")).await.unwrap();
    let (heard, end) = hear(&mut session).await;
    let text = String::from_utf8(heard.terminal).unwrap();
    assert!(text.contains("hello\r\n") && text.contains("got hello\r\n"), "{text}");
    assert_eq!((end.exit_code, heard.stdout.len(), heard.stderr.len()), (0, 0, 0));
}

#[tokio::test]
async fn its_size_is_given_and_changes_are_told() {
    let daemon = Daemon::sandbox().await;
    let mut session =
        shell(&daemon, "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done").await;
    assert!(until(&mut session, "ready").await.starts_with("37 91\r\n"));
    daemon.envd.resize(session.selector(), Size { cols: 120, rows: 50 }).await.unwrap();
    until(&mut session, "50 120").await;
}

#[tokio::test]
async fn control_keys_are_signals_and_end_of_file() {
    let daemon = Daemon::sandbox().await;
    // It is the one to be interrupted who says that it is ready.
    let mut session = shell(&daemon, "trap 'echo interrupted' INT; (echo ready; exec cat); echo over").await;
    until(&mut session, "ready").await;
    daemon.envd.send_input(session.selector(), typed("\x03")).await.unwrap();
    until(&mut session, "interrupted").await;
    let mut session = shell(&daemon, "echo ready; cat; echo over").await;
    until(&mut session, "ready").await;
    assert!(daemon.envd.close_stdin(session.selector()).await.is_err(), "a terminal ends by its own key");
    daemon.envd.send_input(session.selector(), typed("\x04")).await.unwrap();
    until(&mut session, "over").await;
}

#[tokio::test]
async fn the_user_owns_the_terminal() {
    let daemon = Daemon::sandbox().await;
    let nobody = daemon.envd.clone().as_user("nobody");
    let terminal = Some(Size { cols: 80, rows: 24 });
    let script = "echo mine > $(tty); stat -c %U $(tty)";
    let command = envd::Command { terminal, cwd: Some("/".into()), ..envd::Command::new(["/bin/sh", "-c", script]) };
    let (heard, end) = hear(&mut nobody.start(command).await.unwrap()).await;
    assert_eq!((String::from_utf8(heard.terminal).unwrap(), end.exit_code), ("mine\r\nnobody\r\n".into(), 0));
}
