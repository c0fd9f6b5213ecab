//! `[tracers.cpuidle]`.

use std::time::Duration;

use galen_runtime::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    burst::{Threshold, Thresholds},
    containers::{Filter, InvalidRule, Rule},
    ticker::TICK,
    tracer::{OutOfRange, Percent, RawSettings, within},
};

/// CPU bursts of containers, services and plain cgroups, with CPU profiles of the seconds before and after.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Time over which usage is averaged, at least 2 s. The window before it gives the increase.
    pub window: Span,
    /// User time, in percent of what the cgroup may use, over which the user rule is met.
    pub user_threshold: Percent,
    /// Increase of user time against the window before, in percentage points, that the user rule needs too.
    pub delta_user_threshold: Percent,
    /// As `user_threshold`, for time in the kernel.
    pub sys_threshold: Percent,
    /// As `delta_user_threshold`, for time in the kernel.
    pub delta_sys_threshold: Percent,
    /// As `user_threshold`, for both together.
    pub usage_threshold: Percent,
    /// As `delta_user_threshold`, for both together.
    pub delta_usage_threshold: Percent,
    /// How long a cgroup that was captured is left alone.
    pub interval_tracing: Span,
    /// How long a capture takes.
    pub run_tracing_tool_timeout: Span,
    /// Cgroups that are watched at most.
    pub max_cgroups: usize,
    /// Rules for containers: if there are any, only those that match one are watched.
    pub include: Vec<Rule>,
    /// Rules for containers: those that match one are not watched.
    pub exclude: Vec<Rule>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span::from_secs(5),
            user_threshold: Percent::new(75),
            delta_user_threshold: Percent::new(45),
            sys_threshold: Percent::new(45),
            delta_sys_threshold: Percent::new(20),
            usage_threshold: Percent::new(90),
            delta_usage_threshold: Percent::new(55),
            interval_tracing: Span::from_secs(1800),
            run_tracing_tool_timeout: Span::from_secs(10),
            max_cgroups: 4096,
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
    pub(super) window: Duration,
    pub(super) thresholds: Thresholds,
    pub(super) cooldown: Duration,
    pub(super) capture: Duration,
    pub(super) max_cgroups: usize,
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
        within("window", raw.window, Span(TICK * 2), HOUR)?;
        within("run_tracing_tool_timeout", raw.run_tracing_tool_timeout, Span::from_secs(1), HOUR)?;
        within("max_cgroups", raw.max_cgroups, 1, 1 << 20)?;
        Ok(Self {
            window: raw.window.0,
            thresholds: Thresholds {
                user: Threshold { level: raw.user_threshold.get(), delta: raw.delta_user_threshold.get() },
                system: Threshold { level: raw.sys_threshold.get(), delta: raw.delta_sys_threshold.get() },
                total: Threshold { level: raw.usage_threshold.get(), delta: raw.delta_usage_threshold.get() },
            },
            cooldown: raw.interval_tracing.0,
            capture: raw.run_tracing_tool_timeout.0,
            max_cgroups: raw.max_cgroups,
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
            (Raw { max_cgroups: 0, ..Raw::default() }, "`max_cgroups` is 0"),
        ];
        for (raw, text) in cases {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
