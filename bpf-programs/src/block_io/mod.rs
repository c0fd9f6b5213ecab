//! `block_io`: the requests of some disks, by process and cgroup, and how long they took.

mod usage;
mod watch;

pub use usage::{Direction, Flight, Phase, Totals, Usage, User};
pub use watch::{Beginning, Histograms, Lost, Watch};

use crate::layout;

/// Disks that can be watched at one time.
pub const DISKS: usize = layout::BLOCK_IO_DISKS;
/// Slots of a histogram: slot n holds what took 2^n to 2^(n+1) microseconds, the first also what took less, the last
/// also what took more.
pub const SLOTS: usize = layout::BLOCK_IO_SLOTS;

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/block_io.o"));
