//! Runs of which another event is to come: a trigger whose capture is not there yet, or a capture that overtook its
//! trigger.
//!
//! Kept by number, the one that waits longest goes first. A run that had to go and speaks again after all is counted
//! once more: that is what `forgotten` bounds, so that counts of runs are exact while it is 0, and at most so much too
//! high otherwise.

use std::num::NonZeroUsize;

use galen_proto::v1::EventKind;
use lru::LruCache;

use crate::{
    Observation,
    incident::{key_of_container, key_of_node},
};

/// Memory of one, the map's included.
pub(crate) const ENTRY: usize = 160;

/// What a run has told so far, and where that is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Number of the incident.
    pub(crate) incident: u64,
    pub(crate) node: u64,
    pub(crate) container: Option<u64>,
    pub(crate) events: u32,
    pub(crate) captures: u32,
    /// Whether one of its own events told the cause.
    pub(crate) is_known: bool,
    pub(crate) has_trigger: bool,
    /// Whether nothing more is to come.
    pub(crate) is_all: bool,
}

impl Member {
    pub(crate) fn new(seen: &Observation) -> Self {
        Self {
            incident: 0,
            node: key_of_node(&seen.id.node),
            container: None,
            events: 0,
            captures: 0,
            is_known: false,
            has_trigger: false,
            is_all: false,
        }
    }

    /// With one more event.
    pub(crate) fn with(mut self, seen: &Observation) -> Self {
        self.events += 1;
        self.captures += u32::from(seen.kind == EventKind::Capture);
        self.container = key_of_container(seen).or(self.container);
        self.is_known |= !seen.frames.is_empty();
        self.has_trigger |= seen.kind == EventKind::Trigger;
        self.is_all = seen.is_all || (self.has_trigger && self.captures > 0);
        self
    }
}

#[derive(Debug)]
pub(crate) struct Runs {
    waiting: LruCache<u64, Member>,
    /// Since the log began.
    pub(crate) forgotten: u64,
}

impl Runs {
    /// As many as fit into so many bytes, at least one.
    pub(crate) fn new(bytes: usize) -> Self {
        let most = NonZeroUsize::new(bytes / ENTRY).unwrap_or(NonZeroUsize::MIN);
        let mut waiting = LruCache::unbounded();
        waiting.resize(most);
        Self { waiting, forgotten: 0 }
    }

    pub(crate) fn take(&mut self, run: u64) -> Option<Member> {
        self.waiting.pop(&run)
    }

    pub(crate) fn put(&mut self, run: u64, member: Member) {
        if self.waiting.push(run, member).is_some_and(|(pushed, _)| pushed != run) {
            self.forgotten += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The one that waits longest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.waiting.iter().rev().map(|(run, member)| (*run, member))
    }
}
