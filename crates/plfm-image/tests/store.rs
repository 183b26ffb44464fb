//! The store, fed from layouts of this machine: no network, no root.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use plfm_core::digest::Digest;
use plfm_core::ids::InstanceId;
use plfm_core::reason::Reason;
use plfm_image::{Image, ImageError, ImageRef, ImageStore, Limits, Platform, Progress, Registries, resolve};
use support::{LayoutDir, tar_of};
use tempfile::TempDir;

struct Setup {
    tmp: TempDir,
    layout: LayoutDir,
}

impl Setup {
    fn new() -> Self {
        let tmp = TempDir::new().unwrap();
        let layout = LayoutDir::new(&tmp.path().join("layout"));
        Self { tmp, layout }
    }

    fn store(&self, limits: Limits) -> ImageStore {
        ImageStore::open(self.tmp.path().join("store"), limits).unwrap()
    }

    fn reference(&self) -> ImageRef {
        format!("oci:{}:v1", self.layout.0.display()).parse().unwrap()
    }

    /// An image of these layers under `v1`.
    fn image(&self, layers: &[(&str, Vec<u8>)]) -> Digest {
        self.layout.tag("v1", &self.layout.image("amd64", layers))
    }

    async fn ensure(&self, store: &ImageStore, digest: Digest) -> Result<Image, ImageError> {
        store.ensure(&self.reference().pinned(digest), &amd64(), &Registries::default(), &|_| {}).await
    }

