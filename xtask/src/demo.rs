//! `cargo xtask demo`: an image becomes a microVM behind HTTPS, is healed after a kill and found again after a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use xshell::Shell;

use crate::{build, setup};

mod image;
mod process;
mod world;

use process::Process;
use world::World;

pub fn run(shell: &Shell) -> anyhow::Result<()> {
    let begun = Instant::now();
    setup::run(shell)?;
    build::run(shell, &build::Args::default())?;
    let dir = crate::target_dir(shell).join("demo");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let world = World::new(shell, &dir);
    let shown = show(&world);
    // What was started is ended, whatever happened.
    world.clean_up();
    shown?;
    fs::remove_dir_all(&dir)?;
    println!("demo: ok in {:.0} s", begun.elapsed().as_secs_f32());
    Ok(())
}

fn show(world: &World) -> anyhow::Result<()> {
    let foreign = std::env::var("PLFM_DEMO_IMAGE").ok();
    let registry = step("a registry on loopback", || image::registry(world))?;
    let image = match &foreign {
        Some(image) => image.clone(),
        None => step("an OCI image of a web server, pushed", || image::push(world))?,
    };
    let mut dev = step("plfm dev: server, node and edge", || world.dev())?;
    write_manifest(&world.dir, &image)?;
    step("plfm deploy", || world.show(&["deploy", "--env", "dev"]))?;
    step("a page over HTTPS through the edge", || page(world, foreign.is_some()))?;
    if foreign.is_none() {
        step("plfm exec -- uname -r", || world.show(&["exec", "--env", "dev", "--", "/bin/busybox", "uname", "-r"]))?;
    }
    step("plfm logs", || world.show(&["logs", "--env", "dev"]))?;
    step("the machine's process is killed, and the instance healed", || heal(world))?;
    step("plfm dev is killed and started again: the same machine is found", || readopt(world, &mut dev))?;
    step("everything stops, nothing is left", || stop(world, dev, registry))
}

/// Says what is shown and how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("── {what}");
    let begun = Instant::now();
    let done = work().with_context(|| format!("this step failed: {what}"))?;
    println!("   {:.1} s", begun.elapsed().as_secs_f32());
    Ok(done)
}

fn write_manifest(dir: &Path, image: &str) -> anyhow::Result<()> {
    let port = std::env::var("PLFM_DEMO_PORT").unwrap_or_else(|_| "8080".to_owned());
    let manifest = format!(
        "schema_version = \"v1\"\n\n[app]\nname = \"hello\"\n\n[image]\nref = \"{image}\"\n\n[processes.web]\n\
         resources.memory = \"256Mi\"\nresources.disk = \"1Gi\"\nports = [{{ internal = {port} }}]\n"
    );
    Ok(fs::write(dir.join("plfm.toml"), manifest)?)
}

fn page(world: &World, foreign: bool) -> anyhow::Result<()> {
    let path = if foreign { "/" } else { "/cgi-bin/where" };
    let page = world.fetch(path)?;
    page.lines().take(6).for_each(|line| println!("  {line}"));
    let host = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(foreign || !page.contains(host.trim()), "the page shows the host's kernel");
    ensure!(foreign || page.contains("kernel"), "the page does not show its kernel");
    Ok(())
}

fn heal(world: &World) -> anyhow::Result<()> {
    let before = world.instance()?;
    let vmm = world.vmm(&before.id)?;
    println!("  kill -9 {vmm}");
    process::kill(vmm)?;
    let after = world.until("it is ready in a new boot", |it| it.phase == "ready" && it.boot != before.boot)?;
    println!("  {}: boot {} became {}", after.id, before.boot, after.boot);
    ensure!(after.id == before.id, "another instance took its place");
    page(world, std::env::var_os("PLFM_DEMO_IMAGE").is_some())
}

fn readopt(world: &World, dev: &mut Process) -> anyhow::Result<()> {
    let before = world.instance()?;
    let vmm = world.vmm(&before.id)?;
    dev.kill()?;
    *dev = world.dev()?;
    let after = world.until("it is ready", |it| it.phase == "ready")?;
    println!("  boot {} before, {} after", before.boot, after.boot);
    ensure!(after.boot == before.boot && world.vmm(&after.id)? == vmm, "the machine was started anew");
    page(world, std::env::var_os("PLFM_DEMO_IMAGE").is_some())
}

fn stop(world: &World, dev: Process, registry: Process) -> anyhow::Result<()> {
    dev.interrupt()?;
    registry.interrupt()?;
    let left = world.processes()?;
    ensure!(left.is_empty(), "still running: {left:?}");
    Ok(())
}

/// A file of this name below `dir`, wherever it is.
fn find(dir: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { find(&path, name) } else { vec![path] })
        .filter(|it| it.ends_with(name))
        .collect()
}
