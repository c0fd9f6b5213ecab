//! How often runtimes were asked, what came of it, and what did not fit.

use prometheus::{IntCounter, IntCounterVec, Opts};

use crate::figures::Registry;

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Known,
    /// The daemon knows no such container.
    Unknown,
    /// An error, or no answer in time.
    Failed,
    /// The daemon is left alone, because it failed.
    NotAsked,
}

/// Counters. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    questions: IntCounterVec,
    /// Containers that were not asked about before somebody needed to know, because too many waited.
    pub(super) not_prefetched: IntCounter,
    /// Descriptions that made room for newer ones.
    pub(super) forgotten: IntCounter,
    /// Labels that were left out, because a container had too many.
    pub(super) labels_left_out: IntCounter,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| IntCounter::new(full(name), help);
        let questions = Opts::new(full("questions_total"), "Questions to container runtimes, by what came of them.");
        Ok(Self {
            questions: IntCounterVec::new(questions, &["runtime", "outcome"])?,
            not_prefetched: counter("not_prefetched_total", "Containers that were not described when they began.")?,
            forgotten: counter("forgotten_total", "Descriptions that made room for newer ones.")?,
            labels_left_out: counter("labels_left_out_total", "Labels of containers that had too many.")?,
        })
    }

    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.questions.clone()))?;
        for counter in [&self.not_prefetched, &self.forgotten, &self.labels_left_out] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(())
    }

    /// Questions to a runtime that ended so.
    pub fn questions(&self, runtime: &str, outcome: Outcome) -> u64 {
        self.questions.with_label_values(&[runtime, outcome.name()]).get()
    }

    pub(super) fn asked(&self, runtime: &str, outcome: Outcome) {
        self.questions.with_label_values(&[runtime, outcome.name()]).inc();
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::NotAsked => "not_asked",
        }
    }
}

fn full(name: &str) -> String {
    format!("galen_agent_containers_{name}")
}
