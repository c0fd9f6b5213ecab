//! What the flight recorder holds, recorded because somebody asks for it.

use galen_profile::Scope;
use galen_proto::v1::{EventKind, Severity};

use super::{Error, Flight, report::Frozen};
use crate::{
    clock::Clock,
    recorder::{self, Record, Recorder, RunId},
};

/// As events name it, in the place of a tracer.
const NAME: &str = "flight";

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("there is nothing to record")]
    Freeze(#[from] Error),
    #[error(transparent)]
    Record(#[from] recorder::Error),
}

/// Freezes the last seconds of the whole machine. One line for whoever asked.
pub(crate) async fn record_now(flight: &Flight, recorder: &Recorder, clock: &Clock) -> Result<String, Failed> {
    let observed = clock.now();
    let frozen = Frozen(flight.freeze(Scope::Host, flight.look_back()).await?);
    let (run, summary) = (RunId::new(), frozen.summary("the machine"));
    let said = format!("run {run}: {summary}");
    recorder.record(
        NAME,
        Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Info,
            summary,
            explanation: "Somebody asked for it; no rule was met.".into(),
            container: None,
            observed,
            data: frozen.data(),
            attachments: frozen.attachments(),
        },
    )?;
    Ok(said)
}
