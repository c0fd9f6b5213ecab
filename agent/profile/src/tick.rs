//! The timer tick, which the flight recorder hangs on: what its timer calls, how long it is, and where its interrupt
//! begins on a stack.
//!
//! The stack of a sample begins with the tick's own frames. What was interrupted is behind the function by which the
//! processor entered the kernel; nothing is there when it was a program.

use std::{io, ops::Range, time::Duration};

use rustix::time::{ClockId, clock_getres};

use crate::symbols::each_kernel_symbol;

/// What the timer calls, by kernel version. Before 6.9 the second is there too, for timers of low resolution.
const FUNCTIONS: [&[u8]; 2] = [b"tick_sched_timer", b"tick_nohz_handler"];
/// Begins of the names of functions by which interrupts come: x86, Xen, arm64.
const ENTRIES: [&[u8]; 6] = [b"asm_sysvec_", b"asm_common_interrupt", b"xen_asm_", b"asm_exc_xen_", b"el1", b"el0"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read /proc/kallsyms")]
    Symbols(#[source] io::Error),
    #[error("/proc/kallsyms does not tell the address of the tick (kernel.kptr_restrict, or a kernel without NO_HZ)")]
    Hidden,
    #[error("the kernel does not tell the length of its tick")]
    Length,
}

#[derive(Debug)]
pub(crate) struct Tick {
    /// Address of what its timer calls.
    pub(crate) function: u64,
    pub(crate) length: Duration,
    entries: Vec<Range<u64>>,
}

impl Tick {
    pub(crate) fn detect() -> Result<Self, Error> {
        let mut functions = [0; FUNCTIONS.len()];
        let mut entries: Vec<Range<u64>> = Vec::new();
        each_kernel_symbol(|address, _, name| {
            if let Some(known) = FUNCTIONS.iter().position(|function| *function == name) {
                functions[known] = address;
            }
            if let Some(last) = entries.last_mut()
                && last.end == u64::MAX
                && address > last.start
            {
                last.end = address;
            }
            if address > 0 && !name.contains(&b'\t') && ENTRIES.iter().any(|entry| name.starts_with(entry)) {
                entries.push(address..u64::MAX);
            }
        })
        .map_err(Error::Symbols)?;
        let function = functions.into_iter().find(|address| *address > 0).ok_or(Error::Hidden)?;
        // A coarse clock moves with the tick.
        let resolution = clock_getres(ClockId::MonotonicCoarse);
        let length = Duration::try_from(resolution).ok().filter(|length| !length.is_zero()).ok_or(Error::Length)?;
        Ok(Self { function, length, entries })
    }

    /// Ticks between two samples for about this many samples a second.
    pub(crate) fn every(&self, hertz: u32) -> u32 {
        let ticks = 1.0 / (self.length.as_secs_f64() * f64::from(hertz.max(1)));
        // In range: the length of a tick is from 1 to 10 ms.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let ticks = ticks.round() as u32;
        ticks.max(1)
    }

    /// The part of a kernel stack, innermost first, that was interrupted. All of it if the interrupt is not on it.
    pub(crate) fn interrupted<'a>(&self, stack: &'a [u64]) -> &'a [u64] {
        let is_entry = |address: &u64| self.entries.iter().any(|entry| entry.contains(address));
        stack.iter().position(is_entry).map_or(stack, |entry| &stack[entry + 1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_is_behind_the_entry() {
        let tick = Tick { function: 1, length: Duration::from_millis(4), entries: vec![10..20, 30..40] };
        assert_eq!(tick.interrupted(&[100, 15, 7, 35, 8]), [7, 35, 8]);
        assert!(tick.interrupted(&[100, 39]).is_empty());
        assert_eq!(tick.interrupted(&[100, 20, 29]), [100, 20, 29]);
    }

    #[test]
    fn samples_come_every_so_many_ticks() {
        let every = |micros| Tick { function: 1, length: Duration::from_micros(micros), entries: vec![] }.every(19);
        assert_eq!([10_000, 4_000, 3_333, 1_000].map(every), [5, 13, 16, 53]);
    }

    #[test]
    fn the_tick_of_the_running_kernel_is_found() {
        let tick = Tick::detect().unwrap();
        assert!(tick.length >= Duration::from_micros(500) && tick.length <= Duration::from_millis(10), "{tick:?}");
        assert!(!tick.entries.is_empty());
    }
}
