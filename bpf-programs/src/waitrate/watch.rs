//! Loading the programs by the best hook that the kernel has, attaching them while they are wanted, reading the counters.
//!
//! Loaded programs cost memory only. Attached ones cost each context switch and each wake-up.

use std::{any::Any, collections::HashMap, time::Duration};

use aya::{
    Btf, Ebpf,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError, PerCpuArray, PerCpuValues},
    programs::{BtfTracePoint, ProgramError, RawTracePoint},
};

use super::{
    OBJECT,
    counters::{Cell, Counters, Lost, Pair, RawCell, RawLost, RawPair},
};
use crate::{Error, Kernel, Support, layout, object::take_map};

const PROGRAM: &str = "waitrate";
/// Each with what its programs are called after the hook. The switch comes first, since it ends what the others begin.
const TRACEPOINTS: [(&str, &str); 4] = [
    ("sched_switch", "switch"),
    ("sched_migrate_task", "migrate"),
    ("sched_wakeup", "wakeup"),
    ("sched_wakeup_new", "wakeup_new"),
];
const OTHERS: u32 = layout::WAITRATE_OTHERS as u32;

/// Where the programs hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// The kernel's types are known, so that its pointers can be followed.
    Btf,
    /// Each field is copied, which costs more.
    Raw,
}

/// The loaded programs. Dropping it detaches them.
pub struct Watch {
    hook: Hook,
    object: Ebpf,
    maps: Maps,
    generation: u32,
    /// What keeps the programs attached.
    links: Vec<Link>,
}

type Link = Box<dyn Any + Send + Sync>;

struct Maps {
    generation: Array<MapData, u64>,
    ids: Array<MapData, u64>,
    claims: BpfHashMap<MapData, u32, u64>,
    cells: PerCpuArray<MapData, RawCell>,
    pairs: BpfHashMap<MapData, RawPair, u64>,
    lost: PerCpuArray<MapData, RawLost>,
    cpus: usize,
}

impl Watch {
    /// # Errors
    /// No hook took the programs; the error is that of the best one.
    pub fn load(kernel: &Kernel) -> Result<Self, Error> {
        Self::load_by(kernel, &[Hook::Btf, Hook::Raw])
    }

    /// As [`Watch::load`], by the first of these hooks that takes the programs.
    ///
    /// # Errors
    /// None of the hooks took the programs; the error is that of the first.
    pub fn load_by(kernel: &Kernel, hooks: &[Hook]) -> Result<Self, Error> {
        let cpus = aya::util::nr_cpus().unwrap_or(1);
        let offsets = kernel.per_cpu_offsets();
        let mut object = kernel.load(PROGRAM, OBJECT, |loader| {
            loader.override_global("per_cpu_offsets", &offsets, true);
            loader.map_max_entries("cpus", u32::try_from(cpus).unwrap_or(u32::MAX));
        })?;
        let hook = load(&mut object, &kernel.btf()?, hooks)?;
        let maps = Maps {
            generation: take_map(&mut object, PROGRAM, ".bss")?,
            ids: take_map(&mut object, PROGRAM, "ids")?,
            claims: take_map(&mut object, PROGRAM, "claims")?,
            cells: take_map(&mut object, PROGRAM, "cells")?,
            pairs: take_map(&mut object, PROGRAM, "pairs")?,
            lost: take_map(&mut object, PROGRAM, "lost")?,
            cpus,
        };
        Ok(Self { hook, object, maps, generation: 0, links: Vec::new() })
    }

    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    #[must_use]
    pub fn support(&self) -> Support {
        match self.hook {
            Hook::Btf => Support::Full,
            Hook::Raw => Support::Degraded(
                "this kernel refuses the programs on BTF tracepoints: raw ones cost each context switch more"
                    .to_owned(),
            ),
        }
    }

