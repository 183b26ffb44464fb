//! What an org may have at most (P-QUO-1 to -5): limits as data, and what is over them.
//!
//! Over the quota is a denial: it names the limit, and waiting does not help. Having no room is something else ([`Waiting`]).
//!
//! [`Waiting`]: crate::event::Waiting

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::index::Usage;
use crate::state::Committed;

macro_rules! dimensions {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $default:expr, $words:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Dimension { $($(#[$doc])* $name),* }

        impl Dimension {
            pub const ALL: &[Dimension] = &[$(Dimension::$name),*];

            pub const fn code(self) -> &'static str {
                match self { $(Dimension::$name => $code),* }
            }

            /// What an org may have of which nothing else was said.
            pub const fn default_limit(self) -> u64 {
                match self { $(Dimension::$name => $default),* }
            }

            const fn words(self) -> &'static str {
                match self { $(Dimension::$name => $words),* }
            }
        }
    };
}

dimensions! {
    Instances = "instances", 50, "instances";
    /// With the overhead of the machines, where it is known.
    Memory = "memory", 64 << 10, "memory in MiB";
    Cpu = "cpu", 64_000, "processors in thousandths";
    Apps = "apps", 20, "apps";
    Projects = "projects", 20, "projects";
    Envs = "envs", 100, "environments";
    Routes = "routes", 50, "routes";
    Snapshots = "snapshots", 100, "snapshots";
    Volumes = "volumes", 20, "volumes";
    VolumeSize = "volume_size", 500 << 10, "volumes in MiB";
    /// Not held but done: how often an instance is started (P-QUO-6).
    StartsPerMinute = "starts_per_minute", 60, "starts in a minute";
}

/// The limits of one org, where they differ from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(pub BTreeMap<Dimension, u64>);

/// More than an org may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    pub dimension: Dimension,
    pub limit: u64,
    pub current: u64,
    /// Beyond the current.
    pub requested: u64,
}

impl Limits {
    pub fn of(&self, dimension: Dimension) -> u64 {
        self.0.get(&dimension).copied().unwrap_or(dimension.default_limit())
    }

    /// Who asks for nothing more is never over a limit, even if it was lowered.
    pub fn check(&self, dimension: Dimension, current: u64, requested: u64) -> Result<(), Excess> {
        let limit = self.of(dimension);
        let over = requested > 0 && current.saturating_add(requested) > limit;
        if over { Err(Excess { dimension, limit, current, requested }) } else { Ok(()) }
    }

    /// What instances hold, all of it.
    pub fn check_held(&self, current: Committed, requested: Committed) -> Result<(), Excess> {
        self.check(Dimension::Instances, current.instances.into(), requested.instances.into())?;
        self.check(Dimension::Memory, current.memory.0, requested.memory.0)?;
        self.check(Dimension::Cpu, current.cpu.0.into(), requested.cpu.0.into())
    }

    /// What is owned and counted.
    pub fn check_owned(&self, current: &Usage, requested: &Usage) -> Result<(), Excess> {
        self.check(Dimension::Apps, current.apps, requested.apps)?;
        self.check(Dimension::Projects, current.projects, requested.projects)?;
        self.check(Dimension::Envs, current.envs, requested.envs)?;
        self.check(Dimension::Routes, current.routes, requested.routes)?;
        self.check(Dimension::Volumes, current.volumes, requested.volumes)?;
        self.check(Dimension::VolumeSize, current.volume_size.0, requested.volume_size.0)
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dimension, limit, current, requested } = self;
        let words = dimension.words();
        let is = |count: &u64| if *count == 1 { "is" } else { "are" };
        write!(f, "the org's limit for {words} is {limit}: {requested} {} asked for, ", is(requested))?;
        write!(f, "{current} {} taken", is(current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_json_form() {
        for dimension in Dimension::ALL {
            assert_eq!(serde_json::to_string(dimension).unwrap(), format!("\"{}\"", dimension.code()));
        }
    }

    #[test]
    fn a_lowered_limit_denies_only_more() {
        let limits = Limits([(Dimension::Apps, 3)].into());
        assert_eq!((limits.check(Dimension::Apps, 5, 0), limits.check(Dimension::Apps, 2, 1)), (Ok(()), Ok(())));
        let excess = limits.check(Dimension::Apps, 3, 1).unwrap_err();
        assert_eq!(excess.to_string(), "the org's limit for apps is 3: 1 is asked for, 3 are taken");
    }
}
