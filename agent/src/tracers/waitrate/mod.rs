//! `waitrate`: containers and services whose tasks wait for a CPU, and who holds it meanwhile.
//!
//! BPF programs on the scheduler's tracepoints count the waiting of each cgroup. They cost every context switch, so they
//! are attached only once a cheap [sign] says that something waits, and detached after a quiet time. While they count,
//! what a container waited in the last seconds is judged each second against its own [history]. A trigger names whom it
//! waited for; the seconds after it are told in a capture. Without BPF there is no tracer.

mod asked;
mod capture;
mod history;
mod owners;
mod processes;
mod report;
mod rule;
mod settings;
mod sign;
mod tally;
mod watch;

use std::time::Duration;

use galen_bpf::waitrate::Watch as Programs;
use galen_proto::v1::{LossReason, SuppressionReason};

pub use settings::{ByLevel, Invalid, Raw, Settings};

use self::{asked::Counts, capture::Captures, sign::Sign, watch::Watch};
use crate::{
    host::Environment,
    tracer::{BoxError, Context, Cooldown, OnDemand, Outcome, Support, Tracer},
};

pub struct WaitRate {
    settings: Settings,
}

impl Tracer for WaitRate {
    const NAME: &'static str = "waitrate";
    const ON_DEMAND: OnDemand = OnDemand::Yes;
    const RESTART: Duration = Duration::from_secs(20);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        if owners::tree(environment).is_none() {
            return Support::Unsupported("neither the cpu hierarchy nor cgroup version 2 is mounted".into());
        }
        match environment.without_bpf() {
            Some(why) => Support::Unsupported(why.into()),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let programs = match context.with_kernel(Programs::load).await {
            Ok(Ok(programs)) => programs,
            Ok(Err(error)) | Err(error) => return Ok(Outcome::Unsupported(error.reason())),
        };
        if let galen_bpf::Support::Degraded(why) = programs.support() {
            context.degraded(why);
        }
        let sign = if self.settings.always_on { None } else { Sign::find() };
        if sign.is_none() && !self.settings.always_on {
            context.degraded(
                "the kernel tells neither CPU pressure nor run queue waits: the programs are always attached",
            );
        }
        let mut watch = Watch::new(self.settings.clone(), &context, programs, sign);
        let mut captures = Captures::default();
        let mut counts = Counts::default();
        let mut left_alone = Cooldown::default();
        let demands = context.demands();
        loop {
            let now = tokio::select! {
                now = context.tick() => now,
                demand = demands.next() => {
                    counts.begin(demand, &self.settings, &context);
                    continue;
                }
            };
            let tick = watch.tick(now, captures.are_running() || counts.are_running())?;
            context.count_loss(LossReason::MapFull, tick.lost);
            context.evaluated(tick.highest, self.settings.thresholds.least_rate);
            captures.follow(now.boot, &tick.times);
            if tick.counted {
                counts.follow(now.boot, &tick.times);
            }
            for waiting in tick.waiting {
                if left_alone.contains(&waiting.owner, now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                left_alone.insert(waiting.owner.clone(), now, self.settings.cooldown);
                captures.begin(waiting, now, &self.settings, &context);
            }
        }
    }
}
