//! Starts processes: where the image is `/`, as whom, under which group, with which ends to talk through.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use crate::reaper::{Reaper, Waiting};
use crate::users::Account;

mod child;
mod place;
mod terminal;

pub use place::Place;
pub use terminal::{Size, resize};

/// As an image without a PATH has it everywhere else.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything about one process before it is one.
#[derive(Debug, Clone)]
pub struct Launch {
    pub argv: Vec<String>,
    /// Later entries win.
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub account: Account,
    pub wiring: Wiring,
    /// The directory of its cgroup, where there is one.
    pub cgroup: Option<PathBuf>,
    /// Set-uid programs stay without effect.
    pub no_new_privs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// stdout and stderr apart; stdin is a pipe or `/dev/null`.
    Pipes {
        stdin: bool,
    },
    Terminal(Size),
}

/// A process that runs, and this side of its wires.
pub struct Started {
    pub pid: u32,
    pub exit: Waiting,
    pub ends: Ends,
}

pub enum Ends {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal(OwnedFd),
}

impl Launch {
    pub async fn start(self, place: &Place, reaper: &Arc<Reaper>) -> Result<Started, LaunchError> {
        let reaper = reaper.clone();
        place.run(move || child::start(&self, &reaper)).await
    }
}

/// What a child does before it becomes the program, in this order, and the words for it when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    Prepare,
    Cgroup,
    OomScore,
    Session,
    Terminal,
    Groups,
    Group,
    User,
    Privileges,
    Directory,
    Exec,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Prepare,
        Step::Cgroup,
        Step::OomScore,
        Step::Session,
        Step::Terminal,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Privileges,
        Step::Directory,
        Step::Exec,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError {
    pub step: Step,
    /// The program or the directory.
    pub object: String,
    pub cause: Errno,
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match self.step {
            Step::Prepare => write!(f, "prepare \"{object}\"")?,
            Step::Cgroup => write!(f, "enter the cgroup of \"{object}\"")?,
            Step::OomScore => write!(f, "set the oom score of \"{object}\"")?,
            Step::Session | Step::Terminal => write!(f, "give \"{object}\" a terminal")?,
            Step::Groups | Step::Group | Step::User | Step::Privileges => write!(f, "change the user of \"{object}\"")?,
            Step::Directory => write!(f, "chdir \"{object}\"")?,
            Step::Exec => write!(f, "exec \"{object}\"")?,
        }
        write!(f, ": {}", describe(self.cause))
    }
}

impl std::error::Error for LaunchError {}

/// The system's words, as a part of a sentence.
pub fn describe(cause: Errno) -> String {
    let words = cause.desc();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The same for an error of the library.
pub fn describe_io(cause: &io::Error) -> String {
    cause.raw_os_error().map_or_else(|| cause.to_string(), |code| describe(Errno::from_raw(code)))
}
