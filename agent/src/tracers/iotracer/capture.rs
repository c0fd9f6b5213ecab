//! One run: the trigger at once, the evidence when it is complete.

use std::sync::Arc;

use galen_profile::Cancel;
use galen_proto::v1::{Attachment, EventKind, LossReason, Severity};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    evidence::{Evidence, Tracing},
    report::Capture,
    settings::Settings,
    trigger::{Trigger, explanation, summary},
    watch::Saturated,
};
use crate::{
    clock::Moment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context},
};

pub(super) struct Run {
    pub saturated: Saturated,
    pub observed: Moment,
    pub settings: Settings,
    pub context: Context,
}

impl Run {
    /// Records the trigger, and with a permit the capture, or else why there is none.
    pub(super) async fn tell(self, permit: Result<OwnedSemaphorePermit, String>) -> Result<(), BoxError> {
        let run = RunId::new();
        let (room, no_capture) = match permit {
            Ok(room) => (Some(room), None),
            Err(why) => (None, Some(why)),
        };
        self.trigger(run, no_capture)?;
        let Some(_room) = room else { return Ok(()) };
        let evidence = self.gather().await?;
        self.captured(run, evidence).await
    }

    fn trigger(&self, run: RunId, no_capture: Option<String>) -> Result<(), BoxError> {
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: summary(&self.saturated),
            explanation: explanation(&self.saturated, &self.settings),
            container: None,
            observed: self.observed,
            data: Trigger::new(&self.saturated, &self.settings, no_capture),
            attachments: Vec::new(),
        })?;
        Ok(())
    }

    /// On a thread of its own, until it is complete or the agent stops.
    async fn gather(&self) -> Result<Evidence, BoxError> {
        let disks = self.saturated.disk.with_requests();
        let tracing = self.context.with_kernel(move |kernel| Tracing::attach(kernel, &disks)).await??;
        let cancel = Cancel::new()?;
        let (on_thread, stopping, duration) = (cancel.clone(), self.context.stopping(), self.settings.capture);
        let (clock, environment) = (self.context.clock.clone(), Arc::clone(&self.context.environment));
        let gather = move || tracing.gather(duration, &on_thread, &clock, &environment);
        let mut evidence = tokio::task::spawn_blocking(gather);
        tokio::select! {
            evidence = &mut evidence => return evidence?,
            () = stopping.cancelled() => cancel.cancel(),
        }
        evidence.await?
    }

    async fn captured(&self, run: RunId, evidence: Evidence) -> Result<(), BoxError> {
        self.context.count_loss(LossReason::MapFull, evidence.lost.users_full + evidence.lost.flights_full);
        let report = Capture::new(&self.saturated.disk, evidence, &self.settings, &self.context.containers).await;
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: report.summary(),
            explanation: String::new(),
            container: report.culprit(),
            observed: self.context.clock.now(),
            attachments: Vec::<Attachment>::new(),
            data: report,
        })?;
        Ok(())
    }
}
