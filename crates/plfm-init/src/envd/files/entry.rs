//! How a file is described (W-FS-1, W-FS-2).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use plfm_api::envd::Timestamp;
use plfm_api::envd::filesystem::{EntryInfo, FileType};

use crate::users;

/// The image's users and groups, by number.
pub struct Names {
    passwd: String,
    group: String,
}

impl Names {
    pub fn read() -> Self {
        Self { passwd: users::read("/etc/passwd"), group: users::read("/etc/group") }
    }
}

/// Both files begin `name:password:number`; who has no name goes by the number.
fn name(file: &str, number: u32) -> String {
    let named = file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| number.to_string())
}

/// Of a link: its own size, time and owner, but the kind and mode of what it leads to.
pub fn entry(path: &str, names: &Names) -> io::Result<EntryInfo> {
    let own = fs::symlink_metadata(path)?;
    let target = own.is_symlink().then(|| fs::canonicalize(path));
    let (kind, mode, symlink_target) = match target {
        None => (kind(&own), own.mode(), None),
        Some(Ok(target)) => {
            let found = fs::metadata(&target)?;
            (kind(&found), found.mode(), Some(target.to_string_lossy().into_owned()))
        }
        Some(Err(cause)) if cause.raw_os_error() == Some(nix::libc::ELOOP) => return Err(cause),
        Some(Err(_)) => (FileType::FILE_TYPE_UNSPECIFIED, own.mode(), Some(path.to_owned())),
    };
    let name_of = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let modified = Timestamp { seconds: own.mtime(), nanos: own.mtime_nsec() as i32, ..Default::default() };
    Ok(EntryInfo {
        name: name_of.unwrap_or_else(|| "/".to_owned()),
        r#type: kind.into(),
        path: path.to_owned(),
        size: own.size() as i64,
        mode: mode & 0o777,
        permissions: permissions(&own),
        owner: name(&names.passwd, own.uid()),
        group: name(&names.group, own.gid()),
        modified_time: modified.into(),
        symlink_target,
        ..Default::default()
    })
}

fn kind(of: &Metadata) -> FileType {
    match of.file_type() {
        kind if kind.is_dir() => FileType::FILE_TYPE_DIRECTORY,
        kind if kind.is_file() => FileType::FILE_TYPE_FILE,
        _ => FileType::FILE_TYPE_UNSPECIFIED,
    }
}

/// Ten characters, with the letters of Go's `fs.FileMode`.
fn permissions(of: &Metadata) -> String {
    let kind = of.file_type();
    let letter = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'L',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 'S',
        () if kind.is_block_device() => 'D',
        () if kind.is_char_device() => 'D',
        () => '-',
    };
    let bits =
        "rwxrwxrwx".chars().enumerate().map(|(place, bit)| if of.mode() & (0o400 >> place) == 0 { '-' } else { bit });
    std::iter::once(letter).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_link_has_the_kind_of_its_target_and_its_own_letters() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("file"), "12345").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("none", at("dangling")).unwrap();
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        let names = Names { passwd: String::new(), group: String::new() };
        let file = entry(&at("file"), &names).unwrap();
        assert_eq!((file.size, file.mode, file.permissions.as_str()), (5, 0o640, "-rw-r-----"));
        assert_eq!((file.name.as_str(), file.owner), ("file", nix::unistd::geteuid().to_string()));
        let link = entry(&at("link"), &names).unwrap();
        assert_eq!((link.mode, link.permissions.as_str(), link.size), (0o640, "Lrwxrwxrwx", 4));
        assert_eq!(link.r#type.as_known(), Some(FileType::FILE_TYPE_FILE));
        assert!(link.symlink_target.unwrap().ends_with("/file"));
        let dangling = entry(&at("dangling"), &names).unwrap();
        assert_eq!(dangling.r#type.as_known(), Some(FileType::FILE_TYPE_UNSPECIFIED));
        assert_eq!(dangling.symlink_target, Some(at("dangling")));
        assert_eq!(entry(&at("circle"), &names).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    }

    #[test]
    fn numbers_get_names() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nuser:x:1000:1000::/home/user:/bin/sh\n";
        assert_eq!([0, 1_000, 7].map(|number| name(passwd, number)), ["root", "user", "7"]);
    }
}
