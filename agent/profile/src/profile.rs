//! What a capture gives: the profile, and a summary that can be read without it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use galen_bpf::cpu_profile::HIERARCHIES;

use crate::hot::{HotFunction, HotStack};

#[derive(Debug, Clone)]
pub struct Profile {
    /// gzip'd pprof: values `samples/count` and `cpu/nanoseconds`, labels `pid` and `comm`.
    pub pprof: Bytes,
    pub summary: Summary,
}

#[derive(Debug, Clone)]
pub struct Summary {
    pub started: SystemTime,
    pub lasted: Duration,
    /// CPU time that a sample stands for.
    pub period: Duration,
    /// In the profile.
    pub samples: u64,
    /// Of these, taken while the kernel ran.
    pub kernel_samples: u64,
    /// Samples whose kernel side could not be read: they look like the program's.
    pub kernel_unreadable: u64,
    /// Different stacks, told apart by thread name and process too.
    pub stacks: u64,
    pub user_stacks: UserStacks,
    pub lost: Lost,
    /// At most [`crate::HotStack::LISTED`], the hottest first; processes of one thread name are put together.
    pub hottest_stacks: Vec<HotStack>,
    /// At most [`crate::HotFunction::LISTED`], by samples in the function itself, the hottest first.
    pub hottest_functions: Vec<HotFunction>,
    /// The processes that were sampled, up to 4,096, those with the most samples first.
    pub processes: Vec<Busy>,
}

impl Summary {
    /// CPUs that the samples stand for.
    #[must_use]
    pub fn cpus(&self) -> f64 {
        let lasted = self.lasted.as_secs_f64();
        if lasted > 0.0 { self.samples as f64 * self.period.as_secs_f64() / lasted } else { 0.0 }
    }

    /// Samples a second of a CPU.
    #[must_use]
    pub fn hertz(&self) -> f64 {
        1.0 / self.period.as_secs_f64()
    }
}

/// A process and its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    pub pid: u32,
    /// Of the thread that was seen first.
    pub comm: String,
    /// Ids of its cgroups in the order of [`crate::Hierarchy::ALL`]; 0 where there is none of its own.
    pub cgroups: [u64; HIERARCHIES],
    pub samples: u64,
    /// Of these, taken while the kernel ran.
    pub kernel_samples: u64,
}

/// What the program's side of the samples is worth; the sum is `samples`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserStacks {
    /// Walked to where a thread begins, or at least to some depth.
    pub whole: u64,
    /// Ends after few frames or in nonsense: the program was likely built without frame pointers.
    pub truncated: u64,
    /// The process ended before its mappings could be read.
    pub process_gone: u64,
    pub unreadable: u64,
    /// Kernel threads have none.
    pub kernel_thread: u64,
}

/// What a capture with a look back gives.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The seconds before it began, by the flight recorder, or why there is none.
    pub before: Result<Profile, NoHistory>,
    pub after: Profile,
}

/// Why there is no look back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHistory {
    #[error("the flight recorder is off")]
    Off,
    #[error("the flight recorder does not work: {0}")]
    Broken(String),
}

/// Samples that matched and are not in the profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// The ring had no room.
    pub ring_full: u64,
    /// Too many different stacks.
    pub table_full: u64,
    /// Records that were not understood.
    pub bad_record: u64,
}

impl Lost {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ring_full + self.table_full + self.bad_record
    }
}
