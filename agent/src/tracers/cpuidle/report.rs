//! What the trigger of a burst says.

use serde::Serialize;

use super::watch::Burst;
use crate::{
    burst::{Rule, Thresholds, Tick},
    cgroup::Version,
    flight::Told,
    tracer::round,
};

/// `data` of a trigger. Percentages are of the capacity; increases are against the window before, in percentage points.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    user_percent: f64,
    user_percent_threshold: f64,
    user_percent_delta: f64,
    user_percent_delta_threshold: f64,
    system_percent: f64,
    system_percent_threshold: f64,
    system_percent_delta: f64,
    system_percent_delta_threshold: f64,
    total_percent: f64,
    total_percent_threshold: f64,
    total_percent_delta: f64,
    total_percent_delta_threshold: f64,
    /// The rules that were met, the most exceeded first.
    rules: Vec<Rule>,
    /// Percentage points over the thresholds.
    score: f64,
    /// CPUs that the cgroup may use, and CPUs that it used in the window.
    capacity_cpus: f64,
    used_cpus: f64,
    window_seconds: f64,
    cgroup_version: u8,
    #[serde(flatten)]
    capture: Told,
    /// Usage from tick to tick, oldest first.
    recent: Vec<Tick>,
}

impl Trigger {
    pub(super) fn new(burst: &Burst, thresholds: &Thresholds, window_seconds: f64, capture: Told) -> Self {
        let (now, delta) = (burst.reading.now, burst.reading.delta);
        Self {
            user_percent: round(now.user),
            user_percent_threshold: thresholds.user.level,
            user_percent_delta: round(delta.user),
            user_percent_delta_threshold: thresholds.user.delta,
            system_percent: round(now.system),
            system_percent_threshold: thresholds.system.level,
            system_percent_delta: round(delta.system),
            system_percent_delta_threshold: thresholds.system.delta,
            total_percent: round(now.total),
            total_percent_threshold: thresholds.total.level,
            total_percent_delta: round(delta.total),
            total_percent_delta_threshold: thresholds.total.delta,
            rules: burst.verdict.rules.clone(),
            score: round(burst.verdict.score),
            capacity_cpus: round(burst.capacity.cpus()),
            used_cpus: round(burst.cpus),
            window_seconds,
            cgroup_version: match burst.version {
                Version::V1 => 1,
                Version::V2 => 2,
            },
            capture,
            recent: burst.recent.clone(),
        }
    }
}

/// What happened, to whom, by how much.
pub(super) fn trigger_summary(burst: &Burst, name: &str) -> String {
    let (now, delta) = (burst.reading.now, burst.reading.delta);
    let (what, level, rise) = match burst.verdict.rules.first() {
        Some(Rule::User) => ("user CPU", now.user, delta.user),
        Some(Rule::System) => ("kernel CPU", now.system, delta.system),
        Some(Rule::Total) | None => ("CPU", now.total, delta.total),
    };
    let capacity = round(burst.capacity.cpus());
    let unit = if capacity == 1.0 { "CPU" } else { "CPUs" };
    format!("{what} burst in {name}: {level:.0}% of {capacity} {unit}, up {rise:.0} points")
}

/// The rules that were met, with the values and the thresholds.
pub(super) fn explanation(burst: &Burst, thresholds: &Thresholds, window_seconds: f64) -> String {
    let (now, delta) = (burst.reading.now, burst.reading.delta);
    let rules = burst.verdict.rules.iter().map(|rule| {
        let (what, level, rise, threshold) = match rule {
            Rule::User => ("user time", now.user, delta.user, thresholds.user),
            Rule::System => ("time in the kernel", now.system, delta.system, thresholds.system),
            Rule::Total => ("CPU time", now.total, delta.total, thresholds.total),
        };
        format!(
            "{what} was {level:.1} % (rule: over {} %) and rose by {rise:.1} points (rule: over {})",
            threshold.level, threshold.delta
        )
    });
    let rules = rules.collect::<Vec<_>>().join("; ");
    let capacity = round(burst.capacity.cpus());
    format!("Of {capacity} CPUs, over {window_seconds} s against the {window_seconds} s before: {rules}.")
}
