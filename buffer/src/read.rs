//! Reading: from the segment that is being written through the writer's own handle, from an older one by opening it, one
//! at a time. What is damaged is declared lost on the way, and the read goes on behind it.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::{
    Error, LossReasonCode,
    epoch::SegmentEntry,
    index::{Plan, ReadPlan},
    segment::{Segment, is_transient},
    shared::Shared,
};

/// Damaged places in one segment after which the rest of it is given up.
const MAX_DAMAGED: u32 = 128;

pub(crate) fn read(
    shared: &Shared,
    epoch: u64,
    from: u64,
    max_events: usize,
    max_bytes: usize,
) -> Result<Vec<(u64, Bytes)>, Error> {
    loop {
        if shared.is_closed() {
            return Err(Error::Closed);
        }
        let plan = shared.index().plan(epoch, from)?;
        let plan = match plan {
            Plan::Nothing => return Ok(Vec::new()),
            Plan::Again => {
                shared.queue.changed();
                continue;
            }
            Plan::Read(plan) => plan,
        };
        let Some(segment) = handle(shared, epoch, &plan)? else {
            continue;
        };
        if plan.find_end {
            find_end(shared, epoch, &plan, &segment)?;
            continue;
        }
        let found = match segment.read(plan.from, plan.end, max_events.max(1), max_bytes.max(1)) {
            Ok(found) => found,
            Err(error) => {
                give_up_unless_transient(shared, epoch, &plan.segment, error)?;
                continue;
            }
        };
        if let Some((first, last)) = found.bad {
            damaged(shared, epoch, &plan.segment, first, last)?;
        }
        if !found.events.is_empty() {
            return Ok(found.events);
        }
    }
}

/// `None`: the segment is gone, plan again.
fn handle(shared: &Shared, epoch: u64, plan: &ReadPlan) -> Result<Option<Arc<Segment>>, Error> {
    if let Some(open) = &plan.open {
        return Ok(Some(Arc::clone(open)));
    }
    let mut reading = shared.reading.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(segment) = reading.as_ref().filter(|s| s.dir() == plan.segment.dir) {
        return Ok(Some(Arc::clone(segment)));
    }
    *reading = None;
    match Segment::open_to_read(&plan.segment.dir, &shared.settings.dir) {
        Ok(segment) => Ok(Some(Arc::clone(reading.insert(Arc::new(segment))))),
        Err(error) => {
            drop(reading);
            let listed = shared.index().epoch(epoch)?.segments.iter().any(|s| s.dir == plan.segment.dir);
            // Acknowledged and removed in the meantime.
            if listed {
                give_up_unless_transient(shared, epoch, &plan.segment, error)?;
            }
            Ok(None)
        }
    }
}

fn find_end(shared: &Shared, epoch: u64, plan: &ReadPlan, segment: &Segment) -> Result<(), Error> {
    match segment.last_whole() {
        Ok(last) => {
            let mut index = shared.index();
            let epoch = index.epoch_mut(epoch)?;
            epoch.next_seq = epoch.next_seq.max(last.map_or(0, |last| last + 1));
            epoch.end_known = true;
            Ok(())
        }
        Err(error) => {
            give_up_unless_transient(shared, epoch, &plan.segment, error)?;
            shared.index().epoch_mut(epoch)?.end_known = true;
            Ok(())
        }
    }
}

fn damaged(shared: &Shared, epoch: u64, segment: &SegmentEntry, first: u64, last: u64) -> Result<(), Error> {
    tracing::warn!(segment = %segment.dir.display(), first, last, "events in the buffer are damaged");
    let mut index = shared.index();
    index.declare(epoch, first, last, LossReasonCode::BUFFER_CORRUPT)?;
    let entries = &mut index.epoch_mut(epoch)?.segments;
    let mut places = 0;
    if let Some(entry) = entries.iter_mut().find(|s| s.dir == segment.dir) {
        entry.damaged += 1;
        places = entry.damaged;
    }
    let is_open = index.open.as_ref().is_some_and(|open| open.dir() == segment.dir);
    drop(index);
    shared.queue.changed();
    if places > MAX_DAMAGED && !is_open {
        shared.evict(&segment.dir);
        shared.quarantine(epoch, segment.first, &segment.dir, "too many damaged places");
    }
    Ok(())
}

fn give_up_unless_transient(
    shared: &Shared,
    epoch: u64,
    segment: &SegmentEntry,
    error: sled::Error,
) -> Result<(), Error> {
    let is_open = shared.index().open.as_ref().is_some_and(|open| open.dir() == segment.dir);
    if is_open || is_transient(&error) {
        return Err(Error::Segment { path: segment.dir.clone(), source: error });
    }
    shared.evict(&segment.dir);
    shared.quarantine(epoch, segment.first, &segment.dir, &error.to_string());
    Ok(())
}
