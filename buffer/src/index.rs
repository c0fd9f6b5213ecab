//! What the buffer holds, in memory. The writer, the readers and the callers share it under one lock, which nobody holds
//! while touching the disk.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, sync::Arc};

use crate::{
    Error, LossReasonCode, Queue, Stats,
    epoch::{Epoch, SegmentEntry},
    queue::Seen,
    segment::Segment,
    state::State,
};

#[derive(Debug)]
pub(crate) struct Index {
    /// Oldest first; the last one is the one that grows.
    pub(crate) epochs: Vec<Epoch>,
    /// The segment that is written to: the newest one of the last epoch.
    pub(crate) open: Option<Arc<Segment>>,
    pub(crate) quarantine_bytes: u64,
    pub(crate) appended: u64,
    pub(crate) commits: u64,
    pub(crate) quarantined: u64,
    pub(crate) rejected: BTreeMap<LossReasonCode, u64>,
    pub(crate) lost: BTreeMap<LossReasonCode, u64>,
    pub(crate) disk_errors: u64,
    /// Observations since the start, and how many of them wait, as of the last look.
    seen: Seen,
    /// For the writer: the current epoch is to end, because others gave these of its numbers.
    pub(crate) taken: Option<(u64, Vec<RangeInclusive<u64>>)>,
}

/// What a read has to do.
pub(crate) enum Plan {
    /// Nothing is there (yet).
    Nothing,
    /// Numbers that no segment holds were declared lost; plan again.
    Again,
    Read(ReadPlan),
}

pub(crate) struct ReadPlan {
    pub(crate) from: u64,
    pub(crate) end: u64,
    pub(crate) segment: SegmentEntry,
    /// Set for the segment that is being written.
    pub(crate) open: Option<Arc<Segment>>,
    /// The end of the epoch is to be found out from this segment.
    pub(crate) find_end: bool,
}

impl Index {
    /// With one epoch, which is in memory alone.
    pub(crate) fn new() -> Self {
        Self {
            epochs: vec![Epoch::begin()],
            open: None,
            quarantine_bytes: 0,
            appended: 0,
            commits: 0,
            quarantined: 0,
            rejected: BTreeMap::new(),
            lost: BTreeMap::new(),
            disk_errors: 0,
            seen: Seen::default(),
            taken: None,
        }
    }

    #[expect(clippy::expect_used, reason = "there is one from the start, and only older ones are removed")]
    pub(crate) fn current(&mut self) -> &mut Epoch {
        self.epochs.last_mut().expect("there is always a current epoch")
    }

    pub(crate) fn epoch(&self, id: u64) -> Result<&Epoch, Error> {
        self.epochs.iter().find(|e| e.id == id).ok_or(Error::UnknownEpoch(id))
    }

    pub(crate) fn epoch_mut(&mut self, id: u64) -> Result<&mut Epoch, Error> {
        self.epochs.iter_mut().find(|e| e.id == id).ok_or(Error::UnknownEpoch(id))
    }

    /// What was decided since the last look was decided in the current epoch.
    pub(crate) fn note(&mut self, seen: Seen) {
        let decided = |seen: Seen| seen.observed.saturating_sub(seen.waiting);
        let more = decided(seen).saturating_sub(decided(self.seen));
        self.seen = seen;
        self.current().observed += more;
    }

    /// The number after the newest that has been taken in, as of the last look.
    pub(crate) fn taken(&mut self) -> u64 {
        let queued = self.seen.queued;
        self.current().next_seq + queued
    }

    /// Counts events that were turned away before they had a number.
    pub(crate) fn reject(&mut self, reason: LossReasonCode, n: u64) {
        *self.rejected.entry(reason).or_default() += n;
        self.current().counters.add(reason, "", n);
    }

    pub(crate) fn declare(&mut self, epoch: u64, first: u64, last: u64, reason: LossReasonCode) -> Result<(), Error> {
        let fresh = self.epoch_mut(epoch)?.losses.declare(first, last, reason);
        *self.lost.entry(reason).or_default() += fresh;
        Ok(())
    }

    /// Begins an epoch, and counts in it the events of the one before whose numbers were given by others, too.
    pub(crate) fn succeed(&mut self, taken: &[RangeInclusive<u64>]) -> u64 {
        let before = self.current();
        before.sealed = true;
        let count = |range: &RangeInclusive<u64>| {
            let (first, end) = (
                (*range.start()).max(before.uncompared.unwrap_or(u64::MAX)),
                range.end().saturating_add(1).min(before.next_seq),
            );
            end.saturating_sub(first).saturating_sub(before.losses.count_within(first, end))
        };
        let lost = taken.iter().map(count).sum();
        self.epochs.push(Epoch::begin());
        if lost > 0 {
            self.current().observed += lost;
            self.current().counters.add(LossReasonCode::NUMBER_TAKEN, "", lost);
            *self.lost.entry(LossReasonCode::NUMBER_TAKEN).or_default() += lost;
        }
        lost
    }

