//! CPU profiles of cgroups: samples taken in the kernel by BPF, symbols, pprof.
//!
//! A [`Sampler`] loads its programs once and keeps them. One is the flight recorder: it samples at a low rate, always,
//! into memory that it overwrites, and is read when somebody wants to know what was. The other samples for captures;
//! its perf events are open only while one runs. A capture is a blocking call on a thread of the caller's; several may
//! run at one time.
//!
//! Processes are looked at while they live: the kernel side tells of each program image that it samples, and its mappings
//! are read and its files held open. Frames come with the build id of their file, so that also those of a process that
//! ended too soon have names if anybody else had the file. Names are found at the end, file by file.
//!
//! Invariant: files of workloads are read, never mapped, and only up to a limit, so that none of them can end or fill
//! this process. Every sample that does not arrive is counted in the result.

mod cancel;
mod collector;
mod elf;
mod files;
mod history;
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
mod tick;

pub use cancel::Cancel;
pub use galen_bpf::{Error as LoadError, Kernel, Support, cpu_profile::Hierarchy};
pub use history::Counts;
pub use hot::{HotFunction, HotStack};
pub use profile::{Busy, Lost, NoHistory, Profile, Recording, Summary, UserStacks};
pub use sampler::{Error, Frozen, News, Request, Sampler, Settings};
pub use symbols::kernel_functions;
pub use target::{Scope, Target, TargetError};
