//! Pulls from a real registry, and from ones that fail in every way.

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plfm_core::digest::Digest;
use plfm_core::reason::Reason;
use plfm_image::registry::Retry;
use plfm_image::{
    Credentials, Image, ImageError, ImageRef, ImageStore, Limits, Platform, Progress, Registries, resolve,
};
use support::registry::{Answer, Asked, Registry, serve};
use support::{LayoutDir, has, skip, tar_of};
use tempfile::TempDir;

/// `open sesame`, hashed.
const PASSWORDS: &str = "ci:$2b$05$4UdYyK2h62xirDdRHagcn.RvJIVBEJ7s98MM.xO3DivWL8u1siQkS\n";

fn real(test: &str) -> bool {
    let there = has("docker-registry") && has("skopeo");
    if !there {
        skip(test, "needs docker-registry and skopeo");
    }
    there
}

fn quick() -> Registries {
    let retry = Retry { attempts: 4, wait_min: Duration::from_millis(1), wait_max: Duration::from_millis(5) };
    Registries { retry, ..Registries::default() }
}

struct Setup {
    tmp: TempDir,
    layout: LayoutDir,
    store: ImageStore,
}

impl Setup {
    fn new() -> Self {
        let tmp = TempDir::new().unwrap();
        let layout = LayoutDir::new(&tmp.path().join("layout"));
        let store = ImageStore::open(tmp.path().join("store"), Limits::default()).unwrap();
        Self { tmp, layout, store }
    }

    fn image(&self, layers: &[(&str, Vec<u8>)]) -> Digest {
        self.layout.tag("v1", &self.layout.image("amd64", layers))
    }

    async fn ensure(&self, image: &str, registries: &Registries) -> Result<Image, ImageError> {
        let image: ImageRef = image.parse().unwrap();
        let resolved = resolve(&image, registries).await?;
        self.store.ensure(&image.pinned(resolved.digest), &Platform::linux("amd64"), registries, &|_| {}).await
    }

    /// Nothing half made, as soon as the last thread has noticed.
    async fn nothing_is_left(&self) {
        let count = |below: &str| fs::read_dir(self.tmp.path().join("store").join(below)).unwrap().count();
        while count("tmp") > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((count("layers/sha256"), count("images/sha256")), (0, 0));
    }

