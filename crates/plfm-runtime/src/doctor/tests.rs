use expect_test::{Expect, expect};

use super::*;

fn good() -> Facts {
    Facts {
        qemu: Ok("7.2.22".to_owned()),
        kernel: Ok("6.1.0-56-cloud-amd64".to_owned()),
        mke2fs: Some("/usr/sbin/mke2fs".into()),
        ip: Some("/usr/sbin/ip".into()),
        nft: Some("/usr/sbin/nft".into()),
        kvm: Verdict { usable: true, detail: "a guest has booted".to_owned() },
        net_admin: true,
        tun: Ok(()),
        root: true,
        cgroup: Support::V2,
        free: Mebibytes(80_000),
    }
}

fn failing(facts: &Facts, expected: Expect) {
    let failed = checks(facts).into_iter().filter(|check| !check.ok);
    let lines: Vec<String> = failed.map(|check| format!("{}: {}\n  {}", check.name, check.detail, check.fix)).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn a_good_host_has_nothing_to_fix() {
    assert!(checks(&good()).iter().all(|check| check.ok && check.fix.is_empty()));
}

#[test]
fn a_bare_host_hears_what_to_do() {
    let bare = Facts {
        qemu: Err("`qemu-system-x86_64` is not installed".to_owned()),
        kernel: Err("no kernel".to_owned()),
        mke2fs: None,
        ip: None,
        nft: None,
        kvm: Verdict { usable: false, detail: "there is no /dev/kvm".to_owned() },
        net_admin: false,
        tun: Err("permission denied".to_owned()),
        root: false,
        cgroup: Support::None,
        free: Mebibytes(100),
    };
    failing(&bare, expect![[""]]);
    failing(&Facts { qemu: Ok("5.2.0".to_owned()), ..good() }, expect![[""]]);
}

#[tokio::test]
async fn this_host_is_looked_at() {
    let kvm = Verdict { usable: false, detail: String::new() };
    let facts = Facts::gather(Path::new("/not/made/yet"), &[], kvm).await;
    assert!(facts.free > Mebibytes(0), "an ancestor is on a disk");
    assert!(facts.kernel.is_err());
}
