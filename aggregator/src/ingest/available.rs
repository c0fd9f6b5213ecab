//! Whether the log takes events: a figure, and news for those who tell balancers.

use std::sync::Arc;

use galen_runtime::Chain;
use prometheus::IntGauge;
use tokio::sync::watch;

/// Set by the log's thread. Clones are the same.
#[derive(Debug, Clone)]
pub struct Available {
    shown: IntGauge,
    /// Why it does not; `None` while it does.
    refusal: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl Available {
    /// It does, to begin with.
    pub(super) fn new(shown: IntGauge) -> Self {
        shown.set(1);
        Self { shown, refusal: Arc::new(watch::Sender::new(None)) }
    }

    pub(super) fn opened(&self) {
        self.shown.set(1);
        self.refusal.send_replace(None);
    }

    pub(super) fn refused(&self, error: &galen_log::Error) {
        self.shown.set(0);
        self.refusal.send_replace(Some(Chain(error).to_string().into()));
    }

    /// Why it takes none, if it does not.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.refusal.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.refusal.subscribe()
    }
}
