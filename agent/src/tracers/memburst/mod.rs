//! `memburst`: bursts of the host's anonymous memory, and the processes responsible.
//!
//! Each second `/proc/meminfo` is compared with what it was a window ago. The trigger is told at once; the processes
//! with the most resident memory follow as the capture, a second later, because two walks of `/proc` show who grows.

mod processes;
mod rule;
mod settings;

use std::time::Duration;

use galen_proto::v1::{EventKind, Severity, SuppressionReason};
use serde::Serialize;

pub use settings::{Invalid, Raw, Settings};

use self::{
    processes::Holder,
    rule::{Against, Burst, Ring},
};
use crate::{
    clock::Moment,
    host::Environment,
    meminfo::{Meminfo, Memory},
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Outcome, Support, Tracer},
};

const MEMINFO: &str = "/proc/meminfo";
/// Between the two walks.
const GROWTH_OVER: Duration = Duration::from_secs(1);

pub struct MemBurst {
    settings: Settings,
}

/// `data` of a trigger.
#[derive(Debug, Serialize)]
struct Trigger {
    /// Anonymous memory, active and inactive, now and before.
    anon_bytes: u64,
    anon_before_bytes: u64,
    /// What "before" was.
    compared_with: Against,
    within_seconds: f64,
    growth_percent: f64,
    growth_percent_threshold: f64,
    /// Share of the machine's memory.
    anon_percent: f64,
    anon_percent_threshold: f64,
    window_seconds: f64,
    memory: Memory,
}

/// `data` of a capture.
#[derive(Debug, Serialize)]
struct Capture {
    /// Those with the most resident memory first.
    processes: Vec<Holder>,
    /// Seconds over which growth was measured.
    growth_seconds: f64,
    memory: Memory,
}

impl Tracer for MemBurst {
    const NAME: &'static str = "memburst";
    const RESTART: Duration = Duration::from_secs(10);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, _: &Environment) -> Support {
        match Meminfo::open(MEMINFO).and_then(|meminfo| meminfo.read()) {
            Ok(_) => Support::Full,
            Err(error) => Support::Unsupported(format!("failed to read {MEMINFO}: {error}")),
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let meminfo = Meminfo::open(MEMINFO)?;
        let mut ring = Ring::new(self.settings.window);
        let mut quiet_until = Duration::ZERO;
        loop {
            let now = context.tick().await;
            let memory = meminfo.read()?;
            let thresholds = &self.settings.thresholds;
            context.evaluated(100.0 * memory.anon_bytes() as f64 / memory.total_bytes.max(1) as f64, thresholds.share);
            let Some(burst) = ring.push(now.boot, memory.anon_bytes(), memory.total_bytes, thresholds) else {
                continue;
            };
            if now.boot < quiet_until {
                context.suppressed(SuppressionReason::Cooldown);
                continue;
            }
            quiet_until = now.boot + self.settings.cooldown;
            let run = RunId::new();
            context.record(self.trigger(run, now, memory, &burst))?;
            context.spawn(capture(context.clone(), run, self.settings.processes));
        }
    }
}

impl MemBurst {
    fn trigger(&self, run: RunId, observed: Moment, memory: Memory, burst: &Burst) -> Record<Trigger> {
        Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: format!(
                "memory burst: {} of anonymous memory, {:.0}% of the machine, up {:.0}% in {:.0} s",
                gigabytes(burst.anon),
                burst.share_percent,
                burst.growth_percent,
                burst.within.as_secs_f64()
            ),
            explanation: format!(
                "Anonymous memory was {:.1} % of the machine's (rule: {} % or more) and {:.0} % more than {:.0} s before \
                 (rule: {} % or more).",
                burst.share_percent,
                self.settings.thresholds.share,
                burst.growth_percent,
                burst.within.as_secs_f64(),
                self.settings.thresholds.growth
            ),
            container: None,
            observed,
            data: Trigger {
                anon_bytes: burst.anon,
                anon_before_bytes: burst.before,
                compared_with: burst.against,
                within_seconds: round(burst.within.as_secs_f64()),
                growth_percent: round(burst.growth_percent),
                growth_percent_threshold: self.settings.thresholds.growth,
                anon_percent: round(burst.share_percent),
                anon_percent_threshold: self.settings.thresholds.share,
                window_seconds: self.settings.window.as_secs_f64(),
                memory,
            },
            attachments: Vec::new(),
        }
    }
}

async fn capture(context: Context, run: RunId, count: usize) -> Result<(), BoxError> {
    let first = tokio::task::spawn_blocking(processes::walk).await??;
    context.stopping().run_until_cancelled(tokio::time::sleep(GROWTH_OVER)).await;
    let second = move || -> Result<_, BoxError> {
        let holders = processes::largest(&first, processes::walk()?, count);
        Ok((holders, Meminfo::open(MEMINFO)?.read()?))
    };
    let (processes, memory) = tokio::task::spawn_blocking(second).await??;
    let largest = processes
        .first()
        .map(|holder| format!("{} ({}) holds {}", holder.name, holder.pid, gigabytes(holder.rss_bytes)));
    context.record(Record {
        run,
        kind: EventKind::Capture,
        severity: Severity::Warning,
        summary: format!("processes of the memory burst: {}", largest.unwrap_or_else(|| "none".into())),
        explanation: String::new(),
        container: None,
        observed: context.clock.now(),
        data: Capture { processes, growth_seconds: GROWTH_OVER.as_secs_f64(), memory },
        attachments: Vec::new(),
    })?;
    Ok(())
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
