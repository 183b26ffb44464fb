//! Images as they come: one as unlike a test's as ordinary ones are, and those that cannot run.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use expect_test::{Expect, expect};
use plfm_core::digest::Digest;

use crate::world::{Image, Layer, Layout, Ran, Registry, World, noise, until};

/// Many layers, a link where `/bin` was, whiteouts of files and of a directory, a user, and no shell: one static program.
fn ordinary() -> Image {
    let base = Layer::new().dir("usr").dir("usr/bin").link("bin", "usr/bin").dir("www").dir("www/old");
    let base = base.file("www/old/page.html", b"old").file("www/1.html", b"1");
    let mut layers = vec![base, Layer::new().busybox("usr/bin/httpd")];
    layers.extend((2..24).map(|number| {
        let gone = format!("www/{}.html", number - 1);
        let page = number.to_string().into_bytes();
        Layer::new().file("www/index.html", &page).file(&format!("www/{number}.html"), &page).without(&gone)
    }));
    layers[12] = Layer::new().afresh("www/old").file("www/old/new.html", b"new").file("www/12.html", b"12");
    let entrypoint = &["/bin/httpd", "-f", "-p", "[::]:8080", "-h", "/www"];
    Image { architecture: "amd64", user: "1000:1000", entrypoint, layers }
}

fn small(content: &[u8]) -> Image {
    let layers = vec![Layer::new().dir("www").file("www/index.html", content)];
    Image { architecture: "amd64", user: "", entrypoint: &["/bin/none"], layers }
}

const PORT: &str = "ports = [{ internal = 8080 }]";

#[test]
fn an_ordinary_image_boots_and_what_cannot_run_says_why() {
    let Some(world) = World::new("an_ordinary_image_boots_and_what_cannot_run_says_why") else { return };
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("web", ordinary());
    let dev = world.dev();
    let deployed = world.deploy("web", &registry.push(&layout, "web"), PORT, &[]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    pages(&world);

    refused(&world, &registry);
    let (boot, kept, cases) = (world.instance("web")["boot"].clone(), store(&world), cases(&layout, &registry));
    thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| case.deploy(&world)))));
    cases.iter().for_each(|case| case.check(&world));
    assert_eq!(store(&world), kept, "nothing half made is kept");
    assert_eq!(
        (world.page("web", "/").as_str(), &world.instance("web")["boot"]),
        ("23", &boot),
        "the other app goes on"
    );
    drop(registry);
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0]);
}

