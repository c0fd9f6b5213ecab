//! The orderly end, as the sessions see it: agents are asked to go elsewhere, one after the other, before anything stops.
//!
//! 1. The aggregator is not ready any more ([`crate::health`]) and takes no new session.
//! 2. Each session waits for its turn, and then says goodbye. Turns come at the pace at which another replica takes new
//!    sessions, or faster, so that the last comes by half of the deadline.
//! 3. When all agents have gone, or most of the deadline has passed, everything stops.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// Whether the aggregator is leaving. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: CancellationToken,
    /// From one goodbye to the next.
    pace: OnceLock<Duration>,
    turns: AtomicU32,
}

impl Leaving {
    /// Begins it, once: `agents` agents are to be sent away, at most `per_second`, but all of them within `limit`.
    pub fn begin(&self, agents: usize, per_second: u32, limit: Duration) {
        let agents = u32::try_from(agents).unwrap_or(u32::MAX).max(1);
        let pace = (Duration::from_secs(1) / per_second.max(1)).min(limit / agents);
        if self.0.pace.set(pace).is_ok() {
            tracing::info!(agents, ?pace, "agents are asked to go elsewhere");
        }
        self.0.begun.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.0.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// Waits until it begins, and then for a turn of the caller's own.
    pub async fn turn(&self) {
        self.begun().await;
        let pace = self.0.pace.get().copied().unwrap_or_default();
        let turn = self.0.turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pace.saturating_mul(turn)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    async fn turns(agents: usize, per_second: u32, limit: Duration) -> Vec<Duration> {
        let leaving = Leaving::default();
        let began = Instant::now();
        let waiting = (0..agents).map(|_| async {
            leaving.turn().await;
            began.elapsed()
        });
        let begin = async { leaving.begin(agents, per_second, limit) };
        tokio::join!(join_all(waiting), begin).0
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_after_the_other_and_the_last_by_the_limit() {
        let hour = Duration::from_secs(3600);
        assert!(turns(1, 10, hour).await[0] < Duration::from_millis(10));
        let slow = turns(21, 10, hour).await;
        assert!(slow.is_sorted() && slow[20] >= Duration::from_secs(2), "{slow:?}");
        let hurried = turns(100, 10, Duration::from_secs(1)).await;
        assert!(hurried.is_sorted() && hurried[99] <= Duration::from_millis(1100), "{hurried:?}");
    }
}
