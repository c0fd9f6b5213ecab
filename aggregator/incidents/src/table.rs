//! All incidents: which one an event belongs to, and which have to go when there is no more room.
//!
//! An event with a cause belongs to the live incident of its print, or opens one. A run tells its cause late: its
//! trigger comes at once, the capture with the stack seconds later, or never, where the budget of captures is used up.
//! So the trigger passes at once, by these rules:
//!
//! - A run without a cause joins the incident of its *family* (tracer and workload) whose cause was told most often, as
//!   `presumed`; if there is none that is live, one without a cause, opened if need be.
//! - The first cause that is told in a family becomes that of its incident without one, which keeps its id.
//! - When a run tells its cause, it is taken out of where it was presumed, with its events, node and container, and put
//!   where it belongs. An incident that is left without a run is gone, as if it had never been.
//!
//! So each run is in one incident at any time, and is counted there once with all of its events.
//!
//! Invariant: the runs, and events, of all incidents, those pushed out and those that were closed and are kept no more
//! add up to the runs, and events, that joined.
//!
//! The table is a function of the events in their order, with no other clock than the receipt that is logged with them.

use std::collections::HashMap;

use lru::LruCache;

use crate::{
    Fingerprint, Observation,
    incident::{Incident, Silence, State, Tally},
    runs::{Member, Runs},
};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Incidents, the closed ones included.
    pub max: usize,
    /// Bytes of memory. A quarter of it is for runs of which another event is to come.
    pub memory: usize,
    pub silence: Silence,
}

/// What is not among the incidents any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    pub incidents: u64,
    pub runs: u64,
    pub events: u64,
}

impl Gone {
    fn add(&mut self, tally: Tally) {
        self.incidents += 1;
        self.runs += tally.runs;
        self.events += tally.events;
    }
}

/// Since the log began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub runs: u64,
    pub events: u64,
    pub opened: u64,
    /// Pushed out while they were live, because there was no room: `__overflow__`.
    pub overflow: Gone,
    /// Pushed out after they were closed.
    pub past: Gone,
    /// Runs that had to be forgotten before they had said all: at most so many are counted twice.
    pub forgotten_runs: u64,
    /// Events that are none, and those that had left the log, or were damaged there, before they were read.
    pub unreadable: u64,
    pub skipped: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    pub(crate) limits: Limits,
    /// By number, in the order in which they were opened; the one that was joined last is the first of the cache.
    pub(crate) incidents: LruCache<u64, Incident>,
    pub(crate) by_print: HashMap<Fingerprint, u64>,
    /// The incident that a run without a cause is presumed to be part of.
    pub(crate) by_family: HashMap<Fingerprint, u64>,
    pub(crate) runs: Runs,
    pub(crate) totals: Totals,
    pub(crate) next_number: u64,
    pub(crate) version: u64,
    bytes: usize,
}

