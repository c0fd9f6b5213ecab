//! `[tracers.cpuidle]`.

use std::time::Duration;

use galen_bpf::cpu_profile::SLOTS;
use galen_runtime::Span;
use regex::{RegexSet, RegexSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::{Threshold, Thresholds};
use crate::{
    ticker::TICK,
    tracer::{Percent, RawSettings},
};

/// CPU bursts of containers, services and plain cgroups, with a CPU profile of the seconds after.
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
    /// Samples a second and CPU.
    pub frequency: u32,
    /// Captures that may run at one time. A burst that finds no room is told and counted without its profile.
    pub max_concurrent_captures: usize,
    /// Cgroups that are watched at most.
    pub max_cgroups: usize,
    /// Regular expressions on the cgroup's path: if there are any, only cgroups that match one are watched.
    pub include: Vec<String>,
    /// Regular expressions on the cgroup's path: cgroups that match one are not watched.
    pub exclude: Vec<String>,
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
            frequency: 99,
            max_concurrent_captures: 4,
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
    pub(super) hertz: u32,
    pub(super) max_concurrent_captures: usize,
    pub(super) max_cgroups: usize,
    include: RegexSet,
    exclude: RegexSet,
}

impl Settings {
    /// Whether the cgroup is to be watched.
    pub(super) fn selects(&self, path: &str) -> bool {
        (self.include.is_empty() || self.include.is_match(path)) && !self.exclude.is_match(path)
    }
}

/// What is wrong with a section.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    #[error("`{key}` is {value}: it must be from {least} to {most}")]
    OutOfRange { key: &'static str, value: String, least: String, most: String },
    #[error("`{key}` holds a regular expression that is wrong: {source}")]
    Pattern {
        key: &'static str,
        #[source]
        source: regex::Error,
    },
}

impl TryFrom<Raw> for Settings {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        const HOUR: Span = Span::from_secs(3600);
        within("window", raw.window, Span(TICK * 2), HOUR)?;
        within("run_tracing_tool_timeout", raw.run_tracing_tool_timeout, Span::from_secs(1), HOUR)?;
        within("frequency", raw.frequency, 1, 10_000)?;
        within("max_concurrent_captures", raw.max_concurrent_captures, 1, SLOTS)?;
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
            hertz: raw.frequency,
            max_concurrent_captures: raw.max_concurrent_captures,
            max_cgroups: raw.max_cgroups,
            include: patterns("include", &raw.include)?,
            exclude: patterns("exclude", &raw.exclude)?,
        })
    }
}

fn within<T: PartialOrd + ToString>(key: &'static str, value: T, least: T, most: T) -> Result<(), Invalid> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Invalid::OutOfRange { key, value: value.to_string(), least: least.to_string(), most: most.to_string() })
}

fn patterns(key: &'static str, list: &[String]) -> Result<RegexSet, Invalid> {
    RegexSetBuilder::new(list).build().map_err(|source| Invalid::Pattern { key, source })
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
            (Raw { frequency: 0, ..Raw::default() }, "`frequency` is 0"),
            (Raw { max_concurrent_captures: 0, ..Raw::default() }, "`max_concurrent_captures` is 0"),
            (Raw { exclude: vec!["(".into()], ..Raw::default() }, "`exclude` holds"),
        ];
        for (raw, text) in cases {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }

    #[test]
    fn include_narrows_and_exclude_takes_away() {
        let settings = |include: &[&str], exclude: &[&str]| {
            let text = |list: &[&str]| list.iter().map(|pattern| (*pattern).to_owned()).collect();
            Settings::try_from(Raw { include: text(include), exclude: text(exclude), ..Raw::default() }).unwrap()
        };
        assert!(settings(&[], &[]).selects("/a"));
        assert!(settings(&["^/docker/"], &[]).selects("/docker/x"));
        assert!(!settings(&["^/docker/"], &[]).selects("/a"));
        assert!(!settings(&["^/docker/"], &["x$"]).selects("/docker/x"));
    }
}
