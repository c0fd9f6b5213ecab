//! The cgroups that are watched, and which of them burst in this tick.
//!
//! A candidate is a container, a systemd unit, or a plain cgroup; what is below a container or unit counts for it. In a
//! hybrid system a cgroup may be in both hierarchies: version 1 speaks for it, because its limits are there. Limits are
//! read seldom, because they change seldom: see [`FRESH_BUSY`] and [`FRESH_IDLE`].

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use galen_profile::{Hierarchy, Target};

use super::{
    blame::{Suspect, blame},
    settings::Settings,
};
use crate::{
    burst::{History, Reading, Tick, Verdict, judge},
    cgroup::{Capacity, Hierarchies, Meter, Version, directory},
    containers::{Change, Containers, Workloads},
    host::Environment,
};

/// How old the known limits of a cgroup may be, if it uses more than [`BUSY`] CPUs, and if not. Those of a busy new one
/// are read each tick, because runtimes set them after the cgroup is there.
const FRESH_BUSY: Duration = Duration::from_secs(5);
const FRESH_IDLE: Duration = Duration::from_secs(60);
const BUSY: f64 = 0.01;

/// A cgroup that met a rule.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    pub path: String,
    pub target: Target,
    pub version: Version,
    pub capacity: Capacity,
    pub cpus: f64,
    pub reading: Reading,
    pub verdict: Verdict,
    /// What it was judged by, oldest first.
    pub recent: Vec<Tick>,
}

impl Suspect for Burst {
    fn path(&self) -> &str {
        &self.path
    }

    fn cpus(&self) -> f64 {
        self.cpus
    }

    fn score(&self) -> f64 {
        self.verdict.score
    }
}

pub(super) struct Watch {
    settings: Settings,
    environment: Arc<Environment>,
    containers: Containers,
    trees: Vec<Watched>,
    highest: f64,
}

/// One hierarchy.
struct Watched {
    version: Version,
    root: PathBuf,
    workloads: Workloads,
    candidates: HashMap<String, Candidate>,
}

struct Candidate {
    id: u64,
    meter: Meter,
    history: History,
    capacity: Option<(Duration, Capacity)>,
    new_until: Duration,
}

impl Watch {
    pub(super) fn new(settings: Settings, environment: Arc<Environment>, containers: Containers) -> Self {
        let watched = |(version, root): (Version, &std::path::Path)| Watched {
            version,
            root: root.into(),
            workloads: Workloads::new(root, settings.max_cgroups, containers.clone()),
            candidates: HashMap::new(),
        };
        let trees = environment.hierarchies.cpu_usage().map(watched).collect();
        Self { settings, environment, containers, trees, highest: 0.0 }
    }

    /// Samples every candidate. Those to blame for a burst now, the highest score first.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<Burst> {
        self.highest = 0.0;
        let mut bursts: Vec<Burst> = Vec::new();
        let mut seen = HashSet::new();
        for index in 0..self.trees.len() {
            self.follow(index, now);
            for burst in self.sample(index, now) {
                if seen.insert(burst.path.clone()) {
                    bursts.push(burst);
                }
            }
        }
        bursts.retain(|burst| self.containers.selects(&burst.path, &self.settings.filter));
        blame(bursts)
    }

    /// Usage of the busiest cgroup at the last tick, in percent of what it may use.
    pub(super) fn highest(&self) -> f64 {
        self.highest
    }

    /// As [`Workloads::newly_left_out`].
    pub(super) fn newly_left_out(&mut self) -> Option<String> {
        self.trees.iter_mut().find_map(|watched| watched.workloads.newly_left_out())
    }

    /// Takes in what came and lets go of what went.
    fn follow(&mut self, index: usize, now: Duration) {
        let watched = &mut self.trees[index];
        for change in watched.workloads.poll(now) {
            match change {
                Change::Went { path } => {
                    watched.candidates.remove(&path);
                }
                Change::Came { path, .. } if !self.settings.filter.may_select(&path) => {}
                Change::Came { path, id, absent_at } => {
                    match Meter::open(&directory(&watched.root, &path), watched.version) {
                        Ok(meter) => {
                            let history = History::new(self.settings.window, absent_at);
                            let new_until = now + self.settings.window * 3;
                            let candidate = Candidate { id, meter, history, capacity: None, new_until };
                            watched.candidates.insert(path, candidate);
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => watched.workloads.not_watched(&path, &error),
                    }
                }
            }
        }
    }

    fn sample(&mut self, index: usize, now: Duration) -> Vec<Burst> {
        let Watched { version, candidates, .. } = &mut self.trees[index];
        let hierarchy = hierarchy(&self.environment.hierarchies, *version);
        let (version, environment, thresholds) = (*version, &self.environment, &self.settings.thresholds);
        let highest = &mut self.highest;
        let mut bursts = Vec::new();
        candidates.retain(|path, candidate| {
            let Ok(usage) = candidate.meter.read() else { return false };
            candidate.history.push(now, usage);
            let cpus = candidate.history.cpus();
            let fresh = match cpus > BUSY {
                true if now < candidate.new_until => Duration::ZERO,
                true => FRESH_BUSY,
                false => FRESH_IDLE,
            };
            let capacity = match candidate.capacity {
                Some((read, capacity)) if now.saturating_sub(read) < fresh => capacity,
                _ => {
                    let capacity = Capacity::read(&environment.hierarchies, version, path, environment.cpus);
                    candidate.capacity = Some((now, capacity));
                    capacity
                }
            };
            let Some(reading) = candidate.history.reading(capacity) else { return true };
            *highest = highest.max(reading.now.total);
            if let Some(verdict) = judge(thresholds, &reading) {
                let target = Target { cgroup: candidate.id, hierarchy };
                let recent = candidate.history.ticks(capacity);
                bursts.push(Burst { path: path.clone(), target, version, capacity, cpus, reading, verdict, recent });
            }
            true
        });
        bursts
    }
}

/// As samples tell cgroups apart.
fn hierarchy(mounted: &Hierarchies, version: Version) -> Hierarchy {
    match version {
        Version::V2 => Hierarchy::Unified,
        Version::V1 if mounted.cpu == mounted.cpuacct => Hierarchy::Cpu,
        Version::V1 => Hierarchy::Cpuacct,
    }
}
