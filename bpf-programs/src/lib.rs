//! The BPF programs of Galen: the compiled objects, the types of their records, and what loading them needs.
//!
//! A program is a folder beside `src` (`<name>.bpf.c`, `<name>.h`) and a module here. The header is the only source of
//! the layout: the build script takes sizes and offsets from it. Records that come out of a ring are bytes until a
//! `parse` has looked at their length; a short or unknown record is an error that the reader counts.
//!
//! Whoever loads programs opens a [`Kernel`] first: it says in one line what the machine lacks, and gives back the
//! memory of the parsed BTF when it is dropped.

pub mod block_io;
pub mod cpu_profile;
pub mod file_io;
pub mod flight;
pub mod io_stall;
pub mod oom;
pub mod tasks;
pub mod waitrate;

mod bytes;
mod heap;
mod inode;
mod kernel;
mod object;
mod owner;
mod support;
mod symbol;

pub use bytes::{BadRecord, Comm};
pub use heap::{keep_heap_small, release_free_memory};
pub use inode::{Inode, InodeName};
pub use kernel::{Error, Kernel};
pub use owner::{Hierarchy, Owner};
pub use support::Support;

/// Sizes and offsets as the BPF compiler sees the headers.
mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}
