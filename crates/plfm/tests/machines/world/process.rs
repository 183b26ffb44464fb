//! A process of ours that goes on while the test does other things.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::until;

/// Ends with the test, whatever happens.
pub struct Process {
    child: Child,
    ended: bool,
}

impl Process {
    /// Answers when it has written `ready` to its standard error.
    pub fn start(mut command: Command, log: &Path, ready: &str) -> Self {
        let file = File::create(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut process = Self::of(child);
        until(&format!("{command:?} says `{ready}`"), || {
            let said = fs::read_to_string(log).unwrap();
            let over = process.child.try_wait().unwrap();
            assert!(said.contains(ready) || over.is_none(), "{command:?}: {over:?}: {said}");
            said.contains(ready).then_some(())
        });
        process
    }

    pub fn of(child: Child) -> Self {
        Self { child, ended: false }
    }

    /// Waits for its end; the exit code.
    pub fn ended(mut self) -> Option<i32> {
        let code = until("the program ends", || self.child.try_wait().unwrap()).code();
        self.ended = true;
        code
    }

    /// In order, as by Ctrl-C; the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.interrupt()
    }

    /// As when the power goes.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended = true;
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn interrupt(&mut self) -> Option<i32> {
        if !self.has_ended() {
            signal("INT", self.child.id());
        }
        self.ended = true;
        until("the process ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else if !self.ended {
            self.interrupt();
        }
    }
}

pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}
