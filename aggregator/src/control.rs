//! What is asked of nodes: checked, written down, kept if it has to last, sent down the node's stream, and answered.
//!
//! - [`Audit`]: each call is in the audit log before anything is done.
//! - [`Desired`]: what has to hold from now on. Sessions send it whenever a node connects.
//! - [`Order`]: one command on its way to a session, with who waits for the answer. A session takes a bounded number at
//!   a time, and nobody waits longer than [`ANSWER_WITHIN`].

mod audit;
mod desired;
mod error;
mod metrics;
mod service;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use galen_proto::v1::{
    CommandOutcome, CommandResult, ControlResponse, RecordNow, ReloadSettings, ReloadSettingsRequest, SetTracer,
    SetTracerRequest, Setting, TriggerTracer, TriggerTracerRequest, command,
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::timeout};

pub use audit::{Audit, Entry, Who};
pub use desired::{Desired, FILE as DESIRED_FILE, Wanted};
pub use error::Error;
pub use metrics::Metrics;
pub use service::Service;

use crate::{nodes::Nodes, session::Seats};

/// What an agent has for a command.
pub const DO_WITHIN: Duration = Duration::from_secs(15);
/// How long who asks waits for the answer, the way included.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const MAX_TRACER_NAME: usize = 64;
const MAX_CGROUP: usize = 4096;
/// Changes of one node's settings.
const MAX_SETTINGS: usize = 64;
/// Bytes of a key or a value.
const MAX_SETTING: usize = 1024;

/// A command for the session of a node.
#[derive(Debug)]
pub struct Order {
    pub command: command::Command,
    /// `None` if nobody waits.
    pub answer: Option<oneshot::Sender<CommandResult>>,
}

/// Does what is asked.
#[derive(Debug, Clone)]
pub struct Control {
    pub seats: Arc<Seats>,
    pub nodes: Arc<Nodes>,
    pub desired: Arc<Desired>,
    pub audit: Audit,
}

impl Control {
    /// Lets a tracer run or not.
    ///
    /// # Errors
    /// The node or the tracer is not known, it cannot be written down, or the node does not answer.
    pub async fn set_tracer(&self, who: Who, asked: SetTracerRequest) -> Result<ControlResponse, Error> {
        let SetTracerRequest { node, tracer, enabled } = asked;
        self.check_tracer(&node, &tracer)?;
        let request = json!({ "tracer": tracer, "enabled": enabled });
        self.audited(who, "set_tracer", &node, request, async {
            let keep = |wanted: &mut Wanted| {
                match enabled {
                    Some(enabled) => wanted.tracers.insert(tracer.clone(), enabled),
                    None => wanted.tracers.remove(&tracer),
                };
            };
            self.desired.change(&node, keep).await?;
            match self.order(&node, command::Command::SetTracer(SetTracer { tracer, enabled })).await {
                // It hears of it when it comes.
                Err(Error::Away(_) | Error::Left(_)) => {
                    Ok(ControlResponse { kept: true, ..ControlResponse::default() })
                }
                answered => answered,
            }
        })
        .await
    }

    /// Has a tracer capture now.
    ///
    /// # Errors
    /// The node or the tracer is not known, the node is away, or does not answer.
    pub async fn trigger_tracer(&self, who: Who, asked: TriggerTracerRequest) -> Result<ControlResponse, Error> {
        let TriggerTracerRequest { node, tracer, cgroup } = asked;
        self.check_tracer(&node, &tracer)?;
        check_text("cgroup", &cgroup, 0..=MAX_CGROUP)?;
        let request = json!({ "tracer": tracer, "cgroup": cgroup });
        let command = command::Command::TriggerTracer(TriggerTracer { tracer, cgroup });
        self.audited(who, "trigger_tracer", &node, request, self.order(&node, command)).await
    }

