//! Without the rights that networks take: machines run, and their ports are relayed.

use std::process::Command;

use expect_test::{Expect, expect};

use crate::world::{Image, Layout, Ran, World, find, free_port, ran, skip};

/// Our program with fewer rights, by what `setpriv` is told.
fn less(world: &World, rights: &[&str]) -> Command {
    let mut command = world.through("setpriv");
    command.args(rights).arg(env!("CARGO_BIN_EXE_plfm"));
    command
}

/// None, and loudly, where rights cannot be given away, or what is left of them is too little to read the program.
fn world(test: &str, rights: &[&str]) -> Option<World> {
    let world = World::new(test)?;
    let lacks = match find("setpriv") {
        None => Some("needs setpriv".to_owned()),
        Some(_) => Some(ran(less(&world, rights).arg("version"))).filter(|ran| ran.code != Some(0)).map(|ran| ran.err),
    };
    lacks.iter().for_each(|reason| skip(test, reason.trim()));
    lacks.is_none().then_some(world)
}

/// What doctor says after the line that no network can be made.
fn doctor(world: &World, rights: &[&str], expected: Expect) {
    let Ran { code, out, .. } = ran(less(world, rights).args(["doctor", "--data"]).arg(world.path("data")));
    let no_network = "warn  cap_net_admin  no
                     fix: run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN; else machines have no network card, and ports are relayed
";
    let (_, after) = out.split_once(no_network).unwrap_or_else(|| panic!("nothing of cap_net_admin: {out}"));
    let lines = after.lines().take_while(|it| !it.contains("cgroup"));
    expected.assert_eq(&lines.map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(code, Some(0), "nothing of it is needed: {out}");
}

fn is_relayed(world: &World, rights: &[&str]) {
    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev_by(less(world, rights));
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

#[test]
fn without_net_admin_ports_are_relayed_and_doctor_says_what_is_missing() {
    const TEST: &str = "without_net_admin_ports_are_relayed_and_doctor_says_what_is_missing";
    let rights = ["--bounding-set=-net_admin"];
    let Some(world) = world(TEST, &rights) else { return };
    doctor(
        &world,
        &rights,
        expect![[r#"
            ok    tun            /dev/net/tun opens
            ok    own_users      yes
        "#]],
    );
    is_relayed(&world, &rights);
}

#[test]
fn someone_who_is_not_root_runs_machines_too() {
    let rights = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let Some(world) = world("someone_who_is_not_root_runs_machines_too", &rights) else { return };
    let dir = world.path("");
    std::os::unix::fs::chown(dir, Some(65534), Some(65534)).unwrap();
    doctor(
        &world,
        &rights,
        expect![[r#"
            warn  tun            /dev/net/tun: Permission denied (os error 13)
                                 fix: run as root; where it is not there, load the module tun
            warn  own_users      no
                                 fix: run as root, outside of containers; else machines share our user and see our files
        "#]],
    );
    is_relayed(&world, &rights);
}
