//! Our images beside what GNU tar makes of the same archives, seen by the kernel and by `fsck.erofs`.

mod support;

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use support::{ALL, Look, Mounted, has, is_root, layer, show, skip};

/// A tree with everything that a layer may hold.
fn plant(root: &Path) {
    for (index, size) in [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 100_000, (5 << 20) + 17].iter().enumerate() {
        let bytes: Vec<u8> = (0..*size).map(|at: usize| (at * 31 + index) as u8).collect();
        fs::write(root.join(format!("size{size}")), bytes).unwrap();
    }
    let deep = root.join("deep").join("d".repeat(120)).join("e".repeat(200)).join("f".repeat(255));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::create_dir(root.join("many")).unwrap();
    (0..3000).for_each(|n| fs::write(root.join(format!("many/{n}")), format!("{n}")).unwrap());
    ["-", "!", "...", "ü", "with space", "~"]
        .iter()
        .for_each(|name| fs::write(root.join("many").join(name), name).unwrap());
    for length in [1, 99, 100, 101, 1000, 4000] {
        symlink("t".repeat(length), root.join(format!("link{length}"))).unwrap();
    }
    fs::create_dir(root.join("hard")).unwrap();
    fs::hard_link(root.join("size4097"), root.join("hard/again")).unwrap();
    fs::hard_link(root.join("size4097"), root.join("hard/third")).unwrap();
    fs::hard_link(root.join("link99"), root.join("hard/link")).unwrap();
    special(root);
    modes(root);
    sparse(root);
    let times = [
        ("size0", -3, 5),
        ("size1", 0, 1),
        ("size4096", 1_700_000_000, 123_456_789),
        ("many", 4_000_000_000_i64, 999_999_999),
    ];
    for (name, seconds, nanos) in times {
        let whole = if seconds < 0 {
            UNIX_EPOCH - Duration::from_secs(3)
        } else {
            UNIX_EPOCH + Duration::from_secs(seconds as u64)
        };
        File::open(root.join(name)).unwrap().set_modified(whole + Duration::from_nanos(nanos)).unwrap();
    }
}

fn special(root: &Path) {
    run!("mkfifo", root.join("pipe"));
    run!("mknod", root.join("null"), "c", "1", "3");
    run!("mknod", root.join("disk"), "b", "259", "70000");
}

fn modes(root: &Path) {
    for (name, mode) in [("size1", 0o4755), ("size4031", 0o2711), ("size4032", 0), ("many", 0o1777)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    chown(root.join("size8192"), Some(1000), Some(3_000_000)).unwrap();
    lchown(root.join("link1"), Some(65_534), Some(65_534)).unwrap();
    support::set_xattr(&root.join("size4095"), "user.plain", b"value");
    support::set_xattr(&root.join("size4095"), "user.lines", b"a\n12 path=evil\nb");
    support::set_xattr(&root.join("size4095"), "user.long", &[7; 3000]);
    support::set_xattr(
        &root.join("size4096"),
        "security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    support::set_xattr(&root.join("hard"), "trusted.directory", b"d");
}

fn sparse(root: &Path) {
    let mut file = File::create(root.join("sparse")).unwrap();
    for at in [0, 100_000, 3 << 20] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"island").unwrap();
    }
    file.set_len(5 << 20).unwrap();
    let mut many = File::create(root.join("islands")).unwrap();
    for n in 0..40 {
        many.seek(SeekFrom::Start(n * 65_536)).unwrap();
        many.write_all(&[b'i'; 5000]).unwrap();
    }
}

#[tokio::test]
async fn the_kernel_sees_what_gnu_tar_extracts() {
    if !is_root() || !has("tar") {
        return skip("the_kernel_sees_what_gnu_tar_extracts", "needs root and GNU tar");
    }
    let tmp = tempfile::tempdir().unwrap();
    let tree = tmp.path().join("tree");
    fs::create_dir(&tree).unwrap();
    plant(&tree);
    let formats: [(&str, &[&str], Look); 6] = [
        ("pax", &["--format=pax"], ALL),
        ("pax, sparse 1.0", &["--format=pax", "--sparse"], ALL),
        ("pax, sparse 0.1", &["--format=pax", "--sparse", "--sparse-version=0.1"], ALL),
        ("pax, sparse 0.0", &["--format=pax", "--sparse", "--sparse-version=0.0"], ALL),
        ("gnu", &["--format=gnu"], Look { xattrs: false, ..ALL }),
        ("gnu, sparse", &["--format=gnu", "--sparse"], Look { xattrs: false, ..ALL }),
    ];
    for (name, options, look) in formats {
        let (archive, extracted) = (tmp.path().join("archive.tar"), tmp.path().join("extracted"));
        fs::create_dir(&extracted).unwrap();
        let xattrs: &[&str] = if look.xattrs { &["--xattrs", "--xattrs-include=*"] } else { &[] };
        let arguments =
            |more: &[&str]| [options, xattrs, more].concat().iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let create = arguments(&["-cf", archive.to_str().unwrap(), "-C", tree.to_str().unwrap(), "."]);
        support::run("tar", &create.iter().map(|text| text.as_ref()).collect::<Vec<_>>());
        let extract =
            [xattrs, &["--same-owner", "-xpf", archive.to_str().unwrap(), "-C", extracted.to_str().unwrap()]].concat();
        support::run("tar", &extract.iter().map(|text| text.as_ref()).collect::<Vec<_>>());
        let made =
            layer(tmp.path(), &fs::read(&archive).unwrap()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(mounted) = Mounted::erofs(made.file.path()) else {
            return skip("the_kernel_sees_what_gnu_tar_extracts", "this kernel mounts no EROFS");
        };
        similar(name, &show(mounted.path(), look), &show(&extracted, look));
        drop(mounted);
        fsck(name, made.file.path(), &extracted, tmp.path());
        fs::remove_dir_all(&extracted).unwrap();
    }
}

/// `fsck.erofs` reads everything, and extracts what it can: no attributes, no links, no set-id bits.
fn fsck(name: &str, image: &Path, expected: &Path, tmp: &Path) {
    if !has("fsck.erofs") {
        return skip("fsck", "no fsck.erofs");
    }
    let found = tmp.join("fsck");
    let target = format!("--extract={}", found.display());
    let said = run!("fsck.erofs", "-d3", target, "--preserve", image);
    assert!(said.contains("successfully"), "{said}");
    let look = Look { links: false, xattrs: false, nanos: true, directory_times: false, set_id: false };
    similar(name, &show(&found, look), &show(expected, look));
    fs::remove_dir_all(&found).unwrap();
}

fn similar(name: &str, found: &str, expected: &str) {
    let differ = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{name}: {} and {} lines; first difference:\n{differ:#?}",
        found.lines().count(),
        expected.lines().count()
    );
}
