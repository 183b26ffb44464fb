//! The life of an instance, of a deploy, of a node and of a volume: one diagram and one transition function each.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! phases {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub const fn code(self) -> &'static str {
                match self { $($name::$variant => $code),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.code())
            }
        }
    };
}

phases! {
    /// What an instance is seen to do. Only its node says so.
    ///
    /// ```text
    /// allocated ─▶ preparing ─▶ booting ─▶ ready ⇄ unready ─▶ draining ─▶ stopped ─▶ gone
    ///                  ▲            any of them ─▶ failed ─┐
    ///                  └───────────────────────────────────┘ a new boot, by the restart policy
    ///
    /// ready ─▶ pausing ─▶ paused ─▶ resuming ─▶ ready         the same boot
    /// allocated ─▶ pausing ─▶ paused                          a snapshot
    /// ```
    ///
    /// `preparing` gets the image and the disks, `booting` lasts from the start of the machine until the workload answers its
    /// health check, `unready` has answered before. `paused` has its memory in a file and runs nothing. `gone` means that nothing of it
    /// is left on the node; it is the end.
    InstancePhase {
        Allocated = "allocated",
        Preparing = "preparing",
        Booting = "booting",
        Ready = "ready",
        Unready = "unready",
        Pausing = "pausing",
        Paused = "paused",
        Resuming = "resuming",
        Draining = "draining",
        Stopped = "stopped",
        Failed = "failed",
        Gone = "gone",
    }
}

impl InstancePhase {
    /// Whether a report may say `next` after `self`. A report tells the newest phase only, so phases between may have been passed
    /// unseen; what can never happen is a way back within one boot, or out of the end.
    pub fn may_become(self, next: Self, other_boot: bool) -> bool {
        use InstancePhase::*;
        match (self, next) {
            (Gone, _) => false,
            // Its memory may be someone else's by now.
            (Stopped, next) => next == Gone,
            (Draining, next) => matches!(next, Failed | Stopped | Gone),
            (_, Gone | Failed | Stopped) => self != next || other_boot,
            (now, next) if now.has_come_up() && next.has_come_up() => now != next,
            (Failed, next) => next != Allocated,
            (_, _) => other_boot || next > self,
        }
    }

    /// Its boot has answered once and is not over: it may go back and forth between these.
    pub const fn has_come_up(self) -> bool {
        matches!(self, Self::Ready | Self::Unready | Self::Pausing | Self::Paused | Self::Resuming)
    }

    /// What it is is in a file, or on its way from or to there.
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::Pausing | Self::Paused | Self::Resuming)
    }

    /// Something of it is on the node, and needs room there.
    pub const fn is_live(self) -> bool {
        !matches!(self, Self::Stopped | Self::Gone)
    }
}

phases! {
    /// What an instance should do. `stopped` is final: an id is never used again.
    ///
    /// ```text
    /// running ─▶ draining ─▶ stopped        running ⇄ paused        running | paused ─▶ stopped
    /// ```
    Desired {
        Running = "running",
        /// A sandbox alone can be: what an app serves is either there or not. A snapshot is nothing else.
        Paused = "paused",
        Draining = "draining",
        Stopped = "stopped",
    }
}

impl Desired {
    pub fn may_become(self, next: Self) -> bool {
        next > self || (self, next) == (Self::Paused, Self::Running)
    }
}

phases! {
    /// ```text
    /// queued ─▶ rolling ─▶ succeeded | failed | superseded        queued ─▶ succeeded | failed | superseded
    /// ```
    DeployStatus {
        Queued = "queued",
        Rolling = "rolling",
        Succeeded = "succeeded",
        Failed = "failed",
        Superseded = "superseded",
    }
}

impl DeployStatus {
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Superseded)
    }

    pub fn may_become(self, next: Self) -> bool {
        !self.is_final() && next > self
    }
}

phases! {
    /// What a node is there for. Operators say so, but for `offline`: that the platform says of a node it has not heard for a minute.
    ///
    /// ```text
    ///    active ⇄ draining ⇄ disabled ⇄ active       drain, disable, activate: in any order
    ///      any of the three ── silent ──▶ offline ── heard ──▶ the one before
    ///      draining | disabled | offline ── nothing is left ──▶ decommissioned
    /// ```
    ///
    /// `draining` gets no new work, and what runs there is replaced elsewhere first; `disabled` does not wait for that longer than a
    /// minute. `decommissioned` is the end: whoever comes back under that id is refused.
    NodePhase {
        Active = "active",
        Offline = "offline",
        Draining = "draining",
        Disabled = "disabled",
        Decommissioned = "decommissioned",
    }
}

impl NodePhase {
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Decommissioned, _) | (Self::Active, Self::Decommissioned) => false,
            (now, next) => now != next,
        }
    }

    /// What is there should go elsewhere, in good order.
    pub const fn is_leaving(self) -> bool {
        matches!(self, Self::Draining | Self::Disabled)
    }
}

phases! {
    /// A volume, from the deploy that asked for it on. Where it is is settled when the first instance that has it is placed; its node
    /// makes it, and never a second time.
    ///
    /// ```text
    /// creating ─▶ available ⇄ missing        any of the three ─▶ deleting ─▶ deleted
    /// ```
    VolumePhase {
        Creating = "creating",
        Available = "available",
        /// Its node has had it, and says that it is not there. What is in it may come back with a disk; it is not made anew.
        Missing = "missing",
        Deleting = "deleting",
        /// Nothing of it is left.
        Deleted = "deleted",
    }
}

impl VolumePhase {
    pub fn may_become(self, next: Self) -> bool {
        next > self || (self, next) == (Self::Missing, Self::Available)
    }

    /// Whether instances can have it.
    pub const fn is_wanted(self) -> bool {
        matches!(self, Self::Creating | Self::Available | Self::Missing)
    }
}

#[cfg(test)]
mod tests;
