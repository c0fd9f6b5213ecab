//! `[tracers.dload]`.

use std::time::Duration;

use galen_runtime::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issues::{Issue, Issues};
use crate::{
    containers::{Filter, InvalidRule, Rule},
    ticker::TICK,
    tracer::{OutOfRange, RawSettings, within},
};

/// Tasks stuck in uninterruptible sleep (state D) in a container, a service, a plain cgroup or on the host, with their
/// kernel stacks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Whether the tracer runs.
    pub enabled: bool,
    /// Average number of tasks in uninterruptible sleep over which the rule is met.
    pub threshold_load: f64,
    /// Time constant of the exponential average: the load average of one minute has one of a minute.
    pub average_over: Span,
    /// How often it is looked at whose tasks they are, while there are no more of them than `threshold_load` on the
    /// whole machine. While there are more: each second.
    pub interval: Span,
    /// How long a container that was told is left alone.
    pub interval_tracing: Span,
    /// Names for stacks of your own, before those that the agent knows: the first whose regular expression (`pattern`)
    /// matches a stack is its known issue (`name`). It is matched as one text: the functions, the innermost first,
    /// joined by ` < `.
    pub issues_list: Vec<Issue>,
    /// Rules for containers: if there are any, only those that match one are told, and the host.
    pub include: Vec<Rule>,
    /// Rules for containers: those that match one are not told.
    pub exclude: Vec<Rule>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold_load: 5.0,
            average_over: Span::from_secs(60),
            interval: Span::from_secs(5),
            interval_tracing: Span::from_secs(1800),
            issues_list: Vec::new(),
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
    pub(super) threshold: f64,
    pub(super) average_over: Duration,
    pub(super) interval: Duration,
    pub(super) cooldown: Duration,
    pub(super) issues: Issues,
    pub(super) filter: Filter,
}

/// What is wrong with a section.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    #[error("`threshold_load` is {0}: it must be 0 or more")]
    Threshold(f64),
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    #[error("`issues_list`: the pattern of `{name}` is no regular expression: {source}")]
    Pattern {
        name: String,
        #[source]
        source: regex::Error,
    },
    #[error(transparent)]
    Rule(#[from] InvalidRule),
}

impl TryFrom<Raw> for Settings {
    type Error = Invalid;

    fn try_from(raw: Raw) -> Result<Self, Invalid> {
        if !(raw.threshold_load.is_finite() && raw.threshold_load >= 0.0) {
            return Err(Invalid::Threshold(raw.threshold_load));
        }
        for (key, value) in [("average_over", raw.average_over), ("interval", raw.interval)] {
            within(key, value, Span(TICK), Span::from_secs(3600))?;
        }
        Ok(Self {
            threshold: raw.threshold_load,
            average_over: raw.average_over.0,
            interval: raw.interval.0,
            cooldown: raw.interval_tracing.0,
            issues: Issues::new(&raw.issues_list)?,
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
        let broken = Issue { name: "broken".into(), pattern: "(".into() };
        let cases = [
            (Raw { threshold_load: -1.0, ..Raw::default() }, "`threshold_load` is -1"),
            (Raw { threshold_load: f64::NAN, ..Raw::default() }, "`threshold_load` is NaN"),
            (Raw { interval: Span::from_secs(0), ..Raw::default() }, "`interval` is 0s"),
            (Raw { average_over: Span::from_secs(7200), ..Raw::default() }, "`average_over` is 2h"),
            (Raw { issues_list: vec![broken], ..Raw::default() }, "`issues_list`: the pattern of `broken`"),
        ];
        for (raw, text) in cases {
            let error = Settings::try_from(raw).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
