//! Looking again and again at something that changes: the first look comes soon, later ones more seldom (P-CLI-30).

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(2);

pub struct Looks(Duration);

impl Default for Looks {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Looks {
    pub async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(MAX);
    }
}
