//! `oom`: kills by the kernel's OOM killer, from a BPF program on its tracepoint: the victim, who triggered it, the
//! memory cgroup and its counters.
//!
//! A kill is told as one event; there is nothing left to capture. Kills that found the ring full are counted, and so are
//! workloads whose memory is not sampled, because there are too many.

mod growth;
mod index;
mod processes;
mod report;
mod ring;
mod settings;

use std::time::Duration;

use galen_bpf::oom::Watch;
use galen_proto::v1::{EventKind, LossReason, Severity};

pub use settings::{Raw, Settings};

use self::{growth::Growth, index::Index, report::Kill};
use crate::{
    host::Environment,
    meminfo::Meminfo,
    recorder::{Record, RunId},
    tracer::{BoxError, Context, OnDemand, Outcome, Support, Tracer},
};

pub struct Oom;

impl Tracer for Oom {
    const NAME: &'static str = "oom";
    const ON_DEMAND: OnDemand = OnDemand::No("a kill is over when it is known, and there is nothing to see before");
    const RESTART: Duration = Duration::from_secs(10);

    type Raw = Raw;
    type Settings = Settings;

    fn new(_: Settings) -> Self {
        Self
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        match environment.without_bpf() {
            Some(why) => Support::Unsupported(why.into()),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let watch = match context.with_kernel(Watch::attach).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(error)) | Err(error) => return Ok(Outcome::Unsupported(error.reason())),
        };
        if let galen_bpf::Support::Degraded(why) = watch.support() {
            context.degraded(why);
        }
        let growth = Growth::new(&context.environment, context.containers.clone());
        let mut memory = Index::new(&context.environment).zip(growth);
        let mut lost = 0;
        let mut ring = ring::register(watch)?;
        loop {
            let readable = tokio::select! {
                readable = ring.readable_mut() => Some(readable?),
                _ = context.tick() => None,
            };
            let now = context.clock.now();
            if let Some((index, growth)) = &mut memory {
                growth.follow(index.follow(now.boot));
                context.count_loss(LossReason::MapFull, growth.take_left_out());
                if readable.is_none() {
                    growth.sample();
                }
            }
            let Some(mut readable) = readable else { continue };
            readable.clear_ready();
            let watch = &mut readable.get_inner_mut().0;
            while let Some(kill) = watch.next_kill() {
                match kill {
                    Ok(kill) => tell(&context, &kill, memory.as_ref()),
                    Err(error) => {
                        tracing::warn!(%error, "record of an OOM kill was not understood");
                        context.count_loss(LossReason::BadRecord, 1);
                    }
                }
            }
            let lost_now = watch.lost();
            context.count_loss(LossReason::RingFull, lost_now.saturating_sub(lost));
            lost = lost_now;
        }
    }
}

fn tell(context: &Context, record: &galen_bpf::oom::Record, memory: Option<&(Index, Growth)>) {
    let observed = context.clock.now().at_boot(Duration::from_nanos(record.time));
    let of_host = Meminfo::open("/proc/meminfo").and_then(|meminfo| meminfo.read()).ok();
    let recent = |cgroup: &str| memory.map(|(_, growth)| growth.of(cgroup)).unwrap_or_default();
    let index = memory.map(|(index, _)| index);
    let kill = Kill::new(record, index, recent, of_host);
    let directory = index.zip(kill.exhausted()).map(|(index, cgroup)| index.directory(cgroup));
    let part = context.clone();
    context.spawn(async move {
        let processes = match directory {
            Some(directory) => tokio::task::spawn_blocking(move || processes::of(&directory)).await?,
            None => Vec::new(),
        };
        let kill = kill.with_processes(processes);
        let container = match kill.cgroup() {
            // The root cgroup is the host.
            None | Some("/") => None,
            Some(cgroup) => Some(part.containers.resolve(cgroup).await),
        };
        part.record(Record {
            run: RunId::new(),
            kind: EventKind::Event,
            severity: Severity::Critical,
            summary: kill.summary(container.as_ref().map(|container| container.name.as_str())),
            explanation: kill.explanation(),
            container,
            observed,
            data: kill,
            attachments: Vec::new(),
        })?;
        Ok(())
    });
}
