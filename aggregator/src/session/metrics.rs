//! Figures of the sessions.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

#[derive(Debug, Clone)]
pub struct Metrics {
    pub connected: IntGauge,
    pub begun: IntCounter,
    /// By reason, as `Refusal::label` names it, or `left` if the agent ended it.
    pub ended: IntCounterVec,
    /// TCP connections beyond the limit.
    pub connections_refused: IntCounter,
}

impl Metrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            connected: IntGauge::new("galen_aggregator_session_agents", "Agents that are connected.")?,
            begun: IntCounter::new("galen_aggregator_session_begun_total", "Sessions that began with a valid hello.")?,
            ended: IntCounterVec::new(
                Opts::new("galen_aggregator_session_ended_total", "Streams that ended, by reason."),
                &["reason"],
            )?,
            connections_refused: IntCounter::new(
                "galen_aggregator_session_connections_refused_total",
                "Connections beyond the limit, closed at once.",
            )?,
        };
        registry.register(Box::new(metrics.connected.clone()))?;
        registry.register(Box::new(metrics.begun.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        Ok(metrics)
    }
}
