//! One builder per image file, and no eviction under anyone's feet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use plfm_core::digest::Digest;
use tokio::sync::OwnedMutexGuard;

use super::Keys;
use super::files::Kind;

type Key = (Kind, Digest);

/// Whoever passes first builds; the others wait, then find what was built. One who is abandoned lets the next pass.
#[derive(Default)]
pub struct Gate(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

impl Gate {
    pub async fn pass(&self, key: Key) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().expect("no panic holds the gate");
            // Nobody waits at a lock that only the map knows.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// Image files that a request is about to rely on.
#[derive(Clone, Default)]
pub struct InUse(Arc<Mutex<HashMap<Key, usize>>>);

impl InUse {
    pub fn hold(&self) -> Hold {
        Hold { keys: Keys::new(), all: self.clone() }
    }

    /// While this is held nothing becomes used.
    pub fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().expect("no panic holds the uses")
    }
}

/// Ends with the request.
pub struct Hold {
    keys: Keys,
    all: InUse,
}

impl Hold {
    pub fn add(&mut self, keys: impl IntoIterator<Item = Key>) {
        let mut held = self.all.lock();
        for key in keys {
            if self.keys.insert(key) {
                *held.entry(key).or_default() += 1;
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.all.lock();
        for key in &self.keys {
            if let Some(count) = held.get_mut(key) {
                *count -= 1;
            }
        }
        held.retain(|_, count| *count > 0);
    }
}
