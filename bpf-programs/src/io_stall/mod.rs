//! `io_stall`: how long tasks wait for IO, and where in the kernel.

mod stall;
mod watch;

pub use stall::{Stall, Waiter};
pub use watch::{Lost, Watch};

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/io_stall.o"));
