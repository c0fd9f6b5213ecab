//! What the log knows of one queue, and sums of losses.

use galen_proto::{
    Term,
    v1::{Account, LeftOut, LogRecord, LossCounter, LossReason, Progress, QueueState as Stored},
};

use crate::{
    left_out::{leave_out, merge},
    quarantine::Quarantine,
    settled::Settled,
};

/// Distinct losses (reason and tracer) that are told apart; the rest is summed without its tracer.
const MAX_COUNTERS: usize = 128;
/// Holds the totals of the queues of a node that were dropped: no queue has this epoch.
pub(crate) const RETIRED: u64 = 0;

/// One instance of a node's buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct QueueState {
    pub(crate) epoch: u64,
    pub(crate) settled: Settled,
    /// Cumulative, as the agent reports them.
    pub(crate) counters: Vec<LossCounter>,
    /// Numbered events that were declared lost.
    pub(crate) lost: Vec<LossCounter>,
    /// Of these, what was over a limit.
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) quarantined: Quarantine,
    pub(crate) events: u64,
    pub(crate) touched_unix_nanos: i64,
    pub(crate) told: Option<Told>,
}

/// What a node told of one of its queues at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// The number after the newest.
    pub next_seq: u64,
    /// Observations that the queue's counters have.
    pub counted: u64,
    /// What was observed beyond these two. None, unless the node has lost something without knowing.
    pub gap: i64,
}

/// What became of the observations of one queue, as far as the log knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Zero for all queues together that were dropped.
    pub epoch: u64,
    pub events: u64,
    /// Numbers that are logged, or declared lost.
    pub settled: Settled,
    /// By reason, numbered or not.
    pub lost: Vec<LossCounter>,
    /// What was over a limit, by whose it was.
    pub left_out: Vec<LeftOut>,
    /// Observations that the log knows of and that never had a number.
    pub counted: u64,
    /// `None`: the agent does not tell.
    pub told: Option<Told>,
}

impl Told {
    pub fn new(next_seq: u64, account: Account) -> Self {
        let mut told = Self { next_seq, counted: account.counted, gap: 0 };
        let gap = i128::from(account.observed) - i128::from(told.known());
        told.gap = i64::try_from(gap).unwrap_or(if gap < 0 { i64::MIN } else { i64::MAX });
        told
    }

    /// With what was told at another moment. The agent may have forgotten what it told before.
    pub fn and(self, other: Self) -> Self {
        Self {
            next_seq: self.next_seq.max(other.next_seq),
            counted: self.counted.max(other.counted),
            gap: if other.known() >= self.known() { other.gap } else { self.gap },
        }
    }

    pub fn observed(self) -> u64 {
        self.known().saturating_add_signed(self.gap)
    }

    fn known(self) -> u64 {
        (self.next_seq.max(1) - 1).saturating_add(self.counted)
    }
}

impl QueueState {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Those of `reported` that are higher than what is known.
    pub(crate) fn news(&self, mut reported: Vec<LossCounter>) -> Vec<LossCounter> {
        reported.retain(|counter| match self.place(counter) {
            Some(place) => self.counters[place].count < counter.count,
            None => counter.count > 0 && self.counters.len() < MAX_COUNTERS,
        });
        reported
    }

    pub(crate) fn raise(&mut self, counters: &[LossCounter]) {
        for counter in counters {
            match self.place(counter) {
                Some(place) => self.counters[place].count = self.counters[place].count.max(counter.count),
                None if self.counters.len() < MAX_COUNTERS => self.counters.push(counter.clone()),
                None => {}
            }
        }
    }

    /// Its node told of it with a record.
    pub(crate) fn hear(&mut self, record: &LogRecord) {
        if let Some(account) = record.account {
            let now = Told::new(record.next_seq, account);
            self.told = Some(self.told.map_or(now, |before| before.and(now)));
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut lost = Vec::new();
        for counter in self.lost.iter().chain(&self.counters) {
            add(&mut lost, counter.reason, "", counter.count);
        }
        let (settled, counted) = match self.epoch {
            RETIRED => (Settled::default(), self.events.saturating_add(observations(&lost))),
            _ => (self.settled.clone(), observations(&self.counters)),
        };
        let left_out = self.left_out.clone();
        Tally { epoch: self.epoch, events: self.events, settled, lost, left_out, counted, told: self.told }
    }

    /// Takes over the totals of a queue that is dropped, and with it what its node had not delivered of it.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let tally = other.tally();
        self.events += other.events;
        self.touched_unix_nanos = self.touched_unix_nanos.max(other.touched_unix_nanos);
        for lost in other.lost.iter().chain(&other.counters) {
            add(&mut self.lost, lost.reason, &lost.tracer, lost.count);
        }
        for left_out in &other.left_out {
            leave_out(&mut self.left_out, &left_out.tracer, &left_out.tenant, left_out.count);
        }
        let held = tally.held(other.told);
        if held > 0 {
            add(&mut self.lost, LossReason::NodeLost.into(), "", held);
        }
        let gap = self.told.map_or(0, |told| told.gap).saturating_add(tally.unaccounted(other.told));
        self.told = Some(Told { next_seq: 0, counted: self.events.saturating_add(observations(&self.lost)), gap });
    }

