//! What every test here needs: a runtime in a directory of its own, an image with busybox in it, and words with guests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use plfm_api::channel::port;
use plfm_api::guest::{self, Client, ConfigureRequest, HelloResponse};
use plfm_api::rpc::Target;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_runtime::microvm::{Accel, Config, HELLO_WAIT, MicroVmRuntime, patience};
use plfm_runtime::{Machine, MachineSpec, Runtime};
use tempfile::TempDir;
use ulid::Ulid;

/// Of the guest daemon, for its host.
pub const GUEST_PORT: u32 = 1;
pub struct House {
    pub dir: TempDir,
    image: PathBuf,
    guest: Vec<u8>,
    kernel_roots: Vec<PathBuf>,
}

impl House {
    /// None where something is missing, said loudly.
    pub fn build(test: &str) -> Option<Self> {
        match Self::try_build() {
            Ok(house) => Some(house),
            Err(reason) => {
                eprintln!("skipped: {test}: {reason}");
                None
            }
        }
    }

    fn try_build() -> Result<Self, String> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let guest = env::var_os("PLFM_GUEST").map_or_else(|| target.join("plfm-init"), PathBuf::from);
        let guest = fs::read(&guest).map_err(|error| format!("the guest daemon {}: {error}", guest.display()))?;
        let kernel = env::var_os("PLFM_KERNEL").map_or_else(|| target.join("kernel"), PathBuf::from);
        let kernel_roots = vec![kernel, "/".into()];
        plfm_runtime::kernel::Kernel::find(&kernel_roots).map_err(|error| error.to_string())?;
        for program in ["qemu-system-x86_64", "mke2fs", "mkfs.erofs", "busybox"] {
            Command::new(program).arg("-V").output().map_err(|error| format!("`{program}`: {error}"))?;
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Self { image: erofs(dir.path()), dir, guest, kernel_roots })
    }

    pub async fn open(&self) -> MicroVmRuntime {
        self.open_with(Some(Accel::Tcg)).await
    }

    pub async fn open_with(&self, accel: Option<Accel>) -> MicroVmRuntime {
        self.open_in(&self.dir.path().join("runtime"), accel).await
    }

    pub async fn open_in(&self, dir: &Path, accel: Option<Accel>) -> MicroVmRuntime {
        let config = Config {
            dir: dir.to_owned(),
            kernel_roots: self.kernel_roots.clone(),
            guest: self.guest.clone().into(),
            accel,
            firecracker: None,
        };
        MicroVmRuntime::open(config).await.unwrap()
    }

    pub fn spec(&self, number: u128) -> MachineSpec {
        MachineSpec {
            id: id(number),
            memory: Mebibytes(192),
            cpu: MilliCpu(1000),
            disk: Mebibytes(64),
            images: vec![self.image.clone()],
            volumes: Vec::new(),
        }
    }

    pub fn machine_dir(&self, id: InstanceId) -> PathBuf {
        self.dir.path().join("runtime/machines").join(id.to_string())
    }
}

pub fn erofs(dir: &Path) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("image.erofs"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("hello"), "from an image").unwrap();
    for dir in ["bin", "etc", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir(tree.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let made = Command::new("mkfs.erofs").args([&image, &tree]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    image
}

/// Other processes run these tests too.
pub fn id(number: u128) -> InstanceId {
    InstanceId::new(Ulid(number << 64 | u128::from(std::process::id())))
}

pub fn boot(number: u128) -> BootId {
    BootId::new(Ulid(number))
}

pub async fn hello(runtime: &MicroVmRuntime, id: InstanceId) {
    let wait = patience(runtime.class(), HELLO_WAIT);
    match tokio::time::timeout(wait, runtime.connect(id, GUEST_PORT)).await {
        Ok(stream) => drop(stream.unwrap()),
        Err(_) => panic!("no word from the guest: {:?}", runtime.list().await),
    }
}

pub async fn only(runtime: &MicroVmRuntime) -> Machine {
    let [machine] = <[Machine; 1]>::try_from(runtime.list().await.unwrap()).unwrap();
    machine
}

/// The process ids of monitors that were started for the machine.
pub fn monitors(id: InstanceId) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("plfm-{id}"))
    };
    pids.filter(named).collect()
}

