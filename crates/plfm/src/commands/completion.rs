//! `plfm completion`: for the shell's own start-up file.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::printer::Printer;
use crate::{CliError, Exit};

pub fn run(shell: Shell, out: &mut Printer) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    out.bytes(&script)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    /// Bash takes it, and completes by it.
    #[test]
    fn bash_completes_a_command() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "plfm", &mut script);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&script).unwrap();
        let asks = "source \"$1\"; COMP_WORDS=(plfm roll); COMP_CWORD=1; _plfm plfm roll plfm; echo ${COMPREPLY[@]}";
        let said = Command::new("bash").args(["-c", asks, "bash"]).arg(file.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "rollback", "{said:?}");
    }
}
