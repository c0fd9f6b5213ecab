//! The orderly end, as the sessions see it: agents are asked to go elsewhere, one after the other, before anything stops.
//!
//! 1. The aggregator is not ready any more ([`crate::health`]) and takes no new session.
//! 2. Each session waits for its turn, and then says goodbye. Turns come at the pace at which another replica takes new
//!    sessions, or faster if the deadline asks for it. An agent that has not left after a grace is read from no more,
//!    has its acknowledgements, and is told why it ends.
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
    terms: OnceLock<Terms>,
    turns: AtomicU32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Terms {
    /// From one goodbye to the next.
    pace: Duration,
    grace: Duration,
}

impl Leaving {
    /// Begins it, once: `agents` agents are to be sent away, at most `per_second`, but so that all have heard of it and
    /// may have left by [`Leaving::share`] of `deadline`.
    pub fn begin(&self, agents: usize, per_second: u32, deadline: Duration) {
        let agents = u32::try_from(agents).unwrap_or(u32::MAX).max(1);
        let pace = (Duration::from_secs(1) / per_second.max(1)).min(deadline / 2 / agents);
        if self.0.terms.set(Terms { pace, grace: deadline / 8 }).is_ok() {
            tracing::info!(agents, ?pace, "agents are asked to go elsewhere");
        }
        self.0.begun.cancel();
    }

    /// Of a deadline: for all turns and the last one's grace. The rest is for the end of everything else.
    pub fn share(deadline: Duration) -> Duration {
        deadline * 5 / 8
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
        let turn = self.0.turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.terms().pace.saturating_mul(turn)).await;
    }

    /// How long an agent may take to leave after the goodbye.
    pub fn grace(&self) -> Duration {
        self.terms().grace
    }

    fn terms(&self) -> Terms {
        self.0.terms.get().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    async fn turns(agents: usize, per_second: u32, deadline: Duration) -> Vec<Duration> {
        let leaving = Leaving::default();
        let began = Instant::now();
        let waiting = (0..agents).map(|_| async {
            leaving.turn().await;
            began.elapsed()
        });
        let begin = async { leaving.begin(agents, per_second, deadline) };
        tokio::join!(join_all(waiting), begin).0
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_after_the_other_and_faster_if_the_deadline_asks_for_it() {
        let hour = Duration::from_secs(3600);
        assert!(turns(1, 10, hour).await[0] < Duration::from_millis(10));
        let slow = turns(21, 10, hour).await;
        assert!(slow.is_sorted() && slow[20] >= Duration::from_secs(2), "{slow:?}");
        let hurried = turns(100, 10, Duration::from_secs(6)).await;
        assert!(hurried.is_sorted() && hurried[99] <= Duration::from_millis(3100), "{hurried:?}");
    }
}