pub fn cgroups(id: InstanceId) -> Vec<PathBuf> {
    let parents =
        ["", "memory", "pids", "cpu"].map(|hierarchy| Path::new("/sys/fs/cgroup").join(hierarchy).join("plfm"));
    parents.into_iter().map(|parent| parent.join(id.to_string())).filter(|dir| dir.exists()).collect()
}

/// User and system time; a tick is 10 ms.
pub fn processor_ms(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

pub fn kill(pid: i32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

pub fn client(runtime: &Arc<MicroVmRuntime>, id: InstanceId) -> Client {
    let runtime = runtime.clone();
    Client::new(Target::new(move || {
        let runtime = runtime.clone();
        async move { runtime.connect(id, port::GUEST).await.map_err(std::io::Error::other) }
    }))
}

pub fn entropy(number: u8) -> Vec<u8> {
    let mut bytes = vec![number; 64];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// A workload of busybox, under its own names.
pub fn configuration(id: InstanceId, work: &str) -> ConfigureRequest {
    let argv = ["/bin/busybox", "sh", "-c", work].map(str::to_owned).to_vec();
    let env = [("PATH".to_owned(), "/bin".to_owned())].into_iter().collect();
    ConfigureRequest {
        instance_id: id.to_string(),
        boot_id: boot(1).to_string(),
        hostname: "first".to_owned(),
        workload: guest::Workload { argv, env, ..Default::default() }.into(),
        prestart: vec![guest::Prestart {
            // On a disk that has been booted from, they are there.
            argv: ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin || true"].map(str::to_owned).to_vec(),
            timeout_ms: 60_000,
            ..Default::default()
        }],
        network: guest::Network { loopback_only: true, ..Default::default() }.into(),
        disks: guest::Disks { images: 1, rw_serial: "rw".to_owned(), ..Default::default() }.into(),
        realtime_ns: now_ns(),
        entropy: entropy(1),
        ..Default::default()
    }
}

/// Output of the workload until a line says what is waited for, from the first byte that the guest keeps.
pub async fn said(client: &Client, until: impl Fn(&[String]) -> bool) -> Vec<String> {
    let read = async {
        loop {
            let mut text = Vec::new();
            let Ok(mut logs) = client.logs(0, true).await else { continue };
            while let Ok(Some(chunk)) = logs.next().await {
                text.extend(chunk.data);
                let lines: Vec<_> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
                if until(&lines) {
                    return lines;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), read).await.expect("the workload goes on")
}

/// What the guest says of itself.
pub async fn asked(runtime: &Arc<MicroVmRuntime>, id: InstanceId) -> HelloResponse {
    let client = client(runtime, id);
    let wait = patience(runtime.class(), HELLO_WAIT);
    let answer = async {
        loop {
            if let Ok(hello) = client.hello().await {
                return hello;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(wait, answer).await.unwrap()
}

pub fn snapshot(number: u128) -> SnapshotId {
    SnapshotId::new(Ulid(number << 64 | u128::from(std::process::id())))
}

/// As root, the monitor is nobody, may nothing and sees nothing.
pub fn check_wall(pid: i32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Seccomp:"), ["2"], "QEMU filters its own system calls");
    if fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t") {
        let uids = field("Uid:");
        assert!(uids.iter().all(|uid| uid.parse::<u32>().unwrap() >= 1_900_000_000), "{uids:?}");
        assert_eq!(field("CapEff:"), ["0000000000000000"]);
        assert!(!Path::new(&format!("/proc/{pid}/root/etc")).exists());
    }
}
