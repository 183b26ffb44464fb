//! `image.speed` and `image.memory`: an image from a registry on loopback to file systems that a machine can mount, beside the tools one
//! would take: skopeo, umoci and mkfs.erofs.
//!
//! The image is made of what lies on this machine, a layer for each of [`LAYERS`]. The speed counts the layers' bytes as they
//! are when unpacked (the tars). Each run is a process of its own, so that its peak is its own.

#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use nix::sys::resource::{UsageWho, getrusage};
use plfm_image::{ImageRef, ImageStore, Limits, Platform, Registries, resolve};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::registry::Registry;
use support::{has, is_root, skip};

const ROUNDS: usize = 5;
/// Below `/usr`: programs, libraries and very many small files.
const LAYERS: &[&str] = &["bin", "lib/python3", "lib/python3.11", "share/doc", "share/perl", "include"];
/// Tells a process of this program which side it is.
const SIDE: &str = "PLFM_BENCH_SIDE";
const MIB: f64 = (1 << 20) as f64;

fn main() {
    let arguments: Vec<_> = env::args().collect();
    match (env::var(SIDE).as_deref(), arguments.as_slice()) {
        (Ok("ours"), [_, image, dir, ..]) => ours(image, Path::new(dir)),
        (Ok("peer"), [_, image, dir, ..]) => peer(image, Path::new(dir)),
        _ => measure(),
    }
}

fn measure() {
    let missing = ["docker-registry", "skopeo", "umoci", "mkfs.erofs"].into_iter().find(|program| !has(program));
    match missing {
        Some(program) => return skip("image", &format!("needs {program}")),
        None if !is_root() => return skip("image", "needs root: umoci keeps owners only then"),
        None => {}
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let registry = Registry::start(None);
    let size = make(&dir.path().join("layout"), &registry);
    let image = format!("{}/bench:v1", registry.host);
    let runs = (0..ROUNDS).map(|_| (run("ours", &image, dir.path()), run("peer", &image, dir.path())));
    let (ours, theirs): (Vec<_>, Vec<_>) = runs.unzip();
    let speed = |runs: &[Run]| runs.iter().map(|run| size.bytes as f64 / MIB / run.seconds).collect::<Vec<_>>();
    let memory = |runs: &[Run]| runs.iter().map(|run| run.peak_kib as f64 / 1024.0).collect::<Vec<_>>();
    print("image.speed", "MiB/s", "higher", speed(&ours), speed(&theirs));
    print("image.memory", "MiB", "lower", memory(&ours), memory(&theirs));
}

fn print(name: &str, unit: &str, better: &str, samples: Vec<f64>, peer_samples: Vec<f64>) {
    let peer = "skopeo + umoci + mkfs.erofs";
    let row = serde_json::json!({
        "name": name, "unit": unit, "better": better, "samples": samples, "peer": peer, "peer_samples": peer_samples,
    });
    println!("{row}");
}

struct Size {
    bytes: u64,
    entries: u64,
}

/// Makes the image and pushes it.
fn make(layout: &Path, registry: &Registry) -> Size {
    let image = format!("{}:v1", layout.display());
    run!("umoci", "init", "--layout", layout);
    run!("umoci", "new", "--image", image);
    for dir in LAYERS.iter().filter(|dir| Path::new("/usr").join(dir).is_dir()) {
        insert(&image, dir, &layout.with_extension("stage"));
    }
    registry.push(layout, "v1", "bench:v1", &[]);
    let size = size(layout);
    let bound = 64.0 + 256.0 * size.entries as f64 / MIB;
    eprintln!(
        "image: {:.0} MiB of tars, {} entries; memory may peak at {bound:.1} MiB",
        size.bytes as f64 / MIB,
        size.entries
    );
    size
}

/// A layer with all directories above what it brings, as container engines write it.
fn insert(image: &str, dir: &str, stage: &Path) {
    let to = stage.join(dir);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    run!("cp", "--archive", Path::new("/usr").join(dir), to);
    run!("umoci", "insert", "--image", image, stage, "/usr");
    fs::remove_dir_all(stage).unwrap();
}

fn size(layout: &Path) -> Size {
    let blob = |of: &Value| layout.join("blobs").join(of["digest"].as_str().unwrap().replace(':', "/"));
    let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let mut size = Size { bytes: 0, entries: 0 };
    for layer in manifest["layers"].as_array().unwrap() {
        let mut tar = Counted { from: MultiGzDecoder::new(File::open(blob(layer)).unwrap()), bytes: 0 };
        size.entries += tar::Archive::new(&mut tar).entries().unwrap().count() as u64;
        io::copy(&mut tar, &mut io::sink()).unwrap();
        size.bytes += tar.bytes;
    }
    size
}

struct Counted<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

#[derive(Serialize, Deserialize)]
struct Run {
    seconds: f64,
    peak_kib: i64,
}

/// One side, from an empty directory, with nothing left to write from the run before.
fn run(side: &str, image: &str, dir: &Path) -> Run {
    let dir = dir.join(side);
    fs::create_dir(&dir).unwrap();
    rustix::fs::sync();
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(image).arg(&dir).env(SIDE, side).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{side}: {}", output.status);
    fs::remove_dir_all(dir).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ours(image: &str, dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = Instant::now();
    let image: ImageRef = image.parse().unwrap();
    let (registries, store) = (Registries::default(), ImageStore::open(dir.to_owned(), Limits::default()).unwrap());
    runtime.block_on(async {
        let pinned = image.pinned(resolve(&image, &registries).await.unwrap().digest);
        store.ensure(&pinned, &Platform::linux("amd64"), &registries, &|_| {}).await.unwrap();
    });
    tell(begun, high_water_kib());
}

/// Its three processes run one after another, so the largest is the peak.
fn peer(image: &str, dir: &Path) {
    let begun = Instant::now();
    let (layout, bundle, erofs) = (dir.join("layout"), dir.join("bundle"), dir.join("image.erofs"));
    let (from, to) = (format!("docker://{image}"), format!("oci:{}:v1", layout.display()));
    run!("skopeo", "copy", "--src-tls-verify=false", "--quiet", from, to);
    run!("umoci", "unpack", "--image", format!("{}:v1", layout.display()), bundle);
    run!("mkfs.erofs", erofs, bundle.join("rootfs"));
    tell(begun, getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss());
}

fn tell(begun: Instant, peak_kib: i64) {
    let run = Run { seconds: begun.elapsed().as_secs_f64(), peak_kib };
    println!("{}", serde_json::to_string(&run).unwrap());
}

fn high_water_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
