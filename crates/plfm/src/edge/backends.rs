//! Which ready instance takes a connection: each in its turn, the next one where one cannot be reached (P-EDGE-25).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use plfm_api::tunnel::Tunnels;
use plfm_api::views::{Backend, EdgeRoute};
use plfm_core::event::Entry;
use tokio::time::timeout;

use super::reach::{Link, Reach};

const TRIES_MAX: usize = 3;
/// Over all tries.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Routes whose turn is kept; beyond it all begin anew.
const TURNS_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    #[error("no instance is ready")]
    NoneReady,
    #[error("no instance takes a connection")]
    NoneReached,
}

pub struct Backends {
    reach: Reach,
    turns: Mutex<HashMap<Entry, usize>>,
}

impl Backends {
    pub fn new(tunnels: Tunnels) -> Self {
        Self { reach: Reach::new(tunnels), turns: Mutex::default() }
    }

    pub async fn connect(&self, route: &EdgeRoute) -> Result<Link, NoBackend> {
        if route.backends.is_empty() {
            return Err(NoBackend::NoneReady);
        }
        let first = self.next_turn(&route.entry);
        let links = self.first_reached(in_turn(&route.backends, first));
        timeout(CONNECT_MAX, links).await.unwrap_or(Err(NoBackend::NoneReached))
    }

    async fn first_reached(&self, backends: impl Iterator<Item = &Backend>) -> Result<Link, NoBackend> {
        for backend in backends {
            match self.reach.connect(backend).await {
                Ok(link) => return Ok(link),
                Err(error) => tracing::info!(%error, "a backend is passed over"),
            }
        }
        Err(NoBackend::NoneReached)
    }

    fn next_turn(&self, entry: &Entry) -> usize {
        let mut turns = self.turns.lock().expect("no panic while it is held");
        if turns.len() >= TURNS_MAX {
            turns.clear();
        }
        let turn = turns.entry(entry.clone()).or_default();
        *turn = turn.wrapping_add(1);
        *turn
    }
}

fn in_turn(backends: &[Backend], first: usize) -> impl Iterator<Item = &Backend> {
    let skip = first % backends.len().max(1);
    backends.iter().cycle().skip(skip).take(backends.len().min(TRIES_MAX))
}
