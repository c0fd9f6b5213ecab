//! CPU profiles of cgroups: samples taken in the kernel by BPF, symbols, pprof.
//!
//! A [`Sampler`] loads its program once and keeps it; perf events are open only while a capture runs, so an idle sampler
//! costs nothing but its ring. A capture is a blocking call on a thread of the caller's; several may run at one time
//! and share the program, the ring and what was read about processes.
//!
//! Processes are looked at while they live: the kernel side wakes a capture at the first samples of each program image,
//! and the capture then reads its mappings and holds its files open. Names are found at the end, file by file, so that the
//! symbol tables of one file at most are in memory. Every sample that does not arrive is counted in the result.

mod cancel;
mod collector;
mod hot;
mod inside;
mod maps;
mod perf_map;
mod pprof;
mod processes;
mod profile;
mod report;
mod sampler;
mod session;
mod symbols;
mod target;

pub use cancel::Cancel;
pub use galen_bpf::{Error as LoadError, Kernel, Support, cpu_profile::Hierarchy};
pub use hot::{HotFunction, HotStack};
pub use profile::{Lost, Profile, Summary, UserStacks};
pub use sampler::{Error, Request, Sampler, Settings};
pub use symbols::kernel_functions;
pub use target::{Target, TargetError};
