//! The guest's serial console in a bounded pair of files: the newest text, and what came before it.
//!
//! A guest writes as much as it likes, so the host keeps the last half to whole MiB and takes it no faster than a limit; then the guest's
//! own writes wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

const NEW: &str = "console.log";
const OLD: &str = "console.old.log";
/// P-VM-35 allows 1 MiB for both.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// P-ISO-4.
const BYTES_PER_SECOND_MAX: u64 = 256 << 10;
/// What is quoted when a machine has ended: the end of a kernel's last words.
const TAIL_BYTES_MAX: u64 = 4 << 10;

pub struct Console {
    dir: PathBuf,
    file: File,
    size: u64,
}

impl Console {
    /// Of a new boot: what earlier boots wrote is gone.
    pub fn create(dir: &Path) -> io::Result<Self> {
        for name in [NEW, OLD] {
            let _ = fs::remove_file(dir.join(name));
        }
        Self::open(dir)
    }

    /// Of a boot that goes on.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(NEW))?;
        let size = file.metadata()?.len();
        Ok(Self { dir: dir.to_owned(), file, size })
    }

    /// Takes what the guest writes until there is no more.
    pub async fn drain(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            self.append(&bytes[..read])?;
            tokio::time::sleep(Duration::from_secs(1) * read as u32 / BYTES_PER_SECOND_MAX as u32).await;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size + bytes.len() as u64 > FILE_BYTES_MAX {
            fs::rename(self.dir.join(NEW), self.dir.join(OLD))?;
            *self = Self::open(&self.dir)?;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// The end of the text, for a report.
pub fn tail(dir: &Path) -> String {
    last_bytes(&dir.join(NEW)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
