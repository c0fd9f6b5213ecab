//! What has been counted since the programs were attached.

use std::{collections::HashMap, ops::AddAssign, time::Duration};

use crate::layout;

/// As the map has it, for each CPU.
pub(super) type RawCell = [u64; layout::WAITRATE__CELL__SIZE / 8];
pub(super) type RawLost = [u64; layout::WAITRATE__LOST__SIZE / 8];
pub(super) type RawPair = [u32; layout::WAITRATE__PAIR__SIZE / 4];

/// All counters, summed over the CPUs. A cgroup is its id in the hierarchy of the `cpu` controller; 0 stands for all
/// that found no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub cells: HashMap<u64, Cell>,
    /// External waiting by who held the CPU.
    pub pairs: HashMap<Pair, Duration>,
    /// Since the programs were loaded.
    pub lost: Lost,
}

/// The time of the tasks of one cgroup, of which those at lower levels are no part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cell {
    pub run: Duration,
    /// Waited while a task of the same cgroup held the CPU.
    pub internal: Duration,
    /// Waited while a task of another cgroup did.
    pub external: Duration,
    /// Waited because of a quota, its own or one above it.
    pub throttled: Duration,
    /// Waited while the CPU was idle, and only had to wake up.
    pub latency: Duration,
    /// Waited longer ago than the CPU remembers who held it.
    pub beyond: Duration,
    /// Waits that ended.
    pub waits: u64,
    /// CPU time that was lost to others: part of `external` in which each moment of a CPU counts once, however many
    /// tasks waited for it.
    pub external_cpu: Duration,
    /// The same of `throttled`.
    pub throttled_cpu: Duration,
}

/// Who waited for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    pub victim: u64,
    pub holder: u64,
}

/// What could not be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Waits whose task found its place taken.
    pub tasks: u64,
    /// Switches to a task whose cgroup found no room, so that it counts as 0.
    pub cgroups: u64,
    /// Parts of external waits that are not in `pairs`.
    pub pairs: u64,
}

impl Cell {
    pub(super) fn parse(raw: &RawCell) -> Self {
        let time = |offset: usize| Duration::from_nanos(raw[offset / 8]);
        Self {
            run: time(layout::WAITRATE__CELL__RUN),
            internal: time(layout::WAITRATE__CELL__INTERNAL),
            external: time(layout::WAITRATE__CELL__EXTERNAL),
            throttled: time(layout::WAITRATE__CELL__THROTTLED),
            latency: time(layout::WAITRATE__CELL__LATENCY),
            beyond: time(layout::WAITRATE__CELL__BEYOND),
            waits: raw[layout::WAITRATE__CELL__WAITS / 8],
            external_cpu: time(layout::WAITRATE__CELL__EXTERNAL_CPU),
            throttled_cpu: time(layout::WAITRATE__CELL__THROTTLED_CPU),
        }
    }

    /// All the time that its tasks waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.internal + self.external + self.throttled + self.latency + self.beyond
    }

    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let time = |part: fn(&Self) -> Duration| part(self).saturating_sub(part(before));
        Self {
            run: time(|cell| cell.run),
            internal: time(|cell| cell.internal),
            external: time(|cell| cell.external),
            throttled: time(|cell| cell.throttled),
            latency: time(|cell| cell.latency),
            beyond: time(|cell| cell.beyond),
            waits: self.waits.saturating_sub(before.waits),
            external_cpu: time(|cell| cell.external_cpu),
            throttled_cpu: time(|cell| cell.throttled_cpu),
        }
    }
}

impl AddAssign for Cell {
    fn add_assign(&mut self, other: Self) {
        self.run += other.run;
        self.internal += other.internal;
        self.external += other.external;
        self.throttled += other.throttled;
        self.latency += other.latency;
        self.beyond += other.beyond;
        self.waits += other.waits;
        self.external_cpu += other.external_cpu;
        self.throttled_cpu += other.throttled_cpu;
    }
}

impl Lost {
    pub(super) fn parse(raw: &RawLost) -> Self {
        Self {
            tasks: raw[layout::WAITRATE__LOST__TASKS / 8],
            cgroups: raw[layout::WAITRATE__LOST__CGROUPS / 8],
            pairs: raw[layout::WAITRATE__LOST__PAIRS / 8],
        }
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.tasks += other.tasks;
        self.cgroups += other.cgroups;
        self.pairs += other.pairs;
    }
}
