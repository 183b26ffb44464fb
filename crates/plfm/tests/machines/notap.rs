//! Without the rights that networks take: machines run, and their ports are relayed.

use std::process::Command;

use expect_test::expect;

use crate::world::{Image, Layout, World, find, free_port, ran, skip};

#[test]
fn without_net_admin_ports_are_relayed_and_doctor_says_what_is_missing() {
    const TEST: &str = "without_net_admin_ports_are_relayed_and_doctor_says_what_is_missing";
    let Some(world) = World::new(TEST) else { return };
    if find("setpriv").is_none() {
        return skip(TEST, "needs setpriv");
    }
    let bound = || {
        let mut command = world.through("setpriv");
        command.args(["--bounding-set=-net_admin", env!("CARGO_BIN_EXE_plfm")]);
        command
    };
    let doctor = ran(bound().args(["doctor", "--data"]).arg(world.path("data")));
    let lines = doctor.out.lines().skip_while(|line| !line.contains("cap_net_admin")).take(2);
    expect![[r#"
        warn  cap_net_admin  no
                             fix: run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN; else machines have no network"#]]
    .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(doctor.code, Some(0), "it is not needed: {}", doctor.out);

    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev_by(bound());
    let port = free_port();
    let expose = format!("{port}=web:8080");
    let deployed = world.deploy("web", &image, "ports = [{ internal = 8080 }]", &["--expose", &expose]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    let page = ran(Command::new("curl").args(["-sS", "--max-time", "20", &format!("http://127.0.0.1:{port}/")]));
    assert_eq!(page.out, "it works\n", "{}", page.err);
    assert_eq!(world.page("web", "/"), "it works\n");
    let cards = world.said(&["exec", "web", "--env", "dev", "--", "busybox", "ls", "/sys/class/net"]);
    assert_eq!(cards, "lo\n");
    let left = world.left();
    assert!(left.machines().iter().all(|it| !it.starts_with("plfm-inst")), "a network was made");
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0]);
}
