//! How a command ends, as a number that scripts can rely on (P-CLI-13).

use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// Nothing below fits better; a deploy that has failed.
    Failure,
    /// Flags, syntax, a manifest that is wrong.
    Usage,
    Auth,
    NotFound,
    Conflict,
    /// Network, overload, a wait that was too short: trying again may help.
    Transient,
    /// A bug of ours.
    Internal,
    /// `exec`, before the remote process has started.
    Exec(ExecExit),
    /// `exec`: the remote process's own.
    Remote(u8),
}

/// Kept apart from the numbers that remote programs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecExit {
    Auth,
    NotRunning,
    Connect,
    Server,
    Limited,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Auth => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Transient => 6,
            Self::Internal => 7,
            Self::Exec(ExecExit::Auth) => 10,
            Self::Exec(ExecExit::NotRunning) => 20,
            Self::Exec(ExecExit::Connect) => 30,
            Self::Exec(ExecExit::Server) => 40,
            Self::Exec(ExecExit::Limited) => 50,
            Self::Remote(code) => code,
        }
    }

    /// The name of the class, as error documents carry it.
    pub const fn category(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure | Self::Remote(_) => "failure",
            Self::Usage => "invalid_usage",
            Self::Auth | Self::Exec(ExecExit::Auth) => "auth",
            Self::NotFound => "not_found",
            Self::Conflict | Self::Exec(ExecExit::NotRunning) => "conflict",
            Self::Transient | Self::Exec(ExecExit::Connect | ExecExit::Limited) => "transient",
            Self::Internal | Self::Exec(ExecExit::Server) => "internal",
        }
    }

    /// P-CLI-15.
    pub const fn of_status(status: u16) -> Self {
        match status {
            400 | 413 | 422 => Self::Usage,
            401 | 403 => Self::Auth,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 | 502..=504 => Self::Transient,
            500 => Self::Internal,
            _ => Self::Failure,
        }
    }
}

impl ExecExit {
    pub const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            404 | 409 => Self::NotRunning,
            429 => Self::Limited,
            _ => Self::Server,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
