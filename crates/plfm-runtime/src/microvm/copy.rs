//! Copies of large files that are mostly holes: shared blocks where the file system can, else only what is not a hole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

/// A new file that its owner alone may open.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// `to` must not exist.
pub fn sparse(from: &Path, to: &Path) -> io::Result<File> {
    self::from(&File::open(from)?, to)
}

/// `to` must not exist.
pub fn from(source: &File, to: &Path) -> io::Result<File> {
    let copy = create(to)?;
    if ioctl_ficlone(&copy, source).is_err() {
        copy.set_len(source.metadata()?.len())?;
        over(source, &copy)?;
    }
    Ok(copy)
}

/// What is not a hole in the one takes its place in the other.
pub fn over(source: &File, onto: &File) -> io::Result<()> {
    let mut at = 0;
    while let Some((start, end)) = data(source, at)? {
        part(source, onto, start, end)?;
        at = end;
    }
    Ok(())
}

/// The next range that is not a hole.
fn data(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        // There is nothing but a hole, or nothing, up to the end.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn part(from: &File, to: &File, mut start: u64, end: u64) -> io::Result<()> {
    while start < end {
        let (mut read_at, mut write_at) = (start, start);
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            copied => start += copied as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_has_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 10 << 20, (64 << 20) - 5] {
            file.write_all_at(b"words", at).unwrap();
        }
        let copy = sparse(&from, &to).unwrap();
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20, "holes are not filled");
        assert_eq!(sparse(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_is_written_over_leaves_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let (base, changes) = (create(&path("base")).unwrap(), create(&path("changes")).unwrap());
        base.write_all_at(&[1; 64 << 10], 0).unwrap();
        changes.set_len(64 << 10).unwrap();
        changes.write_all_at(&[2; 4096], 8192).unwrap();
        let merged = from(&base, &path("merged")).unwrap();
        over(&changes, &merged).unwrap();
        let bytes = std::fs::read(path("merged")).unwrap();
        let changed: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == 2).collect();
        assert_eq!((bytes.len(), changed.first(), changed.len()), (64 << 10, Some(&8192), 4096));
        assert!(std::fs::read(path("base")).unwrap().iter().all(|byte| *byte == 1));
    }

    #[test]
    fn nothing_is_copied_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        create(&from).unwrap();
        assert_eq!(sparse(&from, &to).unwrap().metadata().unwrap().len(), 0);
        create(&dir.path().join("hole")).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(
            sparse(&dir.path().join("hole"), &dir.path().join("copy")).unwrap().metadata().unwrap().len(),
            1 << 20
        );
    }
}
