//! The loaded program, its maps, and the captures that use them at the moment.
//!
//! Perf events are attached from the first capture's begin to the last one's end. Whichever capture wakes first drains
//! the ring for all. What is read about processes serves captures and the flight recorder alike.

use std::{
    collections::HashMap as StdMap,
    io,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf},
    programs::{
        PerfEvent, ProgramError,
        perf_event::{PerfEventConfig, PerfEventLinkId, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::{nr_cpus, online_cpus},
};
use galen_bpf::{
    Error, Kernel,
    cpu_profile::{
        Control, Counts, OBJECT, SLOTS, Sample, TARGETS, TargetKey, UserFrame, control, ring_full, target_key,
    },
    flight::Image,
};

use crate::{
    collector::Collector,
    history::{Covered, History},
    processes::{Place, Processes},
    target::Scope,
};

const PROGRAM: &str = "cpu_profile";

pub(crate) struct Session {
    object: Ebpf,
    ring: RingBuf<MapData>,
    targets: HashMap<MapData, TargetKey, u64>,
    counts: PerCpuArray<MapData, Counts>,
    control: Array<MapData, Control>,
    hertz: u32,
    /// One for each CPU while a capture runs.
    events: Vec<PerfEventLinkId>,
    /// What map `targets` holds.
    wanted: StdMap<TargetKey, u64>,
    host_slots: u64,
    captures: [Option<Collector>; SLOTS],
    processes: Processes,
    /// `None` where the flight recorder does not work, or is off.
    pub(crate) history: Option<History>,
    series: u64,
    /// The places of the sample at hand; kept for its memory.
    places: Vec<Place>,
}

/// Why a capture cannot begin.
pub(crate) enum Refused {
    NoSlot,
    TooManyTargets,
    Bpf(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Bpf(error)
    }
}

/// A capture that has ended.
pub(crate) struct Ended {
    pub(crate) collector: Collector,
    pub(crate) ring_full: u64,
}

impl Session {
    pub(crate) fn load(kernel: &Kernel, hertz: u32, ring_bytes: u32) -> Result<Self, Error> {
        let own = std::process::id();
        let mut object = kernel.load(PROGRAM, OBJECT, |loader| {
            loader.override_global("own_tgid", &own, true).map_max_entries("samples", ring_bytes);
        })?;
        program(&mut object).and_then(PerfEvent::load).map_err(refused)?;
        Ok(Self {
            ring: take(&mut object, "samples")?,
            targets: take(&mut object, "targets")?,
            counts: take(&mut object, "counts")?,
            control: take(&mut object, "control")?,
            object,
            hertz,
            events: Vec::new(),
            wanted: StdMap::new(),
            host_slots: 0,
            captures: [const { None }; SLOTS],
            processes: Processes::default(),
            history: None,
            series: 0,
            places: Vec::new(),
        })
    }

    /// Another handle of the ring, to wait on.
    pub(crate) fn ring_fd(&self) -> io::Result<OwnedFd> {
        self.ring.as_fd().try_clone_to_owned()
    }

    pub(crate) fn begin(&mut self, scope: &Scope) -> Result<usize, Refused> {
        let slot = self.captures.iter().position(Option::is_none).ok_or(Refused::NoSlot)?;
        let targets: &[_] = if let Scope::Cgroups(targets) = scope { targets } else { &[] };
        let keys: Vec<_> = targets.iter().map(|target| target_key(target.cgroup, target.hierarchy)).collect();
        let new = keys.iter().filter(|key| !self.wanted.contains_key(*key)).count();
        if self.wanted.len() + new > TARGETS {
            return Err(Refused::TooManyTargets);
        }
        let first = self.captures.iter().all(Option::is_none);
        self.series += u64::from(first);
        self.host_slots |= if *scope == Scope::Host { 1 << slot } else { 0 };
        self.zero_counts(slot)?;
        self.captures[slot] = Some(Collector::default());
        let begun = self
            .set_control()
            .and_then(|()| self.want(&keys, slot))
            .and_then(|()| if first { self.attach() } else { Ok(()) });
        if let Err(error) = begun {
            self.end(slot);
            return Err(error.into());
        }
        Ok(slot)
    }

    /// Takes all that is in the ring, for all captures.
    pub(crate) fn drain(&mut self) {
        self.processes.next_drain();
        while let Some(record) = self.ring.next() {
            let Ok(sample) = Sample::parse(&record) else {
                self.captures.iter_mut().flatten().for_each(|capture| capture.bad_records += 1);
                continue;
            };
            find(&mut self.processes, &mut self.places, &sample, sample.kernel());
            for (slot, capture) in self.captures.iter_mut().enumerate() {
                if let Some(capture) = capture
                    && sample.slots & (1 << slot) != 0
                {
                    capture.add(&sample, sample.kernel().len(), &self.places);
                }
            }
        }
    }

    /// What the flight recorder has of that time; `None` if there is none.
    pub(crate) fn past(&mut self, scope: &Scope, time: Range<u64>) -> Result<Option<(Collector, Covered)>, Error> {
        let Some(history) = &self.history else { return Ok(None) };
        let (processes, places) = (&mut self.processes, &mut self.places);
        let mut collector = Collector::default();
        processes.next_drain();
        let covered = history.read(scope, time, |sample, kernel| {
            find(processes, places, sample, kernel.iter().copied());
            collector.add(sample, kernel.len(), places);
        })?;
        collector.bad_records = covered.bad_records;
        Ok(Some((collector, covered)))
    }

    /// Looks at processes while they live, and forgets those of long ago.
    pub(crate) fn keep_up(&mut self, images: &[Image]) {
        self.processes.next_drain();
        images.iter().for_each(|image| self.processes.look(*image));
        self.processes.sweep();
    }

    /// Program images that are new to the flight recorder; `None` when there is nothing to keep up with.
    pub(crate) fn news(&mut self) -> Option<Vec<Image>> {
        let images = self.history.as_mut().map(History::news).unwrap_or_default();
        (!images.is_empty() || self.processes.is_due()).then_some(images)
    }

    pub(crate) fn end(&mut self, slot: usize) -> Ended {
        let bit = 1_u64 << slot;
        let (targets, wanted) = (&mut self.targets, &mut self.wanted);
        wanted.retain(|key, slots| {
            if *slots & bit == 0 {
                return true;
            }
            *slots &= !bit;
            // A key that stays in the map by a failure only makes samples that nobody takes.
            let _ = if *slots == 0 { targets.remove(key) } else { targets.insert(key, *slots, 0) };
            *slots != 0
        });
        self.host_slots &= !bit;
        // As above.
        let _ = self.set_control();
        let last = self.captures.iter().flatten().count() <= 1;
        if last {
            self.detach();
        }
        self.drain();
        let ended =
            Ended { collector: self.captures[slot].take().unwrap_or_default(), ring_full: self.ring_full(slot) };
        if last {
            self.processes.sweep();
            self.places = Vec::new();
            self.wanted = StdMap::new();
        }
        ended
    }

    fn set_control(&mut self) -> Result<(), Error> {
        let value = control(self.series, self.host_slots);
        self.control.set(0, value, 0).map_err(|source| map_error("control", source))
    }

    fn want(&mut self, keys: &[TargetKey], slot: usize) -> Result<(), Error> {
        for key in keys {
            let slots = self.wanted.entry(*key).or_default();
            *slots |= 1 << slot;
            self.targets.insert(key, *slots, 0).map_err(|source| map_error("targets", source))?;
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        let cpus = online_cpus()
            .map_err(|(_, error)| Error::Attach { program: PROGRAM, source: Box::new(ProgramError::IOError(error)) })?;
        for cpu in cpus {
            let link = program(&mut self.object)
                .and_then(|program| {
                    program.attach(
                        PerfEventConfig::Software(SoftwareEvent::CpuClock),
                        PerfEventScope::AllProcessesOneCpu { cpu },
                        SamplePolicy::Frequency(u64::from(self.hertz)),
                        false,
                    )
                })
                .map_err(|error| Error::perf_event(PROGRAM, error))?;
            self.events.push(link);
        }
        Ok(())
    }

    fn detach(&mut self) {
        for link in self.events.drain(..) {
            let detached = program(&mut self.object).and_then(|program| program.detach(link));
            if let Err(error) = detached {
                tracing::warn!(%error, "a perf event did not close");
            }
        }
    }

    fn zero_counts(&mut self, slot: usize) -> Result<(), Error> {
        let zeros = nr_cpus()
            .map_err(|(_, error)| error)
            .and_then(|cpus| PerCpuValues::try_from(vec![Counts::default(); cpus]))
            .map_err(|error| map_error("counts", MapError::IoError(error)))?;
        self.counts.set(slot_key(slot), zeros, 0).map_err(|source| map_error("counts", source))
    }

    fn ring_full(&self, slot: usize) -> u64 {
        match self.counts.get(&slot_key(slot), 0) {
            Ok(cpus) => cpus.iter().map(ring_full).sum(),
            Err(error) => {
                tracing::warn!(%error, "cannot read how many samples were lost");
                0
            }
        }
    }
}

/// Where the frames of a sample are: the kernel's, then the program's.
fn find(
    processes: &mut Processes,
    places: &mut Vec<Place>,
    sample: &Sample<'_>,
    kernel: impl ExactSizeIterator<Item = u64>,
) {
    let image = Image { address_space: sample.address_space, tgid: sample.tgid };
    places.clear();
    places.extend(kernel.enumerate().map(|(depth, address)| Place::Kernel(called_from(depth, address))));
    places.extend(sample.user().enumerate().map(|(depth, frame)| {
        let frame = match frame {
            UserFrame::Address(address) => UserFrame::Address(called_from(depth, address)),
            UserFrame::InFile { build_id, offset } => {
                UserFrame::InFile { build_id, offset: called_from(depth, offset) }
            }
        };
        processes.find(image, frame, depth)
    }));
}

/// A frame that called another holds the address behind the call, which may be that of the next function.
fn called_from(depth: usize, address: u64) -> u64 {
    if depth == 0 { address } else { address.saturating_sub(1) }
}

fn slot_key(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

fn program(object: &mut Ebpf) -> Result<&mut PerfEvent, ProgramError> {
    object.program_mut("sample_cpu").ok_or(ProgramError::NotLoaded)?.try_into()
}

fn refused(source: ProgramError) -> Error {
    Error::Program { program: PROGRAM, source: Box::new(source) }
}

fn map_error(map: &'static str, source: MapError) -> Error {
    Error::Map { program: PROGRAM, map, source: Box::new(source) }
}

fn take<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, map: &'static str) -> Result<T, Error> {
    let taken = object.take_map(map).ok_or(Error::NoMap { program: PROGRAM, map })?;
    T::try_from(taken).map_err(|source| map_error(map, source))
}
