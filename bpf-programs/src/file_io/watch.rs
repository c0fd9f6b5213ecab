//! Loading the program, reading its maps and its ring.

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};

use super::{
    OBJECT,
    usage::{CALL_WORDS, Call, KEY_WORDS, USAGE_WORDS, Usage},
};
use crate::{
    BadRecord, Error, InodeName, Kernel, layout,
    object::{attach_btf, monotonic, take_map},
};

const PROGRAM: &str = "file_io";

/// The attached program. Dropping it detaches.
pub struct Watch {
    volumes: HashMap<MapData, u32, u32>,
    usage: HashMap<MapData, [u64; KEY_WORDS], [u64; USAGE_WORDS]>,
    calls: HashMap<MapData, u32, [u64; CALL_WORDS]>,
    names: RingBuf<MapData>,
    names_lost: Array<MapData, u64>,
    counts: Array<MapData, u64>,
    /// Owns the programs and their links.
    _object: Ebpf,
}

/// What is not in the figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Calls for which a table had no place.
    pub table_full: u64,
    /// Names that found the ring full; they may have been told later.
    pub ring_full: u64,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        let mut object = kernel.load(PROGRAM, OBJECT, |_| {})?;
        let volumes = take_map(&mut object, PROGRAM, "volumes")?;
        let usage = take_map(&mut object, PROGRAM, "usage")?;
        let calls = take_map(&mut object, PROGRAM, "calls")?;
        let names = take_map(&mut object, PROGRAM, "names")?;
        let names_lost = take_map(&mut object, PROGRAM, "names_lost")?;
        let counts = take_map(&mut object, PROGRAM, "counts")?;
        let btf = kernel.btf()?;
        let refused = |source| Error::Program { program: PROGRAM, source: Box::new(source) };
        attach_btf(&mut object, &btf, "exited", "sys_exit").map_err(refused)?;
        attach_btf(&mut object, &btf, "entered", "sys_enter").map_err(refused)?;
        Ok(Self { volumes, usage, calls, names, names_lost, counts, _object: object })
    }

    /// Watches the files of the file system of this device number too, or, if it is that of a disk, its device file.
    ///
    /// # Errors
    /// There are [`super::VOLUMES`] already.
    pub fn add_volume(&mut self, device: u32) -> Result<(), Error> {
        let refused = |source| Error::Map { program: PROGRAM, map: "volumes", source: Box::new(source) };
        self.volumes.insert(device, 1, 0).map_err(refused)
    }

    /// The next name; `None` when there is none yet.
    pub fn next_name(&mut self) -> Option<Result<InodeName, BadRecord>> {
        self.names.next().map(|bytes| InodeName::parse(&bytes))
    }

    /// What ended so far, in no order.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        self.usage.iter().flatten().filter_map(|(key, value)| Usage::new(&key, &value)).collect()
    }

    /// What is not over. A thread that was killed in a call is among them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let now = monotonic();
        let calls: Vec<_> = self.calls.iter().flatten().collect();
        calls.iter().flat_map(|(tid, value)| Call::new(*tid, value, now)).collect()
    }

    #[must_use]
    pub fn lost(&self) -> Lost {
        let count = |index: usize| self.counts.get(&(index as u32), 0).unwrap_or_default();
        Lost {
            table_full: count(layout::FILE_IO_USAGE_FULL) + count(layout::FILE_IO_CALLS_FULL),
            ring_full: self.names_lost.get(&0, 0).unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
