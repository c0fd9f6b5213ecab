//! `cpu_profile`: samples of what runs on the CPUs, for cgroups that captures ask for. Its reader is `galen-profile`.

use crate::{
    bytes::{BadRecord, Comm, Fields},
    layout,
};

/// The compiled program.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cpu_profile.o"));

/// Captures that can run at one time.
pub const SLOTS: usize = layout::CPU_PROFILE_SLOTS;
/// Cgroups that all captures together can name at one time.
pub const TARGETS: usize = layout::CPU_PROFILE_TARGETS;
/// Longest stack of either side, in frames.
pub const MAX_FRAMES: usize = layout::CPU_PROFILE_MAX_FRAMES;

/// Key of map `targets`: the id of the cgroup, then [`Hierarchy`] as a number.
pub type TargetKey = [u64; layout::CPU_PROFILE__TARGET__SIZE / 8];
/// Value of map `counts`, for each CPU.
pub type Counts = [u64; layout::CPU_PROFILE__COUNTS__SIZE / 8];
/// Value of map `control`.
pub type Control = [u64; layout::CPU_PROFILE__CONTROL__SIZE / 8];

/// Inode numbers of cgroups are given per hierarchy, so an id means nothing without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum Hierarchy {
    /// Cgroup v2.
    Unified = layout::CPU_PROFILE_UNIFIED as u64,
    /// Cgroup v1, the hierarchy that has the `cpu` controller.
    Cpu = layout::CPU_PROFILE_CPU as u64,
    /// Cgroup v1, the hierarchy that has `cpuacct` where `cpu` is in another.
    Cpuacct = layout::CPU_PROFILE_CPUACCT as u64,
}

#[must_use]
pub fn target_key(cgroup: u64, hierarchy: Hierarchy) -> TargetKey {
    let mut key = TargetKey::default();
    key[layout::CPU_PROFILE__TARGET__CGROUP / 8] = cgroup;
    key[layout::CPU_PROFILE__TARGET__HIERARCHY / 8] = hierarchy as u64;
    key
}

#[must_use]
pub fn control(series: u64) -> Control {
    let mut control = Control::default();
    control[layout::CPU_PROFILE__CONTROL__SERIES / 8] = series;
    control
}

/// Samples that matched, of one slot on one CPU.
#[must_use]
pub fn taken(counts: &Counts) -> u64 {
    counts[layout::CPU_PROFILE__COUNTS__TAKEN / 8]
}

/// Samples that matched and found the ring full, of one slot on one CPU.
#[must_use]
pub fn ring_full(counts: &Counts) -> u64 {
    counts[layout::CPU_PROFILE__COUNTS__RING_FULL / 8]
}

/// One sample.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Nanoseconds since boot, sleep included.
    pub time: u64,
    /// Bits of the slots that want it.
    pub slots: u64,
    /// Tells one program image from the next in the same process; 0 in a kernel thread.
    pub address_space: u64,
    pub tgid: u32,
    pub tid: u32,
    pub comm: Comm,
    /// 0, or the negative errno of the walk.
    pub kernel_error: i32,
    /// 0, or the negative errno of the walk.
    pub user_error: i32,
    kernel: &'a [u8],
    user: &'a [u8],
}

impl<'a> Sample<'a> {
    /// # Errors
    /// The record is shorter than its header says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        const NAME: &str = "cpu_profile_sample";
        let size = layout::CPU_PROFILE__SAMPLE__SIZE;
        let fields = Fields::new(NAME, bytes, size)?;
        let length = |offset| {
            let found = fields.u32(offset) as usize;
            if found > MAX_FRAMES * 8 || !found.is_multiple_of(8) {
                Err(BadRecord::Stack { name: NAME, found })
            } else {
                Ok(found)
            }
        };
        let kernel = length(layout::CPU_PROFILE__SAMPLE__KERNEL_BYTES)?;
        let user = length(layout::CPU_PROFILE__SAMPLE__USER_BYTES)?;
        let stacks = &bytes[size..];
        // The ring hands out whole multiples of 8 bytes, so there may be more, never less.
        if stacks.len() < kernel + user {
            return Err(BadRecord::Short { name: NAME, found: bytes.len(), wanted: size + kernel + user });
        }
        Ok(Self {
            time: fields.u64(layout::CPU_PROFILE__SAMPLE__TIME),
            slots: fields.u64(layout::CPU_PROFILE__SAMPLE__SLOTS),
            address_space: fields.u64(layout::CPU_PROFILE__SAMPLE__ADDRESS_SPACE),
            tgid: fields.u32(layout::CPU_PROFILE__SAMPLE__TGID),
            tid: fields.u32(layout::CPU_PROFILE__SAMPLE__TID),
            comm: fields.comm(layout::CPU_PROFILE__SAMPLE__COMM),
            kernel_error: fields.i32(layout::CPU_PROFILE__SAMPLE__KERNEL_ERROR),
            user_error: fields.i32(layout::CPU_PROFILE__SAMPLE__USER_ERROR),
            kernel: &stacks[..kernel],
            user: &stacks[kernel..kernel + user],
        })
    }

    /// Addresses of the kernel's side, the innermost first.
    pub fn kernel(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        frames(self.kernel)
    }

    /// Addresses of the program's side, the innermost first.
    pub fn user(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        frames(self.user)
    }
}

fn frames(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + use<'_> {
    bytes.as_chunks::<8>().0.iter().map(|frame| u64::from_ne_bytes(*frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kernel: u32, user: u32, frames: usize) -> Vec<u8> {
        let mut bytes = vec![0; layout::CPU_PROFILE__SAMPLE__SIZE];
        let at = layout::CPU_PROFILE__SAMPLE__KERNEL_BYTES;
        bytes[at..at + 4].copy_from_slice(&kernel.to_ne_bytes());
        let at = layout::CPU_PROFILE__SAMPLE__USER_BYTES;
        bytes[at..at + 4].copy_from_slice(&user.to_ne_bytes());
        let at = layout::CPU_PROFILE__SAMPLE__COMM;
        bytes[at..at + 4].copy_from_slice(b"spin");
        for frame in 0..frames as u64 {
            bytes.extend(frame.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn stacks_of_both_sides_are_told_apart() {
        let bytes = record(16, 8, 3);
        let sample = Sample::parse(&bytes).unwrap();
        assert_eq!(sample.kernel().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(sample.user().collect::<Vec<_>>(), [2]);
        assert_eq!(sample.comm.text(), "spin");
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused() {
        let bytes = record(16, 8, 3);
        for length in 0..bytes.len() {
            assert!(Sample::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_stack_that_cannot_be_is_refused() {
        for (kernel, user) in [(4096, 0), (0, u32::MAX), (7, 0)] {
            let bytes = record(kernel, user, 600);
            assert!(matches!(Sample::parse(&bytes), Err(BadRecord::Stack { .. })), "{kernel} {user}");
        }
    }
}
