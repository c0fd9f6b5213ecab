//! `cpuidle`: bursts of CPU usage in a container, a systemd unit or a plain cgroup, and what ran.
//!
//! Each second every watched cgroup is judged over a sliding window. Every one that meets a rule is told at once, by a
//! trigger with the values and the thresholds; as many as there is room for, the highest score first, are profiled for
//! the seconds that follow, while detection goes on. A cgroup that was captured is left alone for a while. Without BPF
//! the triggers remain.

mod blame;
mod capture;
mod report;
mod rule;
mod settings;
mod watch;
mod window;

use std::{sync::Arc, time::Duration};

use galen_profile::Sampler;
use galen_proto::v1::{LossReason, SuppressionReason};
use tokio::sync::Semaphore;

pub use settings::{Invalid, Raw, Settings};

use self::{capture::Run, watch::Watch};
use crate::{
    host::Environment,
    tracer::{BoxError, Context, Cooldown, Outcome, Support, Tracer},
};

pub struct CpuIdle {
    settings: Settings,
}

impl Tracer for CpuIdle {
    const NAME: &'static str = "cpuidle";
    const RESTART: Duration = Duration::from_secs(20);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        if environment.hierarchies.cpu_usage().next().is_none() {
            return Support::Unsupported("neither the cpuacct hierarchy nor cgroup version 2 is mounted".into());
        }
        match environment.without_bpf() {
            Some(why) => Support::Degraded(format!("{why}: bursts are told without a CPU profile")),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let sampler = self.sampler(&context).await;
        let mut watch = Watch::new(self.settings.clone(), Arc::clone(&context.environment), context.containers.clone());
        let mut left_alone = Cooldown::default();
        let room = Arc::new(Semaphore::new(self.settings.max_concurrent_captures));
        loop {
            let now = context.tick().await;
            let bursts = watch.tick(now.boot);
            context.evaluated(watch.highest(), self.settings.thresholds.total.level);
            for burst in bursts {
                if left_alone.contains(burst.path.as_str(), now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                let permit = match &sampler {
                    None => {
                        context.suppressed(SuppressionReason::Unsupported);
                        Err("no BPF program could be loaded".to_owned())
                    }
                    Some(sampler) => match Arc::clone(&room).try_acquire_owned() {
                        Ok(permit) => Ok((sampler.clone(), permit)),
                        Err(_) => {
                            context.suppressed(SuppressionReason::Budget);
                            context.count_loss(LossReason::CaptureLimit, 1);
                            Err(format!("{} captures were running", self.settings.max_concurrent_captures))
                        }
                    },
                };
                // Without a profile it is worth another try once this burst must be over.
                let missed = sampler.is_some() && permit.is_err();
                let pause =
                    if missed { self.settings.capture.max(self.settings.window * 2) } else { self.settings.cooldown };
                left_alone.insert(burst.path.clone(), now, pause);
                let run = Run { burst, observed: now, settings: self.settings.clone(), context: context.clone() };
                context.spawn(run.tell(permit));
            }
        }
    }
}

impl CpuIdle {
    /// The loaded program; without it the tracer goes on, degraded.
    async fn sampler(&self, context: &Context) -> Option<Sampler> {
        if context.environment.without_bpf().is_some() {
            return None;
        }
        let settings = galen_profile::Settings { hertz: self.settings.hertz, ring_bytes: None, history: false };
        let loaded = context.with_kernel(move |kernel| Sampler::load(kernel, &settings)).await;
        match loaded {
            Ok(Ok(sampler)) => return Some(sampler),
            Ok(Err(error)) => context.degraded(format!("bursts are told without a CPU profile: {}", chain(&error))),
            Err(error) => context.degraded(format!("bursts are told without a CPU profile: {}", error.reason())),
        }
        None
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    galen_runtime::Chain(error).to_string()
}
