//! `[tracers.cpusys]`.

use std::time::Duration;

use galen_runtime::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    burst::Threshold,
    ticker::TICK,
    tracer::{OutOfRange, Percent, RawSettings, within},
};

/// Bursts of the machine's time in the kernel, with CPU profiles of the seconds before and after, and who used it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Time over which the share is taken, at least 2 s. The window before it gives the increase.
    pub window: Span,
    /// Time in the kernel, in percent of the time of all CPUs, over which the rule is met.
    pub sys_threshold: Percent,
    /// Increase against the window before, in percentage points, that the rule needs too.
    pub delta_sys_threshold: Percent,
    /// How long the machine is left alone once it was captured.
    pub interval_tracing: Span,
    /// How long a capture takes.
    pub run_tracing_tool_timeout: Span,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span::from_secs(5),
            sys_threshold: Percent::new(45),
            delta_sys_threshold: Percent::new(20),
            interval_tracing: Span::from_secs(1800),
            run_tracing_tool_timeout: Span::from_secs(10),
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
    pub(super) threshold: Threshold,
    pub(super) cooldown: Duration,
    pub(super) capture: Duration,
}

impl TryFrom<Raw> for Settings {
    type Error = OutOfRange;

    fn try_from(raw: Raw) -> Result<Self, OutOfRange> {
        const HOUR: Span = Span::from_secs(3600);
        within("window", raw.window, Span(TICK * 2), HOUR)?;
        within("run_tracing_tool_timeout", raw.run_tracing_tool_timeout, Span::from_secs(1), HOUR)?;
        Ok(Self {
            window: raw.window.0,
            threshold: Threshold { level: raw.sys_threshold.get(), delta: raw.delta_sys_threshold.get() },
            cooldown: raw.interval_tracing.0,
            capture: raw.run_tracing_tool_timeout.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_refused_by_its_key() {
        assert!(Settings::try_from(Raw::default()).is_ok());
        let error = Settings::try_from(Raw { window: Span::from_secs(1), ..Raw::default() }).unwrap_err();
        assert_eq!(error.to_string(), "`window` is 1s: it must be from 2s to 1h");
    }
}
