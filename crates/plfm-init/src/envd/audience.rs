//! Who listens to a process. Output waits for its listeners, so that none of it is lost and a fast process is held to their pace; a
//! listener that has stalled for too long is left behind, and without listeners output is let go.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::end::End;

/// Pieces on their way to one listener: with 32 KiB each, its 256 KiB (P-EXEC-24).
const PIECES: usize = 8;
/// P-EXEC-24.
const STALL_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Stdout(Bytes),
    Stderr(Bytes),
    Terminal(Bytes),
    End(End),
}

pub type Listener = mpsc::Receiver<Piece>;

#[derive(Default)]
pub struct Audience {
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    listeners: Vec<mpsc::Sender<Piece>>,
    ended: Option<End>,
}

impl Audience {
    /// Everything from now on; of a process that has ended, its end.
    pub fn join(&self) -> Listener {
        let (sender, listener) = mpsc::channel(PIECES);
        let mut stage = self.lock();
        match stage.ended.clone() {
            // There is room for the one piece that there will be.
            Some(end) => drop(sender.try_send(Piece::End(end))),
            None => stage.listeners.push(sender),
        }
        listener
    }

    pub async fn tell(&self, piece: Piece) {
        let listeners = self.lock().listeners.clone();
        for listener in listeners {
            if !hears(&listener, piece.clone()).await {
                self.lock().listeners.retain(|other| !other.same_channel(&listener));
            }
        }
    }

    /// The last piece; whoever joins later hears it too.
    pub async fn end(&self, end: End) {
        let listeners = {
            let mut stage = self.lock();
            stage.ended = Some(end.clone());
            std::mem::take(&mut stage.listeners)
        };
        for listener in listeners {
            hears(&listener, Piece::End(end.clone())).await;
        }
    }

    pub fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

async fn hears(listener: &mpsc::Sender<Piece>, piece: Piece) -> bool {
    matches!(timeout(STALL_MAX, listener.send(piece)).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::Exit;

    fn word(word: &'static str) -> Piece {
        Piece::Stdout(Bytes::from_static(word.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_listener_is_left_behind_and_the_others_hear_all() {
        let audience = Audience::default();
        let (stalled, mut keen) = (audience.join(), audience.join());
        for _ in 0..=PIECES {
            audience.tell(word("x")).await;
            assert_eq!(keen.recv().await, Some(word("x")));
        }
        assert_eq!(audience.lock().listeners.len(), 1);
        assert_eq!(stalled.len(), PIECES);
    }

    #[tokio::test]
    async fn who_comes_late_hears_the_end() {
        let audience = Audience::default();
        drop(audience.join());
        audience.tell(word("nobody hears this")).await;
        let end = End::of(Exit::Code(3));
        audience.end(end.clone()).await;
        let mut late = audience.join();
        assert_eq!((late.recv().await, late.recv().await), (Some(Piece::End(end)), None));
    }
}
