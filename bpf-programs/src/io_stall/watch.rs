//! Loading the program, reading its maps and its ring.

use std::time::Duration;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf, StackTraceMap},
};

use super::{
    OBJECT,
    stall::{KEY_WORDS, STALL_WORDS, Stall, WAITER_WORDS, Waiter},
};
use crate::{
    BadRecord, Error, Kernel, layout,
    object::{attach_btf, take_map},
};

const PROGRAM: &str = "io_stall";

/// The attached program. Dropping it detaches.
pub struct Watch {
    waiters: HashMap<MapData, [u64; KEY_WORDS], [u64; WAITER_WORDS]>,
    waiting: HashMap<MapData, u32, [u64; STALL_WORDS]>,
    stacks: StackTraceMap<MapData>,
    stalls: RingBuf<MapData>,
    counts: Array<MapData, u64>,
    /// Owns the program and its link.
    _object: Ebpf,
}

/// What is not in the figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Waits for which a table had no place.
    pub table_full: u64,
    /// Stalls that found the ring full.
    pub ring_full: u64,
    /// Waits whose place is not known.
    pub no_stack: u64,
}

impl Watch {
    /// Waits from `long_wait` on are told one by one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn attach(kernel: &Kernel, long_wait: Duration) -> Result<Self, Error> {
        let nanoseconds = u64::try_from(long_wait.as_nanos()).unwrap_or(u64::MAX);
        let mut object = kernel.load(PROGRAM, OBJECT, |loader| {
            loader.override_global("long_wait", &nanoseconds, true);
        })?;
        let waiters = take_map(&mut object, PROGRAM, "waiters")?;
        let waiting = take_map(&mut object, PROGRAM, "waiting")?;
        let stacks = take_map(&mut object, PROGRAM, "stacks")?;
        let stalls = take_map(&mut object, PROGRAM, "stalls")?;
        let counts = take_map(&mut object, PROGRAM, "counts")?;
        attach_btf(&mut object, &kernel.btf()?, "switched", "sched_switch")
            .map_err(|source| Error::Program { program: PROGRAM, source: Box::new(source) })?;
        Ok(Self { waiters, waiting, stacks, stalls, counts, _object: object })
    }

    /// The next long wait that ended; `None` when there is none yet.
    pub fn next_stall(&mut self) -> Option<Result<Stall, BadRecord>> {
        self.stalls.next().map(|bytes| Stall::parse(&bytes))
    }

    /// Waits that ended so far, in no order.
    #[must_use]
    pub fn waiters(&self) -> Vec<Waiter> {
        self.waiters.iter().flatten().map(|(key, value)| Waiter::new(&key, &value)).collect()
    }

    /// Tasks that wait now.
    #[must_use]
    pub fn waiting(&self) -> Vec<Stall> {
        self.waiting.iter().flatten().map(|(_, value)| Stall::new(&value)).collect()
    }

    /// Addresses in the kernel, the innermost first; empty if it is not known.
    #[must_use]
    pub fn stack(&self, number: u32) -> Vec<u64> {
        let stack = self.stacks.get(&number, 0);
        stack.map(|stack| stack.frames().iter().map(|frame| frame.ip).collect()).unwrap_or_default()
    }

    #[must_use]
    pub fn lost(&self) -> Lost {
        let count = |index: usize| self.counts.get(&(index as u32), 0).unwrap_or_default();
        Lost {
            table_full: count(layout::IO_STALL_WAITERS_FULL) + count(layout::IO_STALL_WAITING_FULL),
            ring_full: count(layout::IO_STALL_RING_FULL),
            no_stack: count(layout::IO_STALL_NO_STACK),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
