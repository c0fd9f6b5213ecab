//! What a capture gives: the profile, and a summary that can be read without it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

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
    pub hertz: u32,
    /// In the profile. A sample stands for 1/hertz seconds of CPU.
    pub samples: u64,
    /// Of these, taken while the kernel ran.
    pub kernel_samples: u64,
    /// Different stacks, told apart by thread name and process too.
    pub stacks: u64,
    pub user_stacks: UserStacks,
    pub lost: Lost,
    /// At most [`crate::HotStack::LISTED`], the hottest first; processes of one thread name are put together.
    pub hottest_stacks: Vec<HotStack>,
    /// At most [`crate::HotFunction::LISTED`], by samples in the function itself, the hottest first.
    pub hottest_functions: Vec<HotFunction>,
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
