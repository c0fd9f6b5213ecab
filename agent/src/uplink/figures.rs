//! Figures of the uplink.

use prometheus::IntCounter;

use crate::figures::Registry;

#[derive(Debug, Clone)]
pub struct Figures {
    pub(super) begun: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) events: IntCounter,
    pub(super) bytes: IntCounter,
}

impl Figures {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter =
            |name: &str, help: &str| registry.add(IntCounter::new(format!("galen_agent_uplink_{name}"), help)?);
        Ok(Self {
            begun: counter("begun_sessions_total", "Sessions that the aggregator welcomed.")?,
            failed: counter("failed_sessions_total", "Sessions that did not come about, or broke.")?,
            events: counter("sent_events_total", "Events that were sent, repetitions included.")?,
            bytes: counter("sent_event_bytes_total", "Bytes of events that were sent, repetitions included.")?,
        })
    }
}
