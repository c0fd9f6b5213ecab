//! The last two windows of the CPU time of one cgroup, or of the machine.
//!
//! Counters are sampled about once a second; between samples usage is taken as even, so that a window is exactly as
//! long as it is set to, however late a tick came. A cgroup that was born while it was watched used nothing before. One
//! that was there already is judged once a window and [`LEAST_BEFORE`] are known: what is known of the older window
//! stands for all of it, so that a burst soon after the agent's start is seen. A counter that runs back begins anew.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use super::rule::{Percentages, Reading};
use crate::cgroup::{Capacity, Usage};

/// How much of the older window must be known: about a tick, which may come early.
const LEAST_BEFORE: Duration = Duration::from_millis(900);

#[derive(Debug)]
pub(crate) struct History {
    window: Duration,
    /// Oldest first, by time.
    samples: VecDeque<(Duration, Usage)>,
    /// Whether usage before the oldest sample was zero.
    from_birth: bool,
}

/// Usage from one tick to the next, as events tell it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Tick {
    /// From the newest sample to the end of this.
    seconds_ago: f64,
    user_percent: f64,
    system_percent: f64,
}

/// CPUs used.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    user: f64,
    system: f64,
}

impl History {
    /// `absent_at`: when the cgroup was last known not to exist.
    pub(crate) fn new(window: Duration, absent_at: Option<Duration>) -> Self {
        let birth = absent_at.map(|time| (time, Usage::default()));
        Self { window, samples: birth.into_iter().collect(), from_birth: absent_at.is_some() }
    }

    /// Takes a sample; `now` is later than that of any before.
    pub(crate) fn push(&mut self, now: Duration, usage: Usage) {
        if let Some((last_time, last)) = self.samples.back() {
            if usage.user < last.user || usage.system < last.system {
                self.samples.clear();
                self.from_birth = false;
            } else if now <= *last_time {
                return;
            }
        }
        self.samples.push_back((now, usage));
        // One sample at or before the start of the older window is needed.
        let start = now.saturating_sub(self.window * 2);
        while self.samples.get(1).is_some_and(|(time, _)| *time <= start) {
            self.samples.pop_front();
            self.from_birth = false;
        }
    }

    /// CPUs used in the window that ends with the newest sample, as far as it is known.
    pub(crate) fn cpus(&self) -> f64 {
        let Some((now, _)) = self.samples.back() else { return 0.0 };
        let start = now.saturating_sub(self.window);
        let start = self.samples.front().map_or(start, |(oldest, _)| start.max(*oldest));
        self.rate(start, *now).map_or(0.0, |rate| rate.user + rate.system)
    }

    /// In percent of the capacity; `None` until enough is known.
    pub(crate) fn reading(&self, capacity: Capacity) -> Option<Reading> {
        self.read(|rate| rate.percent_of(capacity))
    }

    /// As [`reading`](Self::reading), in percent of all that was counted.
    pub(crate) fn shares(&self) -> Option<Reading> {
        self.read(Rate::percent_of_all)
    }

    /// Usage between one sample and the next, in percent of the capacity, oldest first.
    pub(crate) fn ticks(&self, capacity: Capacity) -> Vec<Tick> {
        self.each(|rate| rate.percent_of(capacity))
    }

    /// As [`ticks`](Self::ticks), in percent of all that was counted.
    pub(crate) fn tick_shares(&self) -> Vec<Tick> {
        self.each(Rate::percent_of_all)
    }

    fn each(&self, percent: impl Fn(Rate) -> Percentages) -> Vec<Tick> {
        let Some((now, _)) = self.samples.back() else { return Vec::new() };
        let ticks = self.samples.iter().zip(self.samples.iter().skip(1)).filter_map(|((from, _), (to, _))| {
            let used = percent(self.rate(*from, *to)?);
            let round = |value: f64| (value * 100.0).round() / 100.0;
            let ago = now.saturating_sub(*to).as_secs_f64();
            Some(Tick { seconds_ago: round(ago), user_percent: round(used.user), system_percent: round(used.system) })
        });
        ticks.collect()
    }

    fn read(&self, percent: impl Fn(Rate) -> Percentages) -> Option<Reading> {
        let (now, _) = *self.samples.back()?;
        let middle = now.checked_sub(self.window)?;
        let mut start = middle.saturating_sub(self.window);
        if !self.from_birth {
            start = start.max(self.samples.front()?.0);
            if middle.checked_sub(start)? < LEAST_BEFORE {
                return None;
            }
        }
        let current = percent(self.rate(middle, now)?);
        let previous = percent(self.rate(start, middle)?);
        let delta = Percentages {
            user: current.user - previous.user,
            system: current.system - previous.system,
            total: current.total - previous.total,
        };
        Some(Reading { now: current, delta })
    }

    fn rate(&self, from: Duration, to: Duration) -> Option<Rate> {
        let (begin, end) = (self.used_until(from)?, self.used_until(to)?);
        let seconds = to.saturating_sub(from).as_secs_f64();
        (seconds > 0.0).then(|| Rate { user: (end.0 - begin.0) / seconds, system: (end.1 - begin.1) / seconds })
    }

    /// User and system seconds used up to `time`.
    fn used_until(&self, time: Duration) -> Option<(f64, f64)> {
        let seconds = |usage: &Usage| (usage.user.as_secs_f64(), usage.system.as_secs_f64());
        let after = self.samples.iter().position(|(sampled, _)| *sampled >= time)?;
        let (end_time, end) = &self.samples[after];
        let end = seconds(end);
        if *end_time == time {
            return Some(end);
        }
        let Some((begin_time, begin)) = after.checked_sub(1).map(|before| &self.samples[before]) else {
            return self.from_birth.then_some((0.0, 0.0));
        };
        let begin = seconds(begin);
        let share = (time - *begin_time).as_secs_f64() / (*end_time - *begin_time).as_secs_f64();
        Some((begin.0 + (end.0 - begin.0) * share, begin.1 + (end.1 - begin.1) * share))
    }
}

impl Rate {
    fn percent_of_all(self) -> Percentages {
        let all = self.user + self.system;
        let percent = |part: f64| if all > 0.0 { 100.0 * part / all } else { 0.0 };
        Percentages { user: percent(self.user), system: percent(self.system), total: percent(all) }
    }

    fn percent_of(self, capacity: Capacity) -> Percentages {
        let percent = |cpus: f64| 100.0 * cpus / capacity.cpus();
        Percentages { user: percent(self.user), system: percent(self.system), total: percent(self.user + self.system) }
    }
}

#[cfg(test)]
mod tests;
