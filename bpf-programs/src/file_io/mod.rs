//! `file_io`: what processes read, write and sync of the files of some file systems.

mod usage;
mod watch;

pub use usage::{Call, Kind, Totals, Usage};
pub use watch::{Lost, Watch};

use crate::layout;

/// File systems and disks that can be watched at one time.
pub const VOLUMES: usize = layout::FILE_IO_VOLUMES;

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/file_io.o"));