    /// Serves the layout as a registry does, unless the closure has another answer.
    async fn serve(&self, special: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> String {
        let (blobs, tags) = (self.layout.0.join("blobs/sha256"), self.layout.0.join("index.json"));
        serve(move |asked| {
            special(asked).unwrap_or_else(|| {
                let name = asked.path.rsplit('/').next().unwrap();
                let index: serde_json::Value = serde_json::from_slice(&fs::read(&tags).unwrap()).unwrap();
                let digest = if name == "v1" { index["manifests"][0]["digest"].as_str().unwrap() } else { name };
                match fs::read(blobs.join(digest.trim_start_matches("sha256:"))) {
                    Ok(bytes) => Answer::new(200, bytes),
                    Err(_) => Answer::new(404, "{}"),
                }
            })
        })
        .await
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| next()).collect()
}

fn small() -> Vec<(&'static str, Vec<u8>)> {
    vec![("+gzip", tar_of(&[("a/b", b"content")])), ("+gzip", tar_of(&[("c", &noise(200_000))]))]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_serves_every_kind_of_image() {
    if !real("a_real_registry_serves_every_kind_of_image") {
        return;
    }
    let (setup, registry) = (Setup::new(), Registry::start(None));
    let many: Vec<_> =
        (0..25).map(|n| (["", "+gzip", "+zstd"][n % 3], tar_of(&[(&format!("dir/{n}"), b"x")]))).collect();
    let digest = setup.image(&many);
    registry.push(&setup.layout.0, "v1", "team/many:v1", &[]);
    let name = format!("{}/team/many:v1", registry.host);
    let image = setup.ensure(&name, &quick()).await.unwrap();
    assert_eq!((image.digest, image.devices.len()), (digest, 4));
    let index = setup.layout.index(&[setup.layout.image("arm64", &small()), setup.layout.image("amd64", &small())]);
    let digest = setup.layout.tag("v1", &index);
    registry.push(&setup.layout.0, "v1", "team/index:v1", &[]);
    let name = format!("{}/team/index:v1", registry.host);
    let resolved = resolve(&name.parse().unwrap(), &quick()).await.unwrap();
    assert_eq!((resolved.digest, resolved.platforms.len()), (digest, 2));
    assert_eq!(setup.ensure(&name, &quick()).await.unwrap().devices.len(), 2);
    // Docker's own manifest and media types.
    setup.image(&small());
    let (from, to) =
        (format!("oci:{}:v1", setup.layout.0.display()), format!("docker://{}/team/docker:v1", registry.host));
    run!("skopeo", "copy", "--format=v2s2", "--dest-tls-verify=false", "--quiet", from, to);
    let image = setup.ensure(&format!("{}/team/docker:v1", registry.host), &quick()).await.unwrap();
    assert_eq!(image.devices.len(), 2);
    for (missing, what) in
        [("team/many:v2", "manifest team/many:v2"), ("nobody/nothing:v1", "manifest nobody/nothing:v1")]
    {
        let error = setup.ensure(&format!("{}/{missing}", registry.host), &quick()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{} has no {what}", registry.host));
        assert_eq!(error.reason(), Reason::ImagePullFailed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_umoci_made() {
    const TEST: &str = "an_image_that_umoci_made";
    if !real(TEST) || !has("umoci") || !support::is_root() {
        return skip(TEST, "needs umoci, docker-registry and root");
    }
    let (setup, registry) = (Setup::new(), Registry::start(None));
    let (layout, bundle) = (setup.tmp.path().join("umoci"), setup.tmp.path().join("bundle"));
    let image = format!("{}:v1", layout.display());
    run!("umoci", "init", "--layout", layout);
    run!("umoci", "new", "--image", image);
    for step in ["first", "second"] {
        run!("umoci", "unpack", "--image", image, bundle);
        let root = bundle.join("rootfs");
        fs::create_dir_all(root.join("srv/deep")).unwrap();
        fs::write(root.join("srv").join(step), step).unwrap();
        if step == "second" {
            fs::remove_file(root.join("srv/first")).unwrap();
            fs::hard_link(root.join("srv/second"), root.join("srv/deep/link")).unwrap();
        }
        run!("umoci", "repack", "--image", image, bundle);
        fs::remove_dir_all(&bundle).unwrap();
    }
    run!("umoci", "config", "--image", image, "--config.entrypoint", "/srv/second", "--config.user", "7:8");
    registry.push(&layout, "v1", "umoci:v1", &[]);
    let host = Platform::host();
    let name: ImageRef = format!("{}/umoci:v1", registry.host).parse().unwrap();
    let resolved = resolve(&name, &quick()).await.unwrap();
    let image = setup.store.ensure(&name.pinned(resolved.digest), &host, &quick(), &|_| {}).await.unwrap();
    assert_eq!((image.config.entrypoint, image.config.user), (vec!["/srv/second".to_owned()], "7:8".to_owned()));
    let mounts: Option<Vec<_>> = image.devices.iter().map(|device| support::Mounted::erofs(device)).collect();
    let Some(mounts) = mounts else { return skip(TEST, "this kernel mounts no EROFS") };
    let Some(seen) = support::Mounted::overlay(&mounts) else { return skip(TEST, "this kernel mounts no overlay") };
    let look = support::Look { directory_times: false, ..support::ALL };
    let names: Vec<_> =
        support::show(seen.path(), look).lines().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(names, ["", "srv", "srv/deep", "srv/deep/link", "srv/second"]);
    drop(seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    if !real("passwords") {
        return;
    }
    let (setup, registry) = (Setup::new(), Registry::start(Some(PASSWORDS)));
    setup.image(&small());
    registry.push(&setup.layout.0, "v1", "secret:v1", &["--dest-creds=ci:open sesame"]);
    let name = format!("{}/secret:v1", registry.host);
    let with = |password: &str| {
        let credentials = Credentials { username: "ci".to_owned(), password: password.to_owned() };
        Registries { credentials: [(registry.host.clone(), credentials)].into(), ..quick() }
    };
    let none = setup.ensure(&name, &quick()).await.unwrap_err().to_string();
    assert_eq!(
        none,
        format!("{} refuses manifest secret:v1: it asks for credentials, and there are none", registry.host)
    );
    let wrong = setup.ensure(&name, &with("hunter2")).await.unwrap_err();
    assert_eq!(
        wrong.to_string(),
        format!("{} refuses manifest secret:v1: the credentials are not accepted", registry.host)
    );
    assert_eq!(wrong.reason(), Reason::ImagePullFailed);
    setup.ensure(&name, &with("open sesame")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed() {
    if !real("a_registry_that_is_killed") {
        return;
    }
    let (setup, registry) = (Setup::new(), Registry::start(None));
    setup.image(&[("", tar_of(&[("big", &noise(64 << 20))]))]);
    registry.push(&setup.layout.0, "v1", "big:v1", &[]);
    let host = registry.host.clone();
    let name: ImageRef = format!("{host}/big:v1").parse().unwrap();
    let resolved = resolve(&name, &quick()).await.unwrap();
    let registry = Mutex::new(registry);
    let kill = |progress| {
        if matches!(progress, Progress::Fetching { bytes, .. } if bytes > 1 << 20) {
            registry.lock().unwrap().kill();
        }
    };
    let error = setup
        .store
        .ensure(&name.pinned(resolved.digest), &Platform::linux("amd64"), &quick(), &kill)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::ImagePullFailed);
    let text = error.to_string();
    assert!(text.starts_with("cannot fetch blob sha256:") && text.contains(&format!(" from {host}: ")), "{text}");
    assert!(text.ends_with("(tried 4 times)"), "{text}");
    setup.nothing_is_left().await;
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let setup = Setup::new();
    setup.image(&small());
    let (failures, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, ranges) = (failures.clone(), asked.clone());
    let blobs = setup.layout.0.join("blobs/sha256");
    let host = setup
        .serve(move |asked| {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            if asked.path.contains("/manifests/") {
                return (nth < 3).then(|| Answer::new([503, 429, 500][nth], "later").header("Retry-After", "0"));
            }
            // Each blob comes in three pieces, and its connection breaks after each.
            let whole = fs::read(blobs.join(asked.path.rsplit(':').next()?)).ok()?;
            let from = asked.header("range").map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
            ranges.lock().unwrap().push(from);
            let piece = (whole.len() / 3).max(1);
            let answer = Answer::new(if from == 0 { 200 } else { 206 }, &whole[from..]);
            let answer = answer.header("Content-Range", format!("bytes {from}-{}/{}", whole.len() - 1, whole.len()));
            Some(Answer { cut: (from + piece < whole.len()).then_some(piece), ..answer })
        })
        .await;
    setup.ensure(&format!("{host}/app:v1"), &quick()).await.unwrap();
    assert!(asked.lock().unwrap().iter().any(|from| *from > 0), "broken streams go on where they broke");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_start() {
    let setup = Setup::new();
    setup.image(&small());
    let cuts = AtomicUsize::new(0);
    let blobs = setup.layout.0.join("blobs/sha256");
    let host = setup
        .serve(move |asked| {
            let whole = fs::read(blobs.join(asked.path.split("/blobs/sha256:").nth(1)?)).ok()?;
            let cut = cuts.fetch_add(1, Ordering::Relaxed).is_multiple_of(2).then_some(whole.len() / 2);
            Some(Answer { cut, ..Answer::new(200, whole) })
        })
        .await;
    setup.ensure(&format!("{host}/app:v1"), &quick()).await.unwrap();
}

#[tokio::test]
async fn what_lasts_is_an_error_that_says_so() {
    let setup = Setup::new();
    setup.image(&small());
    let one =
        |path: &'static str, answer: fn() -> Answer| setup.serve(move |asked| asked.path.contains(path).then(answer));
    let huge = || Answer::new(200, vec![b' '; (4 << 20) + 1]);
    for (host, text, reason) in [
        (
            one("/manifests/", || Answer::new(503, "")).await,
            "it answers 503 Service Unavailable (tried 4 times)",
            Reason::ImagePullFailed,
        ),
        (one("/manifests/", || Answer::new(418, "")).await, "it answers 418 I'm a teapot", Reason::ImagePullFailed),
        (one("/manifests/", || Answer::new(403, "")).await, "access is denied", Reason::ImagePullFailed),
        (
            one("/manifests/", huge).await,
            "the image has more than 4194304 bytes in one of its documents",
            Reason::ImageTooLarge,
        ),
        (
            one("/manifests/", || Answer::new(200, "{}")).await,
            "is not valid: missing field `schemaVersion`",
            Reason::ImageLayerInvalid,
        ),
        (
            one("/manifests/", || Answer::new(200, r#"{"schemaVersion":1}"#)).await,
            "only schema version 2 is known",
            Reason::ImageLayerInvalid,
        ),
        (
            one("/manifests/", || Answer { cut: Some(3), ..Answer::new(200, "{\"schema\"") }).await,
            "(tried 4 times)",
            Reason::ImagePullFailed,
        ),
        (one("/blobs/", || Answer::new(404, "")).await, "has no blob sha256:", Reason::ImagePullFailed),
        (one("/blobs/", || Answer::new(200, "short")).await, "it ended after", Reason::ImagePullFailed),
        (one("/blobs/", || Answer::new(200, noise(300_000))).await, "but there are more", Reason::ImagePullFailed),
        ("127.0.0.1:1".to_owned(), "Connection refused", Reason::ImagePullFailed),
    ] {
        let error = setup.ensure(&format!("{host}/app:v1"), &quick()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}\nis not\n{text}");
        assert_eq!(error.reason(), reason, "{error}");
        setup.nothing_is_left().await;
    }
}

#[tokio::test]
async fn a_manifest_that_is_another_is_refused() {
    let setup = Setup::new();
    let digest = setup.image(&small());
    let other = fs::read(setup.layout.blob_path(&digest)).map(|bytes| [bytes, b" ".to_vec()].concat()).unwrap();
    let host =
        setup.serve(move |asked| asked.path.contains("/manifests/").then(|| Answer::new(200, other.clone()))).await;
    let image: ImageRef = format!("{host}/app@{digest}").parse().unwrap();
    let error = setup.store.ensure(&image, &Platform::linux("amd64"), &quick(), &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { what: "manifest", .. }), "{error}");
}

#[tokio::test]
async fn mirrors_serve_what_they_have() {
    let setup = Setup::new();
    setup.image(&small());
    let empty = setup.serve(|_| Some(Answer::new(404, ""))).await;
    let full = setup.serve(|asked| (!asked.path.starts_with("/v2/hub/team/app/")).then(|| Answer::new(404, ""))).await;
    let mirrors = [("registry.example".to_owned(), vec!["127.0.0.1:1".to_owned(), empty, format!("{full}/hub")])];
    let registries = Registries { mirrors: mirrors.into(), ..quick() };
    setup.ensure("registry.example/team/app:v1", &registries).await.unwrap();
}

#[tokio::test]
async fn plain_http_only_where_it_is_allowed() {
    let setup = Setup::new();
    setup.image(&small());
    let host = setup.serve(|_| None).await;
    let port = host.rsplit(':').next().unwrap();
    // The same server by a name that is not this machine's own.
    let name = format!("0.0.0.0:{port}");
    let error = setup.ensure(&format!("{name}/app:v1"), &quick()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ImagePullFailed);
    let listed = Registries { insecure: [name.clone()].into(), ..quick() };
    setup.ensure(&format!("{name}/app:v1"), &listed).await.unwrap();
}

#[tokio::test]
async fn tokens_are_fetched_once_and_only_where_it_is_safe() {
    let setup = Setup::new();
    setup.image(&small());
    let realm = Arc::new(Mutex::new(String::new()));
    let (named, fetched) = (realm.clone(), Arc::new(Mutex::new(Vec::new())));
    let tokens = fetched.clone();
    let host = setup
        .serve(move |asked| {
            if asked.path.starts_with("/token") {
                tokens.lock().unwrap().push((asked.path.clone(), asked.header("authorization").map(str::to_owned)));
                return Some(Answer::new(200, r#"{"token":"abc"}"#));
            }
            let challenge = format!("Bearer realm=\"{}\",service=\"test\"", named.lock().unwrap());
            (asked.header("authorization") != Some("Bearer abc"))
                .then(|| Answer::new(401, "").header("WWW-Authenticate", challenge))
        })
        .await;
    *realm.lock().unwrap() = format!("http://{host}/token");
    let credentials = Credentials { username: "ci".to_owned(), password: "pw".to_owned() };
    let registries = Registries { credentials: [(host.clone(), credentials)].into(), ..quick() };
    let name: ImageRef = format!("{host}/team/app:v1").parse().unwrap();
    let digest = resolve(&name, &registries).await.unwrap().digest;
    setup.store.ensure(&name.pinned(digest), &Platform::linux("amd64"), &registries, &|_| {}).await.unwrap();
    // One for `resolve`, and for `ensure` at most one per request that was under way when there was none.
    let asked = fetched.lock().unwrap().clone();
    assert_eq!(
        asked[0],
        ("/token?service=test&scope=repository%3Ateam%2Fapp%3Apull".to_owned(), Some("Basic Y2k6cHc=".to_owned()))
    );
    assert!((2..=4).contains(&asked.len()), "{asked:?}");
    for bad in ["http://10.0.0.1/token", "ftp://x/token", "nonsense"] {
        *realm.lock().unwrap() = bad.to_owned();
        let error = resolve(&name, &registries).await.unwrap_err();
        assert!(error.to_string().contains("token service"), "{error}");
    }
}

#[tokio::test]
async fn redirects_lead_only_where_they_may() {
    let setup = Setup::new();
    setup.image(&small());
    let storage =
        setup.serve(|asked| asked.header("authorization").map(|_| Answer::new(400, "credentials went along"))).await;
    let to = Arc::new(Mutex::new(format!("http://{storage}")));
    let target = to.clone();
    let host = setup
        .serve(move |asked| {
            let location = format!("{}{}", target.lock().unwrap(), asked.path);
            let unauthorized = asked
                .header("authorization")
                .is_none()
                .then(|| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
            unauthorized
                .or_else(|| asked.path.contains("/blobs/").then(|| Answer::new(307, "").header("Location", location)))
        })
        .await;
    let credentials = Credentials { username: "ci".to_owned(), password: "pw".to_owned() };
    let registries = Registries { credentials: [(host.clone(), credentials)].into(), ..quick() };
    setup.ensure(&format!("{host}/app:v1"), &registries).await.unwrap();
    for bad in [
        "http://169.254.169.254",
        "https://10.0.0.1",
        "https://[::ffff:127.0.0.1]:1",
        "ftp://x",
        &format!("http://{host}"),
    ] {
        *to.lock().unwrap() = bad.to_owned();
        let fresh = Setup::new();
        let name: ImageRef = format!("{host}/app:v1").parse().unwrap();
        let error = fresh.ensure(&name.to_string(), &registries).await.unwrap_err();
        assert!(error.to_string().contains("it redirects"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_cached_image_needs_no_network() {
    let setup = Setup::new();
    let digest = setup.image(&small());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let host = setup
        .serve(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            None
        })
        .await;
    let image = setup.ensure(&format!("{host}/app:v1"), &quick()).await.unwrap();
    let before = requests.load(Ordering::Relaxed);
    let pinned: ImageRef = format!("{host}/app@{digest}").parse().unwrap();
    let again = setup.store.ensure(&pinned, &Platform::linux("amd64"), &quick(), &|_| {}).await.unwrap();
    assert_eq!(again, image);
    assert_eq!(requests.load(Ordering::Relaxed), before);
}
