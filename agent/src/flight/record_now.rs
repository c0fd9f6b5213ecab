//! What the flight recorder holds, recorded because somebody asks for it.

use std::time::Duration;

use galen_profile::{Frozen, Scope};
use galen_proto::v1::{EventKind, LossReason, Severity};
use galen_runtime::{OnEnd, Supervisor};

use super::{Error, Flight, metered, report::Look};
use crate::{
    budget::{Budget, Cost, Grant, Permit},
    clock::{Clock, Moment},
    recorder::{Record, Recorder, RunId},
    tracer::{BoxError, Cause},
};

/// As events and the budget name it, in the place of a tracer.
const NAME: &str = "flight";

/// What a record is made from.
pub(crate) struct Desk {
    pub(crate) flight: Flight,
    pub(crate) budget: Budget,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    /// Waits, at the agent's end, for what was begun.
    pub(crate) supervisor: Supervisor,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("nothing is recorded: {0}")]
    Budget(String),
    #[error("there is nothing to record")]
    Freeze(#[from] Error),
}

impl Desk {
    /// Freezes the last seconds of the whole machine, as many as the budget allows. One line for whoever asked, who goes
    /// before those that ask by a rule; the profile is recorded once its names are found, which may take longer than
    /// anybody waits for an answer.
    pub(crate) async fn record_now(&self) -> Result<String, Failed> {
        let observed = self.clock.now();
        let look_back = self.flight.look_back();
        let (permit, span, short) = match self.budget.ask(NAME, Severity::Critical, f64::INFINITY).await {
            Grant::Full(permit) => (permit, look_back, None),
            Grant::Short(permit, most, why) => (permit, look_back.min(most), Some(why)),
            Grant::None(why) => {
                self.recorder.count_loss(LossReason::CaptureLimit, NAME, 1);
                return Err(Failed::Budget(why));
            }
        };
        let (frozen, cpu) = self.flight.freeze(Scope::Host, span).await?;
        let run = RunId::new();
        let reduced = short.as_ref().map(|why| format!(" (short: {why})")).unwrap_or_default();
        let said = format!("run {run}: the last {:.1} s are recorded{reduced}", frozen.lasted().as_secs_f64());
        let recording = Recording { frozen, short, run, observed, permit, cpu };
        self.supervisor.spawn("flight/record", OnEnd::Ignore, recording.complete(self.recorder.clone()));
        Ok(said)
    }
}

/// A record that was begun.
struct Recording {
    frozen: Frozen,
    short: Option<String>,
    run: RunId,
    observed: Moment,
    permit: Permit,
    /// What freezing took.
    cpu: Duration,
}

impl Recording {
    async fn complete(self, recorder: Recorder) -> Result<(), BoxError> {
        let Self { frozen, short, run, observed, mut permit, cpu } = self;
        let (profile, naming) = tokio::task::spawn_blocking(move || metered(|| frozen.name())).await??;
        let look = Look { profile, short };
        permit.spent(Cost { cpu: cpu + naming, bytes: look.bytes() });
        recorder.record(
            NAME,
            Record {
                run,
                kind: EventKind::Capture,
                severity: Cause::Demand.severity(),
                summary: look.summary("the machine"),
                explanation: Cause::Demand.explanation(),
                container: None,
                observed,
                data: look.data(),
                attachments: look.attachments(),
            },
        )?;
        Ok(())
    }
}
