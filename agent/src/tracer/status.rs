//! What each tracer is doing, for the uplink to tell.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use galen_proto::v1::{self, SuppressionReason};
use parking_lot::Mutex;

use super::Support;

/// Reasons of suppression, the unspecified one included.
const REASONS: usize = SuppressionReason::Unsupported as usize + 1;

/// The state of one tracer. Counters count since the agent started.
#[derive(Debug)]
pub struct Status {
    name: &'static str,
    triggers: AtomicU64,
    captures: AtomicU64,
    failures: AtomicU64,
    evaluations: AtomicU64,
    /// By the number of the reason.
    suppressed: [AtomicU64; REASONS],
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    enabled: bool,
    overridden: bool,
    support: Option<Support>,
    last_error: String,
    value: f64,
    threshold: f64,
}

impl Status {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            triggers: AtomicU64::new(0),
            captures: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            evaluations: AtomicU64::new(0),
            suppressed: Default::default(),
            told: Mutex::default(),
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is let run, and whether that is another's word than the settings'.
    pub(crate) fn set_enabled(&self, enabled: bool, overridden: bool) {
        let mut told = self.told.lock();
        (told.enabled, told.overridden) = (enabled, overridden);
    }

    /// `None` before it was asked for.
    pub(crate) fn support(&self) -> Option<Support> {
        self.told.lock().support.clone()
    }

    /// Replaces what was known of its support.
    pub fn set_support(&self, support: Support) {
        self.told.lock().support = Some(support);
    }

    /// A run, or a part of it, ended with an error or a panic.
    pub fn failed(&self, error: impl Into<String>) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.told.lock().last_error = error.into();
    }

    pub(crate) fn evaluated(&self, value: f64, threshold: f64) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock();
        (told.value, told.threshold) = (value, threshold);
    }

    pub(crate) fn suppressed(&self, reason: SuppressionReason) {
        self.suppressed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A trigger counts as one, and so does a fact that needs no capture.
    pub(crate) fn recorded(&self, kind: v1::EventKind) {
        match kind {
            v1::EventKind::Capture => self.captures.fetch_add(1, Ordering::Relaxed),
            _ => self.triggers.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn suppressions(&self) -> Vec<v1::Suppression> {
        let counts = self.suppressed.iter().map(|count| count.load(Ordering::Relaxed));
        let all = (0..).zip(counts).map(|(reason, count)| v1::Suppression { reason, count });
        all.filter(|suppression| suppression.count > 0).collect()
    }

    pub fn snapshot(&self) -> v1::TracerStatus {
        let told = self.told.lock();
        let (support, reason) = match &told.support {
            None => (v1::Support::Unspecified, ""),
            Some(Support::Full) => (v1::Support::Full, ""),
            Some(Support::Degraded(why)) => (v1::Support::Degraded, why.as_str()),
            Some(Support::Unsupported(why)) => (v1::Support::Unsupported, why.as_str()),
        };
        v1::TracerStatus {
            name: self.name.into(),
            support: support.into(),
            reason: reason.into(),
            enabled: told.enabled,
            overridden: told.overridden,
            triggers: self.triggers.load(Ordering::Relaxed),
            captures: self.captures.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_error: told.last_error.clone(),
            evaluations: self.evaluations.load(Ordering::Relaxed),
            suppressed: self.suppressions(),
            value: told.value,
            threshold: told.threshold,
        }
    }
}

/// The states of all tracers, in the order of their list.
#[derive(Debug, Clone)]
pub struct Statuses(Arc<[Arc<Status>]>);

impl Statuses {
    pub(crate) fn new(all: impl IntoIterator<Item = Arc<Status>>) -> Self {
        Self(all.into_iter().collect())
    }

    pub fn snapshot(&self) -> Vec<v1::TracerStatus> {
        self.0.iter().map(|status| status.snapshot()).collect()
    }

    pub fn get(&self, tracer: &str) -> Option<&Arc<Status>> {
        self.0.iter().find(|status| status.name == tracer)
    }
}
