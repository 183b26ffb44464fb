use expect_test::{Expect, expect};

use super::*;

fn space(free: u64) -> Space {
    Space { total: Mebibytes(200_000), free: Mebibytes(free) }
}

fn good() -> Facts {
    Facts {
        qemu: Ok("7.2.22".to_owned()),
        firecracker: None,
        kernel: Ok("6.1.0-56-cloud-amd64".to_owned()),
        mke2fs: Some("/usr/sbin/mke2fs".into()),
        ip: Some("/usr/sbin/ip".into()),
        nft: Some("/usr/sbin/nft".into()),
        passt: None,
        wireguard: false,
        kvm: Verdict { usable: true, detail: "a guest has booted".to_owned() },
        net_admin: true,
        tun: Ok(()),
        own_users: true,
        cgroup: Support::V2,
        space: space(80_000),
        storage: Storage { file_system: "xfs", reflink: true, encrypted: Some(true) },
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
        firecracker: Some(Err("version 1.9.0 has known holes".to_owned())),
        kernel: Err("no kernel".to_owned()),
        mke2fs: None,
        ip: None,
        nft: None,
        passt: None,
        wireguard: false,
        kvm: Verdict { usable: false, detail: "there is no /dev/kvm".to_owned() },
        net_admin: false,
        tun: Err("permission denied".to_owned()),
        own_users: false,
        cgroup: Support::None,
        space: space(100),
        storage: Storage { file_system: "ext4", reflink: false, encrypted: Some(false) },
    };
    failing(
        &bare,
        expect![[r#"
            qemu: `qemu-system-x86_64` is not installed
              install qemu-system-x86, version 7.2 or newer
            firecracker: version 1.9.0 has known holes
              name a newer one with --firecracker, or none
            kernel: no kernel
              unpack Debian's linux-image-cloud-amd64 and name the directory with --kernel
            mke2fs: not found
              install e2fsprogs
            kvm: there is no /dev/kvm
              guests are emulated: slower, and no security boundary; use a host with KVM
            ip: not found
              install iproute2
            nft: not found
              install nftables
            cap_net_admin: no
              run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN; else machines have no network card, and ports are relayed
            tun: permission denied
              run as root; where it is not there, load the module tun
            own_users: no
              run as root, outside of containers; else machines share our user and see our files
            cgroup: none
              run as root with the memory controller; else a machine's process has no limit
            free_disk: 100 MiB
              free some space or choose another --data directory
            reflink: no, ext4
              keep the data on xfs or btrfs; else the disk of a fork, a snapshot or a paused machine is copied
            encryption: no
              keep the data on an encrypted disk (LUKS): what machines write, and their memory when they are paused, lies there as it is"#]],
    );
    failing(
        &Facts { qemu: Ok("5.2.0".to_owned()), ..good() },
        expect![[r#"
        qemu: version 5.2.0 is too old
          install qemu-system-x86, version 7.2 or newer"#]],
    );
}

#[test]
fn what_keeps_new_work_away_is_said_before_it_does() {
    failing(
        &Facts { space: space(4_000), ..good() },
        expect![[r#"
        free_disk: 4000 MiB
          free some space: with less than a tenth and 5 GiB free a node takes no new work"#]],
    );
}

#[tokio::test]
async fn this_host_is_looked_at() {
    let kvm = Verdict { usable: false, detail: String::new() };
    let (dir, kernel_roots, guest) = ("/not/made/yet".into(), Vec::new(), Vec::new().into());
    let firecracker = Some("/bin/true".into());
    let facts = Facts::gather(&Config { dir, kernel_roots, guest, accel: None, firecracker }, kvm).await;
    assert_eq!(facts.firecracker, Some(Err("it does not say that it is Firecracker".to_owned())));
    assert!(facts.space.free > Mebibytes(0), "an ancestor is on a disk");
    assert!(facts.kernel.is_err());
}
