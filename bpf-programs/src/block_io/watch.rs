//! Loading the program, and reading its maps.

use aya::{
    Btf, Ebpf,
    maps::{Array, HashMap, MapData},
    programs::ProgramError,
};

use super::{
    OBJECT, SLOTS,
    usage::{Direction, FLIGHT_WORDS, Flight, Phase, USAGE_WORDS, USER_WORDS, Usage},
};
use crate::{
    Error, Kernel, Support, layout,
    object::{attach_btf, monotonic, take_map},
};

const PROGRAM: &str = "block_io";

/// Where requests are first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Where they are made, so by whom (from 6.5).
    Made,
    /// Where the driver gets them.
    Issued,
}

/// The attached program. Dropping it detaches.
pub struct Watch {
    beginning: Beginning,
    users: HashMap<MapData, [u64; USER_WORDS], [u64; USAGE_WORDS]>,
    flights: HashMap<MapData, u64, [u64; FLIGHT_WORDS]>,
    histograms: Array<MapData, u64>,
    counts: Array<MapData, u64>,
    /// Owns the programs and their links.
    _object: Ebpf,
}

/// How many requests took how long, in the slots of [`SLOTS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histograms(Vec<u64>);

/// Requests that are not in the figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// The table of processes was full: in the histograms, but not in anybody's sums.
    pub users_full: u64,
    /// The table of requests on their way was full.
    pub flights_full: u64,
    /// Not a loss: they began before the watch.
    pub begun_before: u64,
}

impl Watch {
    /// Watches the disks of these numbers, as the kernel packs them: `major << 20 | minor`.
    ///
    /// # Errors
    /// What the kernel refuses, and more disks than [`super::DISKS`].
    pub fn attach(kernel: &Kernel, disks: &[u32]) -> Result<Self, Error> {
        Self::attach_by(kernel, disks, Beginning::Made)
    }

    /// As [`Watch::attach`], with requests first seen there or, where the kernel cannot, later.
    ///
    /// # Errors
    /// As of [`Watch::attach`].
    pub fn attach_by(kernel: &Kernel, disks: &[u32], best: Beginning) -> Result<Self, Error> {
        let mut object = kernel.load(PROGRAM, OBJECT, |_| {})?;
        let mut watched: HashMap<MapData, u32, u32> = take_map(&mut object, PROGRAM, "disks")?;
        let users = take_map(&mut object, PROGRAM, "users")?;
        let flights = take_map(&mut object, PROGRAM, "flights")?;
        let histograms = take_map(&mut object, PROGRAM, "histograms")?;
        let counts = take_map(&mut object, PROGRAM, "counts")?;
        let beginning = attach(&mut object, &kernel.btf()?, best)
            .map_err(|source| Error::Program { program: PROGRAM, source: Box::new(source) })?;
        let begins = match beginning {
            Beginning::Made => layout::BLOCK_IO_BEGINS_MADE,
            Beginning::Issued => layout::BLOCK_IO_BEGINS_ISSUED,
        };
        for disk in disks {
            let refused = |source| Error::Map { program: PROGRAM, map: "disks", source: Box::new(source) };
            watched.insert(disk, begins as u32, 0).map_err(refused)?;
        }
        Ok(Self { beginning, users, flights, histograms, counts, _object: object })
    }

    #[must_use]
    pub fn support(&self) -> Support {
        if self.beginning == Beginning::Made {
            return Support::Full;
        }
        Support::Degraded("this kernel does not tell who makes a block request: only its container is known".to_owned())
    }

    /// What ended so far, in no order.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        self.users.iter().flatten().map(|(key, value)| Usage::new(&key, &value)).collect()
    }

    /// What the devices have now.
    #[must_use]
    pub fn flights(&self) -> Vec<Flight> {
        let now = monotonic();
        self.flights.iter().flatten().filter_map(|(_, value)| Flight::new(&value, now)).collect()
    }

    #[must_use]
    pub fn histograms(&self) -> Histograms {
        Histograms(self.histograms.iter().map(Result::unwrap_or_default).collect())
    }

    #[must_use]
    pub fn lost(&self) -> Lost {
        let count = |index: usize| self.counts.get(&(index as u32), 0).unwrap_or_default();
        Lost {
            users_full: count(layout::BLOCK_IO_USERS_FULL),
            flights_full: count(layout::BLOCK_IO_FLIGHTS_FULL),
            begun_before: count(layout::BLOCK_IO_BEGUN_BEFORE),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("beginning", &self.beginning).finish_non_exhaustive()
    }
}

impl Histograms {
    #[must_use]
    pub fn slots(&self, direction: Direction, phase: Phase) -> &[u64] {
        let start = (direction as usize * Phase::ALL.len() + phase as usize) * SLOTS;
        self.0.get(start..start + SLOTS).unwrap_or_default()
    }
}

/// The end is attached first and the making last, so that no request is seen to begin that is not seen to end.
fn attach(object: &mut Ebpf, btf: &Btf, best: Beginning) -> Result<Beginning, ProgramError> {
    attach_btf(object, btf, "ended", "block_rq_complete")?;
    // A kernel that passes the queue first has two arguments, and one that does not refuses the program that reads two.
    attach_btf(object, btf, "issued_by_queue", "block_rq_issue")
        .or_else(|_| attach_btf(object, btf, "issued", "block_rq_issue"))?;
    let made = best == Beginning::Made && attach_btf(object, btf, "made", "block_io_start").is_ok();
    Ok(if made { Beginning::Made } else { Beginning::Issued })
}
