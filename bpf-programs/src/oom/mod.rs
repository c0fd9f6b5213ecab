//! `oom`: a record of each victim of the OOM killer.

mod record;
mod watch;

pub use record::{Memory, Record, Trigger, Victim};
pub use watch::{Hook, Watch};

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/oom.o"));
