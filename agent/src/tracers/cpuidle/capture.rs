//! One run: the trigger at once, the profile when it is complete.

use galen_profile::{Cancel, Profile, Request, Sampler, Target};
use galen_proto::{
    PPROF_MEDIA_TYPE,
    v1::{Attachment, Container, EventKind, LossReason, Severity},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    report::{Capture, Trigger, capture_summary, explanation, trigger_summary},
    settings::Settings,
    watch::Burst,
};
use crate::{
    clock::Moment,
    recorder::{Record, RunId},
    tracer::{BoxError, Context},
};

pub(super) struct Run {
    pub burst: Burst,
    pub observed: Moment,
    pub settings: Settings,
    pub context: Context,
}

impl Run {
    /// Records the trigger, and with a permit the capture, or else why there is none.
    pub(super) async fn tell(self, permit: Result<(Sampler, OwnedSemaphorePermit), String>) -> Result<(), BoxError> {
        let run = RunId::new();
        // The cgroup may be gone in a moment, so its id is looked up, and the profile begun, before anybody is asked.
        let (permit, no_capture) = match permit {
            Err(why) => (None, Some(why)),
            Ok((sampler, permit)) => match self.start(sampler) {
                Ok(profile) => (Some((profile, permit)), None),
                Err(error) => (None, Some(galen_runtime::Chain(&*error).to_string())),
            },
        };
        let container = self.context.containers.resolve(&self.burst.path).await;
        self.trigger(run, container.clone(), no_capture)?;
        let Some((profile, _room)) = permit else { return Ok(()) };
        let profile = profile.await??;
        // A description may have come meanwhile.
        let container = self.context.containers.known(&container.cgroup);
        self.captured(run, container, profile)
    }

    fn trigger(&self, run: RunId, container: Container, no_capture: Option<String>) -> Result<(), BoxError> {
        let window = self.settings.window.as_secs_f64();
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: trigger_summary(&self.burst, &container.name),
            explanation: explanation(&self.burst, &self.settings.thresholds, window),
            container: Some(container),
            observed: self.observed,
            data: Trigger::new(&self.burst, &self.settings.thresholds, window, no_capture),
            attachments: Vec::new(),
        })?;
        Ok(())
    }

    /// The profile, being taken on a thread of its own until it is complete or the agent stops.
    fn start(
        &self,
        sampler: Sampler,
    ) -> Result<impl Future<Output = Result<Result<Profile, galen_profile::Error>, BoxError>>, BoxError> {
        let target = Target::from_path(&self.burst.directory)?;
        let request = Request { scope: target.into(), duration: self.settings.capture };
        let cancel = Cancel::new()?;
        let (on_thread, stopping) = (cancel.clone(), self.context.stopping());
        let mut profile = tokio::task::spawn_blocking(move || sampler.capture(&request, &on_thread));
        Ok(async move {
            tokio::select! {
                profile = &mut profile => return Ok(profile?),
                () = stopping.cancelled() => cancel.cancel(),
            }
            Ok(profile.await?)
        })
    }

    fn captured(&self, run: RunId, container: Container, profile: Profile) -> Result<(), BoxError> {
        let lost = &profile.summary.lost;
        self.context.count_loss(LossReason::RingFull, lost.ring_full);
        self.context.count_loss(LossReason::MapFull, lost.table_full);
        self.context.count_loss(LossReason::BadRecord, lost.bad_record);
        let cut_short = profile.summary.lasted < self.settings.capture;
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: capture_summary(&profile, &container.name),
            explanation: String::new(),
            container: Some(container),
            observed: self.context.clock.now(),
            data: Capture::new(&profile.summary, cut_short),
            attachments: vec![Attachment {
                name: "cpu.pb.gz".into(),
                media_type: PPROF_MEDIA_TYPE.into(),
                encoding: "gzip".into(),
                content: profile.pprof,
            }],
        })?;
        Ok(())
    }
}
