//! The processes that were started here, by number and by tag.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use plfm_api::envd::Selector;

use super::process::Process;

/// W-PR-9: who connects late still hears the end.
const REMEMBERED: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Table {
    processes: Mutex<HashMap<u32, Arc<Process>>>,
}

impl Table {
    pub fn insert(&self, process: Arc<Process>) {
        self.lock().insert(process.pid, process);
    }

    pub fn running(&self) -> Vec<Arc<Process>> {
        let mut running: Vec<_> =
            self.lock().values().filter(|process| !process.audience.has_ended()).cloned().collect();
        running.sort_by_key(|process| process.pid);
        running
    }

    /// Also one that has just ended. Of several with one tag, the latest start that still runs.
    pub fn find(&self, selector: &Selector) -> Option<Arc<Process>> {
        let processes = self.lock();
        match selector {
            Selector::Pid(pid) => processes.get(pid).cloned(),
            Selector::Tag(tag) => {
                let tagged = processes.values().filter(|process| process.tag.as_ref() == Some(tag));
                tagged.max_by_key(|process| (!process.audience.has_ended(), process.pid)).cloned()
            }
        }
    }

    /// Forgets an ended process after a while; its number may mean another by then.
    pub async fn forget(&self, process: &Arc<Process>) {
        tokio::time::sleep(REMEMBERED).await;
        let mut processes = self.lock();
        if processes.get(&process.pid).is_some_and(|known| Arc::ptr_eq(known, process)) {
            processes.remove(&process.pid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
