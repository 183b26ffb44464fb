use std::fs;

use expect_test::{Expect, expect};
use plfm_core::reason::Reason;
use tempfile::TempDir;

use super::*;
use crate::limits::Limits;
use crate::testing::{self, descriptor, dir, file, gzip, header, link, make, padded, pax, show, tar, zstd};

async fn check(members: &[Vec<u8>], expected: Expect) {
    let tmp = TempDir::new().unwrap();
    match testing::layer(tmp.path(), &tar(members)).await {
        Ok(layer) => expected.assert_eq(&show(&testing::open(&layer))),
        Err(error) => {
            assert!(empty(&tmp), "{error}");
            expected.assert_eq(&format!("{}: {}", error.reason(), without_digest(&error)));
        }
    }
}

fn empty(tmp: &TempDir) -> bool {
    fs::read_dir(tmp.path()).unwrap().next().is_none()
}

/// Digests of test data say nothing to a reader.
fn without_digest(error: &ImageError) -> String {
    let hide = |word: &str| match word.find("sha256:") {
        Some(_) => format!("…{}", if word.ends_with([',', ':']) { &word[word.len() - 1..] } else { "" }),
        None => word.to_owned(),
    };
    error.to_string().split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

fn named(path: &str) -> Vec<u8> {
    [pax(&[("path", path.as_bytes())]), file("short", b"x")].concat()
}

#[tokio::test]
async fn files_of_every_kind() {
    let device = |kind, path, major, minor| {
        header(kind, path, 0, |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    check(
        &[
            dir("./"),
            dir("bin/"),
            header(b'0', "bin/su", 0, |header| header.set_mode(0o104_755)),
            file("bin/sh", b"sh!"),
            link(b'1', "bin/ash", "bin/sh"),
            link(b'1', "bin/bash", "./bin//ash"),
            link(b'2', "sh", "bin/sh"),
            device(b'3', "null", 1, 3),
            device(b'4', "disk", 259, 70_000),
            header(b'6', "pipe", 0, |header| header.as_ustar_mut().unwrap().dev_major.fill(0)),
            file("a/b/c", b"deep"),
            [pax(&[("uid", b"3000000000"), ("mtime", b"-1.5")]), file("old", b"")].concat(),
        ],
        expect![[r#"
            / dir 755 0:0 @7
            /a dir 755 0:0 @0 implied
            /a/b dir 755 0:0 @0 implied
            /a/b/c "deep" 644 0:0 @7
            /bin dir 755 0:0 @7
            /bin/ash "sh!" 644 0:0 @7 x3
            /bin/bash "sh!" 644 0:0 @7 x3
            /bin/sh "sh!" 644 0:0 @7 x3
            /bin/su "" 4755 0:0 @7
            /disk block 11110370 644 0:0 @7
            /null char 103 644 0:0 @7
            /old "" 644 3000000000:0 @-2
            /pipe fifo 0 644 0:0 @7
            /sh -> bin/sh 644 0:0 @7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_last_of_duplicates_wins() {
    check(
        &[
            file("a", b"first"),
            link(b'1', "kept", "a"),
            file("a", b"second"),
            file("to-dir", b"x"),
            dir("to-dir"),
            file("to-dir/in", b"x"),
            dir("to-file"),
            file("to-file/in", b"x"),
            link(b'1', "from-dir", "to-file/in"),
            file("to-file", b"x"),
            header(b'5', "described", 0, |header| header.set_mode(0o700)),
            file("described/in", b"x"),
            header(b'5', "described", 0, |header| header.set_mode(0o711)),
        ],
        expect![[r#"
            / dir 755 0:0 @0 implied
            /a "second" 644 0:0 @7
            /described dir 711 0:0 @7
            /described/in "x" 644 0:0 @7
            /from-dir "x" 644 0:0 @7
            /kept "first" 644 0:0 @7
            /to-dir dir 755 0:0 @7
            /to-dir/in "x" 644 0:0 @7
            /to-file "x" 644 0:0 @7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn whiteouts_speak_about_lower_layers_only() {
    check(
        &[
            file(".wh.gone", b""),
            file("stays", b"x"),
            file(".wh.stays", b""),
            file(".wh.back", b""),
            file("back", b"x"),
            dir("emptied"),
            file("emptied/.wh..wh..opq", b""),
            file("emptied/new", b"x"),
            file("early/.wh..wh..opq", b""),
            dir("early"),
            file(".wh.remade", b""),
            dir("remade"),
            dir("dir-then-gone"),
            file("dir-then-gone/in", b"x"),
            file(".wh.dir-then-gone", b""),
            file(".wh.twice", b""),
            file("twice", b"x"),
            dir("twice"),
            file(".wh..wh.plnk", b""),
            header(b'3', "char", 0, |_| {}),
        ],
        expect![[r#"
            / dir 755 0:0 @0 implied
            /back "x" 644 0:0 @7
            /char gone 0 0:0 @0 x2
            /dir-then-gone dir opaque 755 0:0 @7
            /dir-then-gone/in "x" 644 0:0 @7
            /early dir opaque 755 0:0 @7
            /emptied dir opaque 755 0:0 @7
            /emptied/new "x" 644 0:0 @7
            /gone gone 0 0:0 @0 x2
            /remade dir opaque 755 0:0 @7
            /stays "x" 644 0:0 @7
            /twice dir opaque 755 0:0 @7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn hostile_members_are_refused_by_name() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(1025);
    let path = format!("{}/", "y".repeat(200)).repeat(21);
    for (member, expected) in [
        (named("../up"), "entry `../up`: its name leads upwards"),
        (named("a/../../up"), "entry `a/../../up`: its name leads upwards"),
        (named("a/.."), "entry `a/..`: its name leads upwards"),
        (named("/etc/passwd"), "entry `/etc/passwd`: its name is absolute"),
        (named("."), "entry `.`: the root is not a directory"),
        (named(&long), "a part of its name is longer than 255 bytes"),
        (named(&deep[..deep.len() - 1]), "it lies too deep"),
        (named(&path[..path.len() - 1]), "its name is too long"),
        (named(".wh."), "entry `.wh.`: a whiteout names no file"),
        (named(".wh..."), "a whiteout names no file"),
        (named(".wh.a/b"), "it lies below a whiteout"),
        (dir(".wh.a"), "a whiteout is not a regular file"),
        (link(b'1', "a", "missing"), "entry `a` is a hard link to `missing`, which is no earlier file of this layer"),
        (link(b'1', "a", "a"), "is a hard link to `a`"),
        (link(b'1', "a", "../etc/shadow"), "entry `a`: its target is outside, or no path"),
        (link(b'1', "a", "/etc/shadow"), "its target is outside, or no path"),
        ([dir("d"), link(b'1', "a", "d")].concat(), "is a hard link to `d`"),
        ([file(".wh.w", b""), link(b'1', "a", "w")].concat(), "is a hard link to `w`"),
        (link(b'2', "a", ""), "its target is empty, too long, or has a NUL"),
        (
            [link(b'2', "l", "d"), file("l/in", b"x")].concat(),
            "entry `l/in`: it lies below something that is not a directory",
        ),
        ([file("f", b"x"), file("f/in", b"x")].concat(), "it lies below something that is not a directory"),
        (header(b'0', "a", 0, |header| header.set_uid(u64::from(u32::MAX))), "the user id is not one"),
        (
            header(b'0', "a", 0, |header| header.as_old_mut().gid.copy_from_slice(b"00009990")),
            "the group id is not one",
        ),
        (header(b'0', "a", 0, |header| header.as_old_mut().mtime.fill(b'z')), "the time is not a number"),
        (
            header(b'0', "a", 0, |header| header.as_old_mut().size.fill(b'-')),
            "the header at byte 0: the size is not a number",
        ),
        (header(b'0', "a", 0, |header| header.as_old_mut().size.fill(0xff)), "the size is not a number"),
        (header(b'3', "a", 0, |header| header.set_device_major(4096).unwrap()), "its device number is too large"),
        (header(b'5', "a", 512, |_| {}), "entry `a`: only a regular file has data"),
        (header(b'1', "a", 512, |_| {}), "only a regular file has data"),
        (header(b'V', "a", 0, |_| {}), "entry `a`: entries of this type are not supported"),
        (header(b'M', "a", 0, |_| {}), "entries of this type are not supported"),
        (header(b'D', "a", 0, |_| {}), "entries of this type are not supported"),
        (header(b'0', "", 0, |_| {}), "its name is empty"),
        ([pax(&[("size", b"1024")]), file("a", b"x")].concat(), "entry `a`: two headers give two sizes"),
        ([pax(&[("size", b"512")]), file("a", b"")].concat(), "two headers give two sizes"),
        ([pax(&[("size", b"9000000000")]), file("a", b"")].concat(), "unpacks to more than 200 times its size"),
        ([pax(&[("size", b"-1")]), file("a", b"x")].concat(), "a number in the extended header is none"),
        (
            [pax(&[("path", b"b")]), pax(&[("path", b"c")]), file("a", b"x")].concat(),
            "two headers say the same thing about one entry",
        ),
        (pax(&[("path", b"b")]), "it ends within an entry"),
        (
            [header(b'x', "", 8, |_| {}), padded(b"9 path=\n".to_vec()), file("a", b"")].concat(),
            "is not `LENGTH KEY=VALUE`",
        ),
        (header(b'x', "", 2 << 20, |_| {}), "an extended header is longer than 1 MiB"),
        (header(b'L', "", 1 << 33, |_| {}), "an extended header is longer than 1 MiB"),
        (
            [header(b'g', "", 12, |_| {}), padded(b"12 path=a/b\n".to_vec())].concat(),
            "an extended header for all entries is not supported",
        ),
        (
            [
                pax(&[("SCHILY.xattr.user.a", &[b'x'; 40_000]), ("SCHILY.xattr.user.b", &[b'x'; 30_000])]),
                file("a", b""),
            ]
            .concat(),
            "its extended attributes take more than 64 KiB",
        ),
        (
            [pax(&[("GNU.sparse.map", b"0,1,2"), ("GNU.sparse.size", b"9")]), file("a", b"x")].concat(),
            "the sparse map is not pairs",
        ),
        (
            [pax(&[("GNU.sparse.map", b"5,1"), ("GNU.sparse.size", b"5")]), file("a", b"x")].concat(),
            "the sparse map ends behind the file",
        ),
        (
            [pax(&[("GNU.sparse.map", b"5,1,4,0"), ("GNU.sparse.size", b"9")]), file("a", b"x")].concat(),
            "pieces that overlap",
        ),
        (
            [pax(&[("GNU.sparse.map", b"0,2"), ("GNU.sparse.size", b"9")]), file("a", b"x")].concat(),
            "another amount of data",
        ),
        ([pax(&[("GNU.sparse.size", b"9")]), file("a", b"x")].concat(), "lacks its size or its map"),
        ([pax(&[("GNU.sparse.major", b"2")]), file("a", b"x")].concat(), "the sparse format is not known"),
        (
            [pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")]), file("a", b"x")].concat(),
            "the sparse map has no end",
        ),
        ([file("a", b"x"), vec![1; 512]].concat(), "has a wrong checksum"),
        ([vec![0; 512], file("a", b"x")].concat(), "something follows the end mark"),
    ] {
        let tmp = TempDir::new().unwrap();
        let error = testing::layer(tmp.path(), &tar(&[member])).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}\nis not\n{expected}");
        assert!(matches!(error.reason(), Reason::ImageLayerInvalid | Reason::ImageTooLarge));
        assert!(empty(&tmp), "{expected}");
    }
}

#[tokio::test]
async fn odd_but_honest_members_are_read() {
    let number = |value: &[u8]| [vec![0x80; 1], vec![0; 11 - value.len()], value.to_vec()].concat();
    check(
        &[
            header(b'0', "slash/", 0, |_| {}),
            header(0, "v7", 0, |header| header.as_ustar_mut().unwrap().magic.fill(0)),
            header(b'7', "contiguous", 0, |_| {}),
            header(b'0', "binary-time", 0, |header| header.as_old_mut().mtime.copy_from_slice(&number(&[1, 0]))),
            header(b'0', "before-1970", 0, |header| header.as_old_mut().mtime.copy_from_slice(&[0xff; 12])),
            [header(b'L', "", 5, |_| {}), padded(b"long\0".to_vec()), file("short", b"x")].concat(),
            [header(b'K', "", 7, |_| {}), padded(b"target\0".to_vec()), link(b'2', "link", "short")].concat(),
            [header(b'g', "", 13, |_| {}), padded(b"13 comment=a\n".to_vec())].concat(),
            [pax(&[("SCHILY.xattr.user.a", b"x\n11 size=99\n"), ("size", b"1")]), file("line-end", b"x")].concat(),
            [
                pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.btrfs.compression", b"zstd")]),
                dir("dropped"),
            ]
            .concat(),
            [
                pax(&[("GNU.sparse.map", b"2,3,9,0"), ("GNU.sparse.size", b"9"), ("GNU.sparse.name", b"sparse")]),
                file("x", b"abc"),
            ]
            .concat(),
            vec![],
        ],
        expect![[r#"
            / dir 755 0:0 @0 implied
            /before-1970 "" 644 0:0 @-1
            /binary-time "" 644 0:0 @256
            /contiguous "" 644 0:0 @7
            /dropped dir 755 0:0 @7
            /line-end "x" 644 0:0 @7
            /link -> target 644 0:0 @7
            /long "x" 644 0:0 @7
            /slash dir 644 0:0 @7
            /sparse "\0\0abc\0\0\0\0" 644 0:0 @7
            /v7 "" 644 0:0 @7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn each_lie_has_its_own_answer() {
    let tar = tar(&[file("a", b"content"), dir("b")]);
    let other = Digest::of(b"other");
    let blob = |bytes: &[u8]| descriptor("+gzip", bytes);
    let gz = gzip(&tar);
    let cut = &gz[..gz.len() - 9];
    let longer = [gz.clone(), vec![0; 3]].concat();
    let mut flipped = gz.clone();
    flipped[20] ^= 0x40;
    for (blob, diff_id, bytes, reason, expected) in [
        (blob(&gz), other, &gz[..], Reason::ImageLayerInvalid, "layer … unpacks to …, but the configuration says …"),
        (
            Descriptor { digest: other, ..blob(&gz) },
            Digest::of(&tar),
            &gz,
            Reason::ImagePullFailed,
            "layer … has other bytes: they hash to …",
        ),
        (blob(&gz), Digest::of(&tar), &flipped, Reason::ImagePullFailed, "layer … has other bytes: they hash to …"),
        (
            blob(&gz),
            Digest::of(&tar),
            cut,
            Reason::ImagePullFailed,
            "layer … has N bytes in its manifest, but ended after N",
        ),
        (
            blob(&gz),
            Digest::of(&tar),
            &longer,
            Reason::ImagePullFailed,
            "layer … has N bytes in its manifest, but there are more",
        ),
        (
            blob(cut),
            Digest::of(&tar),
            cut,
            Reason::ImageLayerInvalid,
            "layer … is not valid: it cannot be decompressed: incomplete deflate stream",
        ),
        (
            blob(b"no gzip at all"),
            Digest::of(&tar),
            b"no gzip at all",
            Reason::ImageLayerInvalid,
            "it cannot be decompressed: invalid gzip header",
        ),
        (
            descriptor("+zstd", &gz),
            Digest::of(&tar),
            &gz,
            Reason::ImageLayerInvalid,
            "it cannot be decompressed: Unknown frame descriptor",
        ),
        (descriptor("", &gz), Digest::of(&gz), &gz, Reason::ImageLayerInvalid, "it ends within an entry"),
        (
            descriptor("+lz4", &gz),
            Digest::of(&tar),
            &gz,
            Reason::ImageLayerInvalid,
            "which is none of tar, tar+gzip and tar+zstd",
        ),
    ] {
        let tmp = TempDir::new().unwrap();
        let error = make(tmp.path(), blob, diff_id, bytes, &Limits::default()).await.expect_err(expected);
        let words: Vec<_> = without_digest(&error)
            .split(' ')
            .map(|word| if word.parse::<u64>().is_ok() { "N".to_owned() } else { word.to_owned() })
            .collect();
        assert!(words.join(" ").contains(expected), "{}\nis not\n{expected}", words.join(" "));
        assert_eq!(error.reason(), reason, "{error}");
        assert!(empty(&tmp), "{error}");
    }
}

#[tokio::test]
async fn all_compressions_give_the_same_image() {
    let tar = tar(&[file("a", &[b'x'; 10_000]), dir("b"), link(b'1', "b/c", "a")]);
    let tmp = TempDir::new().unwrap();
    let mut images = Vec::new();
    let halves = [gzip(&tar[..5000]), gzip(&tar[5000..])].concat();
    for (compression, bytes) in [("", tar.clone()), ("+gzip", gzip(&tar)), ("+zstd", zstd(&tar)), ("+gzip", halves)] {
        let layer = make(tmp.path(), descriptor(compression, &bytes), Digest::of(&tar), &bytes, &Limits::default())
            .await
            .unwrap();
        images.push(Digest::of(&fs::read(layer.file.path()).unwrap()));
    }
    images.dedup();
    assert_eq!(images.len(), 1);
    assert!(empty(&tmp), "a layer that nobody keeps is gone");
}

#[tokio::test]
async fn limits_hold_before_the_disk_is_full() {
    let limits = Limits { unpacked_bytes: 10_000, entries: 5, ratio: 10, ratio_from_bytes: 5_000, ..Limits::default() };
    let zeros = tar(&[file("zeros", &[0; 8_000])]);
    let hole =
        tar(&[[pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"40000000000")]), file("hole", b"x")].concat()]);
    for (compression, tar, expected) in [
        ("", tar(&[file("a", &[1; 6_000]), file("b", &[1; 6_000])]), "the image has more than 10000 unpacked bytes"),
        ("", tar(&[dir("a"), dir("b"), dir("c"), dir("d"), dir("e"), dir("f")]), "the image has more than 5 entries"),
        ("", tar(&[file("a/b/c/d/e/f", b"")]), "the image has more than 5 entries"),
        ("+gzip", zeros, "unpacks to more than 10 times its size"),
        ("", hole, "the image has more than 10000 unpacked bytes"),
        ("+gzip", vec![0; 20_000], "unpacks to more than 10 times its size"),
    ] {
        let tmp = TempDir::new().unwrap();
        let blob = if compression.is_empty() { tar.clone() } else { gzip(&tar) };
        let error = make(tmp.path(), descriptor(compression, &blob), Digest::of(&tar), &blob, &limits)
            .await
            .expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}\nis not\n{expected}");
        assert_eq!(error.reason(), Reason::ImageTooLarge);
        assert!(empty(&tmp));
    }
}

#[tokio::test]
async fn no_prefix_of_a_layer_is_a_layer() {
    let members =
        [named("a/b/c"), link(b'1', "d", "a/b/c"), [pax(&[("SCHILY.xattr.user.x", b"y")]), dir("e")].concat()];
    let tar = tar(&members);
    let tmp = TempDir::new().unwrap();
    for (compression, bytes) in [("", tar.clone()), ("+gzip", gzip(&tar)), ("+zstd", zstd(&tar))] {
        let step = if compression.is_empty() { 13 } else { 1 };
        for cut in (0..bytes.len()).step_by(step) {
            let promised =
                make(tmp.path(), descriptor(compression, &bytes), Digest::of(&tar), &bytes[..cut], &Limits::default())
                    .await;
            assert!(
                matches!(promised, Err(ImageError::Short { found, .. }) if found == cut as u64),
                "{compression} {cut}"
            );
            // Neither if the manifest speaks of the prefix: its diff id can't be the whole's.
            let blob = descriptor(compression, &bytes[..cut]);
            let error = make(tmp.path(), blob, Digest::of(&tar), &bytes[..cut], &Limits::default()).await;
            assert!(error.is_err() || compression == "+zstd", "{compression} {cut}");
        }
    }
    assert!(empty(&tmp));
}

#[tokio::test]
async fn the_root_has_two_names() {
    let tmp = TempDir::new().unwrap();
    for root in ["./", "/"] {
        let layer = testing::layer(tmp.path(), &tar(&[dir(root), file("a", b"x")])).await.unwrap();
        assert!(show(&testing::open(&layer)).starts_with("/ dir 755 0:0 @7\n"), "{root}");
    }
}

/// `umoci insert` pads nothing behind the last file.
#[tokio::test]
async fn an_archive_may_end_with_the_last_byte_of_its_last_file() {
    let tmp = TempDir::new().unwrap();
    let whole = [dir("a/"), file("a/b", b"hello")].concat();
    let end = 512 + 512 + "hello".len();
    for cut in [end, end + 1, whole.len()] {
        let layer = testing::layer(tmp.path(), &whole[..cut]).await.unwrap();
        assert!(show(&testing::open(&layer)).contains("/a/b \"hello\""), "{cut}");
    }
    assert!(testing::layer(tmp.path(), &whole[..end - 1]).await.is_err());
}

#[tokio::test]
async fn nobody_sends_any_more() {
    let tmp = TempDir::new().unwrap();
    let tar = tar(&[file("a", &[b'x'; 10_000])]);
    let job = Job {
        blob: descriptor("", &tar),
        diff_id: Digest::of(&tar),
        tmp: tmp.path().to_owned(),
        budget: Arc::new(Budget::new(&Limits::default())),
    };
    let (to, verdict) = start(job);
    to.send(Bytes::copy_from_slice(&tar[..3000])).await.unwrap();
    drop(to);
    assert!(matches!(verdict.await, Err(ImageError::Short { found: 3000, .. })));
    assert!(empty(&tmp));
}
