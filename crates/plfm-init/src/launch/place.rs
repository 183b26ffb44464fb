//! Where the workload lives. One thread of the daemon goes there and stays; what must see the image as `/` runs on it.
//!
//! A thread can have a mount namespace and a root of its own; its children begin there. So nobody has to follow an image's symbolic
//! links with care from outside, and what a process can reach does not depend on a chroot that it could leave.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub struct Place {
    tasks: mpsc::Sender<Task>,
}

impl Place {
    /// The thread begins where the daemon is.
    pub fn new() -> io::Result<Self> {
        let (tasks, waiting) = mpsc::channel::<Task>();
        thread::Builder::new().name("place".into()).spawn(move || waiting.into_iter().for_each(|task| task()))?;
        Ok(Self { tasks })
    }

    /// Runs `task` there, after those before it.
    pub async fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, done) = oneshot::channel();
        let task = move || {
            // The asker may have gone; what was to be done is done.
            let _ = answer.send(task());
        };
        self.tasks.send(Box::new(task)).expect("the thread ends with the last handle");
        done.await.expect("a task that panics ends the daemon")
    }
}
