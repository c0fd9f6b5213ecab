//! One capture of a run: asked for, begun, and taken to its end.
//!
//! The look back is frozen the moment the capture begins. The agent's stop ends it early, with what it has.

use std::time::Duration;

use galen_profile::{Cancel, Request, Sampler, Scope};
use galen_proto::v1::{LossReason, Severity};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::{Error, metered, report::Captured};
use crate::{
    budget::{Cost, Grant, Permit},
    recorder::RunId,
    tracer::{Asked, Context, Demand},
};

type Recorded = Result<(galen_profile::Recording, Duration), galen_profile::Error>;

/// What became of asking for a capture.
pub(crate) enum Begun {
    Running(Running),
    /// None will come, and why.
    Refused(String),
}

impl Begun {
    pub(crate) fn told(&self) -> Told {
        match self {
            Self::Running(running) => {
                Told { capture: true, no_capture_because: None, short_capture_because: running.short_because.clone() }
            }
            Self::Refused(why) => {
                Told { capture: false, no_capture_because: Some(why.clone()), short_capture_because: None }
            }
        }
    }
}

/// The part of a trigger's `data` that speaks of the capture.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// Whether a capture follows, and if not, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
    /// Why it is shorter than the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    short_capture_because: Option<String>,
}

/// A capture that is being taken.
pub(crate) struct Running {
    thread: JoinHandle<Recorded>,
    cancel: Cancel,
    permit: Permit,
    duration: Duration,
    short_because: Option<String>,
}

impl Running {
    /// Asks the budget, and begins if it grants. Of those who ask in the same tick the highest score is served first.
    pub(crate) async fn begin(context: &Context, scope: Scope, duration: Duration, score: f64) -> Result<Begun, Error> {
        let sampler = match context.flight.sampler().await {
            Ok(sampler) => sampler,
            Err(why) => {
                context.suppressed(galen_proto::v1::SuppressionReason::Unsupported);
                return Ok(Begun::Refused(why.to_string()));
            }
        };
        let (permit, short) = match context.may_capture(Severity::Warning, score).await {
            Grant::Full(permit) => (permit, None),
            Grant::Short(permit, most, why) => (permit, Some((most, why))),
            Grant::None(why) => {
                context.count_loss(LossReason::CaptureLimit, 1);
                return Ok(Begun::Refused(why));
            }
        };
        Ok(Begun::Running(Self::start(context, sampler, scope, duration, permit, short)?))
    }

    /// As [`begin`](Self::begin), because somebody asks for it; `None` if that was refused.
    pub(crate) async fn demanded(
        context: &Context,
        demand: Demand,
        scope: Scope,
        duration: Duration,
    ) -> Result<Option<(RunId, Self)>, Error> {
        let sampler = match context.flight.sampler().await {
            Ok(sampler) => sampler,
            Err(why) => {
                demand.refuse(&*why);
                return Ok(None);
            }
        };
        let Some(Asked { run, permit, short, .. }) = demand.begin(context).await else { return Ok(None) };
        Ok(Some((run, Self::start(context, sampler, scope, duration, permit, short)?)))
    }

    fn start(
        context: &Context,
        sampler: Sampler,
        scope: Scope,
        duration: Duration,
        permit: Permit,
        short: Option<(Duration, String)>,
    ) -> Result<Self, Error> {
        let (most, short_because) = short.unzip();
        let duration = most.map_or(duration, |most| most.min(duration));
        let cancel = Cancel::new().map_err(Error::Cancel)?;
        let (request, on_thread) = (Request { scope, duration }, cancel.clone());
        let look_back = context.flight.look_back();
        let thread = tokio::task::spawn_blocking(move || metered(|| sampler.record(&request, look_back, &on_thread)));
        Ok(Self { thread, cancel, permit, duration, short_because })
    }

    /// Nobody wants it any more.
    pub(crate) fn abandon(self) {
        self.cancel.cancel();
    }

    /// Waits for its end, and counts what it cost and lost.
    pub(crate) async fn end(self, context: &Context) -> Result<Captured, Error> {
        let Self { mut thread, cancel, mut permit, duration, .. } = self;
        let stopping = context.stopping();
        let recorded = tokio::select! {
            recorded = &mut thread => recorded,
            () = stopping.cancelled() => {
                cancel.cancel();
                thread.await
            }
        };
        let (recording, cpu) = recorded??;
        let captured = Captured::new(recording, duration);
        for lost in captured.lost() {
            context.count_loss(LossReason::RingFull, lost.ring_full);
            context.count_loss(LossReason::MapFull, lost.table_full);
            context.count_loss(LossReason::BadRecord, lost.bad_record);
        }
        permit.spent(Cost { cpu, bytes: captured.bytes() });
        Ok(captured)
    }
}
