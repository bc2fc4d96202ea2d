//! Looks again and again for what no job tells: what is late, what has too little room, what cannot run. Found by the same
//! look as the start page takes, and told once a day while it lasts.

use std::sync::Arc;
use std::time::Duration;

use crate::recovery::Inner;
use crate::{Need, NeedPlace, Result};

/// Between two looks; one looks into every store.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// Before the first one, so that what was missed while the server was down can be made up for.
const FIRST_LOOK: Duration = Duration::from_secs(120);
const DAY_MS: i64 = 86_400_000;

impl Inner {
    /// Looks until the server stops, if there is anybody to tell.
    pub async fn watch(self: Arc<Self>) {
        if self.settings.notify.is_empty() {
            return;
        }
        let mut pause = FIRST_LOOK;
        while !self.pause(pause).await {
            if let Err(error) = self.tell_needs().await {
                tracing::error!("what needs somebody could not be told: {error}");
            }
            pause = LOOK_INTERVAL;
        }
    }

    /// One look.
    pub(super) async fn tell_needs(self: &Arc<Self>) -> Result<()> {
        let overview = self.overview().await?;
        for need in &overview.needs {
            self.tell_need(need, overview.now).await?;
        }
        self.bell.ring();
        Ok(())
    }

    /// Tells what needs somebody, if it was not told within a day.
    pub(super) async fn tell_need(&self, need: &Need, now: i64) -> Result<()> {
        let Need { text, place, cause: Some(cause), .. } = need else { return Ok(()) };
        let (thing, fact) = match place {
            NeedPlace::Store(name) => (name, "store"),
            NeedPlace::Task(id) => (id, "task"),
            _ => return Ok(()),
        };
        let facts = [(fact, thing.as_str())];
        let Some(notice) = self.notice(cause.event, text.clone(), text.clone(), &facts) else {
            return Ok(());
        };
        let key = format!("{}/{thing}", cause.event.name());
        match cause.since {
            Some(since) => {
                let days = (now - since).max(0) / DAY_MS;
                self.state.tell(&notice.once(format!("{key}/{since}/{days}")), now).await
            }
            None => self.state.tell_daily(notice, &key, now).await,
        }
    }
}