fn pages(world: &World) {
    until("the page is served", || (world.page("web", "/") == "23").then_some(()));
    let gone = ["/1.html", "/22.html", "/old/page.html"];
    gone.iter().for_each(|path| assert!(world.page("web", path).contains("404"), "{path}"));
    for (path, content) in [("/11.html", "11"), ("/23.html", "23"), ("/old/new.html", "new")] {
        assert_eq!(world.page("web", path), content);
    }
    let shell = world.plfm(&["exec", "web", "--env", "dev", "--", "sh"]);
    assert_ne!(shell.code, Some(0));
    expect![[r#"
        error: inst_… does not start the command: exec "sh": no such file or directory

        hint: check the command: it has to be a program that the image holds, and small images hold no shell
    "#]]
    .assert_eq(&world.masked(&shell.err));
}

/// Layers, merged images, and what is not finished.
fn store(world: &World) -> Vec<String> {
    let list = |dir: &str| {
        let entries = fs::read_dir(world.path("data/node/images").join(dir)).unwrap().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let mut files = ["layers/sha256", "merged/sha256", "tmp"].map(list).concat();
    files.sort();
    files
}

/// What the server itself sees makes no deploy.
fn refused(world: &World, registry: &Registry) {
    let absent = Digest::of(b"nobody has it");
    for (image, text) in [
        (
            format!("{}/web@{absent}", registry.host()),
            expect![[r#"
                deploying refused to dev of default at https://API
                error: REGISTRY has no manifest web@sha256:…

                hint: check the reference, and that the registry holds the image as it was pushed
                request: req_…
            "#]],
        ),
        (
            format!("{}/web:v2", registry.host()),
            expect![[r#"
                deploying refused to dev of default at https://API
                error: REGISTRY has no manifest web:v2

                hint: check the reference, and that the registry holds the image as it was pushed
                request: req_…
            "#]],
        ),
        (
            "127.0.0.1:1/web:v1".to_owned(),
            expect![[r#"
                deploying refused to dev of default at https://API
                error: cannot fetch manifest web:v1 from 127.0.0.1:1: Connection refused (os error 111) (tried 2 times)

                hint: check the reference, and that the registry holds the image as it was pushed
                request: req_…
            "#]],
        ),
    ] {
        let refused = world.deploy("refused", &image, PORT, &[]);
        assert_eq!(refused.code, Some(2), "{}", refused.err);
        text.assert_eq(&world.masked(&refused.err.replace(&registry.host(), "REGISTRY")));
        assert_eq!(world.plfm(&["status", "refused", "--env", "dev"]).code, Some(4), "nothing was made");
    }
}

struct Case {
    app: &'static str,
    image: String,
    lines: &'static str,
    reason: &'static str,
    text: Expect,
    deployed: OnceLock<Ran>,
}

/// What shows only when a node takes it up.
fn cases(layout: &Layout, registry: &Registry) -> Vec<Case> {
    let case = |app, image, reason, text| Case { app, image, lines: PORT, reason, text, deployed: OnceLock::new() };
    layout.add("bent", small(&noise(4 << 20)));
    let bent = registry.push(layout, "bent");
    bend(&registry.largest_blob());
    let long = layout.add_with("long", small(b"long"), |manifest| manifest["layers"][0]["size"] = 10.into());
    let short = layout.add_with("short", small(b"short"), |manifest| manifest["layers"][0]["size"] = 100_000.into());
    let arm = layout.add("arm", Image { architecture: "arm64", ..small(b"arm") });
    let nothing = layout.add("nothing", Image { entrypoint: &[], ..ordinary() });
    vec![
        case(
            "bent",
            bent,
            "image_pull_failed",
            expect![[r#"
                error: dep_… of bent to dev has failed: image_pull_failed: layer sha256:… has other bytes: they hash to sha256:…

                hint: check the reference, and that the registry holds the image as it was pushed; see `plfm explain bent`

                bent in dev is not as it should be: web 0 of 1 ready

                dep_… has failed: it tries one instance every few minutes
                  why:  image_pull_failed: layer sha256:… has other bytes: they hash to sha256:…
                  next: check the reference, and that the registry holds the image as it was pushed; then `plfm deploy`
            "#]],
        ),
        case(
            "long",
            long,
            "image_pull_failed",
            expect![[r#"
                error: dep_… of long to dev has failed: image_pull_failed: layer sha256:… has 10 bytes in its manifest, but there are more

                hint: check the reference, and that the registry holds the image as it was pushed; see `plfm explain long`

                long in dev is not as it should be: web 0 of 1 ready

                dep_… has failed: it tries one instance every few minutes
                  why:  image_pull_failed: layer sha256:… has 10 bytes in its manifest, but there are more
                  next: check the reference, and that the registry holds the image as it was pushed; then `plfm deploy`
            "#]],
        ),
        case(
            "short",
            short,
            "image_pull_failed",
            expect![[r#"
                error: dep_… of short to dev has failed: image_pull_failed: layer sha256:… has 100000 bytes in its manifest, but ended after 2560

                hint: check the reference, and that the registry holds the image as it was pushed; see `plfm explain short`

                short in dev is not as it should be: web 0 of 1 ready

                dep_… has failed: it tries one instance every few minutes
                  why:  image_pull_failed: layer sha256:… has 100000 bytes in its manifest, but ended after 2560
                  next: check the reference, and that the registry holds the image as it was pushed; then `plfm deploy`
            "#]],
        ),
        case(
            "arm",
            arm,
            "image_platform_unavailable",
            expect![[r#"
                error: dep_… of arm to dev has failed: image_platform_unavailable: the image is made for arm64, the nodes are amd64

                hint: build the image for the architecture of a node (see `plfm nodes`); see `plfm explain arm`

                arm in dev is not as it should be: web 0 of 1 ready

                dep_… has failed: it tries one instance every few minutes
                  why:  image_platform_unavailable: the image is made for arm64, the nodes are amd64
                  next: build the image for the architecture of a node (see `plfm nodes`); then `plfm deploy`
            "#]],
        ),
        case(
            "nothing",
            nothing,
            "workload_start_failed",
            expect![[r#"
                error: dep_… of nothing to dev has failed: workload_start_failed: the image has neither entrypoint nor command, and the manifest has no `command`

                hint: check `command`, `workdir` and `user` against what the image holds; see `plfm explain nothing`

                nothing in dev is not as it should be: web 0 of 1 ready

                dep_… has failed: it tries one instance every few minutes
                  why:  workload_start_failed: the image has neither entrypoint nor command, and the manifest has no `command`
                  next: check `command`, `workdir` and `user` against what the image holds; then `plfm deploy`
            "#]],
        ),
        Case {
            lines: "ports = [{ internal = 8080 }]\ncommand = [\"/bin/htpd\", \"-f\"]",
            ..case(
                "typo",
                layout.reference("web"),
                "workload_start_failed",
                expect![[r#"
                    error: dep_… of typo to dev has failed: workload_start_failed: exec "/bin/htpd": no such file or directory

                    hint: check `command`, `workdir` and `user` against what the image holds; see `plfm explain typo`

                    typo in dev is not as it should be: web 0 of 1 ready

                    dep_… has failed: it tries one instance every few minutes
                      why:  workload_start_failed: exec "/bin/htpd": no such file or directory
                      next: check `command`, `workdir` and `user` against what the image holds; then `plfm deploy`
                "#]],
            )
        },
    ]
}

/// The same length, other bytes.
fn bend(blob: &Path) {
    let mut bytes = fs::read(blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(blob, bytes).unwrap();
}

impl Case {
    fn deploy(&self, world: &World) {
        self.deployed.set(world.deploy(self.app, &self.image, self.lines, &[])).unwrap();
    }

    /// One error, and `status` and `explain` say the same.
    fn check(&self, world: &World) {
        let Self { app, reason, text, .. } = self;
        let deployed = self.deployed.get().unwrap();
        assert_eq!(deployed.code, Some(1), "{app}: {}", deployed.err);
        assert_eq!(deployed.err.matches("error:").count(), 1, "{}", deployed.err);
        let status = world.json(&["status", app, "--env", "dev"]);
        let failure = &status["deploy"]["failure"];
        assert_eq!(failure["reason"], *reason, "{status}");
        let detail = failure["detail"].as_str().unwrap();
        let explained = world.said(&["explain", app, "--env", "dev"]);
        for said in [&deployed.err, &explained] {
            assert!(said.contains(reason) && said.contains(detail), "{said} does not say {detail}");
        }
        let error = &deployed.err[deployed.err.find("error:").unwrap()..];
        text.assert_eq(&world.masked(&format!("{error}\n{explained}")));
    }
}