    /// Attaches the programs, with every counter at zero. Where they are attached already, nothing happens.
    ///
    /// # Errors
    /// A program could not be attached; then none is.
    pub fn attach(&mut self) -> Result<(), Error> {
        if self.is_attached() {
            return Ok(());
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        self.maps.generation.set(0, u64::from(self.generation) << 32, 0).map_err(map_error(".bss"))?;
        let attached: Result<Vec<_>, _> = TRACEPOINTS
            .iter()
            .map(|(tracepoint, name)| attach(&mut self.object, self.hook, tracepoint, name))
            .collect();
        self.links = attached.map_err(|source| Error::Attach { program: PROGRAM, source: Box::new(source) })?;
        Ok(())
    }

    /// Detaches the programs and forgets what was counted.
    ///
    /// # Errors
    /// A map could not be emptied: what it holds would be counted as new.
    pub fn detach(&mut self) -> Result<(), Error> {
        if !self.is_attached() {
            return Ok(());
        }
        self.links.clear();
        self.maps.empty()
    }

    #[must_use]
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// The counters since the programs were attached.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn read(&self) -> Result<Counters, Error> {
        let mut slots = HashMap::from([(OTHERS, 0)]);
        for claim in self.maps.claims.iter() {
            let (slot, cgroup) = claim.map_err(map_error("claims"))?;
            slots.insert(slot, cgroup);
        }
        let mut counters = Counters::default();
        for (slot, cgroup) in &slots {
            let cells = self.maps.cells.get(slot, 0).map_err(map_error("cells"))?;
            let sum = counters.cells.entry(*cgroup).or_default();
            cells.iter().for_each(|cell| *sum += Cell::parse(cell));
        }
        for pair in self.maps.pairs.iter() {
            let (pair, nanoseconds) = pair.map_err(map_error("pairs"))?;
            let cgroup = |offset: usize| slots.get(&pair[offset / 4]).copied();
            let victim = cgroup(layout::WAITRATE__PAIR__VICTIM);
            let holder = cgroup(layout::WAITRATE__PAIR__HOLDER);
            // One that came since the claims were read has its turn the next time.
            if let (Some(victim), Some(holder)) = (victim, holder) {
                counters.pairs.insert(Pair { victim, holder }, Duration::from_nanos(nanoseconds));
            }
        }
        let lost = self.maps.lost.get(&0, 0).map_err(map_error("lost"))?;
        lost.iter().for_each(|lost| counters.lost += Lost::parse(lost));
        Ok(counters)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("hook", &self.hook).field("attached", &self.is_attached()).finish_non_exhaustive()
    }
}

impl Maps {
    fn empty(&mut self) -> Result<(), Error> {
        for pair in self.pairs.keys().flatten().collect::<Vec<_>>() {
            self.pairs.remove(&pair).map_err(map_error("pairs"))?;
        }
        for slot in self.claims.keys().flatten().collect::<Vec<_>>() {
            self.zero(slot)?;
            self.ids.set(slot, 0, 0).map_err(map_error("ids"))?;
            self.claims.remove(&slot).map_err(map_error("claims"))?;
        }
        self.zero(OTHERS)
    }

    fn zero(&mut self, slot: u32) -> Result<(), Error> {
        let zeros = PerCpuValues::try_from(vec![RawCell::default(); self.cpus]);
        let zeros = zeros.map_err(|source| map_error("cells")(source.into()))?;
        self.cells.set(slot, zeros, 0).map_err(map_error("cells"))
    }
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { program: PROGRAM, map, source: Box::new(source) }
}

fn load(object: &mut Ebpf, btf: &Btf, hooks: &[Hook]) -> Result<Hook, Error> {
    let mut first = None;
    for hook in hooks {
        match TRACEPOINTS.iter().try_for_each(|(tracepoint, name)| load_one(object, btf, *hook, tracepoint, name)) {
            Ok(()) => return Ok(*hook),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let source = first.unwrap_or(ProgramError::NotLoaded);
    Err(Error::Program { program: PROGRAM, source: Box::new(source) })
}

fn load_one(object: &mut Ebpf, btf: &Btf, hook: Hook, tracepoint: &str, name: &str) -> Result<(), ProgramError> {
    match hook {
        Hook::Btf => program::<BtfTracePoint>(object, &format!("btf_{name}"))?.load(tracepoint, btf),
        Hook::Raw => program::<RawTracePoint>(object, &format!("raw_{name}"))?.load(),
    }
}

fn attach(object: &mut Ebpf, hook: Hook, tracepoint: &str, name: &str) -> Result<Link, ProgramError> {
    match hook {
        Hook::Btf => {
            let program = program::<BtfTracePoint>(object, &format!("btf_{name}"))?;
            let link = program.attach()?;
            Ok(Box::new(program.take_link(link)?))
        }
        Hook::Raw => {
            let program = program::<RawTracePoint>(object, &format!("raw_{name}"))?;
            let link = program.attach(tracepoint)?;
            Ok(Box::new(program.take_link(link)?))
        }
    }
}

fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    object.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}