    /// An event that was put aside has come after all: it is no loss any more.
    pub(crate) fn pardon(&mut self, number: u64) {
        self.quarantined.remove(number);
        self.events += 1;
        let lost = self.lost.iter_mut().find(|lost| lost.reason == LossReason::Quarantined as i32);
        if let Some(lost) = lost {
            lost.count = lost.count.saturating_sub(1);
        }
    }

    /// Takes over what `other` knows of the same queue: what either has settled is settled, and of sums that only grow
    /// the higher one holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.settled.merge(&other.settled);
        self.raise(&other.counters);
        for lost in &other.lost {
            let known = self.lost.iter().find(|known| known.reason == lost.reason && known.tracer == lost.tracer);
            let more = lost.count.saturating_sub(known.map_or(0, |known| known.count));
            if more > 0 {
                add(&mut self.lost, lost.reason, &lost.tracer, more);
            }
        }
        merge(&mut self.left_out, &other.left_out);
        self.events = self.events.max(other.events);
        self.touched_unix_nanos = self.touched_unix_nanos.max(other.touched_unix_nanos);
        if let Some(told) = other.told {
            self.told = Some(self.told.map_or(told, |known| known.and(told)));
        }
    }

    pub(crate) fn to_proto(&self, node: &str) -> Stored {
        Stored {
            node: node.to_owned(),
            progress: Some(self.settled.progress(self.epoch)),
            counters: self.counters.clone(),
            touched_unix_nanos: self.touched_unix_nanos,
            events: self.events,
            lost: self.lost.clone(),
            left_out: self.left_out.clone(),
            quarantined: self.quarantined.to_proto(),
            next_seq: self.told.map_or(0, |told| told.next_seq),
            account: self.told.map(|told| Account { observed: told.observed(), counted: told.counted, waiting: 0 }),
        }
    }

    pub(crate) fn from_proto(stored: Stored) -> Self {
        let progress: Progress = stored.progress.unwrap_or_default();
        Self {
            epoch: progress.epoch,
            settled: Settled::from_progress(&progress),
            counters: stored.counters,
            lost: stored.lost,
            left_out: stored.left_out,
            quarantined: Quarantine::from_proto(&stored.quarantined),
            events: stored.events,
            touched_unix_nanos: stored.touched_unix_nanos,
            told: stored.account.map(|account| Told::new(stored.next_seq, account)),
        }
    }

    fn place(&self, counter: &LossCounter) -> Option<usize> {
        self.counters.iter().position(|known| known.reason == counter.reason && known.tracer == counter.tracer)
    }
}

impl Tally {
    /// Observations that the node has told of and the log does not have yet, by `told`.
    pub fn held(&self, told: Option<Told>) -> u64 {
        let Some(told) = told else { return 0 };
        let numbers = (told.next_seq.max(1) - 1).saturating_sub(self.settled.count());
        numbers.saturating_add(told.counted.saturating_sub(self.counted))
    }

    /// Numbers below `first` that the log does not have.
    pub fn missing_below(&self, first: u64) -> u64 {
        self.settled.missing(1, first.max(1) - 1).into_iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Observations that neither the log nor the node has, by `told`; below zero if there is more than was observed.
    pub fn unaccounted(&self, told: Option<Told>) -> i64 {
        let known = i128::from(self.settled.count()) + i128::from(self.counted);
        let missing = known - i128::from(self.events) - i128::from(observations(&self.lost));
        i64::try_from(missing).unwrap_or(i64::MAX).saturating_add(told.map_or(0, |told| told.gap))
    }
}

fn observations(counters: &[LossCounter]) -> u64 {
    let counted = counters.iter().filter(|counter| Term::of(counter.reason) != Term::Unseen);
    counted.fold(0, |sum, counter| sum.saturating_add(counter.count))
}

/// Adds `count` to the sum of its reason and tracer.
pub fn add(sums: &mut Vec<LossCounter>, reason: i32, tracer: &str, count: u64) {
    let tracer = if sums.len() < MAX_COUNTERS { tracer } else { "" };
    match sums.iter_mut().find(|sum| sum.reason == reason && sum.tracer == tracer) {
        Some(sum) => sum.count = sum.count.saturating_add(count),
        None => sums.push(LossCounter { reason, tracer: tracer.to_owned(), count }),
    }
}
