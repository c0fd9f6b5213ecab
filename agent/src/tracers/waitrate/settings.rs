//! `[tracers.waitrate]`.

use std::time::Duration;

use galen_runtime::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{history::Windows, rule::Thresholds};
use crate::{
    containers::{Filter, InvalidRule, Qos, Rule},
    ticker::TICK,
    tracer::{OutOfRange, Percent, RawSettings, within},
};

/// Containers and services whose tasks wait for a CPU, with who held it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Whether waiting is counted all the time, which costs every context switch. Otherwise only once the machine shows
    /// that something waits.
    pub always_on: bool,
    /// Share of a second, in percent, in which some task of the machine waits, over which counting begins.
    pub arm_threshold: Percent,
    /// How long after the last such second counting ends.
    pub disarm_after: Span,
    /// Time over which waiting is judged, at least 2 s.
    pub window: Span,
    /// Length of an interval of the long window that it is judged by.
    pub sample_interval: Span,
    /// Intervals of the long window.
    pub samples: usize,
    /// Percentage points by which the rate, the share of the CPU time it wanted that a container did not get, has to be
    /// over its mean in the long window.
    pub min_waitrate: Percent,
    /// CPU time that is lost within a window and as good as none. Tasks that wait at the same time for one CPU lose it
    /// once.
    pub min_wait: Span,
    /// Whether waiting for tasks of the same container counts. It is told in any case.
    pub count_internal: bool,
    /// Whether time in which a quota keeps the container from running counts, once the container has been known for
    /// 30 s: many are throttled while they start. It is told in any case.
    pub count_throttled: bool,
    /// Standard deviations by which the rate has to be over its mean, by service level.
    pub spike_factor: ByLevel,
    /// Percentage points by which the rate has to rise from one window to the next, by service level.
    pub slope_threshold: ByLevel,
    /// How long a container that was told is left alone.
    pub interval_tracing: Span,
    /// How long a capture takes.
    pub run_tracing_tool_timeout: Span,
    /// Interferers that are named at most.
    pub max_interferers: usize,
    /// Rules for containers: if there are any, only those that match one are judged. The rest can be interferers still.
    pub include: Vec<Rule>,
    /// Rules for containers: those that match one are not judged.
    pub exclude: Vec<Rule>,
}

/// One value for each service level. What has no level counts as burstable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ByLevel {
    /// Of pods that are guaranteed what they ask for.
    pub guaranteed: f64,
    /// Of pods that are guaranteed a part, and of all that are no pods.
    pub burstable: f64,
    /// Of pods that are guaranteed nothing.
    pub best_effort: f64,
}

impl ByLevel {
    const DEFAULT: Self = Self { guaranteed: 30.0, burstable: 40.0, best_effort: 60.0 };

    pub(super) fn at(&self, level: Qos) -> f64 {
        match level {
            Qos::Guaranteed => self.guaranteed,
            Qos::Burstable => self.burstable,
            Qos::BestEffort => self.best_effort,
        }
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            always_on: false,
            arm_threshold: Percent::new(10),
            disarm_after: Span::from_secs(30),
            window: Span::from_secs(5),
            sample_interval: Span::from_secs(5),
            samples: 360,
            min_waitrate: Percent::new(20),
            min_wait: Span(Duration::from_millis(500)),
            count_internal: false,
            count_throttled: true,
            spike_factor: ByLevel::DEFAULT,
            slope_threshold: ByLevel::DEFAULT,
            interval_tracing: Span::from_secs(1800),
            run_tracing_tool_timeout: Span::from_secs(10),
            max_interferers: 10,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

impl RawSettings for Raw {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

/// Validated.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) always_on: bool,
    pub(super) arm_threshold: f64,
    pub(super) disarm_after: Duration,
    pub(super) windows: Windows,
    pub(super) thresholds: Thresholds,
    pub(super) cooldown: Duration,
    pub(super) capture: Duration,
    pub(super) max_interferers: usize,
    pub(super) filter: Filter,
}

/// What is wrong with a section.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    #[error(transparent)]
    Rule(#[from] InvalidRule),
}

impl TryFrom<Raw> for Settings {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        const HOUR: Span = Span::from_secs(3600);
        const SECOND: Span = Span::from_secs(1);
        within("disarm_after", raw.disarm_after, SECOND, HOUR)?;
        within("window", raw.window, Span(TICK * 2), Span::from_secs(60))?;
        within("sample_interval", raw.sample_interval, SECOND, Span::from_secs(60))?;
        within("samples", raw.samples, 1, 10_000)?;
        within("run_tracing_tool_timeout", raw.run_tracing_tool_timeout, SECOND, Span::from_secs(300))?;
        within("max_interferers", raw.max_interferers, 1, 100)?;
        for (key, levels) in [("spike_factor", raw.spike_factor), ("slope_threshold", raw.slope_threshold)] {
            for value in [levels.guaranteed, levels.burstable, levels.best_effort] {
                within(key, value, 0.0, 1e6)?;
            }
        }
        Ok(Self {
            always_on: raw.always_on,
            arm_threshold: raw.arm_threshold.get(),
            disarm_after: raw.disarm_after.0,
            windows: Windows {
                short: raw.window.0,
                interval: raw.sample_interval.0,
                samples: raw.samples,
                least_wait: raw.min_wait.0,
                count_internal: raw.count_internal,
                count_throttled: raw.count_throttled,
            },
            thresholds: Thresholds {
                least_rate: raw.min_waitrate.get(),
                spike: raw.spike_factor,
                slope: raw.slope_threshold,
            },
            cooldown: raw.interval_tracing.0,
            capture: raw.run_tracing_tool_timeout.0,
            max_interferers: raw.max_interferers,
            filter: Filter::new(&raw.include, &raw.exclude)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Settings::try_from(Raw::default()).is_ok());
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_its_key() {
        let cases = [
            (Raw { window: Span::from_secs(1), ..Raw::default() }, "`window` is 1s"),
            (Raw { samples: 0, ..Raw::default() }, "`samples` is 0"),
            (Raw { max_interferers: 0, ..Raw::default() }, "`max_interferers` is 0"),
            (
                Raw { spike_factor: ByLevel { burstable: -1.0, ..ByLevel::DEFAULT }, ..Raw::default() },
                "`spike_factor` is -1",
            ),
            (
                Raw { slope_threshold: ByLevel { best_effort: f64::NAN, ..ByLevel::DEFAULT }, ..Raw::default() },
                "`slope_threshold` is NaN",
            ),
        ];
        for (raw, text) in cases {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
