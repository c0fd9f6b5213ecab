//! What is changed while the agent runs, by the aggregator's commands and by SIGHUP.
//!
//! One task carries out one request after the other, each within a time limit; a bounded number waits, and one beyond
//! that fails at once. Settings are read as a whole: wrong ones are refused and those of before hold on, which the
//! heartbeats tell until a later reading is right.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use galen_proto::v1::{Command, CommandOutcome, CommandResult, Setting, command};
use galen_runtime::{Chain, telemetry};
use parking_lot::RwLock;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Invalid, Layers, Settings},
    flight,
    tracer::{ChangeError, Crew, TracerSet},
};

/// Requests that may wait.
const QUEUE: usize = 16;
/// Longest time for one request.
const LIMIT: Duration = Duration::from_secs(30);
/// Settings that the aggregator may lay over the agent's own.
const MAX_SETTINGS: usize = 64;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("the settings were refused, those of before hold on")]
    Settings(#[from] Invalid),
    #[error("the settings were not read to the end")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("{0} settings, at most {MAX_SETTINGS} are taken")]
    TooMany(usize),
    #[error(transparent)]
    Record(#[from] flight::Failed),
    #[error("not done within {0:?}")]
    Late(Duration),
}

/// `Ok` with a line for people; `None` for what is not known.
type Answer = Option<Result<String, Error>>;

struct Request {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

/// How things stand with the settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Why those that were read last are not in use; empty if they are.
    pub error: String,
    /// Laid over all other layers by the aggregator.
    pub changes: Vec<Setting>,
}

/// Takes requests. Clones are the same.
#[derive(Clone)]
pub struct Control {
    requests: mpsc::Sender<Request>,
    standing: Arc<RwLock<Standing>>,
}

impl Control {
    /// The handle, and the task that does what is asked until `stop` is cancelled.
    pub(crate) fn new<S: TracerSet>(
        settings: &Settings<S>,
        crew: Arc<Mutex<Crew>>,
        desk: flight::Desk,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE);
        let standing = Arc::<RwLock<Standing>>::default();
        let control = Self { requests, standing: Arc::clone(&standing) };
        let (layers, fixed) = (settings.layers.clone(), settings.fixed());
        let mut controller = Controller::<S> { layers, fixed, crew, desk, standing, set: PhantomData };
        let serve = async move {
            while let Some(Request { command, answer }) = queue.recv().await {
                // The one that asked may have left: what has to hold is done nevertheless.
                let _ = answer.send(controller.obey(command).await);
            }
        };
        (control, async move {
            stop.run_until_cancelled(serve).await;
        })
    }

    /// Does what the aggregator asks, and says what came of it.
    pub fn obey(&self, command: Command) -> impl Future<Output = CommandResult> + Send + 'static {
        let id = command.id;
        let (answer, answered) = oneshot::channel();
        let queued = self.requests.try_send(Request { command, answer }).is_ok();
        async move {
            let (outcome, detail) = match answered.await {
                Ok(Some(Ok(done))) => (CommandOutcome::Done, done),
                Ok(Some(Err(error))) => (CommandOutcome::Failed, Chain(&error).to_string()),
                Ok(None) => (CommandOutcome::Unknown, "this agent does not know the command".into()),
                Err(_) if queued => (CommandOutcome::Failed, "the agent is ending".into()),
                Err(_) => (CommandOutcome::Failed, format!("{QUEUE} commands wait already")),
            };
            CommandResult { id, outcome: outcome.into(), detail }
        }
    }

    /// Reads the settings again, with the aggregator's changes as they are.
    pub async fn reload(&self) -> CommandResult {
        let settings = self.standing.read().changes.clone();
        let command = command::Command::ReloadSettings(galen_proto::v1::ReloadSettings { settings });
        self.obey(Command { command: Some(command), ..Command::default() }).await
    }

    pub fn standing(&self) -> Standing {
        self.standing.read().clone()
    }
}

struct Controller<S> {
    /// Where the settings are read from.
    layers: Option<Layers>,
    /// What holds until the agent ends, as it was at the start.
    fixed: BTreeMap<String, String>,
    crew: Arc<Mutex<Crew>>,
    desk: flight::Desk,
    standing: Arc<RwLock<Standing>>,
    set: PhantomData<fn() -> S>,
}

impl<S: TracerSet> Controller<S> {
    async fn obey(&mut self, command: Command) -> Answer {
        let asked = Duration::from_millis(command.timeout_millis.into());
        let limit = if asked.is_zero() { LIMIT } else { asked.min(LIMIT) };
        let doing = self.carry_out(command.command?);
        Some(timeout(limit, doing).await.unwrap_or(Err(Error::Late(limit))))
    }

    async fn carry_out(&mut self, command: command::Command) -> Result<String, Error> {
        match command {
            command::Command::ReportStatus(_) => Ok(String::new()),
            command::Command::SetTracer(set) => {
                let said = self.crew.lock().await.set(&set.tracer, set.enabled).await?;
                tracing::info!(tracer = set.tracer, enabled = set.enabled, "told by the aggregator: {said}");
                Ok(said)
            }
            command::Command::TriggerTracer(trigger) => {
                let cgroup = Some(trigger.cgroup).filter(|cgroup| !cgroup.is_empty());
                tracing::info!(tracer = trigger.tracer, cgroup, "a capture is asked for");
                let begun = self.crew.lock().await.trigger(&trigger.tracer, cgroup)?;
                Ok(begun.await?)
            }
            command::Command::ReloadSettings(reload) => {
                let done = self.reload(reload.settings).await;
                match &done {
                    Ok(said) => tracing::info!("settings were read again: {said}"),
                    Err(error) => tracing::error!(error = %Chain(error), "settings were not taken"),
                }
                self.standing.write().error = done.as_ref().err().map(|e| Chain(e).to_string()).unwrap_or_default();
                done
            }
            command::Command::RecordNow(_) => Ok(self.desk.record_now().await?),
        }
    }

    async fn reload(&mut self, changes: Vec<Setting>) -> Result<String, Error> {
        if changes.len() > MAX_SETTINGS {
            return Err(Error::TooMany(changes.len()));
        }
        let laid: Vec<_> = changes.iter().map(|change| (change.key.clone(), change.value.clone())).collect();
        let layers = self.layers.clone().ok_or(Invalid::NotLoaded)?;
        let settings = tokio::task::spawn_blocking(move || layers.read::<S>(&laid)).await??;
        self.standing.write().changes = changes;
        let config = settings.config();
        if let Err(error) = telemetry::set_filter(&config.log.filter) {
            tracing::warn!(error = %Chain(&error), "the log's filter stays as it was");
        }
        let restarted = self.crew.lock().await.reload(config.tracers.iter()).await?;
        let mut said = match &restarted[..] {
            [] => "no tracer has new settings".to_owned(),
            names => format!("new settings for {}", names.join(", ")),
        };
        let now = settings.fixed();
        let waits = galen_runtime::config::changed(&self.fixed, &now);
        if !waits.is_empty() {
            tracing::warn!(keys = waits.join(", "), "settings that need a restart of the agent were changed");
            said += &format!("; needs a restart of the agent: {}", waits.join(", "));
        }
        Ok(said)
    }
}
