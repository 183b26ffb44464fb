//! A real guest on a real network: the host calls a server in it, which calls the internet.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use plfm_api::guest::{self as api, ConfigureRequest};
use plfm_core::ids::BootId;
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_runtime::microvm::{Accel, Config, HELLO_WAIT, MicroVmRuntime, patience};
use plfm_runtime::{MachineSpec, Runtime};
use tempfile::TempDir;
use ulid::Ulid;

use super::super::plan::guest;
use super::real::{RESOLVER, on_a_host, unique};
use super::*;

const PORT: u16 = 8080;
/// Answers every caller with what the resolver says.
const SERVER: &str = r#"
#include <arpa/inet.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in6 here = { .sin6_family = AF_INET6, .sin6_port = htons(8080) };
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(53) };
    inet_pton(AF_INET, "9.9.9.9", &there.sin_addr);
    int listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (bind(listener, (void *) &here, sizeof here) || listen(listener, 8)) return 1;
    for (;;) {
        char words[64];
        int caller = accept(listener, 0, 0), asked = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(asked, (void *) &there, sizeof there) == 0) {
            long size = read(asked, words, sizeof words);
            if (size > 0 && write(caller, words, size) < 0) return 2;
        }
        close(asked);
        close(caller);
    }
}
"#;

#[test]
fn a_guest_is_called_and_calls_the_internet() {
    let house = match House::build() {
        Ok(house) => house,
        Err(missing) => return eprintln!("skipped: a_guest_is_called_and_calls_the_internet: {missing}"),
    };
    on_a_host("guest", async |world| {
        let (id, address) = (unique(110), address(0x110));
        let (runtime, tap) = (Arc::new(house.open().await), world.net.ensure(id, address).await.unwrap());
        runtime.create(&house.spec(id)).await.unwrap();
        let boot = BootId::new(Ulid(1));
        runtime.start(id, boot, Some(tap)).await.unwrap();
        let wait = patience(runtime.class(), HELLO_WAIT);
        let configured = tokio::time::timeout(wait, configure(runtime.clone(), id, boot)).await;
        assert!(configured.is_ok(), "no word from the guest: {:?}", runtime.list().await);

        let resolver = apply::inside(&world.internet, || TcpListener::bind((RESOLVER[0], 53))).unwrap();
        let answer = thread::spawn(move || resolver.accept().unwrap().0.write_all(b"from the internet").unwrap());
        assert_eq!(call(SocketAddr::new(address.into(), PORT)), "from the internet");
        answer.join().unwrap();
        runtime.destroy(id).await.unwrap();
        world.net.remove(id).await.unwrap();
    });
}

/// The workload's server may start a moment after the guest says that it has been started.
fn call(server: SocketAddr) -> String {
    let wait = Duration::from_secs(20);
    let mut stream = loop {
        match TcpStream::connect_timeout(&server, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => thread::yield_now(),
            stream => break stream.unwrap(),
        }
    };
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut words = String::new();
    stream.read_to_string(&mut words).unwrap();
    words
}

async fn configure(runtime: Arc<MicroVmRuntime>, id: InstanceId, boot: BootId) {
    let client = crate::guest::client(runtime, id);
    crate::guest::hello(&client).await.unwrap();
    let network = api::Network {
        ipv6: guest::IPV6.to_string(),
        ipv6_prefix: guest::IPV6_PREFIX.into(),
        ipv6_gateway: guest::IPV6_GATEWAY.to_string(),
        ipv4: guest::IPV4.to_string(),
        ipv4_prefix: guest::IPV4_PREFIX.into(),
        ipv4_gateway: guest::IPV4_GATEWAY.to_string(),
        ..Default::default()
    };
    let request = ConfigureRequest {
        instance_id: id.to_string(),
        boot_id: boot.to_string(),
        hostname: "guest".to_owned(),
        workload: api::Workload { argv: vec!["/server".to_owned()], ..Default::default() }.into(),
        network: network.into(),
        disks: api::Disks { images: 1, rw_serial: "rw".to_owned(), ..Default::default() }.into(),
        entropy: vec![7; 64],
        ..Default::default()
    };
    client.configure(request).await.unwrap();
}

struct House {
    dir: TempDir,
    image: PathBuf,
    guest: Vec<u8>,
    kernel_roots: Vec<PathBuf>,
}

impl House {
    fn build() -> Result<Self, String> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let guest = env::var_os("PLFM_GUEST").map_or_else(|| target.join("plfm-init"), PathBuf::from);
        let guest = fs::read(&guest).map_err(|error| format!("the guest daemon {}: {error}", guest.display()))?;
        let kernel = env::var_os("PLFM_KERNEL").map_or_else(|| target.join("kernel"), PathBuf::from);
        let kernel_roots = vec![kernel, "/".into()];
        plfm_runtime::kernel::Kernel::find(&kernel_roots).map_err(|error| error.to_string())?;
        run(Command::new("qemu-system-x86_64").arg("-version"))?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Self { image: image(dir.path())?, dir, guest, kernel_roots })
    }

    async fn open(&self) -> MicroVmRuntime {
        let (dir, kernel_roots) = (self.dir.path().join("runtime"), self.kernel_roots.clone());
        let config =
            Config { dir, kernel_roots, guest: self.guest.clone().into(), accel: Some(Accel::Tcg), firecracker: None };
        MicroVmRuntime::open(config).await.unwrap()
    }

    fn spec(&self, id: InstanceId) -> MachineSpec {
        MachineSpec {
            id,
            memory: Mebibytes(192),
            cpu: MilliCpu(1000),
            disk: Mebibytes(64),
            images: vec![self.image.clone()],
            volumes: Vec::new(),
        }
    }
}

/// The server and nothing else.
fn image(dir: &Path) -> Result<PathBuf, String> {
    let (tree, source, image) = (dir.join("tree"), dir.join("server.c"), dir.join("image.erofs"));
    fs::create_dir(&tree).and_then(|()| fs::write(&source, SERVER)).map_err(|error| error.to_string())?;
    run(Command::new("cc").args(["-static", "-O1", "-o"]).args([tree.join("server"), source]))?;
    run(Command::new("mkfs.erofs").args([&image, &tree]))?;
    Ok(image)
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("`{name}`: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("`{name}`: {}", String::from_utf8_lossy(&output.stderr))) }
}
