//! `iotracer`: disks that are saturated or slow, and who reads and writes what.
//!
//! Each second every whole disk is judged over two windows in a row. One that meets a rule in both is told at once, by a
//! trigger with the values and the thresholds; programs are then attached for some seconds and say who reads and writes
//! on it, which files, how long requests wait and where, and which tasks wait for them. A disk that was captured is left
//! alone for a while. Without BPF the triggers remain.

mod capture;
mod disk;
mod evidence;
mod owners;
mod report;
mod rule;
mod settings;
mod trigger;
mod watch;
mod window;

use std::{sync::Arc, time::Duration};

use galen_proto::v1::{LossReason, SuppressionReason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use settings::{Invalid, Raw, Settings};

use self::{capture::Run, evidence::Tracing, watch::Watch};
use crate::{
    host::Environment,
    tracer::{BoxError, Context, Cooldown, Outcome, Support, Tracer},
};

pub struct IoTracer {
    settings: Settings,
}

impl Tracer for IoTracer {
    const NAME: &'static str = "iotracer";
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
        let mut captures = Captures::new(&context, self.settings.max_concurrent_captures).await;
        let mut watch = Watch::new(self.settings.clone());
        let mut left_alone = Cooldown::default();
        loop {
            let now = context.tick().await;
            let saturated = watch.tick(now.boot)?;
            context.evaluated(watch.highest(), self.settings.thresholds.utilisation);
            for saturated in saturated {
                if left_alone.contains(saturated.disk.name.as_str(), now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                let permit = captures.permit(&context);
                // Without a capture it is worth another try once the next windows have passed.
                let missed = captures.possible && permit.is_err();
                let pause = if missed { self.settings.window * 2 } else { self.settings.cooldown };
                left_alone.insert(saturated.disk.name.clone(), now, pause);
                let run = Run { saturated, observed: now, settings: self.settings.clone(), context: context.clone() };
                context.spawn(run.tell(permit));
            }
        }
    }
}

/// Room for captures.
struct Captures {
    possible: bool,
    most: usize,
    room: Arc<Semaphore>,
}

impl Captures {
    /// Tries the programs once, so that what they cannot do is known before it matters.
    async fn new(context: &Context, most: usize) -> Self {
        let mut possible = false;
        if context.environment.without_bpf().is_none() {
            match context.with_kernel(|kernel| Tracing::attach(kernel, &[])).await {
                Ok(Ok(tracing)) => {
                    possible = true;
                    if !tracing.left_out().is_empty() {
                        context.degraded(tracing.left_out().join("; "));
                    }
                }
                Ok(Err(error)) | Err(error) => {
                    context.degraded(format!("disks are told without who uses them: {}", error.reason()));
                }
            }
        }
        Self { possible, most, room: Arc::new(Semaphore::new(most)) }
    }

    fn permit(&mut self, context: &Context) -> Result<OwnedSemaphorePermit, String> {
        if !self.possible {
            context.suppressed(SuppressionReason::Unsupported);
            return Err("no BPF program could be loaded".to_owned());
        }
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            context.suppressed(SuppressionReason::Budget);
            context.count_loss(LossReason::CaptureLimit, 1);
            format!("{} captures were running", self.most)
        })
    }
}
