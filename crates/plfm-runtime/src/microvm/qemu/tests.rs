use std::io::Write;

use expect_test::{Expect, expect};
use plfm_api::channel::Secret;

use super::*;
use crate::microvm::vmm::{Ends, Nic};

fn launch() -> Launch {
    Launch {
        name: "plfm-inst_X-boot_Y".to_owned(),
        accel: Accel::Tcg,
        memory: Mebibytes(256),
        vcpus: 2,
        begin: Begin::Kernel {
            kernel: "/kernel".into(),
            initramfs: "/initramfs".into(),
            tsc_khz: 2_300_000,
            secret: Secret::new([0xab; Secret::BYTES]),
        },
        images: vec![7, 8],
        disk: Some(9),
        volumes: vec![Volume { fd: 11, read_only: false }, Volume { fd: 12, read_only: true }],
        net: Some(Nic { tap: 10, name: String::new(), mtu: 1420 }),
        ends: Ends { console: 4, control: 5, channel: 6 },
    }
}

/// One option with its value each.
fn options(launch: &Launch) -> Vec<String> {
    let text = args(launch).join(" ").replace(" -", "\n-");
    text.lines().map(str::to_owned).collect()
}

/// What this launch leaves out of that of a machine with everything, and what it has beside it.
fn check_changes(launch: &Launch, expected: Expect) {
    let (all, these) = (options(&self::launch()), options(launch));
    let lost = all.iter().filter(|it| !these.contains(it)).map(|it| format!("< {it}\n"));
    let won = these.iter().filter(|it| !all.contains(it)).map(|it| format!("> {it}\n"));
    expected.assert_eq(&lost.chain(won).collect::<String>());
}

