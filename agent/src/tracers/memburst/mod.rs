//! `memburst`: bursts of memory that cannot be given back, of the host and of each workload, and who grew.
//!
//! Each second the machine's memory and that of every workload is compared with what it was a window ago. The trigger
//! is told at once, with what grew; the processes that grew are the capture, from walks of `/proc` that are made a few
//! times in a window.

mod processes;
mod report;
mod rule;
mod settings;
mod watch;

use std::{sync::Arc, time::Duration};

use galen_proto::v1::{Container, EventKind, Severity, SuppressionReason};

pub use settings::{Raw, Settings};

use self::{
    processes::{Past, Walk, grown, walk},
    report::{Capture, Trigger, capture_summary, explanation, summary},
    rule::{Burst, Ring, Sample, share},
    watch::Watch,
};
use crate::{
    budget::{Cost, Grant, Permit},
    cgroup::is_below,
    clock::Moment,
    containers::Filter,
    host::Environment,
    meminfo::{Meminfo, Memory},
    recorder::{Record, RunId},
    tracer::{Asked, BoxError, Cause, Context, Cooldown, Demand, OnDemand, Outcome, Support, Tracer},
};

const MEMINFO: &str = "/proc/meminfo";

pub struct MemBurst {
    settings: Settings,
}

impl Tracer for MemBurst {
    const NAME: &'static str = "memburst";
    const ON_DEMAND: OnDemand = OnDemand::Yes;
    const RESTART: Duration = Duration::from_secs(10);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        if let Err(error) = Meminfo::open(MEMINFO).and_then(|meminfo| meminfo.read()) {
            return Support::Unsupported(format!("failed to read {MEMINFO}: {error}"));
        }
        match environment.hierarchies.memory_tree() {
            Some(_) => Support::Full,
            None => Support::Degraded("no cgroup hierarchy accounts memory: only the host is watched".into()),
        }
    }

    async fn run(self, context: Context) -> Result<Outcome, BoxError> {
        let settings = self.settings;
        let meminfo = Meminfo::open(MEMINFO)?;
        let mut memory = meminfo.read()?;
        let total = memory.total_bytes;
        let mut host = Ring::new(settings.window);
        let mut workloads = Watch::new(settings.clone(), &context.environment, context.containers.clone(), total);
        let mut past = Past::new(settings.window);
        // By cgroup; the host is the empty one.
        let mut told = Cooldown::<String>::default();
        let demands = context.demands();
        let look = |now, memory, cgroup, before| {
            let (context, settings) = (context.clone(), settings.clone());
            Look { context, settings, now, memory, cgroup, before }
        };
        let mut ticks = context.clone();
        loop {
            let now = tokio::select! {
                now = ticks.tick() => now,
                demand = demands.next() => {
                    let cgroup = demand.cgroup.clone().unwrap_or_default();
                    let look = look(context.clock.now(), memory, cgroup, past.oldest());
                    context.spawn(look.asked_for(demand));
                    continue;
                }
            };
            memory = meminfo.read()?;
            let sample = Sample { held: memory.unreclaimable_bytes(), used: memory.used };
            let of_host = host.push(now.boot, sample, memory.total_bytes, &settings.thresholds);
            let mut bursts: Vec<_> = of_host.map(|burst| (String::new(), burst)).into_iter().collect();
            bursts.extend(workloads.iter_mut().flat_map(|workloads| workloads.tick(now.boot)));
            bursts.retain(|(cgroup, _)| context.containers.selects(cgroup, &Filter::default()));
            if let Some(why) = workloads.as_mut().and_then(Watch::newly_left_out) {
                context.degraded(why);
            }
            let highest = workloads.as_ref().map_or(0.0, Watch::highest);
            context.evaluated(highest.max(share(sample.held, memory.total_bytes)), settings.thresholds.share);

            for (cgroup, burst) in bursts {
                if told.contains(&cgroup, now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                told.insert(cgroup.clone(), now, settings.cooldown);
                context.spawn(Run { look: look(now, memory, cgroup, past.oldest()), burst }.tell());
            }
            if past.is_due(now.boot) {
                let (residents, took) = tokio::task::spawn_blocking(walk).await??;
                past.remember(now.boot, took, residents);
            }
        }
    }
}

/// One burst.
struct Run {
    look: Look,
    burst: Burst,
}

/// What is captured: who holds memory, and by how much that grew.
struct Look {
    context: Context,
    settings: Settings,
    now: Moment,
    memory: Memory,
    /// Empty for the host.
    cgroup: String,
    before: Option<Arc<Walk>>,
}

impl Run {
    async fn tell(self) -> Result<(), BoxError> {
        let run = RunId::new();
        let container = self.look.container().await;
        let (permit, refused) = match self.look.context.may_capture(Severity::Warning, self.burst.share_percent).await {
            // It is short in any case.
            Grant::Full(permit) | Grant::Short(permit, ..) => (Some(permit), None),
            Grant::None(why) => (None, Some(why)),
        };
        self.trigger(run, container.clone(), refused)?;
        match permit {
            Some(permit) => self.look.take(run, container, permit, Cause::Rule).await,
            None => Ok(()),
        }
    }

    fn trigger(&self, run: RunId, container: Option<Container>, refused: Option<String>) -> Result<(), BoxError> {
        let Self { look: Look { context, settings, now, memory, .. }, burst } = self;
        let window = settings.window.as_secs_f64();
        context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: summary(burst, container.as_ref().map(|container| container.name.as_str())),
            explanation: explanation(burst, &settings.thresholds),
            container,
            observed: *now,
            data: Trigger::new(burst, &settings.thresholds, window, *memory, refused),
            attachments: Vec::new(),
        })?;
        Ok(())
    }
}

impl Look {
    async fn asked_for(self, demand: Demand) -> Result<(), BoxError> {
        let Some(Asked { run, permit, .. }) = demand.begin(&self.context).await else { return Ok(()) };
        let container = self.container().await;
        self.take(run, container, permit, Cause::Demand).await
    }

    async fn container(&self) -> Option<Container> {
        match self.cgroup.as_str() {
            "" => None,
            cgroup => Some(self.context.containers.resolve(cgroup).await),
        }
    }

    async fn take(
        self,
        run: RunId,
        container: Option<Container>,
        mut permit: Permit,
        cause: Cause,
    ) -> Result<(), BoxError> {
        let Self { context, settings, now, memory, cgroup, before } = self;
        let growth = before.as_ref().map_or(Duration::ZERO, |walk| now.boot.saturating_sub(walk.at));
        let before = before.unwrap_or_default();
        let look = move || {
            let (residents, took) = walk()?;
            let concerns = |path: &str| cgroup.is_empty() || path == cgroup || is_below(path, &cgroup);
            Ok::<_, BoxError>((grown(&before, residents, settings.processes, concerns), took))
        };
        let (processes, cpu) = tokio::task::spawn_blocking(look).await??;
        permit.spent(Cost { cpu, bytes: 0 });
        context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: cause.severity(),
            summary: capture_summary(&processes, cause),
            explanation: cause.explanation(),
            container,
            observed: context.clock.now(),
            data: Capture { processes, growth_seconds: growth.as_secs_f64().round(), memory },
            attachments: Vec::new(),
        })?;
        Ok(())
    }
}
