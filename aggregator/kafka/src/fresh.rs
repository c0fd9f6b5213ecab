//! A group's reader that hands out the newest first after a gap.
//!
//! A group has one place in each partition, so what is new would wait for all that was missed. A reader that fell far
//! behind opens a lane: a second reader, of no group, that begins at the end of the same partitions. Both have turns
//! until the group's has nearly come up. Where it comes to what the lane handed out, it passes over what had its effect.
//! Nothing of this is stored: after a restart, or when a partition moves, it is handed out again.
//!
//! In a [`Place`] a partition of the lane is `!partition`, so that each goes on by itself.

use std::collections::HashMap;

use galen_log::{BoxFuture, Consumer, Delivery, Place};
use tokio::task::spawn_blocking;

use crate::{Error, Lag, Link, Reader, Settings};

/// Records that are new enough to be read in their turn.
const NEAR: u64 = 50_000;
/// Stretches of a partition that were handed out ahead. With more, there is no other lane until one is passed.
const MAX_STRETCHES: usize = 8;

/// A member of a group, and its lane.
pub struct FreshFirst {
    settings: Settings,
    link: Link,
    name: String,
    group: Reader,
    lane: Option<Lane>,
    near: u64,
    lag: Option<Lag>,
    lanes_turn: bool,
}

struct Lane {
    reader: Reader,
    partitions: Vec<i32>,
    /// Behind what was handed out of each partition.
    handed: HashMap<i32, u64>,
}

/// What was handed out ahead of the group's places.
#[derive(Debug, Default)]
pub(crate) struct Ahead(HashMap<i32, Vec<Stretch>>);

/// The offsets `first .. next` were handed out; what is below `done` had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    first: u64,
    done: u64,
    next: u64,
}

impl FreshFirst {
    /// As [`Reader::join`].
    ///
    /// # Errors
    /// Settings that the client refuses.
    pub fn join(settings: &Settings, link: &Link, name: &str) -> Result<Self, Error> {
        let group = Reader::join(settings, link, name)?;
        let (settings, link, name) = (settings.clone(), link.clone(), name.to_owned());
        Ok(Self { settings, link, name, group, lane: None, near: NEAR, lag: None, lanes_turn: true })
    }

    /// Has it told how far the whole group is behind, not this member alone.
    #[must_use]
    pub fn with_lag(mut self, lag: Lag) -> Self {
        self.lag = Some(lag);
        self
    }

    /// Sets how many records the group's reader may be behind before a lane is opened.
    #[must_use]
    pub fn with_near(mut self, records: u64) -> Self {
        self.near = records;
        self
    }

    /// Opens the lane, closes it, or begins another one at the end.
    fn arrange(&mut self) -> Result<(), Error> {
        let behind = self.group.lag();
        if self.lane.is_none() && behind <= self.near {
            return Ok(());
        }
        let partitions = self.group.partitions()?;
        let is_full = self.group.ahead.is_full();
        let stays = |lane: &Lane| {
            let is_near = is_full || lane.reader.lag() <= self.near;
            is_near && behind > self.near / 2 && lane.partitions == partitions
        };
        if let Some(lane) = self.lane.take_if(|lane| !stays(lane)) {
            tracing::info!(behind, "the lane for new events ends");
            // It takes leave of the brokers.
            drop(spawn_blocking(move || drop(lane)));
        }
        self.group.ahead.retain(&partitions);
        if self.lane.is_none() && behind > self.near && !is_full && !partitions.is_empty() {
            tracing::info!(behind, "far behind Kafka: new events come first");
            let reader = Reader::at_end(&self.settings, &self.link, &self.name, &partitions)?;
            self.lane = Some(Lane { reader, partitions, handed: HashMap::new() });
        }
        Ok(())
    }

    async fn read(&mut self, max_events: usize) -> Result<Delivery, galen_log::Error> {
        self.arrange().map_err(|error| error.log("read from Kafka"))?;
        let Some(lane) = &mut self.lane else { return self.group.gather(max_events).await };
        let (first, second) = match self.lanes_turn {
            true => (&mut lane.reader, &mut self.group),
            false => (&mut self.group, &mut lane.reader),
        };
        let (of_first, delivery) = tokio::select! {
            biased;
            delivery = first.gather(max_events) => (true, delivery?),
            delivery = second.gather(max_events) => (false, delivery?),
        };
        let of_lane = of_first == self.lanes_turn;
        self.lanes_turn = !of_lane;
        Ok(if of_lane { lane.hand_out(delivery, &mut self.group.ahead) } else { delivery })
    }
}