#[test]
fn a_machine_with_everything() {
    expect![[r#"
        -name plfm-inst_X-boot_Y
        -nodefaults
        -no-user-config
        -display none
        -no-reboot
        -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
        -M microvm,memory-backend=ram,suppress-vmdesc=on
        -global virtio-mmio.force-legacy=false
        -global migration.send-configuration=off
        -accel tcg,tb-size=128
        -cpu max
        -smp 2
        -m 256M
        -object memory-backend-ram,id=ram,size=256M,share=off
        -kernel /kernel
        -initrd /initramfs
        -append console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2300000 tsc=reliable no_timer_check mitigations=off random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret=abababababababababababababababababababababababababababababababab
        -chardev socket,id=console,fd=4,server=on,wait=off
        -serial chardev:console
        -chardev socket,id=control,fd=5,server=on,wait=off
        -mon chardev=control,mode=control
        -chardev socket,id=channel,fd=6,server=on,wait=off
        -device virtio-serial-device,id=ports
        -device virtserialport,bus=ports.0,chardev=channel,name=plfm.0
        -object throttle-group,id=images,x-bps-total=400000000,x-bps-total-max=400000000
        -add-fd fd=7,set=0
        -blockdev driver=file,node-name=img0-file,filename=/dev/fdset/0,read-only=on
        -blockdev driver=throttle,node-name=img0-pace,throttle-group=images,file=img0-file,read-only=on
        -blockdev driver=raw,node-name=img0,file=img0-pace,read-only=on
        -device virtio-blk-device,drive=img0,serial=img0,werror=report,rerror=report
        -add-fd fd=8,set=1
        -blockdev driver=file,node-name=img1-file,filename=/dev/fdset/1,read-only=on
        -blockdev driver=throttle,node-name=img1-pace,throttle-group=images,file=img1-file,read-only=on
        -blockdev driver=raw,node-name=img1,file=img1-pace,read-only=on
        -device virtio-blk-device,drive=img1,serial=img1,werror=report,rerror=report
        -object throttle-group,id=disks,x-bps-total=200000000,x-bps-total-max=200000000,x-iops-total=10000,x-iops-total-max=10000
        -add-fd fd=9,set=2
        -blockdev driver=file,node-name=rw-file,filename=/dev/fdset/2,cache.no-flush=on,discard=unmap
        -blockdev driver=throttle,node-name=rw-pace,throttle-group=disks,file=rw-file,cache.no-flush=on,discard=unmap
        -blockdev driver=raw,node-name=rw,file=rw-pace,cache.no-flush=on,discard=unmap
        -device virtio-blk-device,drive=rw,serial=rw,werror=report,rerror=report
        -add-fd fd=11,set=50
        -blockdev driver=file,node-name=vol0-file,filename=/dev/fdset/50,discard=unmap
        -blockdev driver=throttle,node-name=vol0-pace,throttle-group=disks,file=vol0-file,discard=unmap
        -blockdev driver=raw,node-name=vol0,file=vol0-pace,discard=unmap
        -device virtio-blk-device,drive=vol0,serial=vol0,werror=report,rerror=report
        -add-fd fd=12,set=51
        -blockdev driver=file,node-name=vol1-file,filename=/dev/fdset/51,read-only=on
        -blockdev driver=throttle,node-name=vol1-pace,throttle-group=disks,file=vol1-file,read-only=on
        -blockdev driver=raw,node-name=vol1,file=vol1-pace,read-only=on
        -device virtio-blk-device,drive=vol1,serial=vol1,werror=report,rerror=report
        -object rng-builtin,id=rng
        -device virtio-rng-device,rng=rng
        -netdev tap,id=net,fd=10,vhost=off
        -device virtio-net-device,netdev=net,mac=02:70:6c:66:6d:01,host_mtu=1420"#]]
    .assert_eq(&options(&launch()).join("\n"));
}

#[test]
fn a_probe_on_kvm() {
    let launch =
        Launch { accel: Accel::Kvm, images: Vec::new(), disk: None, volumes: Vec::new(), net: None, ..launch() };
    check_changes(
        &launch,
        expect![[r#"
            < -accel tcg,tb-size=128
            < -cpu max
            < -append console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2300000 tsc=reliable no_timer_check mitigations=off random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret=abababababababababababababababababababababababababababababababab
            < -add-fd fd=7,set=0
            < -blockdev driver=file,node-name=img0-file,filename=/dev/fdset/0,read-only=on
            < -blockdev driver=throttle,node-name=img0-pace,throttle-group=images,file=img0-file,read-only=on
            < -blockdev driver=raw,node-name=img0,file=img0-pace,read-only=on
            < -device virtio-blk-device,drive=img0,serial=img0,werror=report,rerror=report
            < -add-fd fd=8,set=1
            < -blockdev driver=file,node-name=img1-file,filename=/dev/fdset/1,read-only=on
            < -blockdev driver=throttle,node-name=img1-pace,throttle-group=images,file=img1-file,read-only=on
            < -blockdev driver=raw,node-name=img1,file=img1-pace,read-only=on
            < -device virtio-blk-device,drive=img1,serial=img1,werror=report,rerror=report
            < -object throttle-group,id=disks,x-bps-total=200000000,x-bps-total-max=200000000,x-iops-total=10000,x-iops-total-max=10000
            < -add-fd fd=9,set=2
            < -blockdev driver=file,node-name=rw-file,filename=/dev/fdset/2,cache.no-flush=on,discard=unmap
            < -blockdev driver=throttle,node-name=rw-pace,throttle-group=disks,file=rw-file,cache.no-flush=on,discard=unmap
            < -blockdev driver=raw,node-name=rw,file=rw-pace,cache.no-flush=on,discard=unmap
            < -device virtio-blk-device,drive=rw,serial=rw,werror=report,rerror=report
            < -add-fd fd=11,set=50
            < -blockdev driver=file,node-name=vol0-file,filename=/dev/fdset/50,discard=unmap
            < -blockdev driver=throttle,node-name=vol0-pace,throttle-group=disks,file=vol0-file,discard=unmap
            < -blockdev driver=raw,node-name=vol0,file=vol0-pace,discard=unmap
            < -device virtio-blk-device,drive=vol0,serial=vol0,werror=report,rerror=report
            < -add-fd fd=12,set=51
            < -blockdev driver=file,node-name=vol1-file,filename=/dev/fdset/51,read-only=on
            < -blockdev driver=throttle,node-name=vol1-pace,throttle-group=disks,file=vol1-file,read-only=on
            < -blockdev driver=raw,node-name=vol1,file=vol1-pace,read-only=on
            < -device virtio-blk-device,drive=vol1,serial=vol1,werror=report,rerror=report
            < -netdev tap,id=net,fd=10,vhost=off
            < -device virtio-net-device,netdev=net,mac=02:70:6c:66:6d:01,host_mtu=1420
            > -accel kvm
            > -cpu host
            > -append console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2300000 tsc=reliable no_timer_check random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret=abababababababababababababababababababababababababababababababab
        "#]],
    );
}

#[test]
fn one_that_goes_on_needs_no_kernel() {
    let begin = Begin::Saved { memory: "/memory".into(), devices: 11 };
    check_changes(
        &Launch { begin, ..launch() },
        expect![[r#"
        < -object memory-backend-ram,id=ram,size=256M,share=off
        < -kernel /kernel
        < -initrd /initramfs
        < -append console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2300000 tsc=reliable no_timer_check mitigations=off random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret=abababababababababababababababababababababababababababababababab
        > -object memory-backend-file,id=ram,size=256M,share=off,mem-path=/memory
        > -incoming fd:11
    "#]],
    );
}

#[tokio::test]
async fn only_a_qmp_greeting_is_one() {
    for (said, good) in [(r#"{"QMP": {"version": {}}}"#, true), ("HTTP/1.1 400", false), ("", false)] {
        let dir = tempfile::tempdir().unwrap();
        let listener = sockets::bind(dir.path(), sockets::CONTROL).unwrap();
        let says = std::thread::spawn(move || listener.accept().unwrap().0.write_all(said.as_bytes()).unwrap());
        let qemu = Qemu { program: PathBuf::new(), version: String::new() };
        assert_eq!(qemu.run(dir.path(), &launch()).await.is_ok(), good, "{said}");
        says.join().unwrap();
    }
}