    /// The other layers of an image that failed are abandoned; their files go when their threads notice.
    async fn swept(&self) {
        while self.files("tmp") > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Images and leftovers in the store.
    fn files(&self, below: &str) -> usize {
        fs::read_dir(self.tmp.path().join("store").join(below)).unwrap().count()
    }
}

fn amd64() -> Platform {
    Platform::linux("amd64")
}

fn layers(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let suffix = |n: usize| ["", "+gzip", "+zstd"][n % 3];
    let layer =
        |n: usize| tar_of(&[(&format!("dir/file{n}"), n.to_string().as_bytes()), ("last", n.to_string().as_bytes())]);
    (0..count).map(|n| (suffix(n), layer(n))).collect()
}

fn holder(n: u128) -> InstanceId {
    InstanceId::new(ulid::Ulid::from_parts(0, n))
}

#[tokio::test]
async fn an_image_is_made_once_and_found_again() {
    let setup = Setup::new();
    let digest = setup.image(&layers(3));
    let told = Mutex::new(Vec::new());
    let store = setup.store(Limits::default());
    let pinned = setup.reference().pinned(digest);
    let tell = |progress| told.lock().unwrap().push(progress);
    let image = store.ensure(&pinned, &amd64(), &Registries::default(), &tell).await.unwrap();
    assert_eq!((image.digest, image.devices.len()), (digest, 3));
    assert_eq!(image.config.entrypoint, ["/bin/sh", "-c"]);
    assert_eq!(image.config.cmd, [""; 0]);
    assert_eq!(image.config.exposed_ports, ["53/udp", "80/tcp"]);
    assert_eq!((image.config.user.as_str(), image.config.workdir.as_str()), ("1000:1000", "/srv"));
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(told.lock().unwrap()[0], Progress::Missing { layers: 3, of: 3 });
    assert_eq!(told.lock().unwrap().iter().filter(|progress| matches!(progress, Progress::Built { .. })).count(), 3);
    assert_eq!(setup.files("tmp"), 0);
    // Afterwards neither the source nor the first store is needed.
    fs::remove_dir_all(&setup.layout.0).unwrap();
    drop(store);
    fs::write(setup.tmp.path().join("store/tmp/leftover"), "x").unwrap();
    let again = setup.store(Limits::default());
    assert_eq!(setup.files("tmp"), 0);
    assert_eq!(setup.ensure(&again, digest).await.unwrap(), image);
}

#[tokio::test]
async fn many_layers_become_four_devices() {
    let setup = Setup::new();
    let digest = setup.image(&layers(25));
    let store = setup.store(Limits::default());
    let image = setup.ensure(&store, digest).await.unwrap();
    assert_eq!(image.devices.len(), 4);
    let content = contents(&image);
    assert_eq!(content["/last"], "24");
    assert_eq!(content.len(), 26);
    assert!((0..25).all(|n| content[&format!("/dir/file{n}")] == n.to_string()));
    // The same layers again, merged again: nothing new appears.
    let (layers, merged) = (setup.files("layers/sha256"), setup.files("merged/sha256"));
    assert_eq!(setup.ensure(&store, digest).await.unwrap(), image);
    assert_eq!((setup.files("layers/sha256"), setup.files("merged/sha256")), (layers, merged));
    // The merged image outlives the layers it is made of.
    store.acquire(digest, holder(1)).unwrap();
    store.collect(0).unwrap();
    assert_eq!(setup.ensure(&store, digest).await.unwrap(), image);
    assert!(setup.files("layers/sha256") < layers);
}

/// What a guest would see in regular files, by path.
fn contents(image: &Image) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    for device in &image.devices {
        let device = plfm_image::erofs::Image::open(fs::File::open(device).unwrap()).unwrap();
        let mut open = vec![(String::new(), device.root().unwrap())];
        while let Some((path, directory)) = open.pop() {
            let mut names = device.names(&directory);
            while let Some((name, nid)) = names.next(&device).unwrap() {
                let path = format!("{path}/{}", String::from_utf8_lossy(&name));
                let entry = device.entry(nid).unwrap();
                if entry.kind == plfm_image::erofs::FileType::Directory {
                    open.push((path, entry));
                } else {
                    all.insert(path, std::io::read_to_string(device.content(&entry)).unwrap());
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn the_same_image_is_the_same_bytes_everywhere() {
    let (one, other) = (Setup::new(), Setup::new());
    let bytes = async |setup: &Setup| {
        let digest = setup.image(&layers(6));
        let image = setup.ensure(&setup.store(Limits::default()), digest).await.unwrap();
        image.devices.iter().map(|device| Digest::of(&fs::read(device).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&one).await, bytes(&other).await);
}

#[tokio::test]
async fn who_comes_at_the_same_time_waits_for_the_first() {
    let setup = Setup::new();
    let digest = setup.image(&layers(6));
    let store = setup.store(Limits::default());
    let built = AtomicUsize::new(0);
    let tell = |progress| {
        if matches!(progress, Progress::Built { .. } | Progress::Merging { .. }) {
            built.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (pinned, platform, registries) = (setup.reference().pinned(digest), amd64(), Registries::default());
    let ensure = || store.ensure(&pinned, &platform, &registries, &tell);
    let images = futures::future::join_all((0..8).map(|_| ensure())).await;
    let images: Vec<_> = images.into_iter().map(Result::unwrap).collect();
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    let merged = setup.files("merged/sha256") / 2;
    assert_eq!(built.load(Ordering::Relaxed), 6 + merged);
}

#[tokio::test]
async fn a_broken_layer_leaves_nothing() {
    for (name, spoil) in [("short", Spoil::Cut), ("long", Spoil::Grow), ("other", Spoil::Flip), ("gone", Spoil::Remove)]
    {
        let setup = Setup::new();
        let digest = setup.image(&layers(2));
        let store = setup.store(Limits::default());
        let layer = Digest::of(&support::gzip(&layers(2)[1].1));
        spoil.apply(&setup.layout.blob_path(&layer));
        let error = setup.ensure(&store, digest).await.unwrap_err();
        let expected = match spoil {
            Spoil::Cut => matches!(error, ImageError::Short { .. }),
            Spoil::Grow => matches!(error, ImageError::Long { .. }),
            Spoil::Flip => matches!(error, ImageError::Digest { what: "layer", .. }),
            Spoil::Remove => matches!(error, ImageError::LayoutLacks(_)),
        };
        assert!(expected, "{name}: {error:?}");
        assert_eq!(error.reason(), Reason::ImagePullFailed);
        setup.swept().await;
        assert!(!fs::exists(setup.tmp.path().join(format!("store/layers/sha256/{}.erofs", layers_digest(1)))).unwrap());
        assert_eq!(setup.files("images/sha256"), 0, "{name}");
    }
}

fn layers_digest(at: usize) -> String {
    Digest::of(&layers(2)[at].1).hex()
}

#[derive(Clone, Copy)]
enum Spoil {
    Cut,
    Grow,
    Flip,
    Remove,
}

impl Spoil {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Cut => bytes.truncate(bytes.len() - 1),
            Self::Grow => bytes.push(0),
            Self::Flip => bytes[30] ^= 1,
            Self::Remove => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn what_no_image_may_be() {
    let setup = Setup::new();
    let store = setup.store(Limits { layers: 3, compressed_bytes: 5000, entries: 12, ..Limits::default() });
    let one = || layers(1).remove(0);
    let many = || {
        tar_of(
            &(0..13)
                .map(|n| (["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"][n], &b"x"[..]))
                .collect::<Vec<_>>(),
        )
    };
    for (layers, reason, text) in [
        (vec![], Reason::ImageLayerInvalid, "the image has no layers"),
        (layers(4), Reason::ImageTooLarge, "the image has more than 3 layers"),
        (
            vec![("", tar_of(&[("big", &[0; 6000])]))],
            Reason::ImageTooLarge,
            "the image has more than 5000 compressed bytes",
        ),
        (vec![("+gzip", many())], Reason::ImageTooLarge, "the image has more than 12 entries"),
        (vec![("+lzma", one().1)], Reason::ImageLayerInvalid, "which is none of tar, tar+gzip and tar+zstd"),
    ] {
        let error = setup.ensure(&store, setup.image(&layers)).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.reason(), reason);
    }
    // Layers that are here already count as much as new ones.
    let (a, b) = (
        tar_of(&[("a", b""), ("b", b""), ("c", b""), ("d", b""), ("e", b""), ("f", b""), ("g", b"")]),
        tar_of(&[("h/i/j/k/l/m", b"")]),
    );
    setup.ensure(&store, setup.image(&[("+gzip", a.clone())])).await.unwrap();
    let error = setup.ensure(&store, setup.image(&[("+gzip", a), ("+gzip", b)])).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ImageTooLarge);
    assert!(matches!(setup.ensure(&store, Digest::of(b"none")).await, Err(ImageError::LayoutLacks(_))));
    let unpinned = store.ensure(&setup.reference(), &amd64(), &Registries::default(), &|_| {}).await;
    assert!(matches!(unpinned, Err(ImageError::NotPinned(_))));
}

#[tokio::test]
async fn each_platform_has_its_own_manifest() {
    let setup = Setup::new();
    let (amd, arm) = (setup.layout.image("amd64", &layers(1)), setup.layout.image("arm64", &layers(2)));
    let attestation = setup.layout.image("unknown", &layers(1));
    let mut attestation = attestation;
    attestation["platform"]["os"] = "unknown".into();
    let digest = setup.layout.tag("v1", &setup.layout.index(&[amd.clone(), arm.clone(), attestation]));
    let resolved = resolve(&setup.reference(), &Registries::default()).await.unwrap();
    let named = |image: &serde_json::Value| image["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    assert_eq!(resolved.digest, digest);
    assert_eq!(resolved.platforms, [(amd64(), named(&amd)), (Platform::linux("arm64"), named(&arm))]);
    assert_eq!(resolved.require(&Platform::linux("arm64")).unwrap(), named(&arm));
    let error = resolved.require(&Platform::linux("riscv64")).unwrap_err();
    assert_eq!(error.reason(), Reason::ImagePlatformUnavailable);
    assert_eq!(error.to_string(), "the image is not built for linux/riscv64, only for linux/amd64, linux/arm64");
    let store = setup.store(Limits::default());
    let image = setup.ensure(&store, digest).await.unwrap();
    assert_eq!((image.digest, image.devices.len()), (named(&amd), 1));
    let wrong = store.ensure(&setup.reference().pinned(named(&arm)), &amd64(), &Registries::default(), &|_| {}).await;
    assert_eq!(wrong.unwrap_err().reason(), Reason::ImagePlatformUnavailable);
    // One manifest alone is for what its configuration says.
    setup.layout.tag("v1", &arm);
    let alone = resolve(&setup.reference(), &Registries::default()).await.unwrap();
    assert_eq!(alone.platforms, [(Platform::linux("arm64"), named(&arm))]);
}

#[tokio::test]
async fn an_archive_is_a_layout_too() {
    let setup = Setup::new();
    let digest = setup.image(&layers(2));
    let archive = setup.tmp.path().join("image.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", &setup.layout.0).unwrap();
    builder.finish().unwrap();
    let image: ImageRef = format!("oci-archive:{}:v1", archive.display()).parse().unwrap();
    assert_eq!(resolve(&image, &Registries::default()).await.unwrap().digest, digest);
    let found = setup
        .store(Limits::default())
        .ensure(&image.pinned(digest), &amd64(), &Registries::default(), &|_| {})
        .await
        .unwrap();
    assert_eq!(found.devices.len(), 2);
    for (text, expected) in [
        (format!("oci-archive:{}:v2", archive.display()), "the image layout has no image `v2`"),
        ("oci-archive:/nowhere.tar".to_owned(), "there is no image layout at /nowhere.tar"),
        ("oci:/nowhere".to_owned(), "there is no image layout at /nowhere"),
        (format!("oci:{}", setup.tmp.path().display()), "the image layout has no index"),
    ] {
        let error = resolve(&text.parse().unwrap(), &Registries::default()).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn what_is_pinned_stays_and_the_oldest_goes_first() {
    let setup = Setup::new();
    let store = setup.store(Limits::default());
    let images: Vec<_> = (0..4).map(|n| [("", tar_of(&[("file", &[n; 100_000])]))]).collect();
    let digests: Vec<_> =
        images.iter().map(|layers| setup.layout.tag("v1", &setup.layout.image("amd64", layers))).collect();
    let mut devices = Vec::new();
    for digest in &digests {
        devices.push(setup.ensure(&store, *digest).await.unwrap().devices.remove(0));
    }
    let (first, second) = (holder(1), holder(2));
    store.acquire(digests[0], first).unwrap();
    store.acquire(digests[0], second).unwrap();
    // The second is used again: then the third is the oldest that nobody holds.
    setup.ensure(&store, digests[1]).await.unwrap();
    let size = fs::metadata(&devices[0]).unwrap().len();
    let collected = store.collect(3 * size).unwrap();
    assert_eq!((collected.removed, collected.removed_bytes, collected.kept_bytes), (1, size, 3 * size));
    let there = || devices.iter().map(|device| device.exists()).collect::<Vec<_>>();
    assert_eq!(there(), [true, true, false, true]);
    // A restart knows the pins.
    drop(store);
    let store = setup.store(Limits::default());
    assert_eq!(store.holders().unwrap().len(), 2);
    store.collect(0).unwrap();
    assert_eq!(there(), [true, false, false, false]);
    store.release(first).unwrap();
    store.collect(0).unwrap();
    assert_eq!(there(), [true, false, false, false], "the second still holds it");
    store.release(second).unwrap();
    store.release(second).unwrap();
    store.collect(0).unwrap();
    assert_eq!(there(), [false; 4]);
    assert_eq!((setup.files("documents/sha256"), setup.files("images/sha256"), setup.files("pins")), (0, 0, 0));
    // And all of it can be made again.
    setup.ensure(&store, digests[3]).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_made_again() {
    let setup = Setup::new();
    let digest = setup.image(&layers(1));
    let store = setup.store(Limits::default());
    let device = setup.ensure(&store, digest).await.unwrap().devices.remove(0);
    let whole = fs::read(&device).unwrap();
    for record in [device.with_extension("json"), device.clone()] {
        fs::remove_file(&record).unwrap();
        fs::write(&record, "{").unwrap();
        setup.ensure(&store, digest).await.unwrap();
        assert_eq!(fs::read(&device).unwrap(), whole);
    }
}

#[tokio::test]
async fn an_abandoned_request_leaves_nothing_and_stops_nobody() {
    let setup = Setup::new();
    let digest = setup.image(&layers(3));
    let store = setup.store(Limits { pull_time: std::time::Duration::ZERO, ..Limits::default() });
    let error = setup.ensure(&store, digest).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ImagePullTimeout);
    assert_eq!(error.to_string(), format!("image {digest} was not fetched within 0 s"));
    drop(store);
    let store = setup.store(Limits::default());
    setup.ensure(&store, digest).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_one() {
    const TEST: &str = "a_full_disk_is_said_to_be_one";
    if !support::is_root() {
        return support::skip(TEST, "needs root for a small file system");
    }
    let Some(disk) = support::Mounted::new(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"].map(std::ffi::OsStr::new)) else {
        return support::skip(TEST, "cannot mount a tmpfs");
    };
    let setup = Setup::new();
    let store = ImageStore::open(disk.path().join("store"), Limits::default()).unwrap();
    // Found before anything is fetched, and found while writing what unpacks to more than it seemed.
    for suffix in ["", "+gzip"] {
        let digest = setup.image(&[(suffix, tar_of(&[("big", &[7; 4 << 20])]))]);
        let error = setup.ensure(&store, digest).await.unwrap_err();
        assert_eq!(error.reason(), Reason::DiskFull, "{error}");
        assert_eq!(error.to_string(), "the disk is full");
        assert_eq!(fs::read_dir(disk.path().join("store/tmp")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(disk.path().join("store/layers/sha256")).unwrap().count(), 0);
    }
    // What nobody holds makes room.
    for n in 0..4 {
        let digest = setup.image(&[("", tar_of(&[("file", &[n; 700_000])]))]);
        setup.ensure(&store, digest).await.unwrap();
    }
}
