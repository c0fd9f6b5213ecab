//! Whether the log takes events: a figure, and news for those who tell balancers.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::watch;

/// Set by the log's thread. Clones are the same.
#[derive(Debug, Clone)]
pub struct Available {
    shown: IntGauge,
    now: Arc<watch::Sender<bool>>,
}

impl Available {
    /// It does, to begin with.
    pub(super) fn new(shown: IntGauge) -> Self {
        shown.set(1);
        Self { shown, now: Arc::new(watch::Sender::new(true)) }
    }

    pub(super) fn set(&self, available: bool) {
        self.shown.set(i64::from(available));
        self.now.send_replace(available);
    }

    pub fn get(&self) -> bool {
        *self.now.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<bool> {
        self.now.subscribe()
    }
}
