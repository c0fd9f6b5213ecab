//! When to look at the tasks, and whose load is over the threshold.
//!
//! Each second the kernel is asked how many tasks are in uninterruptible sleep (some 10 µs). Only if there are any are
//! they looked at one by one, which is to know whose they are: each second while there are more than the threshold, as
//! no load can cross it otherwise, and each `interval` while there are fewer. A look that took long is not repeated before
//! a hundred times as long has passed, so that looking never takes more than a hundredth of a CPU.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    crowd::Crowd,
    load::{Count, HOST, Loads},
    owners::Owners,
    settings::Settings,
    source::{Begun, Source, States},
};
use crate::{cgroup::ancestry, containers::Containers, tracer::BoxError};

/// A look takes no more than the reciprocal of this of a CPU.
const REST: u32 = 100;

pub(super) struct Watch {
    settings: Settings,
    source: Source,
    owners: Owners,
    loads: Loads,
    /// When it is looked again in any case, and before when it is not.
    next: Duration,
    rest_until: Duration,
    told_skipped: bool,
}

/// An entity, over the threshold if it is told.
#[derive(Debug, Clone)]
pub(super) struct Over {
    pub path: Arc<str>,
    pub load: f64,
    pub count: Count,
}

impl Watch {
    pub(super) fn new(settings: Settings, source: Source, containers: Containers) -> Self {
        Self {
            loads: Loads::new(settings.average_over),
            owners: Owners::new(containers),
            settings,
            source,
            next: Duration::ZERO,
            rest_until: Duration::ZERO,
            told_skipped: false,
        }
    }

    /// Begins a look, if one is due or `asked` for; else brings the loads to `now`.
    pub(super) fn begin(&mut self, now: Duration, asked: bool) -> Result<Option<Begun>, BoxError> {
        let begun = self.source.begin()?;
        let total = begun.total();
        if let Some(total) = total {
            self.loads.bounded_by(total);
        }
        let many = total.is_some_and(|total| f64::from(total) > self.settings.threshold);
        let due = total != Some(0) && (many || now >= self.next) && now >= self.rest_until;
        if due || asked {
            return Ok(Some(begun));
        }
        self.loads.advance(now);
        Ok(None)
    }

    /// Goes on with a look, and brings the loads to `now`. It blocks for as long as the look takes.
    pub(super) fn look(&mut self, begun: Begun, now: Duration) -> Result<(Crowd, Vec<Over>), BoxError> {
        let before = cpu_time();
        let crowd = self.source.look(begun, now, &mut self.owners)?;
        self.rest_until = now + cpu_time().saturating_sub(before) * REST;
        self.next = now + self.settings.interval;
        let counts = crowd.counts();
        self.loads.seen(&counts);
        self.loads.advance(now);
        self.tell_skipped();
        // Once its tasks have gone, a load is no news.
        let waits = |(path, load): (&Arc<str>, f64)| {
            let count = counts.get(path).copied().filter(|count| count.blocked > 0)?;
            Some(Over { path: Arc::clone(path), load, count })
        };
        let mut over = blame(self.loads.all().filter_map(waits).collect(), self.settings.threshold);
        over.retain(|over| &*over.path == HOST || self.owners.selects(&over.path, &self.settings.filter));
        Ok((crowd, over))
    }

    pub(super) fn states(&mut self, of: &[Arc<str>]) -> Result<Option<HashMap<Arc<str>, States>>, BoxError> {
        self.source.states(of, &mut self.owners)
    }

    /// The highest load of all.
    pub(super) fn highest(&self) -> f64 {
        self.loads.all().map(|(_, load)| load).fold(0.0, f64::max)
    }

    /// Once: a machine with more entities than there is room for stays one.
    fn tell_skipped(&mut self) {
        if self.loads.skipped() > 0 && !self.told_skipped {
            self.told_skipped = true;
            tracing::warn!("tasks wait in more cgroups than are followed: some count for the host only");
        }
    }
}

/// Those over the threshold, the highest load first, but for those who are so by what is told of others below them: of
/// their load at least half, or all but the threshold, is that of entities that are over it or soon will be, because they
/// have more tasks than that.
fn blame(mut all: Vec<Over>, threshold: f64) -> Vec<Over> {
    // Those below come before those above them.
    all.sort_by_key(|over| Reverse(depth(&over.path)));
    let known: HashSet<Arc<str>> = all.iter().map(|over| Arc::clone(&over.path)).collect();
    // By entity, the load of those below it.
    let mut explained: HashMap<Arc<str>, f64> = HashMap::new();
    let mut blamed: Vec<Over> = Vec::new();
    for over in all {
        let below = explained.remove(&over.path).unwrap_or(0.0);
        let tells = over.load > threshold || f64::from(over.count.blocked) > threshold;
        if let Some(above) = ancestry(&over.path).skip(1).find_map(|path| known.get(path)) {
            *explained.entry(Arc::clone(above)).or_default() += if tells { over.load } else { below };
        }
        if over.load - below > threshold && below * 2.0 < over.load {
            blamed.push(over);
        }
    }
    blamed.sort_by(|a, b| b.load.total_cmp(&a.load));
    blamed
}

fn depth(path: &str) -> usize {
    if path == HOST { 0 } else { path.matches('/').count() }
}

/// Of this thread.
pub(super) fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of load and, if it is not the same, tasks.
    fn blamed(all: &[(&str, f64, u32)]) -> Vec<String> {
        let over = |(path, load, blocked): &(&str, f64, u32)| Over {
            path: (*path).into(),
            load: *load,
            count: Count { blocked: *blocked, iowait: 0 },
        };
        blame(all.iter().map(over).collect(), 5.0).into_iter().map(|over| over.path.to_string()).collect()
    }

    #[test]
    fn who_is_over_because_of_those_below_is_not_told() {
        assert_eq!(blamed(&[("/", 9.0, 9), ("/a", 8.0, 8), ("/a/b", 7.0, 7)]), ["/a/b"]);
        assert_eq!(blamed(&[("/", 20.0, 20), ("/a", 6.0, 6), ("/c", 7.0, 7)]), ["/c", "/a"]);
        // The rest is not over the threshold.
        assert_eq!(blamed(&[("/", 10.9, 11), ("/a", 6.0, 6)]), ["/a"]);
    }

    #[test]
    fn who_is_over_before_those_below_are_is_not_told() {
        assert_eq!(blamed(&[("/", 9.0, 24), ("/a", 9.0, 24), ("/a/b", 4.5, 12), ("/a/c", 4.5, 12)]), [""; 0]);
        assert_eq!(blamed(&[("/", 14.0, 24), ("/a", 14.0, 24), ("/a/b", 7.0, 12), ("/a/c", 7.0, 12)]).len(), 2);
    }

    #[test]
    fn who_has_more_of_its_own_is_told_beside_them() {
        assert_eq!(blamed(&[("/", 40.0, 40), ("/a", 6.0, 6)]), ["/", "/a"]);
        // What is told of /a/b is a part of what is told of /a.
        assert_eq!(blamed(&[("/", 29.0, 29), ("/a", 14.0, 14), ("/a/b", 6.0, 6)]), ["/", "/a", "/a/b"]);
    }

    #[test]
    fn many_below_the_threshold_are_told_of_those_above() {
        assert_eq!(blamed(&[("/", 80.0, 80), ("/a", 4.0, 4), ("/b", 4.0, 4)]), ["/"]);
        assert_eq!(blamed(&[("/", 8.0, 8), ("/a", 8.0, 8), ("/a/b", 4.0, 4), ("/a/c", 4.0, 4)]), ["/a"]);
    }
}
