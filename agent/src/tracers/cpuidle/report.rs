//! What the events of a burst say.

use galen_profile::{Profile, Summary};
use serde::Serialize;

use super::{
    rule::{Rule, Thresholds},
    watch::Burst,
};
use crate::cgroup::Version;

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
    /// Whether a capture follows, and if not, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    /// Samples in the profile, and of these the ones taken while the kernel ran.
    samples: u64,
    kernel_samples: u64,
    kernel_percent: f64,
    stacks: u64,
    lost: Lost,
    user_stacks: UserStacks,
    duration_seconds: f64,
    frequency_hertz: f64,
    /// CPUs that the samples stand for.
    cpus: f64,
    /// Whether the agent was stopped before the capture was complete.
    cut_short: bool,
    /// By samples in the function itself.
    hottest_functions: Vec<HotFunction>,
    hottest_stacks: Vec<HotStack>,
}

/// Samples that are not in the profile.
#[derive(Debug, Serialize)]
struct Lost {
    total: u64,
    ring_full: u64,
    table_full: u64,
    bad_record: u64,
}

/// How far the program's side of the samples could be walked.
#[derive(Debug, Serialize)]
struct UserStacks {
    whole: u64,
    truncated: u64,
    process_gone: u64,
    unreadable: u64,
    kernel_thread: u64,
}

#[derive(Debug, Serialize)]
struct HotFunction {
    name: String,
    own_percent: f64,
    total_percent: f64,
}

#[derive(Debug, Serialize)]
struct HotStack {
    comm: String,
    percent: f64,
    /// The innermost first.
    frames: Vec<String>,
}

impl Trigger {
    pub(super) fn new(burst: &Burst, thresholds: &Thresholds, window_seconds: f64, no_capture: Option<String>) -> Self {
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
            capture: no_capture.is_none(),
            no_capture_because: no_capture,
        }
    }
}

impl Capture {
    pub(super) fn new(summary: &Summary, cut_short: bool) -> Self {
        let share = |samples: u64| percent(samples, summary.samples);
        let (lost, user) = (&summary.lost, &summary.user_stacks);
        let seconds = summary.lasted.as_secs_f64();
        Self {
            samples: summary.samples,
            kernel_samples: summary.kernel_samples,
            kernel_percent: share(summary.kernel_samples),
            stacks: summary.stacks,
            lost: Lost {
                total: lost.total(),
                ring_full: lost.ring_full,
                table_full: lost.table_full,
                bad_record: lost.bad_record,
            },
            user_stacks: UserStacks {
                whole: user.whole,
                truncated: user.truncated,
                process_gone: user.process_gone,
                unreadable: user.unreadable,
                kernel_thread: user.kernel_thread,
            },
            duration_seconds: round(seconds),
            frequency_hertz: round(summary.hertz()),
            cpus: round(summary.cpus()),
            cut_short,
            hottest_functions: summary
                .hottest_functions
                .iter()
                .map(|function| HotFunction {
                    name: function.name.clone(),
                    own_percent: share(function.own),
                    total_percent: share(function.total),
                })
                .collect(),
            hottest_stacks: summary
                .hottest_stacks
                .iter()
                .map(|stack| HotStack {
                    comm: stack.comm.clone(),
                    percent: share(stack.samples),
                    frames: stack.frames.clone(),
                })
                .collect(),
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

pub(super) fn capture_summary(profile: &Profile, name: &str) -> String {
    let summary = &profile.summary;
    let hottest = summary.hottest_functions.first();
    let hottest =
        hottest.map(|function| format!(", {:.0}% in {}", percent(function.own, summary.samples), function.name));
    format!(
        "CPU profile of {name}: {} samples in {:.1} s{}",
        summary.samples,
        summary.lasted.as_secs_f64(),
        hottest.unwrap_or_default()
    )
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

/// Two decimals are more than the counters are worth.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
