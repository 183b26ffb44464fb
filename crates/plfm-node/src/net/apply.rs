//! Carries out what [`plan`](super::plan) says, through `ip` and `nft`, in whichever namespace the calling thread is in.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use plfm_core::ids::InstanceId;
use serde::Deserialize;

use super::plan::{self, Link};

const NAMESPACES: &str = "/run/netns";
const TUN: &str = "/dev/net/tun";
const CAPABILITIES: &[(&str, u32)] = &[("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];

const PROGRAMS: &[&str] = &["ip", "nft"];

pub fn available() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default().trim();
    let effective = u64::from_str_radix(effective, 16).unwrap_or_default();
    let lacks = |(_, bit): &&(&str, u32)| effective & (1 << bit) == 0;
    let mut missing: Vec<String> = CAPABILITIES.iter().filter(lacks).map(|(name, _)| (*name).to_owned()).collect();
    missing.extend(PROGRAMS.iter().filter(|name| !answers(name)).map(|name| format!("the program `{name}`")));
    missing.extend(File::options().read(true).write(true).open(TUN).err().map(|error| format!("{TUN} ({error})")));
    if missing.is_empty() { Ok(()) } else { Err(format!("no network for machines, missing: {}", missing.join(", "))) }
}

fn answers(program: &str) -> bool {
    let asked = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Lines for `ip -batch`; it stops at the first that fails.
pub fn ip(lines: &[String]) -> io::Result<()> {
    feed(Command::new("ip").args(["-batch", "-"]), &(lines.join("\n") + "\n"))
}

/// A rule set, as one transaction.
pub fn nft(rules: &str) -> io::Result<()> {
    feed(Command::new("nft").args(["-f", "-"]), rules)
}

/// A kernel setting of the thread's network namespace.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(setting(name), value)
}

fn get(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(setting(name))?.trim().to_owned())
}

fn setting(name: &str) -> String {
    format!("/proc/sys/{name}")
}

/// Lets the host pass on packets. A host that does ignores router advertisements unless told not to, and would lose its own way out.
pub fn forward() -> io::Result<()> {
    const IPV6: &str = "net/ipv6/conf/all/forwarding";
    set("net/ipv4/ip_forward", "1")?;
    if get(IPV6)? == "1" {
        return Ok(());
    }
    for interface in fs::read_dir(setting("net/ipv6/conf"))?.flatten() {
        let name = format!("net/ipv6/conf/{}/accept_ra", interface.file_name().to_string_lossy());
        if get(&name).is_ok_and(|value| value == "1") {
            set(&name, "2")?;
        }
    }
    set(IPV6, "1")
}

/// The instances' interfaces that are whole.
pub fn links() -> io::Result<Vec<Link>> {
    #[derive(Deserialize)]
    struct Interface {
        ifname: String,
        #[serde(default)]
        ifalias: String,
    }
    let output = Command::new("ip").args(["-json", "link", "show"]).output()?;
    let interfaces: Vec<Interface> = serde_json::from_slice(&output.stdout)?;
    Ok(interfaces.iter().filter_map(|interface| Link::from_alias(&interface.ifname, &interface.ifalias)).collect())
}

/// A counter of an interface of the host.
pub fn counted(interface: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/statistics/{name}"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// The instances that have a namespace.
pub fn namespaces() -> io::Result<Vec<InstanceId>> {
    match fs::read_dir(NAMESPACES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            Ok(entries?.flatten().filter_map(|entry| plan::namespace_owner(entry.file_name().to_str()?)).collect())
        }
    }
}

/// Gives a namespace a second name, as `ip netns` makes one: a file that it is mounted on.
pub fn name_too(namespace: &str, name: &str) -> io::Result<()> {
    let (from, to) = (Path::new(NAMESPACES).join(namespace), Path::new(NAMESPACES).join(name));
    File::options().write(true).create_new(true).mode(0o444).open(&to)?;
    Ok(mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Takes a name away; the namespace stays if it has another.
pub fn unname(name: &str) -> io::Result<()> {
    let path = Path::new(NAMESPACES).join(name);
    umount2(&path, MntFlags::MNT_DETACH)?;
    fs::remove_file(path)
}

/// Runs `act` on a thread of its own inside the namespace: a thread that changed its namespace must not be used for anything else.
pub fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let door = File::open(Path::new(NAMESPACES).join(namespace))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&door, CloneFlags::CLONE_NEWNET)?;
            act()
        });
        thread.join().map_err(|_| io::Error::other("the thread in the namespace has panicked"))?
    })
}

nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);

/// The guest's end of the tap in the thread's namespace. Frames carry the header by which the guest leaves checksums to the host.
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let tun = File::options().read(true).write(true).open(TUN)?;
    // SAFETY: all zeros is a request without a name and without flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "the name and its final zero fit");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the descriptor is open and the request is a whole `ifreq` that outlives the call.
    unsafe { tunsetiff(tun.as_raw_fd(), &request) }?;
    Ok(tun.into())
}

fn feed(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // It may end before it has read all; then its words say why.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {}", command.get_program().to_string_lossy(), words.trim())))
}
