use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::*;
use crate::testing::{self, dir, file, header, link, open, reopen, show, tar};

fn weights(bytes: &[u64]) -> Vec<Weight> {
    bytes.iter().map(|bytes| Weight { bytes: *bytes, implied: false, opaque: false }).collect()
}

#[test]
fn as_few_bytes_as_possible_are_written_again() {
    for (bytes, groups) in [
        (&[1, 2, 3, 4][..], vec![0..1, 1..2, 2..3, 3..4]),
        (&[900, 1, 1, 500, 500], vec![0..1, 1..3, 3..4, 4..5]),
        (&[1, 1, 1, 1, 900], vec![0..1, 1..2, 2..4, 4..5]),
        (&[900, 3, 4, 3, 3, 3, 900], vec![0..1, 1..2, 2..6, 6..7]),
        (&[0, 0, 0, 0, 0], vec![0..1, 1..2, 2..3, 3..5]),
    ] {
        let plan = plan(&weights(bytes));
        assert!(plan.len() <= DEVICES_MAX);
        let merged = |plan: &[Range<usize>]| {
            plan.iter()
                .filter(|group| group.len() > 1)
                .map(|group| bytes[group.clone()].iter().sum::<u64>())
                .sum::<u64>()
        };
        assert_eq!(merged(&plan), merged(&groups), "{bytes:?}: {plan:?}");
        assert!(plan.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((plan[0].start, plan[plan.len() - 1].end), (0, bytes.len()));
    }
}

#[test]
fn one_layer_is_one_device() {
    assert_eq!(plan(&weights(&[5])).as_slice(), std::slice::from_ref(&(0..1)));
}

#[test]
fn what_overlayfs_cannot_do_is_merged() {
    let mut layers = weights(&[9; 4]);
    layers[0].implied = true;
    assert_eq!(plan(&layers), [0..1, 1..2, 2..3, 3..4], "nothing is below the first");
    layers[2].implied = true;
    assert_eq!(plan(&layers), [0..3, 3..4]);
    layers[1].opaque = true;
    assert_eq!(plan(&layers), [1..3, 3..4], "nothing below an opaque root is seen");
    layers[3].opaque = true;
    assert_eq!(plan(&layers).as_slice(), std::slice::from_ref(&(3..4)));
    let mut many = weights(&[9; 128]);
    many[64].implied = true;
    assert_eq!(plan(&many).len(), DEVICES_MAX);
}

async fn check(layers: &[&[Vec<u8>]], bottom: bool, expected: Expect) {
    let tmp = TempDir::new().unwrap();
    let mut images = Vec::new();
    for members in layers {
        images.push(open(&testing::layer(tmp.path(), &tar(members)).await.unwrap()));
    }
    let merged = merge(&images, bottom, tempfile::tempfile().unwrap(), [0; 16]).unwrap();
    expected.assert_eq(&show(&reopen(&merged.file)));
}

#[tokio::test]
async fn the_highest_layer_decides() {
    let lower = [
        header(b'5', "./", 0, |header| header.set_mode(0o700)),
        file("same", b"lower"),
        file("gone", b"lower"),
        dir("dir"),
        file("dir/lower", b"x"),
        dir("emptied"),
        file("emptied/lower", b"x"),
        dir("to-file"),
        file("to-file/lower", b"x"),
        file("to-dir", b"lower"),
        dir("usr/bin"),
        file("usr/bin/ls", b"x"),
        link(b'2', "bin", "usr/bin"),
        header(b'5', "tmp", 0, |header| header.set_mode(0o1777)),
        file("first", b"linked"),
        link(b'1', "second", "first"),
        link(b'1', "third", "first"),
    ];
    let upper = [
        file("same", b"upper"),
        file(".wh.gone", b""),
        file("dir/upper", b"x"),
        dir("emptied"),
        file("emptied/.wh..wh..opq", b""),
        file("emptied/upper", b"x"),
        file("to-file", b"upper"),
        dir("to-dir"),
        file("bin/sh", b"x"),
        file("tmp/file", b"x"),
        file(".wh.third", b""),
        file(".wh.never-was", b""),
    ];
    check(
        &[&lower, &upper],
        true,
        expect![[r#"
            / dir 700 0:0 @7
            /bin dir 755 0:0 @0 implied
            /bin/sh "x" 644 0:0 @7
            /dir dir 755 0:0 @7
            /dir/lower "x" 644 0:0 @7
            /dir/upper "x" 644 0:0 @7
            /emptied dir 755 0:0 @7
            /emptied/upper "x" 644 0:0 @7
            /first "linked" 644 0:0 @7 x2
            /same "upper" 644 0:0 @7
            /second "linked" 644 0:0 @7 x2
            /tmp dir 1777 0:0 @7
            /tmp/file "x" 644 0:0 @7
            /to-dir dir 755 0:0 @7
            /to-file "upper" 644 0:0 @7
            /usr dir 755 0:0 @0 implied
            /usr/bin dir 755 0:0 @7
            /usr/bin/ls "x" 644 0:0 @7
        "#]],
    )
    .await;
    // In the middle of a stack the same layers still hide what is below them.
    check(
        &[&lower[4..10], &upper[2..9]],
        false,
        expect![[r#"
            / dir 755 0:0 @0 implied
            /bin dir 755 0:0 @0 implied
            /bin/sh "x" 644 0:0 @7
            /dir dir 755 0:0 @0 implied
            /dir/lower "x" 644 0:0 @7
            /dir/upper "x" 644 0:0 @7
            /emptied dir opaque 755 0:0 @7
            /emptied/upper "x" 644 0:0 @7
            /to-dir dir opaque 755 0:0 @7
            /to-file "upper" 644 0:0 @7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_opaque_root_hides_everything() {
    let layers: [&[Vec<u8>]; 3] = [&[file("a", b"")], &[file("b", b""), file(".wh..wh..opq", b"")], &[file("c", b"")]];
    check(
        &layers,
        false,
        expect![[r#"
            / dir opaque 755 0:0 @0 implied
            /b "" 644 0:0 @7
            /c "" 644 0:0 @7
        "#]],
    )
    .await;
}