    /// Declares lost what is left of a segment. It stays in the list until its directory is gone.
    pub(crate) fn lose_segment(&mut self, epoch: u64, dir: &Path, reason: LossReasonCode) -> Result<u64, Error> {
        let epoch = self.epoch_mut(epoch)?;
        let at = epoch.segments.iter().position(|s| s.dir == dir);
        let fresh = at.map_or(0, |at| epoch.lose_segment(at, reason));
        *self.lost.entry(reason).or_default() += fresh;
        Ok(fresh)
    }

    pub(crate) fn forget_segment(&mut self, dir: &Path) {
        for epoch in &mut self.epochs {
            epoch.segments.retain(|s| s.dir != dir);
        }
    }

    pub(crate) fn plan(&mut self, id: u64, from: u64) -> Result<Plan, Error> {
        let open = self.open.clone();
        let last = self.epochs.last().map(|e| e.id);
        let epoch = self.epoch(id)?;
        let from = epoch.losses.skip(from.max(epoch.first_unacked));
        let find_end = from >= epoch.next_seq && !epoch.end_known;
        if from >= epoch.next_seq && !find_end {
            return Ok(Plan::Nothing);
        }
        let Some(at) = epoch.segment_of(from) else {
            let next = epoch.segments.front().map_or(epoch.next_seq, |s| s.first);
            if next <= from {
                return Ok(Plan::Nothing);
            }
            self.declare(id, from, next - 1, LossReasonCode::BUFFER_CORRUPT)?;
            return Ok(Plan::Again);
        };
        let stop = epoch.losses.next_after(from).unwrap_or(u64::MAX);
        let segment = epoch.segments[at].clone();
        let open = open.filter(|open| last == Some(id) && open.dir() == segment.dir);
        Ok(Plan::Read(ReadPlan { from, end: epoch.end_of(at).min(stop), segment, open, find_end }))
    }

    /// Segments that hold nothing more to be read, with whether acknowledgements alone make it so.
    pub(crate) fn spent(&self) -> Vec<(SegmentEntry, bool)> {
        let open = self.open.as_ref().map(|s| s.dir());
        let mut spent = Vec::new();
        for epoch in &self.epochs {
            for (at, segment) in epoch.segments.iter().enumerate() {
                if epoch.is_spent(at) && open != Some(&segment.dir) {
                    spent.push((segment.clone(), epoch.end_of(at) <= epoch.first_unacked));
                }
            }
        }
        spent
    }

    /// The oldest segment with something to read in it, that is not being written.
    pub(crate) fn oldest(&self) -> Option<(u64, SegmentEntry)> {
        let open = self.open.as_ref().map(|s| s.dir());
        self.epochs.iter().find_map(|epoch| {
            let mut segments = epoch.segments.iter().enumerate();
            let (_, segment) = segments.find(|(at, s)| !epoch.is_spent(*at) && open != Some(&s.dir))?;
            Some((epoch.id, segment.clone()))
        })
    }

    /// Old epochs of which all is settled and nothing is on the disk.
    pub(crate) fn over(&self) -> Vec<u64> {
        self.epochs.iter().filter(|e| self.is_over(e)).map(|e| e.id).collect()
    }

    fn is_over(&self, epoch: &Epoch) -> bool {
        let is_current = self.epochs.last().is_some_and(|e| e.id == epoch.id);
        !is_current && epoch.segments.is_empty() && epoch.is_done()
    }

    /// Removes what the state on disk does not have any more, or has as over. Returns whether there was anything.
    pub(crate) fn forget(&mut self, over: &[u64]) -> bool {
        let before = self.epochs.len();
        self.epochs.retain(|e| !over.contains(&e.id));
        self.epochs.len() != before
    }

    pub(crate) fn bytes(&self) -> u64 {
        let segments = self.epochs.iter().flat_map(|e| &e.segments);
        self.quarantine_bytes + segments.map(|s| s.bytes).sum::<u64>()
    }

    pub(crate) fn queues(&self) -> Vec<Queue> {
        let last = self.epochs.len().saturating_sub(1);
        let queue = |(at, e): (usize, &Epoch)| Queue {
            epoch: e.id,
            first_unacked: e.first_unacked,
            next_seq: e.next_seq,
            uncompared: e.uncompared,
            is_current: at == last,
            observed: e.observed(),
            counted: e.counters.observations(),
            waiting: if at == last { self.seen.waiting } else { 0 },
        };
        self.epochs.iter().enumerate().map(queue).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            epochs: self.epochs.len(),
            segments: self.epochs.iter().map(|e| e.segments.len()).sum(),
            events_unacked: self.epochs.iter().map(Epoch::unacked).sum(),
            bytes_on_disk: self.bytes(),
            observed: self.seen.observed,
            waiting: self.seen.waiting,
            appended: self.appended,
            commits: self.commits,
            rejected: self.rejected.clone(),
            lost: self.lost.clone(),
            quarantined: self.quarantined,
            disk_errors: self.disk_errors,
        }
    }

    /// Without what is [`over`](Self::over).
    pub(crate) fn save(&self, clean: bool) -> State {
        State { clean, epochs: self.epochs.iter().filter(|e| !self.is_over(e)).map(Epoch::save).collect() }
    }
}
