//! Someone who deploys: sound releases and broken ones, too large ones, ports that others hold.

use std::fmt::Write;

use plfm_core::command::{Command, Deploy, Expose};
use plfm_core::digest::Digest;
use plfm_core::event::{Entry, ReleaseImage};
use plfm_core::manifest::Manifest;
use plfm_core::state::State;

use crate::ctx::Ctx;
use crate::host::Temper;

/// Any deploy that comes to mind.
pub fn order(ctx: &mut Ctx) -> Command {
    let app = ["alpha", "beta", "gamma"][ctx.rng.usize(..3)];
    let env = if ctx.rng.u8(..4) == 0 { "prod" } else { "dev" };
    let temper = if ctx.rng.u8(..3) == 0 { Temper::BAD[ctx.rng.usize(..Temper::BAD.len())] } else { Temper::Serves };
    let web = process(ctx, "web", temper, 0..5);
    let worker = if ctx.rng.u8(..4) == 0 { process(ctx, "worker", Temper::Serves, 0..3) } else { String::new() };
    let image = if ctx.rng.u8(..16) == 0 { image("arm64") } else { image("amd64") };
    let expose = if ctx.rng.u8(..3) == 0 { vec![exposed(ctx)] } else { Vec::new() };
    deploy(app, env, &(web + &worker), image, expose)
}

/// A sound release for every environment there is; for some the one they have, if that is sound.
pub fn last_orders(ctx: &mut Ctx, state: &State) -> Vec<Command> {
    let mut orders = Vec::new();
    for env in state.envs.values() {
        let web = process(ctx, "web", Temper::Serves, 0..4);
        let app = &state.apps.get(&env.app).expect("an environment has an app").name;
        orders.push(deploy(app, &env.name, &web, image("amd64"), Vec::new()));
    }
    orders
}

fn deploy(app: &str, env: &str, processes: &str, image: ReleaseImage, expose: Vec<Expose>) -> Command {
    let text = format!("schema_version = \"v1\"\n{processes}");
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:#?} in\n{text}"));
    let (org, app, env) = ("default".to_owned(), app.to_owned(), env.to_owned());
    Command::Deploy(Box::new(Deploy { org, app, env, image, manifest, vars: None, expose }))
}

fn process(ctx: &mut Ctx, name: &str, temper: Temper, replicas: std::ops::Range<u32>) -> String {
    let memory =
        if ctx.mishap(0.05) { 3_000 } else { [64, 128, 256, 512][ctx.rng.usize(..if ctx.calm { 2 } else { 4 })] };
    let disk = if ctx.mishap(0.03) { 60 } else { 1 };
    let replicas = ctx.rng.u32(replicas);
    let policy = ["always", "always", "on-failure", "never"][ctx.rng.usize(..4)];
    let mut text = format!("[processes.{name}]\ncommand = [\"{}\"]\n", temper.command());
    let table = format!("resources]\nmemory = \"{memory}Mi\"\ndisk = \"{disk}Gi\"");
    writeln!(text, "[processes.{name}.{table}").expect("a string takes all");
    writeln!(text, "[processes.{name}.scaling]\nmin = {replicas}\nmax = {}", replicas.max(1))
        .expect("a string takes all");
    let backoff = ctx.rng.u32(0..3);
    writeln!(text, "[processes.{name}.restart]\npolicy = \"{policy}\"\nbackoff_seconds = {backoff}")
        .expect("a string takes all");
    if temper != Temper::Serves || ctx.rng.bool() {
        writeln!(text, "[[processes.{name}.ports]]\nname = \"http\"\ninternal = 8080").expect("a string takes all");
        if ctx.rng.bool() {
            writeln!(text, "[processes.{name}.health]\ntype = \"tcp\"\nport = 8080").expect("a string takes all");
        }
    }
    text
}

fn image(arch: &str) -> ReleaseImage {
    let platform = Digest::of(arch.as_bytes());
    ReleaseImage {
        reference: "registry.example.com/app:1".to_owned(),
        digest: platform,
        platforms: [(arch.to_owned(), platform)].into(),
    }
}

fn exposed(ctx: &mut Ctx) -> Expose {
    let process = if ctx.rng.u8(..4) == 0 { "worker" } else { "web" };
    Expose { entry: Entry::TcpPort(7_000 + ctx.rng.u16(..3)), process: process.to_owned(), port: 8080 }
}
