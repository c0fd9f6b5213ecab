//! What the flight recorder holds, recorded because somebody asks for it.

use galen_profile::Scope;
use galen_proto::v1::{EventKind, LossReason, Severity};

use super::{Error, Flight, report::Frozen};
use crate::{
    budget::{Budget, Cost, Grant},
    clock::Clock,
    recorder::{self, Record, Recorder, RunId},
    tracer::Cause,
};

/// As events and the budget name it, in the place of a tracer.
const NAME: &str = "flight";

/// What a record is made from.
pub(crate) struct Desk {
    pub(crate) flight: Flight,
    pub(crate) budget: Budget,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("nothing is recorded: {0}")]
    Budget(String),
    #[error("there is nothing to record")]
    Freeze(#[from] Error),
    #[error(transparent)]
    Record(#[from] recorder::Error),
}

impl Desk {
    /// Freezes the last seconds of the whole machine, as many as the budget allows. One line for whoever asked, who goes
    /// before those that ask by a rule.
    pub(crate) async fn record_now(&self) -> Result<String, Failed> {
        let observed = self.clock.now();
        let look_back = self.flight.look_back();
        let (mut permit, span, short) = match self.budget.ask(NAME, Severity::Critical, f64::INFINITY).await {
            Grant::Full(permit) => (permit, look_back, None),
            Grant::Short(permit, most, why) => (permit, look_back.min(most), Some(why)),
            Grant::None(why) => {
                self.recorder.count_loss(LossReason::CaptureLimit, NAME, 1);
                return Err(Failed::Budget(why));
            }
        };
        let (profile, cpu) = self.flight.freeze(Scope::Host, span).await?;
        let frozen = Frozen { profile, short };
        permit.spent(Cost { cpu, bytes: frozen.bytes() });
        let (run, summary) = (RunId::new(), frozen.summary("the machine"));
        let said = format!("run {run}: {summary}");
        self.recorder.record(
            NAME,
            Record {
                run,
                kind: EventKind::Capture,
                severity: Cause::Demand.severity(),
                summary,
                explanation: Cause::Demand.explanation(),
                container: None,
                observed,
                data: frozen.data(),
                attachments: frozen.attachments(),
            },
        )?;
        Ok(said)
    }
}
