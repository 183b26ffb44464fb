use super::*;
#[test]
fn smoke() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut w = Writer::new(file.reopen().unwrap(), [7; 16]).unwrap();
    let meta = Meta { mode: 0o644, uid: 1, gid: 2, mtime: Time { seconds: -5, nanos: 7 }, ..Meta::default() };
    let a = w.directory(DirId::ROOT, b"a", Meta { mode: 0o700, ..Meta::default() }).unwrap();
    for i in 0..1000 {
        w.file(a, format!("file{i}").as_bytes(), &meta, i * 37, &mut std::io::repeat(65)).unwrap();
    }
    w.symlink(DirId::ROOT, b"-l", &meta, b"a/file1").unwrap();
    w.whiteout(DirId::ROOT, b"gone").unwrap();
    w.opaque(a);
    let done = w.finish().unwrap();
    println!("{done:?}");
    std::fs::copy(file.path(), "/tmp/imgwork/smoke.erofs").unwrap();
}
