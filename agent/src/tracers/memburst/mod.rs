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

use std::time::Duration;

use galen_proto::v1::{Container, EventKind, Severity, SuppressionReason};

pub use settings::{Raw, Settings};

use self::{
    processes::{Past, Walk, grown, walk},
    report::{Capture, Trigger, capture_summary, explanation, summary},
    rule::{Burst, Ring, Sample, share},
    watch::Watch,
};
use crate::{
    budget::{Cost, Grant},
    cgroup::is_below,
    clock::Moment,
    containers::Filter,
    host::Environment,
    meminfo::{Meminfo, Memory},
    recorder::{Record, RunId},
    tracer::{BoxError, Context, Cooldown, Outcome, Support, Tracer},
};

const MEMINFO: &str = "/proc/meminfo";

pub struct MemBurst {
    settings: Settings,
}

impl Tracer for MemBurst {
    const NAME: &'static str = "memburst";
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

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let settings = self.settings;
        let meminfo = Meminfo::open(MEMINFO)?;
        let total = meminfo.read()?.total_bytes;
        let mut host = Ring::new(settings.window);
        let mut workloads = Watch::new(settings.clone(), &context.environment, context.containers.clone(), total);
        let mut past = Past::new(settings.window);
        // By cgroup; the host is the empty one.
        let mut told = Cooldown::<String>::default();
        loop {
            let now = context.tick().await;
            let memory = meminfo.read()?;
            let sample = Sample { held: memory.unreclaimable_bytes(), used: memory.used };
            let of_host = host.push(now.boot, sample, memory.total_bytes, &settings.thresholds);
            let mut bursts: Vec<_> = of_host.map(|burst| (String::new(), burst)).into_iter().collect();
            bursts.extend(workloads.iter_mut().flat_map(|workloads| workloads.tick(now.boot)));
            bursts.retain(|(cgroup, _)| context.containers.selects(cgroup, &Filter::default()));
            let highest = workloads.as_ref().map_or(0.0, Watch::highest);
            context.evaluated(highest.max(share(sample.held, memory.total_bytes)), settings.thresholds.share);

            for (cgroup, burst) in bursts {
                if told.contains(&cgroup, now) {
                    context.suppressed(SuppressionReason::Cooldown);
                    continue;
                }
                told.insert(cgroup.clone(), now, settings.cooldown);
                let before = past.oldest();
                let run = Run { context: context.clone(), settings: settings.clone(), now, memory, cgroup, burst };
                context.spawn(run.tell(before));
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
    context: Context,
    settings: Settings,
    now: Moment,
    memory: Memory,
    /// Empty for the host.
    cgroup: String,
    burst: Burst,
}

impl Run {
    async fn tell(self, before: Option<Walk>) -> Result<(), BoxError> {
        let run = RunId::new();
        let container = match self.cgroup.as_str() {
            "" => None,
            cgroup => Some(self.context.containers.resolve(cgroup).await),
        };
        let (permit, refused) = match self.context.may_capture(Severity::Warning, self.burst.share_percent).await {
            // It is short in any case.
            Grant::Full(permit) | Grant::Short(permit, ..) => (Some(permit), None),
            Grant::None(why) => (None, Some(why)),
        };
        self.trigger(run, container.clone(), refused)?;
        let Some(mut permit) = permit else { return Ok(()) };

        let growth = before.as_ref().map_or(Duration::ZERO, |walk| self.now.boot.saturating_sub(walk.at));
        let before = before.unwrap_or_default();
        let (count, cgroup) = (self.settings.processes, self.cgroup.clone());
        let look = move || {
            let (residents, took) = walk()?;
            let concerns = |path: &str| cgroup.is_empty() || path == cgroup || is_below(path, &cgroup);
            Ok::<_, BoxError>((grown(&before, residents, count, concerns), took))
        };
        let (processes, cpu) = tokio::task::spawn_blocking(look).await??;
        permit.spent(Cost { cpu, bytes: 0 });
        self.context.record(Record {
            run,
            kind: EventKind::Capture,
            severity: Severity::Warning,
            summary: capture_summary(&processes),
            explanation: String::new(),
            container,
            observed: self.context.clock.now(),
            data: Capture { processes, growth_seconds: growth.as_secs_f64().round(), memory: self.memory },
            attachments: Vec::new(),
        })?;
        Ok(())
    }

    fn trigger(&self, run: RunId, container: Option<Container>, refused: Option<String>) -> Result<(), BoxError> {
        let Self { settings, burst, .. } = self;
        let window = settings.window.as_secs_f64();
        self.context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: summary(burst, container.as_ref().map(|container| container.name.as_str())),
            explanation: explanation(burst, &settings.thresholds),
            container,
            observed: self.now,
            data: Trigger::new(burst, &settings.thresholds, window, self.memory, refused),
            attachments: Vec::new(),
        })?;
        Ok(())
    }
}
