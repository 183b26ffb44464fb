use std::fs;

use super::modules::in_load_order;
use super::vmlinux::{ImageError, extract};
use super::*;

const ELF: &[u8] = b"\x7fELF and then the kernel, the kernel, the kernel, the kernel";

/// A bzImage with one setup sector, its payload right behind it.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    image
}

fn lz4_payload(parts: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
    for part in parts {
        let block = lz4_flex::block::compress(part);
        payload.extend_from_slice(&(block.len() as u32).to_le_bytes());
        payload.extend_from_slice(&block);
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    payload.extend_from_slice(&(total as u32).to_le_bytes());
    payload
}

#[test]
fn the_elf_image_comes_out_of_its_blocks() {
    let (first, second) = ELF.split_at(20);
    assert_eq!(extract(bzimage(&lz4_payload(&[first, second]))).unwrap(), ELF);
    assert_eq!(extract(ELF.to_vec()).unwrap(), ELF);
    let other = bzimage(b"\x28\xb5\x2f\xfd packed by zstd");
    assert_eq!(extract(other.clone()).unwrap(), other);
}

#[test]
fn every_cut_of_an_image_is_refused() {
    let whole = bzimage(&lz4_payload(&[ELF]));
    for cut in 0..whole.len() {
        assert!(extract(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_size_without_bounds_is_refused() {
    let mut payload = lz4_payload(&[ELF]);
    let size_at = payload.len() - 4;
    payload[size_at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(extract(bzimage(&payload)), Err(ImageError::Broken));
}

fn module(needs: &str) -> Vec<u8> {
    format!("\x7fELF…\0license=GPL\0depends={needs}\0name=it\0").into_bytes()
}

#[test]
fn modules_come_after_what_they_need() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    fs::create_dir_all(dir.join("kernel/drivers/net")).unwrap();
    fs::write(dir.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-ccitt.ko\n").unwrap();
    for (path, needs) in [
        ("virtio.ko", "virtio_ring"),
        ("virtio_ring.ko", ""),
        ("drivers/net/virtio_net.ko", "virtio_ring,virtio,crc-ccitt"),
        ("drivers/virtio-rng.ko", "virtio"),
        ("unwanted.ko", "nobody"),
    ] {
        fs::write(dir.join("kernel").join(path), module(needs)).unwrap();
    }
    let order = in_load_order(dir, &["ext4", "virtio_net", "virtio_rng"]).unwrap();
    let names: Vec<&str> = order.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["virtio_ring", "virtio", "virtio_net", "virtio_rng"]);
    assert_eq!(
        in_load_order(dir, &["unwanted"]).unwrap_err().to_string(),
        "module `nobody` is neither built in nor in the package"
    );
}

#[test]
fn a_module_loses_its_signature() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("kernel")).unwrap();
    fs::write(root.path().join("modules.builtin"), "").unwrap();
    let signed = |signature: &[u8]| [&module(""), signature, b"~Module signature appended~\n"].concat();
    let good = [&b"12345"[..], &[1, 2, 3, 4, 5, 6, 7, 8], &5_u32.to_be_bytes()].concat();
    for (signature, left) in [(good.as_slice(), module("")), (&[0xff; 12], Vec::new())] {
        fs::write(root.path().join("kernel/it.ko"), signed(signature)).unwrap();
        assert_eq!(in_load_order(root.path(), &["it"]).unwrap()[0].bytes, left);
    }
}

/// `printf '\0depends=\0' | xz --check=crc32`.
#[rustfmt::skip]
const EMPTY_NEEDS_XZ: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01,
    0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x09, 0x00, 0x64, 0x65, 0x70, 0x65,
    0x6e, 0x64, 0x73, 0x3d, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x6f, 0x46, 0x60, 0x00, 0x01, 0x1e, 0x0a,
    0xea, 0x63, 0x12, 0x14, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
];

#[test]
fn a_compressed_module_is_unpacked() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("kernel")).unwrap();
    fs::write(root.path().join("modules.builtin"), "").unwrap();
    fs::write(root.path().join("kernel/broken.ko.xz"), "no archive").unwrap();
    assert!(in_load_order(root.path(), &["broken"]).is_err());
    fs::write(root.path().join("kernel/whole.ko.xz"), EMPTY_NEEDS_XZ).unwrap();
    let order = in_load_order(root.path(), &["whole"]).unwrap();
    assert_eq!(order[0].bytes, b"\0depends=\0");
}

#[test]
fn the_newest_kernel_with_its_modules_is_found() {
    let root = tempfile::tempdir().unwrap();
    let roots = [root.path().join("nowhere"), root.path().to_owned()];
    assert!(matches!(Kernel::find(&roots), Err(KernelError::NotFound(_))));
    fs::create_dir_all(root.path().join("boot")).unwrap();
    for version in ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-60-amd64", "7.0.0-1-cloud-amd64"] {
        fs::write(root.path().join(format!("boot/vmlinuz-{version}")), "").unwrap();
    }
    for version in ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64"] {
        let dir = root.path().join("usr/lib/modules").join(version);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("modules.builtin"), "").unwrap();
    }
    assert_eq!(Kernel::find(&roots).unwrap().version, "6.1.0-56-cloud-amd64");
}
