//! One run: the trigger at once, the evidence when it is complete.

use std::{sync::Arc, time::Duration};

use galen_profile::Cancel;
use galen_proto::v1::{EventKind, LossReason, Severity};

use super::{
    disk::Disk,
    evidence::{Evidence, Tracing},
    report::Report,
    settings::Settings,
    trigger::{Trigger, explanation, summary},
    watch::Saturated,
};
use crate::{
    budget::{Cost, Grant, Permit},
    clock::Moment,
    recorder::{Record, RunId},
    tracer::{Asked, BoxError, Cause, Context, Demand},
};

const NO_PROGRAM: &str = "no BPF program could be loaded";

/// A run of a rule.
pub(super) struct Run {
    pub saturated: Saturated,
    pub observed: Moment,
    pub of: Capture,
    /// Whether the programs can be loaded.
    pub can_capture: bool,
}

/// The evidence of a disk.
pub(super) struct Capture {
    pub disk: Disk,
    pub settings: Settings,
    pub context: Context,
}

/// What the budget allows.
struct Allowed {
    permit: Permit,
    /// How long it may take, if not as long as it should, and why.
    short: Option<(Duration, String)>,
}

impl Run {
    /// Records the trigger, and as the budget allows the capture, or else why there is none.
    pub(super) async fn tell(self) -> Result<(), BoxError> {
        let run = RunId::new();
        let grant = match self.can_capture {
            true => self.of.context.may_capture(Severity::Warning, self.saturated.now.io_util).await,
            false => Grant::None(NO_PROGRAM.into()),
        };
        let allowed = match grant {
            Grant::Full(permit) => Allowed { permit, short: None },
            Grant::Short(permit, most, why) => Allowed { permit, short: Some((most, why)) },
            Grant::None(why) => return self.trigger(run, Some(why)),
        };
        self.trigger(run, None)?;
        self.of.take(run, allowed, Cause::Rule).await
    }

    fn trigger(&self, run: RunId, no_capture: Option<String>) -> Result<(), BoxError> {
        let Capture { settings, context, .. } = &self.of;
        context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: summary(&self.saturated),
            explanation: explanation(&self.saturated, settings),
            container: None,
            observed: self.observed,
            data: Trigger::new(&self.saturated, settings, no_capture),
            attachments: Vec::new(),
        })?;
        Ok(())
    }
}

/// A capture of the busiest disk, which is `None` if there is none, or no program for it.
pub(super) async fn asked_for(
    demand: Demand,
    busiest: Option<Disk>,
    settings: Settings,
    context: Context,
) -> Result<(), BoxError> {
    let Some(demand) = demand.of_the_node("the busiest disk") else { return Ok(()) };
    let Some(disk) = busiest else {
        demand.refuse(format!(
            "no disk was watched for two windows of {} s yet, or {NO_PROGRAM}",
            settings.window.as_secs()
        ));
        return Ok(());
    };
    let Some(Asked { run, permit, short, .. }) = demand.begin(&context).await else { return Ok(()) };
    Capture { disk, settings, context }.take(run, Allowed { permit, short }, Cause::Demand).await
}

impl Capture {
    async fn take(self, run: RunId, allowed: Allowed, cause: Cause) -> Result<(), BoxError> {
        let Allowed { mut permit, short } = allowed;
        let (most, reduced) = short.unzip();
        let duration = most.map_or(self.settings.capture, |most| most.min(self.settings.capture));
        let (evidence, cpu) = self.gather(duration).await?;
        for (reason, count) in [
            (LossReason::MapFull, evidence.lost.table_full),
            (LossReason::RingFull, evidence.lost.ring_full),
            (LossReason::BadRecord, evidence.lost.bad_record),
        ] {
            self.context.count_loss(reason, count);
        }
        let report = Report::new(&self.disk, evidence, reduced, &self.settings, &self.context.containers).await?;
        let bytes = report.attachments.iter().map(|attachment| attachment.content.len() as u64).sum();
        permit.spent(Cost { cpu, bytes });
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: cause.severity(),
            summary: report.summary(),
            explanation: cause.explanation(),
            container: report.culprit,
            observed: self.context.clock.now(),
            data: report.data,
            attachments: report.attachments,
        })?;
        Ok(())
    }

    /// On a thread of its own, until it is complete or the agent stops; with the CPU time that it took.
    async fn gather(&self, duration: Duration) -> Result<(Evidence, Duration), BoxError> {
        let disk = self.disk.clone();
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
