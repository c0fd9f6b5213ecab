//! What captures may cost on this node.
//!
//! A capture costs, and the agent is a guest. A tracer asks before it captures, and is [granted](Grant) all of it, a
//! short one, or none, with the reason for its event; the trigger itself is always told. Whoever asks in the same tick is
//! served by severity and score, not in the order of asking. Asking never fails and never waits longer than
//! [`GATHER`]: when more ask at a time than [`ASKING`], the rest is refused. Everything granted or refused is counted by
//! tracer.

mod ledger;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use galen_proto::v1::{self, Severity};
use parking_lot::Mutex;
use prometheus::{CounterVec, IntCounterVec, Opts};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use ledger::{Bounds, Cost};

use crate::{
    clock::{Clock, Moment},
    figures::Registry,
};
use ledger::{Ledger, Verdict};

/// How long those who ask are gathered, so that the most severe is served first.
const GATHER: Duration = Duration::from_millis(50);
/// Most that are gathered.
const ASKING: usize = 1024;

/// Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
    asking: mpsc::Sender<Asking>,
}

struct Shared {
    clock: Clock,
    bounds: Bounds,
    short: Duration,
    ledger: Mutex<Ledger>,
    figures: Figures,
}

struct Asking {
    tracer: &'static str,
    severity: Severity,
    score: f64,
    answer: oneshot::Sender<Grant>,
}

/// How much of a capture may be taken.
#[derive(Debug)]
pub enum Grant {
    Full(Permit),
    /// No longer than this, with the reason.
    Short(Permit, Duration, String),
    /// With the reason.
    None(String),
}

/// A capture that was granted. It counts as running until this is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    tracer: &'static str,
    booked: Cost,
    actual: Option<Cost>,
}

/// By tracer.
pub(crate) struct Figures {
    granted: IntCounterVec,
    cpu_seconds: CounterVec,
    bytes: IntCounterVec,
}

impl Budget {
    /// The budget, and the task that answers until `stop` is cancelled. `short` is how long a short capture lasts.
    pub fn new(
        bounds: Bounds,
        short: Duration,
        clock: Clock,
        metrics: &Registry,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), prometheus::Error> {
        let figures = Figures::register(metrics)?;
        let shared = Arc::new(Shared { clock, bounds, short, ledger: Mutex::new(Ledger::new(bounds)), figures });
        let (asking, asked) = mpsc::channel(ASKING);
        let answer = answer(Arc::clone(&shared), asked);
        let task = async move {
            stop.run_until_cancelled(answer).await;
        };
        Ok((Self { shared, asking }, task))
    }

    /// Whether `tracer` may capture now. Of those who ask at the same time the highest severity is served first, then
    /// the highest score.
    pub async fn ask(&self, tracer: &'static str, severity: Severity, score: f64) -> Grant {
        let (answer, answered) = oneshot::channel();
        let refused = match self.asking.try_send(Asking { tracer, severity, score, answer }) {
            Ok(()) => match answered.await {
                Ok(grant) => return grant,
                Err(_) => "the agent stops",
            },
            Err(mpsc::error::TrySendError::Full(_)) => "too many captures were asked for at a time",
            Err(mpsc::error::TrySendError::Closed(_)) => "the agent stops",
        };
        self.shared.figures.count(tracer, "none");
        Grant::None(refused.into())
    }

    /// Bounds that the aggregator sets for a while. They can only lower the node's own.
    pub fn lower(&self, message: v1::Budget) {
        let own = self.shared.bounds;
        let bounds = Bounds {
            concurrent: message.concurrent.map_or(own.concurrent, |concurrent| concurrent as usize),
            captures_per_hour: message.captures_per_hour,
            cpu_per_hour: message.cpu_millis_per_hour.map_or(own.cpu_per_hour, Duration::from_millis),
            bytes_per_hour: message.bytes_per_hour.unwrap_or(own.bytes_per_hour),
        };
        let now = self.shared.clock.now();
        let until = now.boot + Duration::from_millis(message.ttl_millis.into());
        self.shared.ledger.lock().lower(message.tracer, bounds, until, now);
    }
}

/// Answers those who ask, gathered, until nobody can ask any more.
async fn answer(shared: Arc<Shared>, mut asked: mpsc::Receiver<Asking>) {
    let mut gathered = Vec::new();
    while let Some(first) = asked.recv().await {
        gathered.push(first);
        tokio::time::sleep(GATHER).await;
        while let Ok(another) = asked.try_recv() {
            gathered.push(another);
        }
        gathered.sort_by(|a, b| Reverse(a.severity).cmp(&Reverse(b.severity)).then(b.score.total_cmp(&a.score)));
        let now = shared.clock.now();
        for Asking { tracer, answer, .. } in gathered.drain(..) {
            // Whoever does not wait any more gives its permit back by dropping it.
            let _ = answer.send(shared.grant(tracer, now));
        }
    }
}

