//! The memory of every workload, and which of them bursts in this tick.
//!
//! Each tick costs one small read a workload. What its memory is used for is dearer to read: that is done every
//! [`SELDOM`], and every [`OFTEN`] while so much is in use that the rule could be met.

use std::{collections::HashMap, io, path::PathBuf, time::Duration};

use super::{
    rule::{Burst, Ring, Sample, share},
    settings::Settings,
};
use crate::{
    cgroup::{MemoryMeter, Version, directory, memory_limit},
    containers::{Change, Containers, Workloads},
    host::Environment,
};

const SELDOM: Duration = Duration::from_secs(10);
const OFTEN: Duration = Duration::from_secs(2);
/// How old a known limit may be, and that of a new cgroup: runtimes set them after the cgroup is there.
const LIMIT_AGE: Duration = Duration::from_secs(60);
const NEW_LIMIT_AGE: Duration = OFTEN;

pub(super) struct Watch {
    settings: Settings,
    version: Version,
    root: PathBuf,
    workloads: Workloads,
    watched: HashMap<String, Watched>,
    /// Bytes of the machine.
    total: u64,
    /// The highest share of a capacity at the last tick, in percent.
    highest: f64,
}

struct Watched {
    meter: MemoryMeter,
    ring: Ring,
    came: Duration,
    read: Option<Duration>,
    limit: Option<(Duration, u64)>,
}

impl Watch {
    /// `None` if no hierarchy accounts memory.
    pub(super) fn new(
        settings: Settings,
        environment: &Environment,
        containers: Containers,
        total: u64,
    ) -> Option<Self> {
        let (version, root) = environment.hierarchies.memory_tree()?;
        let workloads = Workloads::new(root, settings.max_cgroups, containers);
        Some(Self { settings, version, root: root.into(), workloads, watched: HashMap::new(), total, highest: 0.0 })
    }

    /// Samples what is due. The cgroups that burst now, by path.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<(String, Burst)> {
        self.follow(now);
        self.highest = 0.0;
        let Self { settings, version, root, watched, total, highest, .. } = self;
        let mut bursts = Vec::new();
        watched.retain(|path, watched| {
            let Ok(current) = watched.meter.current.read() else { return false };
            let capacity = match watched.limit {
                Some((read, limit)) if now.saturating_sub(read) < watched.limit_age(now) => limit,
                _ => {
                    let limit = memory_limit(root, path, *version).map_or(*total, |limit| limit.min(*total));
                    watched.limit = Some((now, limit));
                    limit
                }
            };
            let near = share(current, capacity) >= settings.thresholds.share;
            let due = if near { OFTEN } else { SELDOM };
            if watched.read.is_some_and(|read| now.saturating_sub(read) < due) {
                return true;
            }
            let Ok(used) = watched.meter.read() else { return false };
            watched.read = Some(now);
            let sample = Sample { held: used.unreclaimable_bytes(), used };
            *highest = highest.max(share(sample.held, capacity));
            if let Some(burst) = watched.ring.push(now, sample, capacity, &settings.thresholds) {
                bursts.push((path.clone(), burst));
            }
            true
        });
        bursts
    }

    /// As [`Workloads::newly_left_out`].
    pub(super) fn newly_left_out(&mut self) -> Option<String> {
        self.workloads.newly_left_out()
    }

    pub(super) fn highest(&self) -> f64 {
        self.highest
    }

    fn follow(&mut self, now: Duration) {
        for change in self.workloads.poll(now) {
            match change {
                Change::Went { path } => {
                    self.watched.remove(&path);
                }
                Change::Came { path, absent_at, .. } => {
                    match MemoryMeter::open(&directory(&self.root, &path), self.version) {
                        Ok(meter) => {
                            let mut ring = Ring::new(self.settings.window);
                            if let Some(absent_at) = absent_at {
                                // It held nothing then.
                                ring.push(absent_at, Sample::default(), self.total, &self.settings.thresholds);
                            }
                            self.watched.insert(path, Watched { meter, ring, came: now, read: None, limit: None });
                        }
                        // The controller is off there, or it is gone again.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => self.workloads.not_watched(&path, &error),
                    }
                }
            }
        }
    }
}

impl Watched {
    fn limit_age(&self, now: Duration) -> Duration {
        if now.saturating_sub(self.came) < LIMIT_AGE { NEW_LIMIT_AGE } else { LIMIT_AGE }
    }
}
