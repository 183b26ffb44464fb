use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

fn modules() -> Vec<Module> {
    vec![
        Module { name: "virtio".to_owned(), bytes: b"first".to_vec(), only_with: None },
        Module { name: "erofs".to_owned(), bytes: b"second one".to_vec(), only_with: None },
        Module { name: "vsock".to_owned(), bytes: b"third".to_vec(), only_with: Some("plfm.vsock") },
    ]
}

#[test]
fn cpio_reads_what_we_write() {
    let archive = build(b"#!init", &modules());
    let Ok(mut cpio) =
        Command::new("cpio").args(["-tv", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        eprintln!("skipped: cpio_reads_what_we_write: `cpio` is not installed");
        return;
    };
    cpio.stdin.take().unwrap().write_all(&archive).unwrap();
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success());
    let listing = String::from_utf8(output.stdout).unwrap();
    for line in ["-rwxr-xr-x", "crw-------", "5,   1", "init", "lib/modules/erofs.ko", "etc/plfm/modules", "newroot"] {
        assert!(listing.contains(line), "no {line} in\n{listing}");
    }
}

#[test]
fn the_load_order_is_a_file_and_the_bytes_are_always_the_same() {
    let archive = build(b"#!init", &modules());
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains("etc/plfm/modules\0") && text.contains("virtio.ko\nerofs.ko\nvsock.ko plfm.vsock\n"));
    assert!(archive.starts_with(b"070701") && archive.len().is_multiple_of(4));
    assert_eq!(archive, build(b"#!init", &modules()));
}
