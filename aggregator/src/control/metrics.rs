//! Figures of what is asked of nodes.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Registry;

#[derive(Debug, Clone)]
pub struct Metrics {
    /// To sessions.
    pub sent: IntCounter,
    /// By what the agent said.
    pub answered: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            sent: registry.counter("control_sent_commands_total", "Commands that were sent to agents.")?,
            answered: registry.counters(
                "control_answered_commands_total",
                "Answers of agents to commands, by outcome.",
                "outcome",
            )?,
        })
    }
}
