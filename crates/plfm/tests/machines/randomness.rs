//! Eight forks of a machine in which Python and OpenSSL work: what is started in them has nothing in common, what takes notice of the
//! fork has nothing in common from then on, and what takes none repeats itself, as the docs say.

use std::collections::BTreeMap;
use std::thread;

use crate::sandboxes::Sandbox;
use crate::world::{Image, Layer, Layout, World, find, ran, skip, until};

const PYTHON: &str = "/usr/bin/python3.11";
const OPENSSL: &str = "/usr/bin/openssl";
const FORKS: usize = 8;

/// Draws from Python's generator for ever. One that takes notice seeds anew when the generation has changed, and throws away what it drew
/// while it did.
const DRAWS: &str = r#"
import random, sys, time
def generation():
    with open("/run/plfm/generation") as file:
        return file.read().strip()
notice, path = sys.argv[1] == "notice", sys.argv[2]
seen = generation()
out = open(path, "a", buffering=1)
while True:
    before = generation()
    if notice and before != seen:
        random.seed()
    seen = before
    drawn = random.getrandbits(64)
    if not notice or generation() == before:
        out.write(f"{generation()} {drawn:016x}\n")
    time.sleep(0.1)
"#;

/// Draws from OpenSSL's generator, and mixes something in when it is told to.
const DRAWS_TLS: &str = r#"
import os, signal, ssl, sys, time
told = 0
def renew(*_):
    global told
    ssl.RAND_add(os.urandom(32), 32.0)
    told += 1
signal.signal(signal.SIGUSR1, renew)
open("/home/user/tls.pid", "w").write(str(os.getpid()))
out = open(sys.argv[1], "a", buffering=1)
while True:
    before, drawn = told, ssl.RAND_bytes(8).hex()
    if told == before:
        out.write(f"{told} {drawn}\n")
    time.sleep(0.1)
"#;

/// What a new process draws, a line each.
const ANEW: &str = r#"
import random, secrets, ssl, uuid
print("random", random.getrandbits(64))
print("secrets", secrets.token_hex(8))
print("uuid", uuid.uuid4())
print("ssl", ssl.RAND_bytes(8).hex())
client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out := ssl.MemoryBIO(), server_hostname="a.example")
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    print("hello", out.read()[11:43].hex())
"#;

/// With all that the programs need of this machine.
fn image() -> Image {
    // What it loads here when it draws here.
    let loaded = "import signal, sys
print(*{f for m in sys.modules.values() for f in (getattr(m, '__file__', None), getattr(m, '__cached__', None)) if f}, sep='\\n')";
    let loaded = ran(std::process::Command::new(PYTHON).args(["-c", &format!("{ANEW}{loaded}")])).out;
    let modules: Vec<_> = loaded.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect();
    let programs = [PYTHON, OPENSSL].map(str::to_owned);
    let libraries =
        programs.iter().chain(modules.iter().filter(|path| path.ends_with(".so"))).flat_map(|path| libraries(path));
    let mut files: Vec<_> = programs.iter().cloned().chain(modules.iter().cloned()).chain(libraries).collect();
    files.extend(["/usr/lib/python3.11/encodings/utf_8.py".to_owned(), "/etc/ssl/openssl.cnf".to_owned()]);
    files.sort();
    files.dedup();
    let mut layer =
        Layer::new().dir("etc/plfm/refresh.d").file("etc/machine-id", b"0123456789abcdef0123456789abcdef\n");
    for file in files {
        layer = layer.of_host(&file);
    }
    let layer = layer.link("bin/python3", PYTHON).link("bin/openssl", OPENSSL);
    let layer = layer.script("etc/plfm/refresh.d/10-tls", "busybox kill -USR1 $(cat /home/user/tls.pid)");
    let layer = layer.file("srv/draws.py", DRAWS.as_bytes()).file("srv/tls.py", DRAWS_TLS.as_bytes());
    let layer = layer.file("srv/anew.py", ANEW.as_bytes());
    let mut image = Image::sandbox();
    image.layers.push(layer);
    image
}

fn libraries(path: &str) -> Vec<String> {
    let told = ran(std::process::Command::new("ldd").arg(path)).out;
    told.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// Who drew each value, of every line whose first word is not the one from before the fork.
fn drawn(forks: &[Sandbox<'_>], path: &str, before: &str) -> BTreeMap<String, Vec<usize>> {
    let mut by_value = BTreeMap::<_, Vec<_>>::new();
    for (number, fork) in forks.iter().enumerate() {
        let enough = |text: &String| text.lines().filter(|line| !line.starts_with(before)).count() >= 20;
        let text = until("it has drawn", || Some(fork.sh(&format!("cat {path}"))).filter(enough));
        for line in text.lines().filter(|line| !line.starts_with(before)) {
            let (_, value) = line.split_once(' ').unwrap();
            by_value.entry(value.to_owned()).or_default().push(number);
        }
    }
    by_value
}

#[test]
fn eight_forks_share_no_draw_of_python_or_openssl() {
    const TEST: &str = "eight_forks_share_no_draw_of_python_or_openssl";
    let Some(world) = World::new(TEST) else { return };
    if !std::path::Path::new(PYTHON).exists() || find("openssl").is_none() {
        return skip(TEST, "needs Debian's Python 3.11 and openssl");
    }
    let image = Layout::new(world.path("layout")).add("base", image());
    let dev = world.dev();
    world.said(&["template", "add", "base", "--image", &image, "--memory", "256Mi", "--disk", "1Gi"]);
    let it = Sandbox::create(&world);
    for line in ["draws.py notice /home/user/notice", "draws.py none /home/user/none", "tls.py /home/user/tls"] {
        it.sh(&format!("busybox setsid python3 /srv/{line} > /home/user/said 2>&1 &"));
    }
    for path in ["/home/user/notice", "/home/user/none", "/home/user/tls"] {
        until("it draws", || {
            it.sh(&format!("cat {path} /home/user/said 2>/dev/null || true")).contains("0 ").then_some(())
        });
    }
    let forked = world.said(&["sandbox", "fork", &it.name, "-n", &FORKS.to_string(), "--timeout", "10m"]);
    let forks: Vec<_> = forked.lines().map(|name| Sandbox { world: &world, name: name.to_owned() }).collect();
    assert_eq!(forks.len(), FORKS, "{forked}");

    // What takes notice, by the generation or by a hook.
    for path in ["/home/user/notice", "/home/user/tls"] {
        let shared: Vec<_> = drawn(&forks, path, "0 ").into_iter().filter(|(_, by)| by.len() > 1).collect();
        assert!(shared.is_empty(), "{path}: {shared:?}");
    }
    // What takes none.
    let repeats = drawn(&forks, "/home/user/none", "0 ").into_values().filter(|by| by.len() == FORKS).count();
    assert!(repeats > 0, "the docs say that it repeats itself");

    // What is started now.
    let told: Vec<_> = thread::scope(|scope| {
        let anew = "python3 /srv/anew.py; echo openssl $(openssl rand -hex 8); echo machine $(cat /etc/machine-id)
            echo boot $(cat /proc/sys/kernel/random/boot_id); echo kernel $(cat /proc/sys/kernel/random/uuid)";
        let asks: Vec<_> = forks.iter().map(|fork| scope.spawn(|| fork.sh(anew))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let mut by_value = BTreeMap::<&str, usize>::new();
    told.iter().flat_map(|text| text.lines()).for_each(|line| *by_value.entry(line).or_default() += 1);
    assert_eq!(by_value.len(), FORKS * 9, "nine kinds, each different in each: {by_value:#?}");
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0]);
}
