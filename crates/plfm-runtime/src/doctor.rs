//! Whether this host can run machines, and what to do where it can't.
//!
//! [`Facts::gather`] looks; [`checks`] judges and is pure. Nothing is changed on the host.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use plfm_core::units::Mebibytes;

use crate::kernel::Kernel;
use crate::microvm::cgroup::{self, Support};
use crate::microvm::firecracker::version;
use crate::microvm::{Config, Verdict, tools, wall};
use crate::space::Space;

mod storage;

pub use storage::Storage;

/// Images and disks of a handful of small apps.
const FREE_MIN: Mebibytes = Mebibytes(2048);
/// Older ones lack what the driver relies on.
const QEMU_MAJOR_MIN: u32 = 7;
const CAP_NET_ADMIN: u32 = 12;

/// One finding; `fix` is empty where nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
    pub fix: &'static str,
}

impl Check {
    /// What else there is to say.
    fn with(mut self, more: &str) -> Self {
        self.detail = format!("{}, {more}", self.detail);
        self
    }
}

/// What was seen. Errors are for people.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The version.
    pub qemu: Result<String, String>,
    /// The version, if one is named.
    pub firecracker: Option<Result<String, String>>,
    pub kernel: Result<String, String>,
    pub mke2fs: Option<PathBuf>,
    pub ip: Option<PathBuf>,
    pub nft: Option<PathBuf>,
    pub passt: Option<PathBuf>,
    pub wireguard: bool,
    pub kvm: Verdict,
    pub net_admin: bool,
    pub tun: Result<(), String>,
    /// Whether each machine has a user of its own.
    pub own_users: bool,
    pub cgroup: Support,
    pub space: Space,
    pub storage: Storage,
}

impl Facts {
    /// `kvm` comes from a runtime that was opened here: to know it, a guest has to boot.
    pub async fn gather(config: &Config, kvm: Verdict) -> Self {
        Self {
            qemu: qemu().await.map_err(|error| error.to_string()),
            firecracker: match &config.firecracker {
                Some(program) => Some(version::of(program).await.map_err(|error| error.to_string())),
                None => None,
            },
            kernel: Kernel::find(&config.kernel_roots).map(|kernel| kernel.version).map_err(|error| error.to_string()),
            mke2fs: tools::find(tools::MKE2FS),
            ip: tools::find("ip"),
            nft: tools::find("nft"),
            passt: tools::find("passt"),
            wireguard: Path::new("/sys/module/wireguard").exists(),
            kvm,
            net_admin: tools::has_capability(CAP_NET_ADMIN),
            tun: File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .map(drop)
                .map_err(|error| format!("/dev/net/tun: {error}")),
            own_users: wall::can_build(),
            cgroup: cgroup::support(),
            // Of a disk that cannot be asked nothing is known to be free.
            space: Space::of(&config.dir).unwrap_or(Space { total: Mebibytes(0), free: Mebibytes(0) }),
            storage: Storage::of(&config.dir),
        }
    }
}

async fn qemu() -> io::Result<String> {
    tools::qemu_version(&tools::require(tools::QEMU)?).await
}

