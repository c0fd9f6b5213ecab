//! What happened, counted since the start.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// Nodes whose poison is counted apart; that of any more counts for `__other__`.
const MAX_NODES: usize = 10_000;
const OTHER: &str = "__other__";

/// Counters of a sink. Cumulative.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) partly: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) lag: AtomicU64,
    poisoned: Mutex<BTreeMap<(String, &'static str), u64>>,
    problem: Mutex<Option<Problem>>,
}

/// Why the sink stands, or waits.
#[derive(Debug, Clone)]
struct Problem {
    halted: bool,
    /// Before anything was written: it ends when the templates are in place.
    of_beginning: bool,
    message: String,
}

/// A look at the counters.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Events that were indexed in full.
    pub events: u64,
    /// Documents that were there already.
    pub duplicates: u64,
    /// Events that could not be decoded: kept with the reason.
    pub unreadable: u64,
    /// Events whose data could not be indexed, or not all of it.
    pub partly: u64,
    /// Events that the log could not give any more.
    pub skipped: u64,
    /// Bulk requests.
    pub requests: u64,
    /// Bulk requests that failed as a whole.
    pub failures: u64,
    /// Documents that were sent again.
    pub repeated: u64,
    /// Indices that retention deleted.
    pub dropped: u64,
    /// Events in the log that are not in OpenSearch yet.
    pub lag: u64,
    /// Events that went aside, by node and reason.
    pub poisoned: BTreeMap<(String, &'static str), u64>,
    /// Nothing is sent until somebody repairs something.
    pub halted: bool,
    /// Why nothing is taken at the moment, if that is so.
    pub problem: Option<String>,
}

impl Counters {
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let problem = self.problem.lock().clone();
        Stats {
            events: get(&self.events),
            duplicates: get(&self.duplicates),
            unreadable: get(&self.unreadable),
            partly: get(&self.partly),
            skipped: get(&self.skipped),
            requests: get(&self.requests),
            failures: get(&self.failures),
            repeated: get(&self.repeated),
            dropped: get(&self.dropped),
            lag: get(&self.lag),
            poisoned: self.poisoned.lock().clone(),
            halted: problem.as_ref().is_some_and(|problem| problem.halted),
            problem: problem.map(|problem| problem.message),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn poisoned(&self, node: &str, reason: &'static str) {
        let mut poisoned = self.poisoned.lock();
        let full = poisoned.len() >= MAX_NODES && !poisoned.contains_key(&(node.to_owned(), reason));
        let node = if full { OTHER } else { node };
        *poisoned.entry((node.to_owned(), reason)).or_default() += 1;
    }

    /// Says why nothing is taken.
    pub(crate) fn problem(&self, halted: bool, message: String) {
        *self.problem.lock() = Some(Problem { halted, of_beginning: false, message });
    }

    /// Says why nothing can be written yet.
    pub(crate) fn not_begun(&self, halted: bool, message: String) {
        *self.problem.lock() = Some(Problem { halted, of_beginning: true, message });
    }

    /// It can be written. Why it was not taken before is known only when it is.
    pub(crate) fn begun(&self) {
        self.problem.lock().take_if(|problem| problem.of_beginning);
    }

    pub(crate) fn all_is_well(&self) {
        *self.problem.lock() = None;
    }
}
