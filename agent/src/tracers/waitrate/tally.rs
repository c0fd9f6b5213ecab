//! From counters of cgroups to what each owner waited since the last look.

use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign,
    time::Duration,
};

use galen_bpf::waitrate::{Cell, Counters};
use serde::Serialize;

use super::owners::Owner;

/// What the tasks of one owner did in a stretch of time: each task counted for itself, but for what ends in `_cpu`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Time {
    pub run: Duration,
    /// Waited for tasks of the same owner.
    pub internal: Duration,
    /// Waited for others.
    pub external: Duration,
    /// Kept from running by a quota.
    pub throttled: Duration,
    /// Waited for an idle CPU to wake up.
    pub latency: Duration,
    /// CPU time that was lost to others, however many tasks waited for it at a time.
    pub external_cpu: Duration,
    /// The same, lost to a quota.
    pub throttled_cpu: Duration,
    /// Who held the CPU in `external`, as far as it is known.
    pub holders: BTreeMap<Owner, Duration>,
}

/// What it waited for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Internal,
    External,
    Throttled,
}

/// The counters as they were the last time.
#[derive(Default)]
pub(super) struct Tally {
    before: Counters,
}

impl Tally {
    pub(super) fn take(&mut self, now: Counters, owner_of: impl Fn(u64) -> Owner) -> HashMap<Owner, Time> {
        let mut times: HashMap<Owner, Time> = HashMap::new();
        for (cgroup, cell) in &now.cells {
            let cell = cell.since(&self.before.cells.get(cgroup).copied().unwrap_or_default());
            if cell != Cell::default() {
                *times.entry(owner_of(*cgroup)).or_default() += Time::from(cell);
            }
        }
        for (pair, time) in &now.pairs {
            let time = time.saturating_sub(self.before.pairs.get(pair).copied().unwrap_or_default());
            if time.is_zero() {
                continue;
            }
            let (victim, holder) = (owner_of(pair.victim), owner_of(pair.holder));
            let own = victim == holder;
            let victim = times.entry(victim).or_default();
            if own {
                let time = time.min(victim.external);
                let rest = (victim.external - time).div_duration_f64(victim.external.max(Duration::from_nanos(1)));
                victim.external_cpu = victim.external_cpu.mul_f64(rest);
                victim.external -= time;
                victim.internal += time;
            } else {
                *victim.holders.entry(holder).or_default() += time;
            }
        }
        self.before = now;
        times
    }

    /// What could not be counted since the counters began.
    pub(super) fn lost(&self) -> u64 {
        let lost = self.before.lost;
        lost.tasks + lost.cgroups + lost.pairs
    }

    /// The counters begin at zero again.
    pub(super) fn restart(&mut self) {
        self.before = Counters { lost: self.before.lost, ..Counters::default() };
    }
}

impl From<Cell> for Time {
    /// What was waited longer ago than the CPU remembers is split as the rest is.
    fn from(cell: Cell) -> Self {
        let known = (cell.internal + cell.external).as_secs_f64();
        let internal = if known > 0.0 { cell.internal.as_secs_f64() / known } else { 0.0 };
        let internal = cell.beyond.mul_f64(internal).min(cell.beyond);
        Self {
            run: cell.run,
            internal: cell.internal + internal,
            external: cell.external + (cell.beyond - internal),
            throttled: cell.throttled,
            latency: cell.latency,
            external_cpu: cell.external_cpu,
            throttled_cpu: cell.throttled_cpu,
            holders: BTreeMap::new(),
        }
    }
}

impl Time {
    /// All of it.
    pub(super) fn total(&self) -> Duration {
        self.run + self.internal + self.external + self.throttled + self.latency
    }

    /// What part is of all, in percent.
    pub(super) fn percent(&self, part: Duration) -> f64 {
        let total = self.total().as_secs_f64();
        if total > 0.0 { 100.0 * part.as_secs_f64() / total } else { 0.0 }
    }

    /// Those it waited for, with their share of the waiting in percent, the largest first.
    pub(super) fn interferers(&self) -> Vec<(Owner, Duration, f64)> {
        let all: Duration = self.holders.values().sum();
        let share = |time: Duration| 100.0 * time.as_secs_f64() / all.as_secs_f64();
        let mut list: Vec<_> = self.holders.iter().map(|(owner, time)| (owner.clone(), *time, share(*time))).collect();
        list.sort_by_key(|(_, time, _)| std::cmp::Reverse(*time));
        list
    }
}

impl AddAssign for Time {
    fn add_assign(&mut self, other: Self) {
        *self += &other;
    }
}

impl AddAssign<&Self> for Time {
    fn add_assign(&mut self, other: &Self) {
        self.run += other.run;
        self.internal += other.internal;
        self.external += other.external;
        self.throttled += other.throttled;
        self.latency += other.latency;
        self.external_cpu += other.external_cpu;
        self.throttled_cpu += other.throttled_cpu;
        for (owner, time) in &other.holders {
            *self.holders.entry(owner.clone()).or_default() += *time;
        }
    }
}

#[cfg(test)]
mod tests {
    use galen_bpf::waitrate::Pair;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Cgroups below 10 are those of one container.
    fn owner_of(cgroup: u64) -> Owner {
        if cgroup < 10 { "/container".into() } else { format!("/{cgroup}").into() }
    }

    fn counters(scale: u32) -> Counters {
        let cell =
            Cell { run: MS * 10 * scale, external: MS * 8 * scale, external_cpu: MS * 4 * scale, ..Cell::default() };
        Counters {
            cells: HashMap::from([(1, cell), (2, cell), (30, Cell { run: MS * scale, ..Cell::default() })]),
            pairs: HashMap::from([
                (Pair { victim: 1, holder: 2 }, MS * 3 * scale),
                (Pair { victim: 1, holder: 30 }, MS * 5 * scale),
                (Pair { victim: 2, holder: 30 }, MS * 8 * scale),
            ]),
            ..Counters::default()
        }
    }

    #[test]
    fn cgroups_of_one_container_wait_for_each_other_internally_and_only_what_is_new_counts() {
        let mut tally = Tally::default();
        for scale in 1..=3 {
            let times = tally.take(counters(scale), owner_of);
            let container = &times["/container"];
            assert_eq!((container.run, container.internal, container.external), (MS * 20, MS * 3, MS * 13));
            assert_eq!(container.external_cpu, Duration::from_micros(6500));
            let [(owner, held, share)] = &container.interferers()[..] else { panic!("{container:?}") };
            assert_eq!((&**owner, *held, share.round()), ("/30", MS * 13, 100.0));
            assert_eq!(times["/30"].run, MS);
        }
        assert!(tally.take(counters(3), owner_of).is_empty());
        tally.restart();
        assert_eq!(tally.take(counters(1), owner_of)["/30"].run, MS);
    }

    #[test]
    fn what_no_cpu_remembers_is_split_as_the_rest() {
        let cell = Cell { internal: MS, external: MS * 3, beyond: MS * 8, ..Cell::default() };
        let time = Time::from(cell);
        assert_eq!((time.internal, time.external), (MS * 3, MS * 9));
        let time = Time::from(Cell { beyond: MS, ..Cell::default() });
        assert_eq!((time.internal, time.external), (Duration::ZERO, MS));
    }
}
