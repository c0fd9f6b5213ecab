//! `waitrate`: how long the tasks of each cgroup wait for a CPU, and who holds it meanwhile.
//!
//! Nothing comes out of a ring: the programs count, while they are attached, and whoever wants to know reads the
//! counters.

mod counters;
mod watch;

pub use counters::{Cell, Counters, Lost, Pair};
pub use watch::{Hook, Watch};

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/waitrate.o"));

/// Cgroups that can be told apart while the programs are attached.
pub const CGROUPS: usize = crate::layout::WAITRATE_CGROUPS;
