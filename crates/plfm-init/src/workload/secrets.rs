//! The secrets file: in memory only, whole or not at all, readable by its owner.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use plfm_api::guest::{PutSecretsRequest, state};
use plfm_core::reason::{Failure, Reason};

use crate::daemon::{Config, Daemon};
use crate::launch::describe_io;
use crate::users::Account;

/// On a tmpfs of its own in a machine.
pub const DIR: &str = "/run/secrets";
const FILE: &str = "platform.env";
const DIR_MODE: u32 = 0o711;
const FILE_MODE: u32 = 0o400;
/// P-SCR-4, with room for the header line.
pub const BYTES_MAX: usize = 257 << 10;

/// For the workload's user, unless the host names another (P-SCR-5).
pub async fn wait_and_write(daemon: &Daemon, config: &Config, account: &Account) -> Result<(), Failure> {
    if !config.expects_secrets {
        return Ok(());
    }
    daemon.enter(state::AwaitingSecrets::default());
    let secrets = daemon.secrets().await;
    let named = (secrets.uid, secrets.gid);
    let owner = if named == (0, 0) { (account.uid, account.gid) } else { named };
    let written = daemon.place.run(move || write(Path::new(DIR), &secrets, owner)).await;
    written.map_err(|cause| {
        Failure::new(Reason::SecretsInjectionFailed, format!("write {DIR}/{FILE}: {}", describe_io(&cause)))
    })
}

fn write(dir: &Path, secrets: &PutSecretsRequest, (uid, gid): (u32, u32)) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))?;
    let (path, unfinished) = (dir.join(FILE), dir.join(".platform.env"));
    let mode = if secrets.mode == 0 { FILE_MODE } else { secrets.mode & 0o777 };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&unfinished)?;
    file.write_all(&secrets.data)?;
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_belongs_to_its_reader_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let secrets = PutSecretsRequest { data: b"# PLFM_SECRETS_V1\nA=b\n".to_vec(), ..Default::default() };
        let place = dir.path().join("secrets");
        write(&place, &secrets, (uid, gid)).unwrap();
        write(&place, &secrets, (uid, gid)).unwrap();
        let file = place.join(FILE);
        assert_eq!(fs::read(&file).unwrap(), secrets.data);
        assert_eq!(
            (file.metadata().unwrap().mode() & 0o7777, place.metadata().unwrap().mode() & 0o7777),
            (0o400, 0o711)
        );
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    }
}