impl Lane {
    fn hand_out(&mut self, delivery: Delivery, ahead: &mut Ahead) -> Delivery {
        let mut place = delivery.place;
        for (partition, next) in &mut place.0 {
            let before = self.handed.insert(*partition, *next);
            let first = before.or_else(|| self.reader.begun(*partition)).unwrap_or(*next);
            ahead.hand_out(*partition, first, *next);
            *partition = !*partition;
        }
        // What was passed over is told when the group comes to it.
        Delivery { records: delivery.records, skipped: Vec::new(), place }
    }
}

impl Ahead {
    fn hand_out(&mut self, partition: i32, first: u64, next: u64) {
        let stretches = self.0.entry(partition).or_default();
        match stretches.last_mut() {
            Some(last) if first <= last.next => last.next = last.next.max(next),
            _ => stretches.push(Stretch { first, done: first, next }),
        }
    }

    /// All that was handed out below `upto` had its effect.
    fn done(&mut self, partition: i32, upto: u64) {
        for stretch in self.0.get_mut(&partition).into_iter().flatten() {
            stretch.done = stretch.done.max(upto.min(stretch.next));
        }
    }

    /// Whether a record that the group comes to had its effect.
    pub(crate) fn covers(&mut self, partition: i32, offset: u64) -> bool {
        let Some(stretches) = self.0.get_mut(&partition) else { return false };
        stretches.retain(|stretch| stretch.next > offset);
        stretches.iter().any(|stretch| (stretch.first..stretch.done).contains(&offset))
    }

    /// Forgets other partitions.
    fn retain(&mut self, partitions: &[i32]) {
        self.0.retain(|partition, _| partitions.contains(partition));
    }

    fn is_full(&self) -> bool {
        self.0.values().any(|stretches| stretches.len() >= MAX_STRETCHES)
    }

    /// Records that the group need not hand out any more.
    fn records(&self) -> u64 {
        self.0.values().flatten().map(|stretch| stretch.done.saturating_sub(stretch.first)).sum()
    }
}

impl Consumer for FreshFirst {
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Delivery, galen_log::Error>> {
        Box::pin(self.read(max_events))
    }

    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), galen_log::Error>> {
        let (of_lane, of_group): (Vec<_>, Vec<_>) = place.0.iter().partition(|(partition, _)| *partition < 0);
        for (partition, upto) in of_lane {
            self.group.ahead.done(!partition, upto);
        }
        self.group.commit(&Place(of_group))
    }

    fn lag(&self) -> u64 {
        let behind = self.lag.as_ref().map_or_else(|| self.group.lag(), Lag::records);
        behind.saturating_sub(self.group.ahead.records())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_its_effect_is_passed_over() {
        let mut ahead = Ahead::default();
        ahead.hand_out(0, 100, 110);
        ahead.hand_out(0, 110, 130);
        ahead.done(0, 120);
        assert_eq!(ahead.records(), 20);
        let passed: Vec<u64> = (90..140).filter(|offset| ahead.covers(0, *offset)).collect();
        assert_eq!(passed, (100..120).collect::<Vec<_>>());
        assert!(!ahead.covers(1, 100));
        assert_eq!(ahead.records(), 0, "what lies behind is forgotten");
    }

    #[test]
    fn a_gap_between_two_lanes_is_not_passed_over() {
        let mut ahead = Ahead::default();
        for first in [100, 200] {
            ahead.hand_out(0, first, first + 10);
        }
        ahead.done(0, 210);
        let passed: Vec<u64> = (100..220).filter(|offset| ahead.covers(0, *offset)).collect();
        assert_eq!(passed, (100..110).chain(200..210).collect::<Vec<_>>());
    }

    #[test]
    fn stretches_are_bounded_and_those_of_other_partitions_forgotten() {
        let mut ahead = Ahead::default();
        (0..MAX_STRETCHES as u64).for_each(|number| {
            assert!(!ahead.is_full());
            ahead.hand_out(3, number * 10, number * 10 + 5);
        });
        assert!(ahead.is_full());
        ahead.retain(&[1, 2]);
        assert!(!ahead.is_full());
    }
}
