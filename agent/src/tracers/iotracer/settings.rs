//! `[tracers.iotracer]`.

use std::time::Duration;

use galen_runtime::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::Thresholds;
use crate::{
    ticker::TICK,
    tracer::{OutOfRange, Percent, RawSettings, within},
};

/// Disks that are saturated or slow, with who reads and writes and what waits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Time over which a disk is judged, at least 2 s. A rule has to be met in two windows in a row.
    pub window: Span,
    /// Share of time in which a disk had something to do, in percent, over which the rule is met.
    pub util_threshold: Percent,
    /// Bytes read in a second over which the rule is met. Only for NVMe disks, and only if they are over
    /// `util_threshold` too.
    pub rbps_threshold: Size,
    /// As `rbps_threshold`, for writing.
    pub wbps_threshold: Size,
    /// Mean time that a read or a write takes, over which the rule is met.
    pub await_threshold: Span,
    /// How long a disk that was captured is left alone.
    pub interval_tracing: Span,
    /// How long a capture takes.
    pub run_tracing_tool_timeout: Span,
    /// Processes that are told, those with the most bytes on the disk first. The attachment holds all.
    pub max_proc_dump: usize,
    /// Files that are told of each process.
    pub max_files_per_proc_dump: usize,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span::from_secs(5),
            util_threshold: Percent::new(90),
            rbps_threshold: Size::mib(2000),
            wbps_threshold: Size::mib(1500),
            await_threshold: Span::from_millis(100),
            interval_tracing: Span::from_secs(1800),
            run_tracing_tool_timeout: Span::from_secs(10),
            max_proc_dump: 10,
            max_files_per_proc_dump: 5,
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
    pub(super) processes: usize,
    pub(super) files: usize,
}

impl TryFrom<Raw> for Settings {
    type Error = OutOfRange;

    fn try_from(raw: Raw) -> Result<Self, OutOfRange> {
        const HOUR: Span = Span::from_secs(3600);
        within("window", raw.window, Span(TICK * 2), HOUR)?;
        within("run_tracing_tool_timeout", raw.run_tracing_tool_timeout, Span::from_secs(1), HOUR)?;
        within("max_proc_dump", raw.max_proc_dump, 1, 1000)?;
        within("max_files_per_proc_dump", raw.max_files_per_proc_dump, 1, 1000)?;
        Ok(Self {
            window: raw.window.0,
            thresholds: Thresholds {
                utilisation: raw.util_threshold.get(),
                read: raw.rbps_threshold.0 as f64,
                written: raw.wbps_threshold.0 as f64,
                wait: raw.await_threshold.0,
            },
            cooldown: raw.interval_tracing.0,
            capture: raw.run_tracing_tool_timeout.0,
            processes: raw.max_proc_dump,
            files: raw.max_files_per_proc_dump,
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
            (Raw { max_proc_dump: 1001, ..Raw::default() }, "`max_proc_dump` is 1001"),
            (Raw { max_files_per_proc_dump: 0, ..Raw::default() }, "`max_files_per_proc_dump` is 0"),
        ];
        for (raw, text) in cases {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
