//! The tracers of this agent: which of them run, and how that changes while the agent does.
//!
//! A tracer runs if its settings enable it, unless an override says otherwise. Each runs under a supervisor of its own,
//! so that one is ended, or begun again with other settings, and no other notices. A tracer that is ended finishes its
//! captures first, as when the agent ends. A change that is cut short is completed by the next one.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use galen_runtime::{OnEnd, Supervisor};

use super::{Context, OnDemand, Section, Support, demand, factory::Configured, supervise};
use crate::figures::Registry;

/// How long a tracer that is ended may take.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why a tracer is not as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no tracer `{0}`")]
    Unknown(String),
    #[error("a metric of `{tracer}` cannot be registered")]
    Metrics {
        tracer: &'static str,
        #[source]
        source: prometheus::Error,
    },
    #[error("`{tracer}` cannot be asked to capture: {why}")]
    NotOnDemand { tracer: &'static str, why: &'static str },
    #[error("`{0}` is not enabled")]
    NotEnabled(&'static str),
    #[error("`{tracer}` is not supported here: {why}")]
    Unsupported { tracer: &'static str, why: String },
    #[error("`{tracer}` does not capture")]
    Refused {
        tracer: &'static str,
        #[source]
        source: demand::Refused,
    },
}

/// All tracers of the agent.
pub(crate) struct Crew {
    members: Vec<Member>,
    metrics: Registry,
}

struct Member {
    tracer: Arc<dyn Configured>,
    /// Of its runs, but for the supervisor.
    context: Context,
    /// Goes before the settings.
    wanted: Option<bool>,
    running: Option<Supervisor>,
    /// What runs has older settings.
    stale: bool,
}

impl Crew {
    pub(crate) fn new(metrics: Registry) -> Self {
        Self { members: Vec::new(), metrics }
    }

    /// Adds a tracer, and runs it if it is enabled.
    pub(crate) async fn add(&mut self, section: &Section, context: Context) -> Result<(), Error> {
        let tracer = Arc::clone(&section.tracer);
        let mut member = Member { tracer, context, wanted: None, running: None, stale: false };
        member.settle(&self.metrics).await?;
        self.members.push(member);
        Ok(())
    }

    /// Lets a tracer run or not, whatever its settings say; with `None` they decide again.
    pub(crate) async fn set(&mut self, tracer: &str, enabled: Option<bool>) -> Result<String, Error> {
        let member = self.members.iter_mut().find(|member| member.tracer.name() == tracer);
        let member = member.ok_or_else(|| Error::Unknown(tracer.to_owned()))?;
        member.wanted = enabled;
        member.settle(&self.metrics).await?;
        Ok(member.said())
    }

    /// Takes over new settings: what has others than before is begun again with them, the rest is left alone. Names
    /// what changed.
    pub(crate) async fn reload<'a>(
        &mut self,
        sections: impl Iterator<Item = &'a Section>,
    ) -> Result<Vec<&'static str>, Error> {
        let mut changed = Vec::new();
        for section in sections {
            let Some(member) = self.members.iter_mut().find(|member| member.tracer.name() == section.name()) else {
                continue;
            };
            if written(&*member.tracer) != written(&*section.tracer) {
                member.tracer = Arc::clone(&section.tracer);
                member.stale = true;
                changed.push(section.name());
            }
            member.settle(&self.metrics).await?;
        }
        Ok(changed)
    }

    /// Has a tracer capture now. The answer comes from the tracer, so it is given without the crew.
    pub(crate) fn trigger(
        &self,
        tracer: &str,
        cgroup: Option<String>,
    ) -> Result<impl Future<Output = Result<String, Error>> + Send + 'static, Error> {
        let member = self.members.iter().find(|member| member.tracer.name() == tracer);
        let member = member.ok_or_else(|| Error::Unknown(tracer.to_owned()))?;
        let tracer = member.tracer.name();
        if let OnDemand::No(why) = member.tracer.on_demand() {
            return Err(Error::NotOnDemand { tracer, why });
        }
        if !member.enabled() {
            return Err(Error::NotEnabled(tracer));
        }
        if let Some(Support::Unsupported(why)) = member.context.status.support() {
            return Err(Error::Unsupported { tracer, why });
        }
        let demands = member.context.demands();
        Ok(async move { demands.ask(cgroup).await.map_err(|source| Error::Refused { tracer, source }) })
    }

    /// Ends all of them, at most `deadline`. Whether each ended in time.
    pub(crate) async fn stop(&mut self, deadline: Duration) -> bool {
        let running = self.members.iter_mut().filter_map(|member| member.running.take());
        let drained = join_all(running.map(|supervisor| supervisor.drain(deadline))).await;
        drained.iter().all(|drained| *drained == galen_runtime::Drained::Complete)
    }
}

impl Member {
    fn enabled(&self) -> bool {
        self.wanted.unwrap_or(self.tracer.enabled())
    }

    /// Makes it so: ended, begun, or begun again.
    async fn settle(&mut self, metrics: &Registry) -> Result<(), Error> {
        let enabled = self.enabled();
        let status = &self.context.status;
        status.set_enabled(enabled, self.wanted.is_some());
        if let Some(running) = &self.running
            && (!enabled || self.stale || running.token().is_cancelled())
        {
            // Kept until it has ended, so that who comes after an interruption knows of it.
            let _: galen_runtime::Drained = running.clone().drain(END_WITHIN).await;
            self.running = None;
            // A collector is known by what it describes.
            if let Some(collector) = self.tracer.collector() {
                metrics.unregister(collector);
            }
            tracing::info!(tracer = self.tracer.name(), "tracer has ended");
        }
        if self.running.is_none() {
            self.stale = false;
            if enabled {
                self.begin(metrics)?;
            } else {
                status.set_support(self.tracer.support(&self.context.environment));
            }
        }
        Ok(())
    }

    fn begin(&mut self, metrics: &Registry) -> Result<(), Error> {
        let tracer = self.tracer.name();
        if let Some(collector) = self.tracer.collector() {
            metrics.register(collector).map_err(|source| Error::Metrics { tracer, source })?;
        }
        let supervisor = Supervisor::new();
        let context = Context { supervisor: supervisor.clone(), ..self.context.clone() };
        let run = supervise(Arc::clone(&self.tracer), context);
        supervisor.spawn(tracer, OnEnd::Ignore, async {
            run.await;
            Ok(())
        });
        self.running = Some(supervisor);
        Ok(())
    }

    /// One line for whoever asked for a change.
    fn said(&self) -> String {
        let name = self.tracer.name();
        let state = if self.enabled() { "enabled" } else { "disabled" };
        let by = if self.wanted.is_some() { "" } else { " by the node's settings" };
        match self.tracer.support(&self.context.environment) {
            Support::Unsupported(why) => format!("`{name}` is {state}{by}, and not supported here: {why}"),
            _ => format!("`{name}` is {state}{by}"),
        }
    }
}

/// The settings of a tracer, to be compared.
fn written(tracer: &dyn Configured) -> Option<toml::Value> {
    toml::Value::try_from(tracer).ok()
}
