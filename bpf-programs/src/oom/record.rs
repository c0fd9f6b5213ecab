//! What is known of a kill.

use crate::{
    bytes::{BadRecord, Comm, Fields},
    layout,
};

/// One kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since boot, sleep included.
    pub time: u64,
    /// Process of the victim.
    pub pid: u32,
    /// `None` where the kernel only gave the number of the victim; `/proc/<pid>` may still know it.
    pub victim: Option<Victim>,
    pub trigger: Trigger,
    /// The memory cgroups are of the unified hierarchy (cgroup v2); else of the `memory` hierarchy of cgroup v1.
    pub unified: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The thread that was picked.
    pub tid: u32,
    pub comm: Comm,
    pub uid: u32,
    pub oom_score_adj: i32,
    /// Inode number of its memory cgroup; 0 when not known.
    pub memcg: u64,
    /// `None` when the memory was gone already.
    pub memory: Option<Memory>,
}

/// Counters of the victim's memory when it was picked, in KiB. Counters that the kernel keeps per CPU may be some
/// hundred KiB a CPU behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub anon_kb: u64,
    pub file_kb: u64,
    pub shmem_kb: u64,
    pub swap_kb: u64,
    pub page_tables_kb: u64,
    pub virtual_kb: u64,
}

/// The task that ran out of memory and so called the killer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub pid: u32,
    pub tid: u32,
    pub comm: Comm,
    /// Inode number of its memory cgroup; 0 when not known.
    pub memcg: u64,
}

impl Record {
    /// # Errors
    /// The record is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRecord> {
        let fields = Fields::new("oom_kill", bytes, layout::OOM__KILL__SIZE)?;
        let flags = fields.u32(layout::OOM__KILL__FLAGS) as usize;
        let memory = (flags & layout::OOM_MEMORY_KNOWN != 0).then(|| Memory {
            anon_kb: fields.u64(layout::OOM__KILL__ANON_KB),
            file_kb: fields.u64(layout::OOM__KILL__FILE_KB),
            shmem_kb: fields.u64(layout::OOM__KILL__SHMEM_KB),
            swap_kb: fields.u64(layout::OOM__KILL__SWAP_KB),
            page_tables_kb: fields.u64(layout::OOM__KILL__PAGE_TABLES_KB),
            virtual_kb: fields.u64(layout::OOM__KILL__VIRTUAL_KB),
        });
        let victim = (flags & layout::OOM_VICTIM_KNOWN != 0).then(|| Victim {
            tid: fields.u32(layout::OOM__KILL__TID),
            comm: fields.comm(layout::OOM__KILL__COMM),
            uid: fields.u32(layout::OOM__KILL__UID),
            oom_score_adj: fields.i32(layout::OOM__KILL__OOM_SCORE_ADJ),
            memcg: fields.u64(layout::OOM__KILL__VICTIM_MEMCG),
            memory,
        });
        Ok(Self {
            time: fields.u64(layout::OOM__KILL__TIME),
            pid: fields.u32(layout::OOM__KILL__TGID),
            victim,
            trigger: Trigger {
                pid: fields.u32(layout::OOM__KILL__TRIGGER_TGID),
                tid: fields.u32(layout::OOM__KILL__TRIGGER_TID),
                comm: fields.comm(layout::OOM__KILL__TRIGGER_COMM),
                memcg: fields.u64(layout::OOM__KILL__TRIGGER_MEMCG),
            },
            unified: flags & layout::OOM_UNIFIED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused() {
        let bytes = [0; layout::OOM__KILL__SIZE];
        assert!(Record::parse(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(Record::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_the_kernel_did_not_tell_is_absent() {
        let record = Record::parse(&[0; layout::OOM__KILL__SIZE]).unwrap();
        assert_eq!(record.victim, None);
        assert!(!record.unified);
    }
}
