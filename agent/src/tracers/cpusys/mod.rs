//! `cpusys`: bursts of the machine's time in the kernel, what ran, and who used it.
//!
//! Each second the share of the kernel in the time of all CPUs is judged over a sliding window. When it is high and rose
//! it is told at once, and the whole machine is profiled: the seconds before from the flight recorder, and those that
//! follow. The containers and processes whose samples are in the kernel are ranked. It also captures when asked to.

mod culprits;
mod report;
mod settings;
mod stat;

use std::{sync::Arc, time::Duration};

use galen_profile::Scope;
use galen_proto::v1::{EventKind, Severity, SuppressionReason};
use parking_lot::Mutex;

pub use settings::{Raw, Settings};

use self::{
    culprits::Culprits,
    report::{Burst, Capture},
    stat::Stat,
};
use crate::{
    burst::History,
    cgroup::Names,
    clock::Moment,
    flight::{Begun, Running},
    host::Environment,
    recorder::{Record, RunId},
    tracer::{BoxError, Cause, Context, Cooldown, Demand, OnDemand, Outcome, Support, Tracer},
};

pub struct CpuSys {
    settings: Settings,
}

/// One run of a burst.
struct Run {
    burst: Burst,
    observed: Moment,
    settings: Settings,
    context: Context,
    left_alone: Arc<Mutex<Cooldown<()>>>,
}

impl Tracer for CpuSys {
    const NAME: &'static str = "cpusys";
    const RESTART: Duration = Duration::from_secs(20);
    const ON_DEMAND: OnDemand = OnDemand::Yes;

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        if let Err(error) = Stat::open().and_then(|mut stat| stat.read()) {
            return Support::Unsupported(format!("failed to read {}: {error}", stat::PATH));
        }
        match environment.without_bpf() {
            Some(why) => Support::Degraded(format!("{why}: bursts are told without a CPU profile")),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        context.tell_flight_support("bursts are told").await;
        let mut stat = Stat::open()?;
        let mut history = History::new(self.settings.window, None);
        let left_alone = Arc::new(Mutex::new(Cooldown::default()));
        let demands = context.demands();
        loop {
            let now = tokio::select! {
                now = context.tick() => now,
                demand = demands.next() => {
                    context.spawn(asked_for(demand, self.settings.clone(), context.clone()));
                    continue;
                }
            };
            history.push(now.boot, stat.read()?);
            let Some(reading) = history.shares() else { continue };
            let threshold = self.settings.threshold;
            context.evaluated(reading.now.system, threshold.level);
            if threshold.exceeded(reading.now.system, reading.delta.system).is_none() {
                continue;
            }
            if left_alone.lock().goes_on(&(), now, self.settings.window) {
                context.suppressed(SuppressionReason::Cooldown);
                continue;
            }
            // Without a profile it is worth another try once this burst must be over.
            left_alone.lock().insert((), now, self.settings.capture.max(self.settings.window * 2));
            let burst = Burst {
                reading,
                threshold,
                window_seconds: self.settings.window.as_secs_f64(),
                cpus: context.environment.cpus,
                recent: history.tick_shares(),
            };
            let settings = self.settings.clone();
            let left_alone = Arc::clone(&left_alone);
            context.spawn(Run { burst, observed: now, settings, context: context.clone(), left_alone }.tell());
        }
    }
}

impl Run {
    /// Records the trigger, and the capture, or else why there is none.
    async fn tell(self) -> Result<(), BoxError> {
        let Self { burst, observed, settings, context, left_alone } = self;
        let run = RunId::new();
        let begun = Running::begin(&context, Scope::Host, settings.capture, burst.score()).await?;
        if matches!(begun, Begun::Running(_)) {
            left_alone.lock().insert((), observed, settings.cooldown);
        }
        context.record(Record {
            run,
            kind: EventKind::Trigger,
            severity: Severity::Warning,
            summary: burst.summary(),
            explanation: burst.explanation(),
            container: None,
            observed,
            data: burst.data(begun.told()),
            attachments: Vec::new(),
        })?;
        match begun {
            Begun::Running(running) => captured(&context, run, running, Cause::Rule).await,
            Begun::Refused(_) => Ok(()),
        }
    }
}

/// A capture of the whole machine without a burst.
async fn asked_for(demand: Demand, settings: Settings, context: Context) -> Result<(), BoxError> {
    let Some(demand) = demand.of_the_node("the whole node") else { return Ok(()) };
    match Running::demanded(&context, demand, Scope::Host, settings.capture).await? {
        Some((run, running)) => captured(&context, run, running, Cause::Demand).await,
        None => Ok(()),
    }
}

/// Waits for the capture and records it. The names of cgroups are taken at its begin and at its end, so that those that
/// lived in it have theirs.
async fn captured(context: &Context, run: RunId, running: Running, cause: Cause) -> Result<(), BoxError> {
    let names = || {
        let environment = Arc::clone(&context.environment);
        tokio::task::spawn_blocking(move || Names::read(&environment.hierarchies))
    };
    let (begin, captured) = tokio::join!(names(), running.end(context));
    let (mut paths, captured) = (begin?, captured?);
    paths.extend(names().await?);
    let system_time = Culprits::of(captured.summaries(), &paths, &context.containers);
    let most = system_time.containers.first();
    let most = most.map(|most| format!("; {} used {:.0}% of the kernel's time", most.name, most.percent));
    context.record(Record {
        run,
        kind: EventKind::Capture,
        severity: cause.severity(),
        summary: format!("{}{}", captured.summary("the machine"), most.unwrap_or_default()),
        explanation: cause.explanation(),
        container: None,
        observed: context.clock.now(),
        data: Capture { profile: captured.data(), system_time },
        attachments: captured.attachments(),
    })?;
    Ok(())
}
