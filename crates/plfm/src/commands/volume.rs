//! `plfm volume`: disks of apps that outlive their instances.

use plfm_api::views::VolumeView;

use crate::cli::{VolumeCommand, VolumeRmArgs};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: VolumeCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    match command {
        VolumeCommand::Ls => list(context, out).await,
        VolumeCommand::Rm(args) => remove(args, context, out).await,
    }
}

async fn list(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let volumes = context.client()?.volumes(&context.org()).await?;
    if out.is_json() {
        out.document("volumes", &volumes)?;
        return Ok(Exit::Success);
    }
    if volumes.items.is_empty() {
        out.note("there is no volume; name some in a manifest, and deploy it with `--create-volumes`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["VOLUME", "APP", "ENV", "SIZE", "STATE", "NODE", "INSTANCE", "ID"]);
    volumes.items.iter().for_each(|it| table.row(row(it)));
    out.table(&table)?;
    Ok(Exit::Success)
}

fn row(it: &VolumeView) -> [String; 8] {
    let VolumeView { id, name, app, env, size, phase, node, instance, .. } = it;
    let instance = instance.map(|id| id.to_string()).unwrap_or_default();
    let (node, size) = (node.clone().unwrap_or_default(), size.to_string());
    [name.clone(), app.clone(), env.clone(), size, phase.to_string(), node, instance, id.to_string()]
}

async fn remove(args: VolumeRmArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let id = match args.volume.parse() {
        Ok(id) => id,
        Err(_) => {
            let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
            let volumes = client.volumes(&org).await?.items;
            let is_it =
                |it: &&VolumeView| it.name == args.volume && it.app == app && it.env == env && it.phase.is_wanted();
            let found = volumes.iter().find(is_it).map(|it| it.id);
            found.ok_or_else(|| CliError::NoVolume { name: args.volume.clone(), app, env })?
        }
    };
    if !args.yes {
        return Err(CliError::NotSure { name: args.volume });
    }
    client.delete_volume(&org, id).await?;
    if out.is_json() {
        out.document("volume", &serde_json::json!({ "id": id, "state": "deleting" }))?;
    } else {
        out.done(format_args!("{} is removed, with all that was in it", args.volume));
    }
    Ok(Exit::Success)
}
