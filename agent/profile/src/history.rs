//! The flight recorder: the last half minute of every CPU, at a low rate, always.
//!
//! The kernel side samples on the timer tick, about 12 times a second on a CPU that is busy, and not at all on one that
//! is idle: a CPU without a task has no tick, so nothing is ever woken by it (a perf event of the CPU clock fires on idle
//! CPUs too). It writes into segments of 704 KiB for each CPU, outside this process, and overwrites the oldest. They are
//! read, and filtered by cgroup, only when somebody wants to know. Until then the one thing to do is to look, about
//! once a second, at program images that are new: [`History::news`].
//!
//! What ran is sampled when a tick finds it, so work that runs in step with the tick is seen too often or not at all.

use std::{collections::HashMap as StdMap, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, RingBuf},
    programs::{BtfTracePoint, ProgramError},
    util::online_cpus,
};
use galen_bpf::{
    Error, Kernel,
    cpu_profile::{Hierarchy, Sample, TargetKey, target_key},
    flight::{self, Ancestry, Cpu, CpuState, Image, OBJECT, SEGMENTS, Segment},
};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    target::Scope,
    tick::{self, Tick},
};

const PROGRAM: &str = "flight";
const TRACEPOINT: &str = "hrtimer_expire_entry";
/// Samples a second of a busy CPU, about: a whole number of ticks lies between two.
const HERTZ: u32 = 12;
/// Images that are announced in one go and looked at. Reading the mappings of one costs about 0.1 ms.
const NEWS: usize = 8;

/// Why there is no flight recorder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Bpf(#[from] Error),
    #[error(transparent)]
    Tick(#[from] tick::Error),
}

pub(crate) struct History {
    _object: Ebpf,
    segments: Array<MapData, Segment>,
    cpus: Array<MapData, CpuState>,
    ancestries: HashMap<MapData, TargetKey, Ancestry>,
    news: RingBuf<MapData>,
    tick: Tick,
    /// CPU time that a sample stands for.
    pub(crate) period: Duration,
    /// When it began.
    since: u64,
}

/// What a reading of the past found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Covered {
    /// Since when nothing was overwritten, in nanoseconds since boot.
    pub(crate) from: u64,
    pub(crate) bad_records: u64,
}

impl History {
    pub(crate) fn load(kernel: &Kernel) -> Result<Self, HistoryError> {
        let tick = Tick::detect()?;
        let (own, ticks) = (std::process::id(), tick.every(HERTZ));
        let online = online_cpus()
            .map_err(|(_, error)| Error::Attach { program: PROGRAM, source: Box::new(ProgramError::IOError(error)) })?;
        // A CPU that comes later with a higher number is not recorded.
        let cpus = online.into_iter().max().unwrap_or(0) + 1;
        let segments = cpus * u32::try_from(SEGMENTS).unwrap_or(u32::MAX);
        let mut object = kernel.load(PROGRAM, OBJECT, |loader| {
            loader
                .override_global("own_tgid", &own, true)
                .override_global("tick_function", &tick.function, true)
                .override_global("ticks", &ticks, true)
                .map_max_entries("segments", segments)
                .map_max_entries("cpus", cpus);
        })?;
        let refused = |source| Error::Program { program: PROGRAM, source: Box::new(source) };
        let program: &mut BtfTracePoint = object
            .program_mut("record_tick")
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .map_err(refused)?;
        program.load(TRACEPOINT, &kernel.btf()?).map_err(refused)?;
        program.attach().map_err(|source| Error::Attach { program: PROGRAM, source: Box::new(source) })?;
        Ok(Self {
            segments: take(&mut object, "segments")?,
            cpus: take(&mut object, "cpus")?,
            ancestries: take(&mut object, "ancestries")?,
            news: take(&mut object, "news")?,
            _object: object,
            period: tick.length * ticks,
            tick,
            since: now(),
        })
    }

