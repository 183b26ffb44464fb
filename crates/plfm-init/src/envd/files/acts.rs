//! What can be done to files. Blocking, and only where the image is `/`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use plfm_api::envd::filesystem::EntryInfo;

use super::FileError;
use super::entry::{Names, entry};
use crate::users::Account;

/// An answer with more is of no use to anyone, and memory is the sandbox's.
const ENTRIES_MAX: usize = 100_000;

pub fn stat(path: &str) -> Result<EntryInfo, FileError> {
    entry(path, &Names::read()).map_err(|cause| FileError::of(path, cause))
}

/// With its parents, all of the acting user's.
pub fn make_dir(path: &str, account: &Account) -> Result<EntryInfo, FileError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(FileError::Exists(path.to_owned())),
        Ok(_) => return Err(FileError::NotADirectory(path.to_owned())),
        Err(_) => make_all(Path::new(path), account)?,
    }
    stat(path)
}

/// What is there stays whose it is.
fn make_all(path: &Path, account: &Account) -> Result<(), FileError> {
    let text = path.to_string_lossy().into_owned();
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut above = Some(path);
    while let Some(dir) = above.filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
        missing.push(dir.to_owned());
        above = dir.parent();
    }
    for dir in missing.iter().rev() {
        match fs::DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => own(dir, account).map_err(|cause| FileError::of(&text, cause))?,
            // Someone else was faster.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(FileError::of(&text, cause)),
        }
    }
    Ok(())
}

fn own(path: &Path, account: &Account) -> io::Result<()> {
    owned(lchown(path, Some(account.uid), Some(account.gid)))
}

/// Where the daemon is not root, what it makes is its own anyway.
fn owned(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|cause| if cause.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(cause) })
}

pub fn rename(source: &str, destination: &str, account: &Account) -> Result<EntryInfo, FileError> {
    fs::symlink_metadata(source).map_err(|cause| FileError::of(source, cause))?;
    if let Some(parent) = Path::new(destination).parent() {
        make_all(parent, account)?;
    }
    fs::rename(source, destination).map_err(|cause| FileError::of(destination, cause))?;
    stat(destination)
}

/// Again is well.
pub fn remove(path: &str) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => Ok(()),
        done => done.map_err(|cause| FileError::of(path, cause)),
    }
}

/// Depth-first and in lexical order; the root may be a link, those below are not followed (W-FS-4).
pub fn list(path: &str, depth: u32) -> Result<Vec<EntryInfo>, FileError> {
    let found = fs::metadata(path).map_err(|cause| FileError::of(path, cause))?;
    if !found.is_dir() {
        return Err(FileError::NotADirectory(path.to_owned()));
    }
    let (names, mut entries) = (Names::read(), Vec::new());
    walk(path, depth.max(1), &names, &mut entries)?;
    Ok(entries)
}

fn walk(dir: &str, depth: u32, names: &Names, entries: &mut Vec<EntryInfo>) -> Result<(), FileError> {
    let read = fs::read_dir(dir).map_err(|cause| FileError::of(dir, cause))?;
    let mut children: Vec<_> = read.filter_map(|child| Some(child.ok()?.file_name())).collect();
    children.sort();
    for child in children {
        if entries.len() >= ENTRIES_MAX {
            return Err(FileError::TooMany { path: dir.to_owned(), most: ENTRIES_MAX });
        }
        let path = format!("{}/{}", dir.trim_end_matches('/'), child.to_string_lossy());
        match entry(&path, names) {
            Ok(entry) => entries.push(entry),
            // It went while it was looked at.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(FileError::of(&path, cause)),
        }
        if depth > 1 && fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            match walk(&path, depth - 1, names, entries) {
                // So did this.
                Err(FileError::NotFound(_)) => {}
                walked => walked?,
            }
        }
    }
    Ok(())
}

/// To be read from, and how much there is; files of `/proc` and `/sys` do not know (W-DL-2).
pub fn open(path: &str) -> Result<(File, Option<u64>), FileError> {
    let failed = |cause| FileError::of(path, cause);
    let is_file = fs::metadata(path).map_err(failed)?.is_file();
    if !is_file {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok((file, Some(size).filter(|size| *size > 0)))
}

/// To be written to, from its beginning: made where it is not there, with its parents (W-UL-2, W-UL-3).
pub fn create(path: &str, account: &Account) -> Result<File, FileError> {
    let failed = |cause| FileError::of(path, cause);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(FileError::NotAFile(path.to_owned())),
        Ok(_) => {}
        Err(_) => Path::new(path).parent().map_or(Ok(()), |parent| make_all(parent, account))?,
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path).map_err(failed)?;
    // What a link leads to stays whose it is, and what was opened is what is owned.
    if !is_link {
        owned(fchown(&file, Some(account.uid), Some(account.gid))).map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Account {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Account { name: "me".into(), uid, gid, groups: Vec::new(), home: "/".into() }
    }

    fn names(entries: &[EntryInfo], root: &str) -> Vec<String> {
        entries.iter().map(|entry| entry.path.strip_prefix(root).unwrap().trim_start_matches('/').to_owned()).collect()
    }

    #[test]
    fn a_tree_is_made_listed_moved_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        let at = |path: &str| format!("{root}/{path}");
        make_dir(&at("b/c"), &me()).unwrap();
        assert!(matches!(make_dir(&at("b"), &me()), Err(FileError::Exists(_))));
        drop(create(&at("b/a.txt"), &me()).unwrap());
        drop(create(&at("new/deep/file"), &me()).unwrap());
        assert!(matches!(make_dir(&at("b/a.txt"), &me()), Err(FileError::NotADirectory(_))));
        assert_eq!(names(&list(&root, 0).unwrap(), &root), ["b", "new"]);
        assert_eq!(names(&list(&root, 2).unwrap(), &root), ["b", "b/a.txt", "b/c", "new", "new/deep"]);
        assert!(matches!(list(&at("b/a.txt"), 1), Err(FileError::NotADirectory(_))));
        assert!(matches!(list(&at("none"), 1), Err(FileError::NotFound(_))));
        rename(&at("b/a.txt"), &at("x/y/a.txt"), &me()).unwrap();
        assert!(matches!(rename(&at("b/a.txt"), &at("z"), &me()), Err(FileError::NotFound(_))));
        assert!(stat(&at("x/y/a.txt")).is_ok() && stat(&at("b/a.txt")).is_err());
        remove(&at("x")).unwrap();
        remove(&at("x")).unwrap();
        remove(&at("new/deep/file/below")).unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_read_or_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        assert!(matches!(open(&root), Err(FileError::NotAFile(_))));
        assert!(matches!(create(&root, &me()), Err(FileError::NotAFile(_))));
        let fifo = format!("{root}/fifo");
        nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open(&fifo), Err(FileError::NotAFile(_))), "it would be waited for for ever");
        assert!(matches!(open(&format!("{root}/none")), Err(FileError::NotFound(_))));
    }

    #[test]
    fn links_below_are_shown_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        std::os::unix::fs::symlink(".", dir.path().join("self")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert_eq!(names(&list(&root, 9).unwrap(), &root), ["dangling", "self"]);
    }
}
