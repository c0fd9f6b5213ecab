//! Figures of who was turned away.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Registry;

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// By reason, as `Refusal::reason` names it.
    pub(super) refused: IntCounterVec,
    pub(super) untracked: IntCounter,
    pub(super) reload_errors: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            refused: registry.counters(
                "access_refused_requests_total",
                "Requests that were refused for who asked, by reason.",
                "reason",
            )?,
            untracked: registry.counter(
                "access_untracked_requests_total",
                "Refused requests that did not count for their address, because there were too many addresses.",
            )?,
            reload_errors: registry.counter(
                "access_reload_errors_total",
                "Looks at the file of tokens that found something which cannot be used; what was before holds on.",
            )?,
        })
    }
}
