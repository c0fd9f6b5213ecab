//! One run: the trigger at once, the profiles when they are complete.

use std::sync::Arc;

use galen_proto::v1::{Container, EventKind, Severity};
use parking_lot::Mutex;

use super::{
    report::{Trigger, explanation, trigger_summary},
    settings::Settings,
    watch::Burst,
};
use crate::{
    clock::Moment,
    flight::{Begun, Captured, Running},
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Cooldown},
};

pub(super) struct Run {
    pub burst: Burst,
    pub observed: Moment,
    pub settings: Settings,
    pub context: Context,
    /// The cgroup is in it for as long as nothing was captured.
    pub left_alone: Arc<Mutex<Cooldown<String>>>,
}

impl Run {
    /// Records the trigger, and the capture, or else why there is none.
    pub(super) async fn tell(self) -> Result<(), BoxError> {
        let run = RunId::new();
        // The profile is begun before anybody is asked whose cgroup it is.
        let scope = self.burst.target.into();
        let begun = Running::begin(&self.context, scope, self.settings.capture, self.burst.verdict.score).await?;
        if matches!(begun, Begun::Running(_)) {
            self.left_alone.lock().insert(self.burst.path.clone(), self.observed, self.settings.cooldown);
        }
        let container = self.context.containers.resolve(&self.burst.path).await;
        // What it is may be known only now.
        if !self.context.containers.selects(&self.burst.path, &self.settings.filter) {
            if let Begun::Running(running) = begun {
                running.abandon();
            }
            return Ok(());
        }
        self.trigger(run, container.clone(), &begun)?;
        let Begun::Running(running) = begun else { return Ok(()) };
        let captured = running.end(&self.context).await?;
        // A description may have come meanwhile.
        let container = self.context.containers.known(&container.cgroup);
        self.captured(run, container, captured)
    }

    fn trigger(&self, run: RunId, container: Container, begun: &Begun) -> Result<(), BoxError> {
        let window = self.settings.window.as_secs_f64();
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: trigger_summary(&self.burst, &container.name),
            explanation: explanation(&self.burst, &self.settings.thresholds, window),
            container: Some(container),
            observed: self.observed,
            data: Trigger::new(&self.burst, &self.settings.thresholds, window, begun.told()),
            attachments: Vec::new(),
        })?;
        Ok(())
    }

    fn captured(&self, run: RunId, container: Container, captured: Captured) -> Result<(), BoxError> {
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: captured.summary(&container.name),
            explanation: String::new(),
            container: Some(container),
            observed: self.context.clock.now(),
            data: captured.data(),
            attachments: captured.attachments(),
        })?;
        Ok(())
    }
}
