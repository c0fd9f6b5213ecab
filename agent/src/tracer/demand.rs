//! Captures that somebody asks for: a bounded queue for each tracer, and an answer for each who asks.
//!
//! A demand that nobody waits for any more, because the tracer was busy or not running, is passed over.

use std::{sync::Arc, time::Duration};

use galen_proto::v1::Severity;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::Context;
use crate::{
    budget::{Grant, Permit},
    cgroup,
    recorder::RunId,
};

/// Demands of one tracer that may wait.
const QUEUE: usize = 4;

/// Why a demand came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{QUEUE} captures that were asked for wait already")]
    Full,
    #[error("it ended before it answered")]
    Ended,
    #[error("{0}")]
    Tracer(String),
}

/// Whether a tracer captures when somebody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDemand {
    /// Its runs answer what comes by [`Context::demands`].
    Yes,
    /// With the reason.
    No(&'static str),
}

/// Why there is a capture, as its event tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The trigger of the same run tells the rule.
    Rule,
    Demand,
}

/// A capture that was asked for and may begin.
#[derive(Debug)]
pub struct Asked {
    pub run: RunId,
    /// As in [`Demand`], and it exists.
    pub cgroup: Option<String>,
    pub permit: Permit,
    /// How long it may take, if not as long as it should, and why.
    pub short: Option<(Duration, String)>,
}

/// A capture that is asked for. Dropped without an answer, it counts as one that the tracer did not get to.
#[derive(Debug)]
pub struct Demand {
    /// Path of the cgroup to capture, from the root of its hierarchy; `None` for all of the node.
    pub cgroup: Option<String>,
    answer: oneshot::Sender<Result<String, String>>,
}

impl Demand {
    /// The capture has begun; `detail` is a line for whoever asked, such as the run's id.
    pub fn accept(self, detail: impl Into<String>) {
        // Who asked may have left.
        let _ = self.answer.send(Ok(detail.into()));
    }

    pub fn refuse(self, why: impl Into<String>) {
        let _ = self.answer.send(Err(why.into()));
    }

    /// Refuses it if it is for a cgroup only.
    pub fn of_the_node(self, what_is_captured: &str) -> Option<Self> {
        match &self.cgroup {
            None => Some(self),
            Some(cgroup) => {
                let why = format!("what is captured is {what_is_captured}, not `{cgroup}`");
                self.refuse(why);
                None
            }
        }
    }

    /// Accepts it with the id of its run; refuses it if there is no such cgroup, or nothing left of the budget. Whoever
    /// asks goes before rules.
    pub async fn begin(self, context: &Context) -> Option<Asked> {
        if let Some(path) = &self.cgroup
            && let Err(error) = cgroup::find(path, context.environment.hierarchies.roots())
        {
            self.refuse(error.to_string());
            return None;
        }
        let (permit, short) = match context.may_capture(Severity::Critical, f64::INFINITY).await {
            Grant::Full(permit) => (permit, None),
            Grant::Short(permit, most, why) => (permit, Some((most, why))),
            Grant::None(why) => {
                self.refuse(why);
                return None;
            }
        };
        let (run, cgroup) = (RunId::new(), self.cgroup.clone());
        self.accept(format!("run {run}"));
        Some(Asked { run, cgroup, permit, short })
    }
}

impl Cause {
    pub fn severity(self) -> Severity {
        match self {
            Self::Rule => Severity::Warning,
            Self::Demand => Severity::Info,
        }
    }

    pub fn explanation(self) -> String {
        match self {
            Self::Rule => String::new(),
            Self::Demand => "Somebody asked for it; no rule was met.".into(),
        }
    }
}

/// The demands of one tracer. Clones are the same queue.
#[derive(Debug, Clone)]
pub struct Demands {
    sender: mpsc::Sender<Demand>,
    queue: Arc<Mutex<mpsc::Receiver<Demand>>>,
}

impl Demands {
    pub(crate) fn new() -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        Self { sender, queue: Arc::new(Mutex::new(queue)) }
    }

    /// The next one. Waits for ever if there is none, and may be dropped at any time.
    pub async fn next(&self) -> Demand {
        loop {
            match self.queue.lock().await.recv().await {
                Some(demand) if demand.answer.is_closed() => {}
                Some(demand) => return demand,
                None => std::future::pending().await,
            }
        }
    }

    /// Asks, and waits for the tracer's answer.
    pub(crate) async fn ask(&self, cgroup: Option<String>) -> Result<String, Refused> {
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(Demand { cgroup, answer }).map_err(|_| Refused::Full)?;
        answered.await.map_err(|_| Refused::Ended)?.map_err(Refused::Tracer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_hears_what_the_tracer_says() {
        let demands = Demands::new();
        let tracer = async {
            let demand = demands.next().await;
            assert_eq!(demand.cgroup.as_deref(), Some("/a"));
            demand.accept("begun");
            demands.next().await.refuse("no room");
            drop(demands.next().await);
        };
        let asking = async {
            assert_eq!(demands.ask(Some("/a".into())).await, Ok("begun".into()));
            assert_eq!(demands.ask(None).await, Err(Refused::Tracer("no room".into())));
            assert_eq!(demands.ask(None).await, Err(Refused::Ended));
        };
        tokio::join!(tracer, asking);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_those_who_left_are_passed_over() {
        let demands = Demands::new();
        for _ in 0..QUEUE {
            let mut asking = Box::pin(demands.ask(None));
            assert!(futures_util::poll!(&mut asking).is_pending());
        }
        assert_eq!(demands.ask(None).await, Err(Refused::Full));
        let mut next = Box::pin(demands.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        let asking = demands.ask(None);
        let tracer = async { next.await.accept("begun") };
        assert_eq!(tokio::join!(asking, tracer).0, Ok("begun".into()));
    }
}
