//! What a template wants to have run before a sandbox of it is anybody's.

use crate::sandboxes::{Sandbox, sandboxes};
use crate::world::{Image, Layout, World, until};

/// Begins once, is ready after a while, and keeps what it drew in its memory.
const SERVE: &str = "cd; echo $RANDOM$RANDOM$RANDOM > drawn; echo $$ > pid; sleep 1; echo > ready; sleep 1000000";

fn add(world: &World, name: &str, image: &str, words: &[&str]) {
    let all = [&["template", "add", name, "--image", image, "--memory", "192Mi", "--disk", "1Gi"], words].concat();
    world.said(&all);
}

fn create<'w>(world: &'w World, template: &str, var: &str) -> Sandbox<'w> {
    let words = ["sandbox", "create", template, "--timeout", "10m", "--var", var];
    Sandbox { world, name: world.said(&words).trim().to_owned() }
}

#[test]
fn a_template_starts_what_its_sandboxes_find_running() {
    let Some(world) = World::new("a_template_starts_what_its_sandboxes_find_running") else { return };
    let dev = world.dev();
    let image = Layout::new(world.path("layout")).add("base", Image::sandbox());
    add(&world, "served", &image, &["--start", SERVE, "--ready", "test -e ~/ready"]);
    assert_eq!(world.json(&["template", "ls"])["items"][0]["startup"]["ready"], "test -e ~/ready");

    let all = ["TOLD=one", "TOLD=two", "TOLD=three"].map(|var| create(&world, "served", var));
    let drawn = all.each_ref().map(|one| one.sh("cd; kill -0 $(cat pid) && cat ready drawn"));
    let ways = all.each_ref().map(|one| one.view()["start"]["way"].as_str().unwrap().to_owned());
    if ways[1] != "boot" {
        assert!(
            !drawn[0].is_empty() && drawn.iter().all(|it| *it == drawn[0]),
            "it was started once: {drawn:?} {ways:?}"
        );
        let told = |one: &Sandbox| one.sh("cat /proc/$(cat ~/pid)/environ").contains("TOLD");
        assert_eq!(all.each_ref().map(told), [false; 3], "it is nobody's");
    }
    assert_eq!(all.each_ref().map(|one| one.sh("echo $TOLD")), ["one", "two", "three"]);

    // Another command is another beginning.
    add(&world, "served", &image, &["--start", "echo > ~/other"]);
    let other = create(&world, "served", "TOLD=four");
    assert_eq!(other.sh("ls ~"), "other");

    add(&world, "ends", &image, &["--start", "exit 3", "--ready", "false"]);
    let refused = world.plfm(&["sandbox", "create", "ends"]);
    let said = "the start command ended with 3";
    assert!(refused.code != Some(0) && refused.err.contains(said), "{}", refused.err);
    until("what did not begin is over", || (sandboxes(&world).len() == all.len() + 1).then_some(()));
    let refused = world.plfm(&["template", "add", "empty", "--image", &image, "--ready", " "]);
    assert!(refused.code == Some(2) && refused.err.contains("the ready command is"), "{}", refused.err);
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0], "something is left");
}