impl Table {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            incidents: LruCache::unbounded(),
            by_print: HashMap::new(),
            by_family: HashMap::new(),
            runs: Runs::new(limits.memory / 4),
            totals: Totals::default(),
            next_number: 1,
            version: 0,
            bytes: 0,
        }
    }

    /// Counts an event where it belongs.
    pub fn join(&mut self, seen: &Observation) {
        self.totals.events += 1;
        let before = seen.run.and_then(|run| self.runs.take(run));
        self.totals.runs += u64::from(before.is_none());
        let home = before.as_ref().map(|member| member.incident);
        if home.is_some_and(|home| !self.incidents.contains(&home)) {
            // Its run was pushed out, and is counted there.
            self.totals.overflow.events += 1;
            return;
        }
        let stays = before.as_ref().is_some_and(|member| member.is_known || seen.frames.is_empty());
        let number = match home {
            Some(home) if stays => home,
            home => self.place(seen, home),
        };
        if let (Some(member), Some(home)) = (&before, home) {
            self.touch(home, |incident| incident.leave(member));
        }
        let member = Member { incident: number, ..before.unwrap_or_else(|| Member::new(seen)).with(seen) };
        self.touch(number, |incident| {
            incident.enter(&member);
            incident.saw(seen);
        });
        if member.is_known {
            self.lead(number, seen);
        }
        self.drop_if_empty(home.filter(|home| *home != number));
        if let Some(run) = seen.run.filter(|_| !member.is_all) {
            self.runs.put(run, member);
            self.totals.forgotten_runs = self.runs.forgotten;
        }
        self.make_room(seen.received);
    }

    /// Those that changed after `version`, the last first; 0: all.
    pub fn changed_since(&self, version: u64) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().map(|(_, incident)| incident).take_while(move |incident| incident.version > version)
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn silence(&self) -> Silence {
        self.limits.silence
    }

    /// Of memory, at most `memory`.
    pub fn bytes(&self) -> usize {
        self.bytes + self.runs.len() * crate::runs::ENTRY
    }

    /// The incident of an event that tells its cause, or that is alone with its run.
    fn place(&mut self, seen: &Observation, home: Option<u64>) -> u64 {
        if seen.frames.is_empty() {
            let presumed = self.by_family.get(&seen.family).copied();
            return presumed.filter(|number| self.is_live(*number, seen)).unwrap_or_else(|| self.open(seen));
        }
        let live = |print: &Fingerprint| self.by_print.get(print).copied().filter(|number| self.is_live(*number, seen));
        if let Some(number) = live(&seen.print) {
            return number;
        }
        let becomes = [live(&seen.family), home.filter(|home| self.is_alone(*home))];
        match becomes.into_iter().flatten().find(|number| self.is_without_cause(*number)) {
            Some(number) => {
                self.forget_names(number);
                self.change(number, |incident| incident.is_of(seen));
                self.by_print.insert(seen.print, number);
                number
            }
            None => self.open(seen),
        }
    }

    fn is_live(&self, number: u64, seen: &Observation) -> bool {
        let silence = self.limits.silence;
        self.incidents.peek(&number).is_some_and(|incident| incident.state(seen.received, silence) != State::Closed)
    }

    fn is_without_cause(&self, number: u64) -> bool {
        self.incidents.peek(&number).is_some_and(|incident| incident.frames.is_empty())
    }

    fn is_alone(&self, number: u64) -> bool {
        self.incidents.peek(&number).is_some_and(|incident| incident.tally.runs == 1)
    }

    fn open(&mut self, seen: &Observation) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.totals.opened += 1;
        self.insert(number, Incident::open(seen));
        self.by_print.insert(seen.print, number);
        if seen.frames.is_empty() {
            self.by_family.insert(seen.family, number);
        }
        number
    }

    pub(crate) fn insert(&mut self, number: u64, incident: Incident) {
        self.bytes += incident.bytes();
        self.incidents.put(number, incident);
    }

    /// A cause was told: from now on it is presumed where none is told, unless another was told more often.
    fn lead(&mut self, number: u64, seen: &Observation) {
        let told = |number: u64| {
            self.incidents.peek(&number).map_or(0, |incident| incident.tally.runs - incident.tally.presumed)
        };
        let Some(family) = self.incidents.peek(&number).map(|incident| incident.family) else { return };
        let leads = self.by_family.get(&family).copied();
        let leads = leads.filter(|leads| self.is_live(*leads, seen) && !self.is_without_cause(*leads));
        if leads.is_none_or(|leads| told(number) >= told(leads)) {
            self.by_family.insert(family, number);
        }
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut Incident)) {
        if let Some(incident) = self.incidents.peek_mut(&number) {
            self.bytes -= incident.bytes();
            change(incident);
            self.bytes += incident.bytes();
        }
    }

    /// Changes it as those see who follow: it becomes the one that was changed last.
    fn touch(&mut self, number: u64, change: impl FnOnce(&mut Incident)) {
        self.version += 1;
        let version = self.version;
        self.change(number, |incident| {
            change(incident);
            incident.version = version;
        });
        self.incidents.promote(&number);
    }

    fn drop_if_empty(&mut self, number: Option<u64>) {
        if let Some(number) = number
            && self.incidents.peek(&number).is_some_and(|incident| incident.tally.runs == 0)
        {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        self.forget_names(number);
        if let Some(incident) = self.incidents.pop(&number) {
            self.bytes -= incident.bytes();
        }
    }

    fn forget_names(&mut self, number: u64) {
        let Some(incident) = self.incidents.peek(&number) else { return };
        for (index, print) in [(&mut self.by_print, incident.print), (&mut self.by_family, incident.family)] {
            if index.get(&print) == Some(&number) {
                index.remove(&print);
            }
        }
    }

    /// Pushes out those that were joined longest ago.
    pub(crate) fn make_room(&mut self, now: i64) {
        while self.incidents.len() > 1
            && (self.incidents.len() > self.limits.max || self.bytes > self.limits.memory / 4 * 3)
        {
            let Some((&number, incident)) = self.incidents.peek_lru() else { return };
            let gone = match incident.state(now, self.limits.silence) {
                State::Closed => &mut self.totals.past,
                State::Open | State::Quiet => &mut self.totals.overflow,
            };
            gone.add(incident.tally);
            self.remove(number);
        }
    }
}
