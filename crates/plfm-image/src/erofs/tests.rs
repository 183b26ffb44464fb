use std::io::repeat;

use super::*;

fn writer() -> Writer {
    Writer::new(tempfile::tempfile().unwrap(), [7; 16]).unwrap()
}

fn plain() -> Meta {
    Meta { mode: 0o644, ..Meta::default() }
}

fn names(image: &Image, directory: &Entry) -> Vec<(Vec<u8>, u64)> {
    let mut names = image.names(directory);
    std::iter::from_fn(|| names.next(image).unwrap()).collect()
}

#[test]
fn sizes_around_the_block_are_read_as_written() {
    let mut writer = writer();
    let mut xattrs = Xattrs::default();
    assert!(xattrs.push(b"user.long", &[b'v'; 3900]));
    let sizes = [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 3 << 20, (3 << 20) + 4032];
    for (index, size) in sizes.iter().enumerate() {
        writer.file(DirId::ROOT, format!("plain{index}").as_bytes(), &plain(), *size, &mut repeat(b'p')).unwrap();
        let meta = Meta { xattrs: xattrs.clone(), ..plain() };
        writer.file(DirId::ROOT, format!("xattr{index}").as_bytes(), &meta, *size, &mut repeat(b'x')).unwrap();
    }
    let written = writer.finish().unwrap();
    let image = Image::open(written.file).unwrap();
    let root = image.root().unwrap();
    assert_eq!((names(&image, &root).len(), written.inodes), (24, 25));
    for (name, nid) in names(&image, &root) {
        let entry = image.entry(nid).unwrap();
        let index: usize = std::str::from_utf8(&name[5..]).unwrap().parse().unwrap();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut image.content(&entry), &mut content).unwrap();
        assert_eq!(content, vec![name[0]; sizes[index] as usize]);
        assert_eq!(entry.meta.xattrs == xattrs, name[0] == b'x');
    }
}

#[test]
fn a_directory_of_many_blocks_is_sorted_around_its_dots() {
    let mut writer = writer();
    let dir = writer.directory(DirId::ROOT, b"dir", plain()).unwrap();
    let mut expected: Vec<Vec<u8>> = (0..2000).map(|n| format!("{:a>200}", n).into_bytes()).collect();
    expected.extend([b"!".to_vec(), b"-".to_vec(), b".-".to_vec(), b"...".to_vec(), b"~".to_vec(), vec![0xff; 255]]);
    for name in expected.iter().rev() {
        writer.symlink(dir, name, &plain(), b"t").unwrap();
    }
    expected.sort();
    let image = Image::open(writer.finish().unwrap().file).unwrap();
    let dir = image.entry(names(&image, &image.root().unwrap())[0].1).unwrap();
    let found: Vec<_> = names(&image, &dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    let bytes = || {
        let mut writer = writer();
        let dir = writer.implied_directory(DirId::ROOT, b"d").unwrap();
        let nid = writer.file(dir, b"f", &plain(), 5000, &mut repeat(b'f')).unwrap();
        for name in 0..100 {
            writer.link(dir, format!("l{name}").as_bytes(), nid, FileType::Regular).unwrap();
        }
        writer.whiteout(dir, b"gone").unwrap();
        let mut file = writer.finish().unwrap().file;
        let mut bytes = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn names_may_take_only_so_much_memory() {
    let mut writer = writer();
    let mut add = |n: u32| writer.special(DirId::ROOT, format!("{n:x>255}").as_bytes(), FileType::Fifo, &plain(), 0);
    let refused = (0..1_000_000).find(|n| matches!(add(*n), Err(Error::Names)));
    // 32 MiB, and what is beyond 64 bytes of each name.
    assert_eq!(refused, Some((32 << 20) / (255 - 64)));
}

#[test]
fn a_damaged_image_is_an_error_and_never_a_panic() {
    let mut writer = writer();
    let dir = writer.directory(DirId::ROOT, b"d", plain()).unwrap();
    let mut xattrs = Xattrs::default();
    assert!(xattrs.push(b"user.a", b"b"));
    writer.opaque(dir);
    writer.file(dir, b"f", &Meta { xattrs, ..plain() }, 5000, &mut repeat(b'f')).unwrap();
    let mut file = writer.finish().unwrap().file;
    let mut whole = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    io::Read::read_to_end(&mut file, &mut whole).unwrap();
    let open = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        Image::open(file)
    };
    for cut in [0, 1024, 4095, 4096, whole.len() - 1] {
        assert!(open(&whole[..cut]).is_err(), "{cut}");
    }
    for at in 4096..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        let _ = open(&damaged).map(|image| walk(&image, &image.root()?, 0));
    }
}

fn walk(image: &Image, directory: &Entry, depth: usize) -> Result<(), Error> {
    let mut names = image.names(directory);
    while let Some((_, nid)) = names.next(image)? {
        let entry = image.entry(nid)?;
        // A damaged directory may lead back to itself.
        if entry.kind == FileType::Directory && depth < 3 {
            walk(image, &entry, depth + 1)?;
        }
        let mut some = io::Read::take(image.content(&entry), 1 << 20);
        io::copy(&mut some, &mut io::sink()).map_err(Error::Read)?;
    }
    Ok(())
}
