//! What the events of a burst say.

use serde::Serialize;

use super::culprits::Culprits;
use crate::{
    burst::{Reading, Threshold, Tick},
    flight::{Data, Told},
    tracer::round,
};

/// `data` of a trigger: percentages are of the time of all CPUs, increases in percentage points.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    system_percent: f64,
    system_percent_threshold: f64,
    system_percent_delta: f64,
    system_percent_delta_threshold: f64,
    window_seconds: f64,
    cpus: u32,
    #[serde(flatten)]
    capture: Told,
    /// The share from tick to tick, oldest first.
    recent: Vec<Tick>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    #[serde(flatten)]
    pub profile: Data,
    pub system_time: Culprits,
}

/// The rule, and what it was met by.
pub(super) struct Burst {
    pub reading: Reading,
    pub threshold: Threshold,
    pub window_seconds: f64,
    pub cpus: u32,
    pub recent: Vec<Tick>,
}

impl Burst {
    pub(super) fn data(&self, capture: Told) -> Trigger {
        Trigger {
            system_percent: round(self.reading.now.system),
            system_percent_threshold: self.threshold.level,
            system_percent_delta: round(self.reading.delta.system),
            system_percent_delta_threshold: self.threshold.delta,
            window_seconds: self.window_seconds,
            cpus: self.cpus,
            capture,
            recent: self.recent.clone(),
        }
    }

    pub(super) fn score(&self) -> f64 {
        self.threshold.exceeded(self.reading.now.system, self.reading.delta.system).unwrap_or_default()
    }

    pub(super) fn summary(&self) -> String {
        let Reading { now, delta } = self.reading;
        format!("kernel CPU burst: {:.0}% of {} CPUs, up {:.0} points", now.system, self.cpus, delta.system)
    }

    pub(super) fn explanation(&self) -> String {
        let Self { reading: Reading { now, delta }, threshold, window_seconds: window, cpus, .. } = self;
        format!(
            "Of {cpus} CPUs, over {window} s against the {window} s before: time in the kernel was {:.1} % (rule: over {} \
             %) and rose by {:.1} points (rule: over {}).",
            now.system, threshold.level, delta.system, threshold.delta
        )
    }
}
