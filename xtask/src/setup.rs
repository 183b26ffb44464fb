//! Brings a Debian machine to where everything can be built and tested. What is there already is left alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use crate::{build, e2b};

/// Debian packages and what each is for.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "runs machines"),
    ("iproute2", "sets up their network"),
    ("nftables", "filters it"),
    ("e2fsprogs", "makes their disks"),
    ("busybox-static", "fills images in tests"),
    ("bash-static", "is the shell of sandboxes in tests"),
    ("python3-venv", "holds E2B's SDKs, to test with"),
    ("openssl", "draws random numbers in forks, to test with"),
    ("cpio", "reads what the guest starts from, to compare with"),
    ("curl", "asks the API in demos and tests"),
    ("docker-registry", "serves images in tests"),
    ("umoci", "makes images for tests"),
    ("skopeo", "copies images, to compare with"),
    ("erofs-utils", "checks and makes EROFS images, to compare with"),
];

/// Depends on the current kernel for virtual machines; it is unpacked, not installed.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// The unpacked package, in the target directory.
pub fn kernel_dir(shell: &Shell) -> PathBuf {
    crate::target_dir(shell).join("kernel")
}

pub fn run(shell: &Shell) -> anyhow::Result<()> {
    packages(shell)?;
    build::add_target(shell);
    kernel(shell).context("cannot fetch the guest kernel")?;
    e2b::sdks(shell).context("cannot install E2B's SDKs")
}

fn packages(shell: &Shell) -> anyhow::Result<()> {
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| !is_installed(shell, name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.iter().for_each(|(name, purpose)| eprintln!("missing: {name} ({purpose})"));
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let is_root = cmd!(shell, "id --user").quiet().read()? == "0";
    ensure!(is_root, "run as root: apt-get install --no-install-recommends {}", names.join(" "));
    let _quiet = shell.push_env("DEBIAN_FRONTEND", "noninteractive");
    cmd!(shell, "apt-get update --quiet=2").run()?;
    cmd!(shell, "apt-get install --quiet=2 --yes --no-install-recommends {names...}")
        .run()
        .context("cannot install packages")
}

fn is_installed(shell: &Shell, package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    let status = cmd!(shell, "dpkg-query --show {format} {package}");
    status.quiet().ignore_stderr().read().is_ok_and(|status| status == "installed")
}

fn kernel(shell: &Shell) -> anyhow::Result<()> {
    let kernel = kernel_dir(shell);
    if has_kernel(shell, &kernel) {
        return Ok(());
    }
    let depends = cmd!(shell, "apt-cache depends {KERNEL_PACKAGE}").quiet().read()?;
    let package = dependency(&depends).with_context(|| format!("{KERNEL_PACKAGE} is not among the known packages"))?;
    // Unpacked beside, then renamed: a kernel without all its modules is never found.
    let download = shell.create_dir(kernel.with_file_name("kernel-download"))?;
    shell.remove_path(&download)?;
    shell.create_dir(&download)?;
    {
        let _there = shell.push_dir(&download);
        cmd!(shell, "apt-get download --quiet=2 -o APT::Sandbox::User=root {package}").run()?;
    }
    let archive = shell.read_dir(&download)?.pop().context("apt-get left no package")?;
    cmd!(shell, "dpkg-deb --extract {archive} {download}/root").run()?;
    shell.remove_path(&kernel)?;
    std::fs::rename(download.join("root"), &kernel)?;
    shell.remove_path(download)?;
    Ok(())
}

fn has_kernel(shell: &Shell, root: &Path) -> bool {
    let images = shell.read_dir(root.join("boot")).unwrap_or_default();
    images.iter().any(|path| path.to_string_lossy().contains("/vmlinuz-"))
}

/// The kernel in `apt-cache depends`, which prints lines such as `  Depends: linux-image-6.1.0-56-cloud-amd64`.
fn dependency(depends: &str) -> Option<&str> {
    let packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.map(str::trim).find(|name| name.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_package_depends_on() {
        let printed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(printed), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }
}
