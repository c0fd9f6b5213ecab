//! What a run is given to work with.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use galen_bpf::Kernel;
use galen_proto::v1::{LossReason, Severity, SuppressionReason};
use galen_runtime::{OnEnd, Supervisor};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{BoxError, Demands, Status, Support, run::panic_text};
use crate::{
    budget::{Budget, Grant},
    clock::{Clock, Moment},
    containers::Containers,
    flight::Flight,
    host::Environment,
    recorder::{self, Record, Recorder},
    ticker::Ticker,
};

/// A run's handle to the agent.
#[derive(Clone)]
pub struct Context {
    pub clock: Clock,
    pub environment: Arc<Environment>,
    pub containers: Containers,
    pub flight: Flight,
    pub(crate) ticker: Ticker,
    pub(crate) budget: Budget,
    pub(crate) recorder: Recorder,
    pub(crate) status: Arc<Status>,
    pub(crate) demands: Demands,
    pub(crate) supervisor: Supervisor,
    pub(crate) loader: Loader,
}

/// Loads BPF programs, one after another: the kernel's types are in memory meanwhile, and they are large. Clones take
/// turns.
#[derive(Clone, Default)]
pub(crate) struct Loader {
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Loader {
    /// On a thread for it.
    pub(crate) async fn with_kernel<T: Send + 'static>(
        &self,
        load: impl FnOnce(&Kernel) -> T + Send + 'static,
    ) -> Result<T, galen_bpf::Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let load = move || {
            let _turn = turn;
            Kernel::open().map(|kernel| load(&kernel))
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded,
            Err(ended) => match ended.try_into_panic() {
                // It becomes the panic of the run that asked.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and the run with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Context {
    /// The next shared tick: one a second.
    pub async fn tick(&mut self) -> Moment {
        self.ticker.tick().await
    }

    /// Makes an event of it, unless it is about a container that the operator excluded, which may be known only now.
    /// Never blocks; the event is durable a moment later, or its loss is counted.
    pub fn record<D: Serialize>(&self, record: Record<D>) -> Result<(), recorder::Error> {
        let concerned = record.container.as_ref().map_or("", |container| &container.cgroup);
        if !self.containers.allows(concerned) {
            return Ok(());
        }
        let kind = record.kind;
        self.recorder.record(self.status.name(), record)?;
        self.status.recorded(kind);
        Ok(())
    }

    /// Captures that somebody asks for, if the tracer takes them ([`ON_DEMAND`](super::Tracer::ON_DEMAND)).
    pub fn demands(&self) -> Demands {
        self.demands.clone()
    }

    /// Tells, once an evaluation, what the rule compares with its threshold: the highest over all that is watched.
    pub fn evaluated(&self, value: f64, threshold: f64) {
        self.status.evaluated(value, threshold);
    }

    /// Tells that a rule was met and not told, or told with less evidence than it has otherwise. What is not told at all
    /// was an observation all the same.
    pub fn suppressed(&self, reason: SuppressionReason) {
        self.status.suppressed(reason);
        if reason == SuppressionReason::Cooldown {
            self.recorder.leave_out(LossReason::Cooldown, self.status.name());
        }
    }

    /// Tells that samples, kernel records or captures were lost before anything was observed in them.
    pub fn count_loss(&self, reason: LossReason, count: u64) {
        if count > 0 {
            self.recorder.count_loss(reason, self.status.name(), count);
        }
    }

    /// Tells that the tracer works with less than it could show, which it found out while running.
    pub fn degraded(&self, why: impl Into<String>) {
        let why = why.into();
        tracing::warn!(tracer = self.status.name(), why, "tracer is degraded");
        self.status.set_support(Support::Degraded(why));
    }

    /// Tells the tracer's support if profiles cannot be had, or not all of them: `what` goes on without.
    pub(crate) async fn tell_flight_support(&self, what: &str) {
        match self.flight.sampler().await {
            Err(why) => self.degraded(format!("{what} without a CPU profile: {why}")),
            Ok(sampler) => {
                if let galen_bpf::Support::Degraded(why) = sampler.support() {
                    self.degraded(why);
                }
            }
        }
    }

    /// Has `load` load BPF programs, on a thread for it, and gives back the memory that it took.
    pub async fn with_kernel<T: Send + 'static>(
        &self,
        load: impl FnOnce(&Kernel) -> T + Send + 'static,
    ) -> Result<T, galen_bpf::Error> {
        self.loader.with_kernel(load).await
    }

    /// Asks whether a capture may be taken now. The trigger is told whatever the answer is; what is reduced is counted
    /// as suppressed by the budget, and its reason belongs in the event.
    pub async fn may_capture(&self, severity: Severity, score: f64) -> Grant {
        let grant = self.budget.ask(self.status.name(), severity, score).await;
        if !matches!(grant, Grant::Full(_)) {
            self.suppressed(SuppressionReason::Budget);
        }
        grant
    }

    /// Runs a part of the tracer, such as a capture, beside it. An error or a panic counts as a failure of the tracer
    /// and ends this part only. It outlives the run, and has to end soon after [`stopping`](Self::stopping).
    pub fn spawn(&self, part: impl Future<Output = Result<(), BoxError>> + Send + 'static) {
        let status = Arc::clone(&self.status);
        let part = async move {
            let error = match AssertUnwindSafe(part).catch_unwind().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => galen_runtime::Chain(&*error).to_string(),
                Err(panic) => panic_text(&*panic),
            };
            tracing::warn!(tracer = status.name(), error, "part of a tracer failed");
            status.failed(error);
            Ok(())
        };
        self.supervisor.spawn(format!("{}/part", self.status.name()), OnEnd::Ignore, part);
    }

    /// Cancelled when the agent stops, or this run is ended before.
    pub fn stopping(&self) -> CancellationToken {
        self.supervisor.token()
    }
}
