//! Captures that somebody asks for: who waits for whom, counted from now on.
//!
//! Counting goes on, or begins, while one runs. It is of all workloads, or of the cgroup that was asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use galen_proto::v1::EventKind;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    capture::interferers,
    owners::Owner,
    report::{Counted, Waiter},
    settings::Settings,
    tally::Time,
};
use crate::{
    cgroup::is_below,
    recorder::Record,
    ticker::TICK,
    tracer::{Asked, BoxError, Cause, Context, Demand, round},
};

/// Workloads that are told.
const TOLD: usize = 20;
/// Ticks until counting has begun: the programs are attached at one, and the next has something to count.
const BEGIN: u32 = 3;

/// Those that run, or wait to be granted. One that nobody waits for any more is forgotten.
#[derive(Default)]
pub(super) struct Counts(Vec<Running>);

struct Running {
    sum: Arc<Mutex<Sum>>,
    done: oneshot::Sender<()>,
}

/// What was counted.
#[derive(Default)]
struct Sum {
    /// How much is to be; nothing is kept before it is known.
    length: Option<Duration>,
    /// The end of the first tick, and of the last.
    from: Option<Duration>,
    to: Duration,
    times: HashMap<Owner, Time>,
}

impl Counts {
    pub(super) fn are_running(&mut self) -> bool {
        self.0.retain(|running| !running.done.is_closed());
        !self.0.is_empty()
    }

    pub(super) fn begin(&mut self, demand: Demand, settings: &Settings, context: &Context) {
        let (done, ended) = oneshot::channel();
        let sum = Arc::<Mutex<Sum>>::default();
        self.0.push(Running { sum: Arc::clone(&sum), done });
        context.spawn(tell(demand, sum, ended, settings.clone(), context.clone()));
    }

    /// Takes what was counted since the last tick.
    pub(super) fn follow(&mut self, now: Duration, times: &HashMap<Owner, Time>) {
        for ended in self.0.extract_if(.., |running| running.sum.lock().add(now, times)) {
            let _ = ended.done.send(());
        }
    }
}

impl Sum {
    /// Whether it is complete.
    fn add(&mut self, now: Duration, times: &HashMap<Owner, Time>) -> bool {
        let Some(length) = self.length else { return false };
        // The first tick may hold more than what came since it was asked.
        let Some(from) = self.from else {
            (self.from, self.to) = (Some(now), now);
            return false;
        };
        self.to = now;
        for (owner, time) in times {
            *self.times.entry(owner.clone()).or_default() += time;
        }
        self.lasted() + TICK / 2 >= length && now > from
    }

    fn lasted(&self) -> Duration {
        self.from.map_or(Duration::ZERO, |from| self.to.saturating_sub(from))
    }
}

async fn tell(
    demand: Demand,
    sum: Arc<Mutex<Sum>>,
    ended: oneshot::Receiver<()>,
    settings: Settings,
    context: Context,
) -> Result<(), BoxError> {
    let Some(Asked { run, cgroup, permit, short }) = demand.begin(&context).await else { return Ok(()) };
    let (most, why) = short.unzip();
    let length = most.map_or(settings.capture, |most| most.min(settings.capture));
    sum.lock().length = Some(length);
    let stopping = context.stopping();
    tokio::select! {
        _ = tokio::time::timeout(length + TICK * BEGIN, ended) => {}
        () = stopping.cancelled() => {}
    }
    let sum = std::mem::take(&mut *sum.lock());
    let lasted = sum.lasted();
    let concerns = |owner: &str| cgroup.as_deref().is_none_or(|path| owner == path || is_below(owner, path));
    let waited = |time: &Time| time.external + time.throttled + time.internal;
    let mut times: Vec<_> =
        sum.times.into_iter().filter(|(owner, time)| concerns(owner) && !waited(time).is_zero()).collect();
    times.sort_by_key(|(_, time)| std::cmp::Reverse(waited(time)));
    let more_workloads = times.len().saturating_sub(TOLD);
    let mut workloads = Vec::new();
    for (owner, time) in times.into_iter().take(TOLD) {
        let container = context.containers.resolve(&owner).await;
        workloads.push(Waiter::new(container, &time, interferers(&time, &settings, &context).await));
    }
    let container = match &cgroup {
        Some(path) => Some(context.containers.resolve(path).await),
        None => None,
    };
    let data = Counted {
        workloads,
        more_workloads,
        duration_seconds: round(lasted.as_secs_f64()),
        cut_short: lasted + TICK < length,
        short_capture_because: why,
    };
    context.record(Record {
        run,
        kind: EventKind::Capture,
        severity: Cause::Demand.severity(),
        summary: data.summary(),
        explanation: Cause::Demand.explanation(),
        container,
        observed: context.clock.now(),
        data,
        attachments: Vec::new(),
    })?;
    drop(permit);
    Ok(())
}
