//! Figures of the sessions.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::{listener, metrics::Registry};

#[derive(Debug, Clone)]
pub struct Metrics {
    pub connected: IntGauge,
    pub begun: IntCounter,
    /// By reason, as `Refusal::label` names it, or `left` if the agent ended it.
    pub ended: IntCounterVec,
    /// By reason, as `Refusal::label` names it.
    pub refused_events: IntCounterVec,
    pub(crate) connections: listener::Metrics,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connected: registry.gauge("session_connected_agents", "Agents that are connected.")?,
            begun: registry.counter("session_begun_streams_total", "Streams that began with a valid hello.")?,
            ended: registry.counters(
                "session_ended_streams_total",
                "Streams that ended: by the reason of the refusal, or `left` if the agent ended it.",
                "reason",
            )?,
            refused_events: registry.counters(
                "session_refused_events_total",
                "Events of batches that were refused before the log was asked, by reason.",
                "reason",
            )?,
            connections: listener::Metrics {
                refused: registry.counter(
                    "session_refused_connections_total",
                    "Connections of agents and callers beyond the limit, closed because no other ended in a moment.",
                )?,
                unused: registry.counters(
                    "session_unused_connections_total",
                    "Connections of agents and callers closed for having no call: by `silent` if they never sent \
                     anything, `no_call` if never a call, `idle` if their calls had ended.",
                    "reason",
                )?,
            },
        })
    }
}
