//! One run: the trigger at once, the evidence when it is complete.

use std::{sync::Arc, time::Duration};

use galen_profile::Cancel;
use galen_proto::v1::{EventKind, LossReason, Severity};

use super::{
    evidence::{Evidence, Tracing},
    report::Report,
    settings::Settings,
    trigger::{Trigger, explanation, summary},
    watch::Saturated,
};
use crate::{
    budget::{Cost, Grant},
    clock::Moment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context},
};

pub(super) struct Run {
    pub saturated: Saturated,
    pub observed: Moment,
    pub settings: Settings,
    pub context: Context,
    /// Whether the programs can be loaded.
    pub can_capture: bool,
}

impl Run {
    /// Records the trigger, and as the budget allows the capture, or else why there is none.
    pub(super) async fn tell(self) -> Result<(), BoxError> {
        let run = RunId::new();
        let grant = match self.can_capture {
            true => self.context.may_capture(Severity::Warning, self.saturated.now.io_util).await,
            false => Grant::None("no BPF program could be loaded".into()),
        };
        let (mut permit, duration, reduced) = match grant {
            Grant::Full(permit) => (permit, self.settings.capture, None),
            Grant::Short(permit, duration, why) => (permit, duration.min(self.settings.capture), Some(why)),
            Grant::None(why) => return self.trigger(run, Some(why)),
        };
        self.trigger(run, None)?;
        let (evidence, cpu) = self.gather(duration).await?;
        for (reason, count) in [
            (LossReason::MapFull, evidence.lost.table_full),
            (LossReason::RingFull, evidence.lost.ring_full),
            (LossReason::BadRecord, evidence.lost.bad_record),
        ] {
            self.context.count_loss(reason, count);
        }
        let (disk, containers) = (&self.saturated.disk, &self.context.containers);
        let report = Report::new(disk, evidence, reduced, &self.settings, containers).await?;
        let bytes = report.attachments.iter().map(|attachment| attachment.content.len() as u64).sum();
        permit.spent(Cost { cpu, bytes });
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: report.summary(),
            explanation: String::new(),
            container: report.culprit,
            observed: self.context.clock.now(),
            data: report.data,
            attachments: report.attachments,
        })?;
        Ok(())
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

    /// On a thread of its own, until it is complete or the agent stops; with the CPU time that it took.
    async fn gather(&self, duration: Duration) -> Result<(Evidence, Duration), BoxError> {
        let disk = self.saturated.disk.clone();
        let attach = move |kernel: &galen_bpf::Kernel| {
            let before = cpu_time();
            Tracing::attach(kernel, disk).map(|tracing| (tracing, cpu_time().saturating_sub(before)))
        };
        let (tracing, loading) = self.context.with_kernel(attach).await??;
        let cancel = Cancel::new()?;
        let (on_thread, stopping) = (cancel.clone(), self.context.stopping());
        let (clock, environment) = (self.context.clock.clone(), Arc::clone(&self.context.environment));
        let mut gathering = tokio::task::spawn_blocking(move || {
            let before = cpu_time();
            let evidence = tracing.gather(duration, &on_thread, &clock, &environment)?;
            Ok((evidence, loading + cpu_time().saturating_sub(before)))
        });
        tokio::select! {
            gathered = &mut gathering => return gathered?,
            () = stopping.cancelled() => cancel.cancel(),
        }
        gathering.await?
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
