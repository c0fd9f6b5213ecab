//! What the events say.

use std::time::Duration;

use galen_proto::v1::Container;
use serde::Serialize;

use super::{
    processes::Busy,
    rule::Warning,
    settings::Settings,
    tally::{Kind, Time},
    watch::Waiting,
};
use crate::{containers::Qos, tracer::round};

/// `data` of a trigger. Increases are in points.
#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    /// Percent of the CPU time that was wanted, kept from it by others and by quotas.
    curr_waitrate: f64,
    /// Of the long window.
    mean: f64,
    std: f64,
    /// What `curr_waitrate` was compared with.
    rel_waitrate_thres: f64,
    curr_slope: f64,
    slope_thres: f64,
    warn_type: Warning,
    /// What was waited for most.
    kind: Kind,
    #[serde(flatten)]
    split: Split,
    interferer_list: Vec<Interferer>,
    service_level: Qos,
    window_seconds: f64,
    /// Intervals that the long window holds.
    samples: usize,
    /// Whether a capture follows, and if not, or if a short one, why.
    capture: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_capture_because: Option<String>,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
pub(super) struct Capture {
    /// Of the trigger.
    trigger_waitrate: f64,
    kind: Kind,
    #[serde(flatten)]
    split: Split,
    interferer_list: Vec<Interferer>,
    duration_seconds: f64,
    /// Whether the agent was stopped before the capture was complete.
    cut_short: bool,
    /// Seconds before the trigger, as far as waiting was counted, and after it.
    before: Vec<Second>,
    after: Vec<Second>,
}

/// `data` of a capture that was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Counted {
    /// Those that waited most first.
    pub workloads: Vec<Waiter>,
    /// Workloads that waited and are not among them.
    pub more_workloads: usize,
    /// Time in which waiting was counted.
    pub duration_seconds: f64,
    /// Whether the agent was stopped before the capture was complete.
    pub cut_short: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_capture_because: Option<String>,
}

/// One that waited, and for whom.
#[derive(Debug, Serialize)]
pub(super) struct Waiter {
    name: String,
    cgroup: String,
    #[serde(flatten)]
    split: Split,
    interferer_list: Vec<Interferer>,
}

/// Where the time of the tasks went. Percentages are of all of it, running and waiting.
#[derive(Debug, Serialize)]
struct Split {
    internal_percent: f64,
    external_percent: f64,
    throttled_percent: f64,
    latency_percent: f64,
    run_ms: f64,
    internal_ms: f64,
    external_ms: f64,
    throttled_ms: f64,
    latency_ms: f64,
    /// CPU time that was lost, however many tasks waited for it at a time.
    external_cpu_ms: f64,
    throttled_cpu_ms: f64,
}

/// Who held the CPU while others waited for it.
#[derive(Debug, Serialize)]
pub(super) struct Interferer {
    name: String,
    cgroup: String,
    runtime: String,
    share_percent: f64,
    held_ms: f64,
    /// The busiest, where it is the host that held it most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<Busy>,
}

#[derive(Debug, Serialize)]
struct Second {
    /// Its end, from the trigger.
    at_seconds: f64,
    run_ms: f64,
    internal_ms: f64,
    external_ms: f64,
    throttled_ms: f64,
    latency_ms: f64,
}

impl Trigger {
    pub(super) fn new(
        waiting: &Waiting,
        settings: &Settings,
        interferer_list: Vec<Interferer>,
        capture: bool,
        no_capture_because: Option<String>,
    ) -> Self {
        let Waiting { reading, verdict, .. } = waiting;
        Self {
            curr_waitrate: round(reading.rate),
            mean: round(reading.mean),
            std: round(reading.std),
            rel_waitrate_thres: round(verdict.rate_threshold),
            curr_slope: round(reading.slope),
            slope_thres: verdict.slope_threshold,
            warn_type: verdict.warning,
            kind: reading.kind,
            split: Split::new(&reading.time),
            interferer_list,
            service_level: verdict.level,
            window_seconds: settings.windows.short.as_secs_f64(),
            samples: reading.samples,
            capture,
            no_capture_because,
        }
    }
}

impl Capture {
    pub(super) fn new(
        waiting: &Waiting,
        trigger: Duration,
        length: Duration,
        after: &[(Duration, Time)],
        sum: &Time,
        interferer_list: Vec<Interferer>,
    ) -> Self {
        let end = after.last().map_or(trigger, |(end, _)| *end);
        let row = |(end, time): &(Duration, Time)| Second::new(end.as_secs_f64() - trigger.as_secs_f64(), time);
        Self {
            trigger_waitrate: round(waiting.reading.rate),
            kind: waiting.reading.kind,
            split: Split::new(sum),
            interferer_list,
            duration_seconds: round(end.saturating_sub(trigger).as_secs_f64()),
            cut_short: end + Duration::from_millis(500) < trigger + length,
            before: waiting.before.iter().map(row).collect(),
            after: after.iter().map(row).collect(),
        }
    }
}

