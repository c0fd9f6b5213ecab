//! `cpuidle`: bursts of CPU usage in a container, a systemd unit or a plain cgroup, and what ran.
//!
//! Each second every watched cgroup is judged over a sliding window. Every one that meets a rule is told at once, by a
//! trigger with the values and the thresholds; as many as the budget allows, the highest score first, are profiled: the
//! seconds before from the flight recorder, the seconds that follow while detection goes on. A cgroup that was captured
//! is left alone for a while. Without BPF the triggers remain.

mod blame;
mod capture;
mod demand;
mod report;
mod settings;
mod watch;

use std::{sync::Arc, time::Duration};

use galen_proto::v1::SuppressionReason;
use parking_lot::Mutex;

pub use settings::{Invalid, Raw, Settings};

use self::{capture::Run, demand::asked_for, watch::Watch};
use crate::{
    host::Environment,
    tracer::{BoxError, Context, Cooldown, OnDemand, Outcome, Support, Tracer},
};

pub struct CpuIdle {
    settings: Settings,
}

impl Tracer for CpuIdle {
    const NAME: &'static str = "cpuidle";
    const ON_DEMAND: OnDemand = OnDemand::Yes;
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
        context.tell_flight_support("bursts are told").await;
        let mut watch = Watch::new(self.settings.clone(), Arc::clone(&context.environment), context.containers.clone());
        let left_alone = Arc::new(Mutex::new(Cooldown::default()));
        // Without a profile it is worth another try once this burst must be over.
        let pause = self.settings.capture.max(self.settings.window * 2);
        let demands = context.demands();
        loop {
            let now = tokio::select! {
                now = context.tick() => now,
                demand = demands.next() => {
                    context.spawn(asked_for(demand, self.settings.clone(), context.clone()));
                    continue;
                }
            };
            let bursts = watch.tick(now.boot);
            if let Some(why) = watch.newly_left_out() {
                context.degraded(why);
            }
            context.evaluated(watch.highest(), self.settings.thresholds.total.level);
            for burst in bursts {
                if left_alone.lock().goes_on(burst.path.as_str(), now, self.settings.window) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                left_alone.lock().insert(burst.path.clone(), now, pause);
                let run = Run {
                    burst,
                    observed: now,
                    settings: self.settings.clone(),
                    context: context.clone(),
                    left_alone: Arc::clone(&left_alone),
                };
                context.spawn(run.tell());
            }
        }
    }
}
