//! `tasks`: the tasks of the machine by BPF iterators: those in uninterruptible sleep, with their kernel stacks, or what
//! each is doing.

mod look;
mod record;

pub use look::{Look, Tasks};
pub use record::{State, Task};

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tasks.o"));