impl Waiter {
    pub(super) fn new(container: Container, time: &Time, interferer_list: Vec<Interferer>) -> Self {
        let name = if container.cgroup == "/" { "host".into() } else { container.name };
        Self { name, cgroup: container.cgroup, split: Split::new(time), interferer_list }
    }
}

impl Counted {
    /// Who waited most, and for whom.
    pub(super) fn summary(&self) -> String {
        let Some(first) = self.workloads.first() else {
            return format!("no workload waited for a CPU in {:.0} s", self.duration_seconds);
        };
        let Split { external_percent, throttled_percent, internal_percent, .. } = first.split;
        let held = first.interferer_list.first();
        let held = held.map(|held| format!(", {:.0}% of it by {}", held.share_percent, held.name)).unwrap_or_default();
        format!(
            "in {:.0} s {} waited most: {external_percent:.0}% for others{held}, {throttled_percent:.0}% throttled, {internal_percent:.0}% for itself",
            self.duration_seconds, first.name
        )
    }
}

impl Split {
    fn new(time: &Time) -> Self {
        let percent = |part| round(time.percent(part));
        Self {
            internal_percent: percent(time.internal),
            external_percent: percent(time.external),
            throttled_percent: percent(time.throttled),
            latency_percent: percent(time.latency),
            run_ms: ms(time.run),
            internal_ms: ms(time.internal),
            external_ms: ms(time.external),
            throttled_ms: ms(time.throttled),
            latency_ms: ms(time.latency),
            external_cpu_ms: ms(time.external_cpu),
            throttled_cpu_ms: ms(time.throttled_cpu),
        }
    }
}

impl Interferer {
    pub(super) fn new(container: Container, held: Duration, share: f64) -> Self {
        let host = container.cgroup == "/";
        Self {
            name: if host { "host".into() } else { container.name },
            cgroup: container.cgroup,
            runtime: if host { "host".into() } else { container.runtime },
            share_percent: round(share),
            held_ms: ms(held),
            processes: Vec::new(),
        }
    }

    pub(super) fn is_host(&self) -> bool {
        self.runtime == "host"
    }

    pub(super) fn set_processes(&mut self, processes: Vec<Busy>) {
        self.processes = processes;
    }

    fn described(&self) -> String {
        let names: Vec<_> = self.processes.iter().map(|process| process.name.as_str()).collect();
        if names.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, names.join(", ")) }
    }
}

impl Second {
    fn new(at: f64, time: &Time) -> Self {
        Self {
            at_seconds: round(at),
            run_ms: ms(time.run),
            internal_ms: ms(time.internal),
            external_ms: ms(time.external),
            throttled_ms: ms(time.throttled),
            latency_ms: ms(time.latency),
        }
    }
}

/// What happened, to whom, by how much.
pub(super) fn trigger_summary(waiting: &Waiting, name: &str, interferers: &[Interferer]) -> String {
    let rate = waiting.reading.rate;
    format!("{name} was denied {rate:.0}% of the CPU time it wanted{}", because(waiting.reading.kind, interferers))
}

pub(super) fn capture_summary(capture: &Capture, name: &str) -> String {
    let Split { external_percent, throttled_percent, internal_percent, .. } = capture.split;
    let first =
        capture.interferer_list.first().map(|first| format!(", {:.0}% of it by {}", first.share_percent, first.name));
    format!(
        "waits of {name} in {:.0} s: {external_percent:.0}% for others{}, {throttled_percent:.0}% throttled, {internal_percent:.0}% for itself",
        capture.duration_seconds,
        first.unwrap_or_default()
    )
}

fn because(kind: Kind, interferers: &[Interferer]) -> String {
    match (kind, interferers.first()) {
        (Kind::Throttled, _) => ", throttled by its quota".into(),
        (Kind::Internal, _) => ", mostly by its own tasks".into(),
        (Kind::External, None) => ", by others".into(),
        (Kind::External, Some(first)) => {
            format!(", {:.0}% of the waiting for {}", first.share_percent, first.described())
        }
    }
}

/// The rules, the values and the thresholds.
pub(super) fn explanation(waiting: &Waiting, settings: &Settings, interferers: &[Interferer]) -> String {
    let Waiting { reading, verdict, .. } = waiting;
    let time = &reading.time;
    let met = match verdict.warning {
        Warning::Spike => "the first",
        Warning::Slope => "the second",
        Warning::Both => "both",
    };
    format!(
        "over {:.0} s it ran for {:.0} ms and was denied {:.1} % of the CPU time it wanted ({:.0} ms held by others, \
         {:.0} ms throttled) (rule: over {:.1} %, from a mean of {:.1} % and a standard deviation of {:.2} over {} intervals) and {:.1} \
         points more than in the window before (rule: over {:.0}); {met} met{}",
        settings.windows.short.as_secs_f64(),
        ms(time.run),
        reading.rate,
        ms(time.external_cpu),
        ms(time.throttled_cpu),
        verdict.rate_threshold,
        reading.mean,
        reading.std,
        reading.samples,
        reading.slope,
        verdict.slope_threshold,
        because(reading.kind, interferers),
    )
}

fn ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3)
}
