//! What was told of a case, against the truth.

use std::fmt;

use galen_proto::v1::{Event, EventKind};
use serde_json::Value;

use super::Truth;

/// What became of one truth.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub tracer: String,
    /// Seconds from the begin of the anomaly to the trigger; `None` if nothing was told.
    pub latency: Option<f64>,
    /// Whether the culprit is ranked first; `None` if the truth names none.
    pub culprit_first: Option<bool>,
    /// What was ranked first instead.
    pub instead: String,
    /// How often it was told.
    pub told: usize,
}

/// What became of a case.
#[derive(Debug, Clone)]
pub struct Score {
    pub case: String,
    pub outcomes: Vec<Outcome>,
    /// Summaries of what should not have been told.
    pub false_alarms: Vec<String>,
}

impl Score {
    /// Whether everything was told, once, with its culprit, and nothing else.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        let perfect = |outcome: &Outcome| outcome.told == 1 && outcome.culprit_first != Some(false);
        self.false_alarms.is_empty() && self.outcomes.iter().all(perfect)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<6} {:<32}", if self.is_perfect() { "ok" } else { "WRONG" }, self.case)?;
        for outcome in &self.outcomes {
            match outcome.latency {
                Some(latency) => write!(f, " {} after {latency:.1} s", outcome.tracer)?,
                None => write!(f, " {} told nothing", outcome.tracer)?,
            }
            if outcome.told > 1 {
                write!(f, ", {} times", outcome.told)?;
            }
            match outcome.culprit_first {
                Some(true) => write!(f, ", culprit first")?,
                Some(false) => write!(f, ", culprit not first but: {}", outcome.instead)?,
                None => {}
            }
        }
        self.false_alarms.iter().try_for_each(|alarm| write!(f, "\n       false alarm: {alarm}"))
    }
}

/// `began`: of the anomaly, in nanoseconds since 1970-01-01 UTC. `is` is what the culprit's text must contain.
pub(super) fn outcome(truth: &Truth, is: Option<&str>, began: i64, events: &[&Event]) -> Outcome {
    let observed = |event: &Event| event.times.as_ref().map_or(0, |times| times.observed_unix_nanos);
    let mut first: Vec<&&Event> = events.iter().filter(|event| event.kind() != EventKind::Capture).collect();
    first.sort_by_key(|event| observed(event));
    // The evidence of the first run: its capture, or the event itself where there is none.
    let run = first.first().map(|event| event.run_id.as_str());
    let of_run = || events.iter().filter(|event| Some(event.run_id.as_str()) == run);
    let evidence = of_run().find(|event| event.kind() == EventKind::Capture).or_else(|| of_run().next());
    let ranked = truth.culprit.as_ref().zip(evidence).map(|(culprit, evidence)| {
        let data: Value = serde_json::from_slice(&evidence.data).unwrap_or_default();
        data.pointer(&culprit.at)
            .map_or_else(|| "nothing".into(), |value| value.as_str().map_or(value.to_string(), Into::into))
    });
    Outcome {
        tracer: truth.tracer.clone(),
        latency: first.first().map(|event| (observed(event) - began) as f64 / 1e9),
        culprit_first: is.map(|is| ranked.as_ref().is_some_and(|ranked| ranked.contains(is))),
        instead: ranked.unwrap_or_default(),
        told: first.len(),
    }
}
