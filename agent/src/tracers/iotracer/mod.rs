//! `iotracer`: disks that are saturated or slow, and who reads and writes what.
//!
//! Each second every whole disk is judged over two windows in a row. One that meets a rule in both is told at once, by a
//! trigger with the values and the thresholds; programs are then attached for some seconds and say who reads and writes
//! on it, which files, how long requests wait and where, and which tasks wait for them. A disk that was captured is left
//! alone for a while. Without BPF the triggers remain.

mod capture;
mod disk;
mod evidence;
mod latency;
mod names;
mod owners;
mod report;
mod rule;
mod settings;
mod trigger;
mod volumes;
mod waits;
mod watch;
mod who;
mod window;

use std::time::Duration;

use galen_proto::v1::SuppressionReason;

pub use settings::{Raw, Settings};

use self::{
    capture::{Capture, Run, asked_for},
    disk::Disk,
    evidence::Tracing,
    watch::Watch,
};
use crate::{
    host::Environment,
    tracer::{BoxError, Context, Cooldown, OnDemand, Outcome, Support, Tracer},
};

pub struct IoTracer {
    settings: Settings,
}

impl Tracer for IoTracer {
    const NAME: &'static str = "iotracer";
    const ON_DEMAND: OnDemand = OnDemand::Yes;
    const RESTART: Duration = Duration::from_secs(5);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        if let Err(error) = procfs::diskstats() {
            return Support::Unsupported(format!("failed to read /proc/diskstats: {error}"));
        }
        match environment.without_bpf() {
            Some(why) => Support::Degraded(format!("{why}: disks are told without who uses them")),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let can_capture = can_capture(&context).await;
        let mut watch = Watch::new(self.settings.clone());
        let mut left_alone = Cooldown::default();
        let demands = context.demands();
        loop {
            let now = tokio::select! {
                now = context.tick() => now,
                demand = demands.next() => {
                    let busiest = watch.busiest().filter(|_| can_capture).cloned();
                    context.spawn(asked_for(demand, busiest, self.settings.clone(), context.clone()));
                    continue;
                }
            };
            let saturated = watch.tick(now.boot)?;
            context.evaluated(watch.highest(), self.settings.thresholds.utilisation);
            for saturated in saturated {
                if left_alone.contains(saturated.disk.name.as_str(), now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                left_alone.insert(saturated.disk.name.clone(), now, self.settings.cooldown);
                if !can_capture {
                    context.suppressed(SuppressionReason::Unsupported);
                }
                let of =
                    Capture { disk: saturated.disk.clone(), settings: self.settings.clone(), context: context.clone() };
                let run = Run { saturated, observed: now, of, can_capture };
                context.spawn(run.tell());
            }
        }
    }
}

/// Tries the programs once, so that what they cannot do is known before it matters.
async fn can_capture(context: &Context) -> bool {
    if context.environment.without_bpf().is_some() {
        return false;
    }
    let nothing = Disk { name: String::new(), major: 0, minor: 0 };
    match context.with_kernel(|kernel| Tracing::attach(kernel, nothing)).await {
        Ok(Ok(tracing)) => {
            if !tracing.left_out().is_empty() {
                context.degraded(tracing.left_out().join("; "));
            }
            true
        }
        Ok(Err(error)) | Err(error) => {
            context.degraded(format!("disks are told without who uses them: {}", error.reason()));
            false
        }
    }
}
