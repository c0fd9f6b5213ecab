//! One run: the trigger at once, and the seconds after it once they are over.
//!
//! The programs count anyway, so a capture only keeps what each tick shows of one owner. While one runs, counting goes
//! on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use galen_proto::v1::{Container, EventKind, Severity};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    owners::{self, Owner},
    processes,
    report::{self, Capture, Interferer, Trigger},
    settings::Settings,
    tally::Time,
    watch::Waiting,
};
use crate::{
    budget::Grant,
    clock::Moment,
    recorder::{Record, RunId},
    ticker::TICK,
    tracer::{BoxError, Context},
};

/// Seconds of one owner, each with its end.
type Seconds = Arc<Mutex<Vec<(Duration, Time)>>>;

/// The captures that run. One that nobody waits for any more ends at the next tick.
#[derive(Default)]
pub(super) struct Captures {
    running: Vec<Running>,
}

struct Running {
    owner: Owner,
    until: Duration,
    seconds: Seconds,
    done: oneshot::Sender<()>,
}

impl Captures {
    pub(super) fn are_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Tells the trigger, and begins to keep what comes.
    pub(super) fn begin(&mut self, waiting: Waiting, now: Moment, settings: &Settings, context: &Context) {
        let (done, ended) = oneshot::channel();
        let seconds = Seconds::default();
        self.running.push(Running {
            owner: waiting.owner.clone(),
            until: now.boot + settings.capture,
            seconds: Arc::clone(&seconds),
            done,
        });
        let run = Run { waiting, observed: now, settings: settings.clone(), context: context.clone() };
        context.spawn(run.tell(seconds, ended));
    }

    pub(super) fn follow(&mut self, now: Duration, times: &HashMap<Owner, Time>) {
        for ended in self.running.extract_if(.., |running| {
            running.seconds.lock().push((now, times.get(&running.owner).cloned().unwrap_or_default()));
            now >= running.until || running.done.is_closed()
        }) {
            let _ = ended.done.send(());
        }
    }
}

struct Run {
    waiting: Waiting,
    observed: Moment,
    settings: Settings,
    context: Context,
}

impl Run {
    async fn tell(self, seconds: Seconds, ended: oneshot::Receiver<()>) -> Result<(), BoxError> {
        let run = RunId::new();
        let container = self.context.containers.resolve(&self.waiting.owner).await;
        // What it is may be known only now.
        if !self.context.containers.selects(&self.waiting.owner, &self.settings.filter) {
            return Ok(());
        }
        let grant = self.context.may_capture(Severity::Warning, self.waiting.reading.rate).await;
        let (permit, length, reduced) = match grant {
            Grant::Full(permit) => (Some(permit), self.settings.capture, None),
            Grant::Short(permit, most, why) => (Some(permit), most.min(self.settings.capture), Some(why)),
            Grant::None(why) => (None, Duration::ZERO, Some(why)),
        };
        self.trigger(run, container, permit.is_some(), reduced).await?;
        if permit.is_none() {
            return Ok(());
        }
        let stopping = self.context.stopping();
        tokio::select! {
            _ = tokio::time::timeout(length + TICK, ended) => {}
            () = stopping.cancelled() => {}
        }
        let mut after = std::mem::take(&mut *seconds.lock());
        after.retain(|(end, _)| *end <= self.observed.boot + length + TICK / 2);
        self.captured(run, length, after).await
    }

    async fn trigger(
        &self,
        run: RunId,
        container: Container,
        capture: bool,
        reduced: Option<String>,
    ) -> Result<(), BoxError> {
        let mut interferers = interferers(&self.waiting.reading.time, &self.settings, &self.context).await;
        if let Some(root) = owners::tree(&self.context.environment)
            && let Some(first) = interferers.first_mut().filter(|first| first.is_host())
        {
            first.set_processes(processes::busiest(root.to_owned()).await);
        }
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: report::trigger_summary(&self.waiting, &container.name, &interferers),
            explanation: report::explanation(&self.waiting, &self.settings, &interferers),
            container: Some(container),
            observed: self.observed,
            data: Trigger::new(&self.waiting, &self.settings, interferers, capture, reduced),
            attachments: Vec::new(),
        })?;
        Ok(())
    }

    async fn captured(&self, run: RunId, length: Duration, after: Vec<(Duration, Time)>) -> Result<(), BoxError> {
        let container = self.context.containers.known(&self.waiting.owner);
        let mut sum = Time::default();
        after.iter().for_each(|(_, time)| sum += time);
        let interferers = interferers(&sum, &self.settings, &self.context).await;
        let data = Capture::new(&self.waiting, self.observed.boot, length, &after, &sum, interferers);
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: report::capture_summary(&data, &container.name),
            explanation: String::new(),
            container: Some(container),
            observed: self.context.clock.now(),
            data,
            attachments: Vec::new(),
        })?;
        Ok(())
    }
}

/// Whom it waited for, by name, with what the runtimes say of them.
pub(super) async fn interferers(time: &Time, settings: &Settings, context: &Context) -> Vec<Interferer> {
    let mut list = Vec::new();
    for (owner, held, share) in time.interferers().into_iter().take(settings.max_interferers) {
        let container = context.containers.resolve(&owner).await;
        list.push(Interferer::new(container, held, share));
    }
    list
}
