//! `[tracers.memburst]`.

use std::time::Duration;

use galen_runtime::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::Thresholds;
use crate::{
    ticker::TICK,
    tracer::{OutOfRange, Percent, RawSettings, within},
};

/// Bursts of memory that cannot be given back, of the host and of each workload, with the processes that grew.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// How far back memory is compared with. Until so much has passed since the start: with the least seen.
    pub window: Span,
    /// Growth within the window, in percent of what there was, from which the rule is met: 100 is twice as much.
    pub delta_memory_burst: Percent,
    /// Anonymous and shared memory, in percent of the machine's memory or of the cgroup's limit, from which the rule is
    /// met; it needs both.
    pub delta_anon_threshold: Percent,
    /// How long a cgroup, or the host, that was told is left alone.
    pub interval_tracing: Span,
    /// Processes that are told, those that grew most first.
    pub dump_process_max_num: usize,
    /// Cgroups that are watched at most.
    pub max_cgroups: usize,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span::from_secs(600),
            delta_memory_burst: Percent::new(100),
            delta_anon_threshold: Percent::new(70),
            interval_tracing: Span::from_secs(1800),
            dump_process_max_num: 10,
            max_cgroups: 4096,
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
    pub(super) processes: usize,
    pub(super) max_cgroups: usize,
}

impl TryFrom<Raw> for Settings {
    type Error = OutOfRange;

    fn try_from(raw: Raw) -> Result<Self, OutOfRange> {
        within("window", raw.window, Span(TICK * 2), Span::from_secs(3600))?;
        within("dump_process_max_num", raw.dump_process_max_num, 1, 1000)?;
        within("max_cgroups", raw.max_cgroups, 1, 1 << 20)?;
        Ok(Self {
            window: raw.window.0,
            thresholds: Thresholds { growth: raw.delta_memory_burst.get(), share: raw.delta_anon_threshold.get() },
            cooldown: raw.interval_tracing.0,
            processes: raw.dump_process_max_num,
            max_cgroups: raw.max_cgroups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_what_is_out_of_range_is_refused() {
        assert!(Settings::try_from(Raw::default()).is_ok());
        assert!(Settings::try_from(Raw { window: Span::from_secs(1), ..Raw::default() }).is_err());
        assert!(Settings::try_from(Raw { dump_process_max_num: 0, ..Raw::default() }).is_err());
    }
}
