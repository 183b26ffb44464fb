//! `plfm template`: what sandboxes are made of.

use plfm_api::views::{TemplateRequest, TemplateView};
use plfm_core::event::Startup;
use plfm_core::manifest::Resources as Size;

use crate::cli::{TemplateAddArgs, TemplateCommand};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: TemplateCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    match command {
        TemplateCommand::Add(args) => add(args, context, out).await,
        TemplateCommand::Ls => list(context, out).await,
    }
}

async fn add(args: TemplateAddArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let TemplateAddArgs { name, image, memory, cpu, disk, start, ready } = args;
    let request = TemplateRequest { name, image, size: Size { memory, cpu, disk }, startup: Startup { start, ready } };
    let template = context.client()?.create_template(&context.org(), &request).await?;
    if out.is_json() {
        out.document("template", &template)?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{} is {} from now on", template.name, template.image));
    out.note(format_args!("start one with `plfm sandbox create {}`", template.name));
    Ok(Exit::Success)
}

async fn list(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let templates = context.client()?.templates(&context.org()).await?;
    if out.is_json() {
        out.document("templates", &templates)?;
        return Ok(Exit::Success);
    }
    if templates.items.is_empty() {
        out.note("there is no template; make one with `plfm template add base --image REF`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["NAME", "IMAGE", "CPU", "MEMORY", "DISK", "SINCE"]);
    templates.items.iter().for_each(|it| table.row(row(it)));
    out.table(&table)?;
    Ok(Exit::Success)
}

fn row(it: &TemplateView) -> [String; 6] {
    let TemplateView { name, image, cpu, memory, disk, created_at, .. } = it;
    [name.clone(), image.clone(), cpu.to_string(), memory.to_string(), disk.to_string(), created_at.to_string()]
}
