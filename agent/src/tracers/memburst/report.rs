//! What the events of a burst say.

use serde::Serialize;

use super::{
    processes::Holder,
    rule::{Against, Burst, Thresholds},
};
use crate::{
    cgroup::MemoryUse,
    meminfo::Memory,
    tracer::{Cause, round},
};

/// `data` of a trigger.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    /// What cannot be given back, now and before: anonymous and shared memory.
    anon_bytes: u64,
    anon_before_bytes: u64,
    /// What "before" was.
    compared_with: Against,
    within_seconds: f64,
    growth_percent: f64,
    growth_percent_threshold: f64,
    /// Share of what may be used.
    anon_percent: f64,
    anon_percent_threshold: f64,
    /// What may be used: of the machine, or the cgroup's limit.
    capacity_bytes: u64,
    window_seconds: f64,
    now: MemoryUse,
    before: MemoryUse,
    /// What grew most: `anon`, `file` or `shmem`.
    grew: &'static str,
    /// Of the machine.
    memory: Memory,
    /// Whether a capture follows, and if not, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    /// Those that grew most first.
    pub processes: Vec<Holder>,
    /// Time over which growth was measured; 0 if nothing was known before.
    pub growth_seconds: f64,
    /// Of the machine.
    pub memory: Memory,
}

impl Trigger {
    pub(super) fn new(
        burst: &Burst,
        thresholds: &Thresholds,
        window_seconds: f64,
        memory: Memory,
        no_capture: Option<String>,
    ) -> Self {
        Self {
            anon_bytes: burst.now.held,
            anon_before_bytes: burst.before.held,
            compared_with: burst.against,
            within_seconds: round(burst.within.as_secs_f64()),
            growth_percent: round(burst.growth_percent),
            growth_percent_threshold: thresholds.growth,
            anon_percent: round(burst.share_percent),
            anon_percent_threshold: thresholds.share,
            capacity_bytes: burst.capacity,
            window_seconds,
            now: burst.now.used,
            before: burst.before.used,
            grew: grew(&burst.before.used, &burst.now.used),
            memory,
            capture: no_capture.is_none(),
            no_capture_because: no_capture,
        }
    }
}

pub(super) fn summary(burst: &Burst, whose: Option<&str>) -> String {
    format!(
        "memory burst{}: {} that cannot be given back, {:.0}% of {}, up from {} in {:.0} s",
        whose.map(|name| format!(" in {name}")).unwrap_or_default(),
        bytes(burst.now.held),
        burst.share_percent,
        whose.map_or("the machine", |_| "its limit"),
        bytes(burst.before.held),
        burst.within.as_secs_f64()
    )
}

/// The rule, the values and the thresholds.
pub(super) fn explanation(burst: &Burst, thresholds: &Thresholds) -> String {
    format!(
        "Anonymous and shared memory was {:.1} % of the {} that may be used (rule: {} % or more), up from {} {:.0} s \
         before (rule: by {} % or more).",
        burst.share_percent,
        bytes(burst.capacity),
        thresholds.share,
        bytes(burst.before.held),
        burst.within.as_secs_f64(),
        thresholds.growth
    )
}

pub(super) fn capture_summary(processes: &[Holder], cause: Cause) -> String {
    let what = match cause {
        Cause::Rule => "memory burst",
        Cause::Demand => "memory",
    };
    match processes.first() {
        Some(Holder { name, pid, growth_bytes, rss_bytes, .. }) => {
            let grown = bytes(u64::try_from(*growth_bytes).unwrap_or(0));
            format!("{what}: {name} ({pid}) grew by {grown} to {}", bytes(*rss_bytes))
        }
        None => format!("{what}: no process of it is left"),
    }
}

fn grew(before: &MemoryUse, now: &MemoryUse) -> &'static str {
    let growth = [
        ("anon", now.anon_bytes.saturating_sub(before.anon_bytes)),
        ("file", now.file_bytes.saturating_sub(before.file_bytes)),
        ("shmem", now.shmem_bytes.saturating_sub(before.shmem_bytes)),
    ];
    growth.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("anon", |(kind, _)| kind)
}

fn bytes(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    let (unit, name) = if bytes >= GIB { (GIB, "GiB") } else { (1 << 20, "MiB") };
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}
