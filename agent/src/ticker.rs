//! One wake-up a second for everything that samples: tracers share a tick instead of each having a timer of its own,
//! so an idle machine is woken once.
//!
//! A tick that comes late, because the machine was busy or asleep, is not made up for. A subscriber that is slower
//! than the tick skips the ones it missed.

use std::time::Duration;

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Moment};

/// How often sampling happens.
pub const TICK: Duration = Duration::from_secs(1);

/// A subscription to the shared tick.
#[derive(Clone)]
pub struct Ticker {
    ticks: watch::Receiver<Option<Moment>>,
}

impl Ticker {
    /// The subscription, and the task that ticks until `stop` is cancelled.
    pub fn new(clock: Clock, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, ticks) = watch::channel(None);
        let run = async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(interval.tick()).await.is_some() {
                sender.send_replace(Some(clock.now()));
            }
        };
        (Self { ticks }, run)
    }

    /// The next tick. Once the ticker has stopped: never, so that whoever waits is ended by its own cancellation.
    pub async fn tick(&mut self) -> Moment {
        loop {
            if self.ticks.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(moment) = *self.ticks.borrow_and_update() {
                return moment;
            }
        }
    }
}