    /// Has a node read its settings again, with changes laid over them.
    ///
    /// # Errors
    /// The node is not known, a change is wrong, it cannot be written down, or the node does not answer.
    pub async fn reload_settings(&self, who: Who, asked: ReloadSettingsRequest) -> Result<ControlResponse, Error> {
        let ReloadSettingsRequest { node, set, unset } = asked;
        self.check_node(&node)?;
        let mut settings = self.desired.of(&node).settings;
        for Setting { key, value } in &set {
            check_text("key", key, 1..=MAX_SETTING)?;
            check_text("value", value, 0..=MAX_SETTING)?;
            settings.insert(key.clone(), value.clone());
        }
        for key in &unset {
            settings.remove(key).ok_or_else(|| Error::NotSet(key.clone()))?;
        }
        if settings.len() > MAX_SETTINGS {
            return Err(Error::Invalid(format!("{} settings, at most {MAX_SETTINGS} are kept", settings.len())));
        }
        let set: Value = set.iter().map(|setting| (setting.key.clone(), json!(setting.value))).collect();
        let request = json!({ "set": set, "unset": unset });
        self.audited(who, "reload_settings", &node, request, async {
            let reload = ReloadSettings { settings: desired::settings(&settings) };
            let response = match self.order(&node, command::Command::ReloadSettings(reload)).await {
                Ok(response) if response.outcome() != CommandOutcome::Done => return Ok(response),
                Err(Error::Away(_)) => ControlResponse { kept: true, ..ControlResponse::default() },
                answered => answered?,
            };
            self.desired.change(&node, |wanted| wanted.settings = settings).await?;
            Ok(response)
        })
        .await
    }

    /// Has a node record what its flight recorder holds.
    ///
    /// # Errors
    /// The node is not known, is away, or does not answer.
    pub async fn record_now(&self, who: Who, node: String) -> Result<ControlResponse, Error> {
        self.check_node(&node)?;
        let command = command::Command::RecordNow(RecordNow {});
        self.audited(who, "record_now", &node, json!({}), self.order(&node, command)).await
    }

    /// Writes the question down, does it, writes the answer down.
    async fn audited(
        &self,
        who: Who,
        call: &'static str,
        node: &str,
        request: Value,
        doing: impl Future<Output = Result<ControlResponse, Error>>,
    ) -> Result<ControlResponse, Error> {
        let entry = Entry::new(who, call, node, request);
        self.audit.write(entry.clone()).await.map_err(Error::Audit)?;
        let answer = doing.await;
        let (outcome, detail) = match &answer {
            Ok(response) if response.kept => ("kept", String::new()),
            Ok(response) => (outcome_name(response.outcome()), response.detail.clone()),
            Err(error) => ("error", galen_runtime::Chain(error).to_string()),
        };
        if let Err(error) = self.audit.write(entry.answered(outcome, detail)).await {
            // It is done by now, and its question is written down.
            tracing::error!(%error, call, node, "failed to write the answer to the audit log");
        }
        answer
    }

    /// Sends a command, and waits for the answer.
    async fn order(&self, node: &str, command: command::Command) -> Result<ControlResponse, Error> {
        let orders = self.seats.orders(node).ok_or_else(|| Error::Away(node.into()))?;
        let (answer, answered) = oneshot::channel();
        orders.push(Order { command, answer: Some(answer) }).map_err(|_| Error::Busy(node.into()))?;
        // If the session ends before it takes the order, both are gone.
        drop(orders);
        let answered = timeout(ANSWER_WITHIN, answered).await.map_err(|_| Error::Late(node.into()))?;
        let CommandResult { outcome, detail, .. } = answered.map_err(|_| Error::Left(node.into()))?;
        Ok(ControlResponse { kept: false, outcome, detail })
    }

    fn check_node(&self, node: &str) -> Result<(), Error> {
        check_text("node", node, 1..=galen_proto::MAX_NODE_NAME)?;
        match self.nodes.tracers(node) {
            Some(_) => Ok(()),
            None => Err(Error::NoNode(node.into())),
        }
    }

    fn check_tracer(&self, node: &str, tracer: &str) -> Result<(), Error> {
        self.check_node(node)?;
        check_text("tracer", tracer, 1..=MAX_TRACER_NAME)?;
        let known = self.nodes.tracers(node).unwrap_or_default();
        // Of a node that was not connected since the aggregator's start nothing is known.
        if known.is_empty() || known.iter().any(|known| known == tracer) {
            return Ok(());
        }
        Err(Error::NoTracer { node: node.into(), tracer: tracer.into(), known })
    }
}

fn check_text(what: &str, text: &str, bytes: RangeInclusive<usize>) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::Invalid(format!("`{what}` {why}")));
    match text.len() {
        length if length < *bytes.start() => wrong("is empty".into()),
        length if length > *bytes.end() => wrong(format!("is longer than {} bytes", bytes.end())),
        _ if text.chars().any(char::is_control) => wrong("has control characters".into()),
        _ => Ok(()),
    }
}

/// For metrics and the audit log.
pub fn outcome_name(outcome: CommandOutcome) -> &'static str {
    match outcome {
        CommandOutcome::Unspecified => "unspecified",
        CommandOutcome::Done => "done",
        CommandOutcome::Failed => "failed",
        CommandOutcome::Unknown => "unknown",
    }
}