impl Shared {
    fn grant(self: &Arc<Self>, tracer: &'static str, now: Moment) -> Grant {
        let (verdict, booked) = self.ledger.lock().begin(tracer, now);
        let permit = || Permit { shared: Arc::clone(self), tracer, booked, actual: None };
        let (grant, how) = match verdict {
            Verdict::Full => (Grant::Full(permit()), "full"),
            Verdict::Short(why) => (Grant::Short(permit(), self.short, why), "short"),
            Verdict::None(why) => (Grant::None(why), "none"),
        };
        self.figures.count(tracer, how);
        grant
    }
}

impl Permit {
    /// What the capture cost; without it, what was booked counts.
    pub fn spent(&mut self, cost: Cost) {
        self.actual = Some(cost);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let actual = self.actual.unwrap_or(self.booked);
        self.shared.ledger.lock().end(self.tracer, self.booked, actual);
        let figures = &self.shared.figures;
        figures.cpu_seconds.with_label_values(&[self.tracer]).inc_by(actual.cpu.as_secs_f64());
        figures.bytes.with_label_values(&[self.tracer]).inc_by(actual.bytes);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Figures {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("galen_agent_budget_{name}"), help);
        let granted = opts("captures_total", "Captures that were asked for, by tracer and by how much was granted.");
        let cpu_seconds = opts("capture_cpu_seconds_total", "Seconds of CPU time that captures took, by tracer.");
        let bytes = opts("capture_bytes_total", "Bytes of evidence that captures took, by tracer.");
        Ok(Self {
            granted: registry.add(IntCounterVec::new(granted, &["tracer", "granted"])?)?,
            cpu_seconds: registry.add(CounterVec::new(cpu_seconds, &["tracer"])?)?,
            bytes: registry.add(IntCounterVec::new(bytes, &["tracer"])?)?,
        })
    }

    fn count(&self, tracer: &str, granted: &str) {
        self.granted.with_label_values(&[tracer, granted]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        concurrent: 1,
        captures_per_hour: 100,
        cpu_per_hour: Duration::from_secs(36),
        bytes_per_hour: 1 << 20,
    };

    fn budget(stop: &CancellationToken) -> (Budget, impl Future<Output = ()> + Send + use<>) {
        Budget::new(BOUNDS, Duration::from_secs(2), Clock::system(), &Registry::default(), stop.clone()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_ask_at_once_the_most_severe_and_then_the_highest_score_is_served() {
        let stop = CancellationToken::new();
        let (budget, task) = budget(&stop);
        let asked = async {
            let (low, high, severe) = tokio::join!(
                budget.ask("a", Severity::Warning, 1.0),
                budget.ask("b", Severity::Warning, 9.0),
                budget.ask("c", Severity::Critical, 0.0),
            );
            assert!(matches!((&low, &high), (Grant::None(_), Grant::None(_))) && matches!(severe, Grant::Full(_)));
            drop(severe);
            let (low, high) =
                tokio::join!(budget.ask("a", Severity::Warning, 1.0), budget.ask("b", Severity::Warning, 9.0));
            assert!(matches!(low, Grant::None(_)) && matches!(high, Grant::Full(_)));
            stop.cancel();
        };
        tokio::join!(task, asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_asking_is_answered_and_nothing_waits_for_ever() {
        let stop = CancellationToken::new();
        let (budget, task) = budget(&stop);
        let asked = async {
            let all = (0..2 * ASKING).map(|_| budget.ask("a", Severity::Warning, 1.0));
            let grants = futures_util::future::join_all(all).await;
            assert_eq!(grants.iter().filter(|grant| matches!(grant, Grant::Full(_))).count(), 1);
            let granted = &budget.shared.figures.granted;
            assert_eq!(granted.with_label_values(&["a", "none"]).get(), 2 * ASKING as u64 - 1);
            stop.cancel();
        };
        tokio::join!(task, asked);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_of_a_budget_that_has_ended_is_refused() {
        let stop = CancellationToken::new();
        let (budget, task) = budget(&stop);
        stop.cancel();
        task.await;
        assert!(matches!(budget.ask("a", Severity::Warning, 1.0).await, Grant::None(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_message_of_the_stream_lowers_the_bounds_until_its_time_is_over() {
        let stop = CancellationToken::new();
        let (budget, task) = budget(&stop);
        let asked = async {
            budget.lower(v1::Budget { tracer: "a".into(), ttl_millis: 60_000, ..v1::Budget::default() });
            assert!(matches!(budget.ask("a", Severity::Critical, 1.0).await, Grant::None(_)));
            assert!(matches!(budget.ask("b", Severity::Critical, 1.0).await, Grant::Full(_)));
            budget.lower(v1::Budget { tracer: "a".into(), ttl_millis: 0, ..v1::Budget::default() });
            assert!(matches!(budget.ask("a", Severity::Critical, 1.0).await, Grant::Full(_)));
            stop.cancel();
        };
        tokio::join!(task, asked);
    }
}