    /// Program images that were sampled for the first time, or again after a while, the newest: what there was more is
    /// passed over, and announced again if it goes on.
    pub(crate) fn news(&mut self) -> Vec<Image> {
        let mut images: Vec<Image> = Vec::new();
        while let Some(record) = self.news.next() {
            images.extend(Image::parse(&record).ok());
        }
        images.split_off(images.len().saturating_sub(NEWS))
    }

    /// Shows every sample of the time that the scope has, each with the part of the kernel's stack that was interrupted.
    pub(crate) fn read(
        &self,
        scope: &Scope,
        time: std::ops::Range<u64>,
        mut see: impl FnMut(&Sample<'_>, &[u64]),
    ) -> Result<Covered, Error> {
        let mut covered = Covered { from: self.since.max(time.start), ..Covered::default() };
        let mut wanted = Wanted { history: self, scope, known: StdMap::new() };
        let mut kernel = Vec::new();
        for cpu in 0..self.cpus.len() {
            for segment in cpu * self.segments_per_cpu()..(cpu + 1) * self.segments_per_cpu() {
                let segment = self.segments.get(&segment, 0).map_err(|source| map_error("segments", source))?;
                if flight::last(&segment) < time.start {
                    continue;
                }
                if self.cpu(cpu)?.sequence >= flight::sequence(&segment) + SEGMENTS as u64 {
                    continue; // It was overwritten meanwhile.
                }
                for record in flight::records(&flight::bytes(&segment)) {
                    let Ok(sample) = record else {
                        covered.bad_records += 1;
                        continue;
                    };
                    if time.contains(&sample.time) && wanted.has(&sample) {
                        kernel.clear();
                        kernel.extend(sample.kernel());
                        see(&sample, self.tick.interrupted(&kernel));
                    }
                }
            }
            // Last, so that what was overwritten meanwhile counts.
            covered.from = covered.from.max(self.cpu(cpu)?.forgotten);
        }
        Ok(covered)
    }

    /// Samples so far, and ticks that found a task running.
    pub(crate) fn counts(&self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        for cpu in 0..self.cpus.len() {
            let cpu = self.cpu(cpu)?;
            counts.samples += cpu.samples;
            counts.ticks += cpu.ticks;
        }
        Ok(counts)
    }

    fn segments_per_cpu(&self) -> u32 {
        self.segments.len() / self.cpus.len().max(1)
    }

    fn cpu(&self, number: u32) -> Result<Cpu, Error> {
        let state = self.cpus.get(&number, 0).map_err(|source| map_error("cpus", source))?;
        Ok(Cpu::of(&state))
    }
}

/// What the flight recorder did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub samples: u64,
    /// Ticks that found a task running: what samples are taken of.
    pub ticks: u64,
}

/// Which samples a scope has. The way from a cgroup to the root is as it was when it was first sampled.
struct Wanted<'a> {
    history: &'a History,
    scope: &'a Scope,
    known: StdMap<TargetKey, bool>,
}

impl Wanted<'_> {
    fn has(&mut self, sample: &Sample<'_>) -> bool {
        let Scope::Cgroups(targets) = self.scope else { return true };
        Hierarchy::ALL.into_iter().zip(sample.cgroups).filter(|(_, cgroup)| *cgroup != 0).any(|(hierarchy, cgroup)| {
            let key = target_key(cgroup, hierarchy);
            *self.known.entry(key).or_insert_with(|| {
                let mut ancestry = Ancestry::default();
                ancestry[0] = cgroup;
                let ancestry = self.history.ancestries.get(&key, 0).unwrap_or(ancestry);
                targets.iter().any(|target| target.hierarchy == hierarchy && ancestry.contains(&target.cgroup))
            })
        })
    }
}

/// Nanoseconds since boot, sleep included: the time of samples.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn map_error(map: &'static str, source: MapError) -> Error {
    Error::Map { program: PROGRAM, map, source: Box::new(source) }
}

fn take<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, map: &'static str) -> Result<T, Error> {
    let taken = object.take_map(map).ok_or(Error::NoMap { program: PROGRAM, map })?;
    T::try_from(taken).map_err(|source| map_error(map, source))
}
