//! `dload`: tasks stuck in uninterruptible sleep (state D) in a container, a systemd unit, a plain cgroup or on the host,
//! and where in the kernel they wait.
//!
//! Each second the exponential average of their number is brought up to date for everyone who has any. Every one that is
//! over the threshold is told at once by a trigger; the stacks, which the deciding look took along, follow as the capture
//! as soon as they have names. Without BPF iterators the same is read from procfs, less often.

mod crowd;
mod issues;
mod load;
mod owners;
mod report;
mod run;
mod settings;
mod source;
mod walk;
mod watch;

use std::{sync::Arc, time::Duration};

use galen_bpf::tasks::Tasks;
use galen_proto::v1::SuppressionReason;

pub use issues::Issue;
pub use settings::{Invalid, Raw, Settings};

use self::{
    run::{Runs, asked_for},
    source::Source,
    walk::Walker,
    watch::Watch,
};
use crate::{
    containers::Filter,
    host::Environment,
    tracer::{BoxError, Context, Cooldown, OnDemand, Outcome, Support, Tracer},
};

pub struct Dload {
    settings: Settings,
}

impl Tracer for Dload {
    const NAME: &'static str = "dload";
    const ON_DEMAND: OnDemand = OnDemand::Yes;
    const RESTART: Duration = Duration::from_secs(30);

    type Raw = Raw;
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn support(_: &Settings, environment: &Environment) -> Support {
        match environment.without_bpf() {
            Some(why) => Support::Degraded(degraded(why)),
            None => Support::Full,
        }
    }

    async fn run(self, mut context: Context) -> Result<Outcome, BoxError> {
        let source = source(&context).await;
        let mut watch = Watch::new(self.settings.clone(), source, context.containers.clone());
        let mut left_alone = Cooldown::default();
        let demands = context.demands();
        // Gets what the next look finds.
        let mut asking = None;
        loop {
            let now = tokio::select! {
                now = context.tick() => now,
                demand = demands.next(), if asking.is_none() => {
                    asking = Some(demand);
                    continue;
                }
            };
            let begun = watch.begin(now.boot, asking.is_some())?;
            let found = match begun {
                None => None,
                Some(begun) => {
                    let looked = move || (watch.look(begun, now.boot), watch);
                    let (found, back) = tokio::task::spawn_blocking(looked).await?;
                    watch = back;
                    Some(found?)
                }
            };
            context.evaluated(watch.highest(), self.settings.threshold);
            let Some((crowd, mut over)) = found else { continue };
            let crowd = Arc::new(crowd);
            if let Some(demand) = asking.take() {
                let (crowd, settings) = (Arc::clone(&crowd), self.settings.clone());
                context.spawn(asked_for(demand, crowd, now, settings, context.clone()));
            }
            over.retain(|over| {
                let wanted = context.containers.selects(&over.path, &Filter::default());
                let told = wanted && left_alone.contains(&*over.path, now);
                if told {
                    context.suppressed(SuppressionReason::Cooldown);
                }
                wanted && !told
            });
            if over.is_empty() {
                continue;
            }
            for over in &over {
                left_alone.insert(Arc::clone(&over.path), now, self.settings.cooldown);
            }
            let paths: Vec<Arc<str>> = over.iter().map(|over| Arc::clone(&over.path)).collect();
            let (states, back) = tokio::task::spawn_blocking(move || (watch.states(&paths), watch)).await?;
            watch = back;
            let (states, settings) = (states?, self.settings.clone());
            context.spawn(Runs { over, states, crowd, observed: now, settings, context: context.clone() }.tell());
        }
    }
}

async fn source(context: &Context) -> Source {
    if context.environment.without_bpf().is_none() {
        match context.with_kernel(Tasks::load).await {
            Ok(Ok(tasks)) => return Source::Iterator(tasks),
            Ok(Err(error)) | Err(error) => context.degraded(degraded(&error.reason())),
        }
    }
    Source::Procfs(Walker::default())
}

fn degraded(why: &str) -> String {
    format!("{why}: tasks are read from /proc, only each `interval`, and how long they wait is known from then on")
}
