//! A real registry, and a small real image in it: a web server of a Debian package with one page of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use super::process::{Process, until};
use super::world::World;

/// Shows where it runs.
const PAGE: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n\
    echo \"kernel   $(uname -sr)\"\necho \"hostname $(hostname)\"\necho \"uptime   $(cut -d' ' -f1 /proc/uptime) s\"\n";

pub fn registry(world: &World) -> anyhow::Result<Process> {
    let dir = world.dir.join("registry");
    fs::create_dir_all(&dir)?;
    let config = dir.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{}\n",
        dir.join("blobs").display(),
        world.registry
    );
    fs::write(&config, text)?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config);
    let process = Process::start(command, &dir.join("log"))?;
    let address = ("127.0.0.1", world.registry);
    until("the registry listens", || Ok(std::net::TcpStream::connect(address).ok().map(drop)))?;
    Ok(process)
}

/// Answers with the reference.
pub fn push(world: &World) -> anyhow::Result<String> {
    let (layout, bundle) = (world.dir.join("layout"), world.dir.join("bundle"));
    let image = format!("{}:hello", layout.display());
    run("umoci", &["init", "--layout", &layout.to_string_lossy()])?;
    run("umoci", &["new", "--image", &image])?;
    run("umoci", &["unpack", "--image", &image, &bundle.to_string_lossy()])?;
    fill(&bundle.join("rootfs"))?;
    run("umoci", &["repack", "--image", &image, &bundle.to_string_lossy()])?;
    let serve = ["/bin/busybox", "httpd", "-f", "-v", "-p", "[::]:8080", "-h", "/www"];
    let mut config = vec!["config", "--image", &image, "--config.env", "PATH=/bin"];
    serve.iter().for_each(|word| config.extend(["--config.cmd", word]));
    run("umoci", &config)?;
    let reference = format!("127.0.0.1:{}/demo/hello:v1", world.registry);
    let to = format!("docker://{reference}");
    run("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &format!("oci:{image}"), &to])?;
    println!("  {reference}");
    Ok(reference)
}

fn fill(rootfs: &Path) -> anyhow::Result<()> {
    for dir in ["bin", "www/cgi-bin", "tmp", "etc"] {
        fs::create_dir_all(rootfs.join(dir))?;
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    for name in ["sh", "uname", "hostname", "cut", "cat", "ls"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name))?;
    }
    let page = rootfs.join("www/cgi-bin/where");
    fs::write(&page, PAGE)?;
    fs::set_permissions(&page, fs::Permissions::from_mode(0o755))?;
    Ok(fs::write(rootfs.join("www/index.html"), "hello from plfm\n")?)
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output()?;
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