/// Every check, in the order in which a host is set up.
pub fn checks(facts: &Facts) -> Vec<Check> {
    vec![
        check_qemu(&facts.qemu),
        check_firecracker(&facts.firecracker),
        check("kernel", &facts.kernel, "unpack Debian's linux-image-cloud-amd64 and name the directory with --kernel"),
        present("mke2fs", &facts.mke2fs, "install e2fsprogs"),
        Check {
            name: "kvm",
            ok: facts.kvm.usable,
            detail: facts.kvm.detail.clone(),
            fix: unless(facts.kvm.usable, "guests are emulated: slower, and no security boundary; use a host with KVM"),
        },
        present("ip", &facts.ip, "install iproute2"),
        present("nft", &facts.nft, "install nftables"),
        flag(
            "cap_net_admin",
            facts.net_admin,
            "run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN; else machines have no network card, and ports are relayed",
        ),
        check(
            "tun",
            &facts.tun.clone().map(|()| "/dev/net/tun opens".to_owned()),
            "run as root; where it is not there, load the module tun",
        ),
        flag(
            "own_users",
            facts.own_users,
            "run as root, outside of containers; else machines share our user and see our files",
        ),
        Check {
            name: "cgroup",
            ok: facts.cgroup != Support::None,
            detail: format!("{:?}", facts.cgroup).to_lowercase(),
            fix: unless(
                facts.cgroup != Support::None,
                "run as root with the memory controller; else a machine's process has no limit",
            ),
        },
        free_disk(facts.space),
        flag(
            "reflink",
            facts.storage.reflink,
            "keep the data on xfs or btrfs; else the disk of a fork, a snapshot or a paused machine is copied",
        )
        .with(facts.storage.file_system),
        encryption(facts.storage.encrypted),
        // Nothing here needs these two.
        unneeded("passt", facts.passt.is_some()),
        unneeded("wireguard", facts.wireguard),
    ]
}

fn check_qemu(version: &Result<String, String>) -> Check {
    let major = |version: &String| version.split('.').next()?.parse::<u32>().ok();
    let fix = "install qemu-system-x86, version 7.2 or newer";
    match version {
        Ok(found) if major(found).is_none_or(|major| major < QEMU_MAJOR_MIN) => {
            Check { name: "qemu", ok: false, detail: format!("version {found} is too old"), fix }
        }
        _ => check("qemu", version, fix),
    }
}

/// One that is not named is not missed.
fn check_firecracker(version: &Option<Result<String, String>>) -> Check {
    match version {
        None => {
            Check { name: "firecracker", ok: true, detail: "none is named: machines run under QEMU".into(), fix: "" }
        }
        Some(version) => check("firecracker", version, "name a newer one with --firecracker, or none"),
    }
}

fn encryption(encrypted: Option<bool>) -> Check {
    let (ok, detail) = match encrypted {
        Some(true) => (true, "yes"),
        Some(false) => (false, "no"),
        None => (false, "the file system does not say on which disk it is"),
    };
    let fix = "keep the data on an encrypted disk (LUKS): what machines write, and their memory when they are paused, lies there as it is";
    Check { name: "encryption", ok, detail: detail.to_owned(), fix: unless(ok, fix) }
}

fn unneeded(name: &'static str, there: bool) -> Check {
    Check {
        name,
        ok: true,
        detail: if there { "there" } else { "not there; nothing needs it yet" }.to_owned(),
        fix: "",
    }
}

fn check(name: &'static str, found: &Result<String, String>, fix: &'static str) -> Check {
    let detail = found.clone().unwrap_or_else(|error| error);
    Check { name, ok: found.is_ok(), detail, fix: unless(found.is_ok(), fix) }
}

fn present(name: &'static str, path: &Option<PathBuf>, fix: &'static str) -> Check {
    let found = path.as_ref().map(|path| path.display().to_string()).ok_or_else(|| "not found".to_owned());
    check(name, &found, fix)
}

fn flag(name: &'static str, ok: bool, fix: &'static str) -> Check {
    Check { name, ok, detail: if ok { "yes" } else { "no" }.to_owned(), fix: unless(ok, fix) }
}

fn unless(ok: bool, fix: &'static str) -> &'static str {
    if ok { "" } else { fix }
}

fn free_disk(space: Space) -> Check {
    let (name, detail) = ("free_disk", space.free.to_string());
    if space.free < FREE_MIN {
        return Check { name, ok: false, detail, fix: "free some space or choose another --data directory" };
    }
    let scarce = space.is_scarce(false);
    let fix = unless(!scarce, "free some space: with less than a tenth and 5 GiB free a node takes no new work");
    Check { name, ok: !scarce, detail, fix }
}

#[cfg(test)]
mod tests;
