//! Flags of what is about orgs, and about which nodes get their work.

use clap::{Args, Subcommand};
use plfm_core::fair::Class;
use plfm_core::labels::{Labels, label};
use plfm_core::manifest::{mebibytes, millis};
use plfm_core::quota::Dimension;

use super::{AppArgs, EnvArgs};
use crate::CliError;

#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Show what the org may have, its part and its nodes
    Show,
    /// Set limits; what is not named stays
    Limit(LimitArgs),
    /// Set its part, against others, for when there is not enough for all
    Weight(WeightArgs),
    /// Give its new work to nodes with these labels only; without any, to all
    Require(LabelArgs),
}

#[derive(Debug, Args)]
pub struct LimitArgs {
    /// For example memory=64Gi, cpu=64, instances=50; `default` takes a limit back
    #[arg(value_name = "LIMIT=MOST", value_parser = limit, required = true)]
    pub limits: Vec<(Dimension, Option<u64>)>,
}

#[derive(Debug, Args)]
pub struct WeightArgs {
    /// 1 is the usual
    #[arg(value_name = "WEIGHT")]
    pub weight: u32,
    /// Of this project, against others of the org
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

#[derive(Debug, Args)]
pub struct LabelArgs {
    /// As nodes were started with; all of them at once
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct RequireArgs {
    #[command(flatten)]
    pub labels: LabelArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
}

#[derive(Debug, Args)]
pub struct PriorityArgs {
    /// critical, high, normal or low: served 8 to 4 to 2 to 1, and higher after each minute of waiting
    #[arg(value_name = "CLASS", value_parser = class)]
    pub class: Class,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
}

pub fn class(text: &str) -> Result<Class, String> {
    let known = Class::ALL.into_iter().find(|class| class.code() == text);
    known.ok_or_else(|| "write critical, high, normal or low".to_owned())
}

pub fn pair(text: &str) -> Result<(String, String), String> {
    label(text).ok_or_else(|| "write KEY=VALUE: letters, digits and `-_./`, 63 of them at most".to_owned())
}

fn limit(text: &str) -> Result<(Dimension, Option<u64>), String> {
    let (name, most) = text.split_once('=').ok_or("write LIMIT=MOST")?;
    let known = Dimension::ALL.iter().copied().find(|dimension| dimension.code() == name);
    let codes = || Dimension::ALL.iter().map(|dimension| dimension.code()).collect::<Vec<_>>().join(", ");
    let dimension = known.ok_or_else(|| format!("`{name}` is no limit; there are {}", codes()))?;
    let (most, form) = match dimension {
        _ if most == "default" => return Ok((dimension, None)),
        Dimension::Memory => (mebibytes(most).map(|size| size.0), "a size with Mi or Gi, for example 64Gi"),
        Dimension::Cpu => (most.parse().ok().map(|cores| millis(cores).0.into()), "processors, for example 64"),
        _ => (most.parse().ok(), "a number"),
    };
    most.map(|most| (dimension, Some(most))).ok_or_else(|| format!("write {name}={form}"))
}

/// A label has one value.
pub fn distinct(pairs: &[(String, String)]) -> Result<Labels, CliError> {
    let labels = Labels(pairs.iter().cloned().collect());
    if labels.0.len() < pairs.len() { Err(CliError::LabelTwice) } else { Ok(labels) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_and_counted() {
        assert_eq!(limit("instances=7"), Ok((Dimension::Instances, Some(7))));
        assert_eq!(limit("memory=default"), Ok((Dimension::Memory, None)));
        assert_eq!(limit("memory=2Gi"), Ok((Dimension::Memory, Some(2_048))));
        assert_eq!(limit("cpu=1.5"), Ok((Dimension::Cpu, Some(1_500))));
        for text in ["instances", "chairs=7", "instances=many", "instances=-1", "memory=64", "cpu=many"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
