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
/// Cgroups looked at on the way from a task's own to the root.
pub const MAX_DEPTH: usize = layout::CPU_PROFILE_MAX_DEPTH;
/// Hierarchies that a task has a cgroup in.
pub const HIERARCHIES: usize = layout::CPU_PROFILE_HIERARCHIES;

/// What the linker put into a file to tell it from all others; filled up with zeros.
pub type BuildId = [u8; layout::CPU_PROFILE_BUILD_ID];

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

impl Hierarchy {
    pub const ALL: [Self; HIERARCHIES] = [Self::Unified, Self::Cpu, Self::Cpuacct];
}

#[must_use]
pub fn target_key(cgroup: u64, hierarchy: Hierarchy) -> TargetKey {
    let mut key = TargetKey::default();
    key[layout::CPU_PROFILE__TARGET__CGROUP / 8] = cgroup;
    key[layout::CPU_PROFILE__TARGET__HIERARCHY / 8] = hierarchy as u64;
    key
}

/// `host_slots`: bits of the slots that want every task.
#[must_use]
pub fn control(series: u64, host_slots: u64) -> Control {
    let mut control = Control::default();
    control[layout::CPU_PROFILE__CONTROL__SERIES / 8] = series;
    control[layout::CPU_PROFILE__CONTROL__HOST_SLOTS / 8] = host_slots;
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
    /// Ids of the task's own cgroups, in the order of [`Hierarchy::ALL`]; 0 where there is none of its own.
    pub cgroups: [u64; HIERARCHIES],
    pub tgid: u32,
    pub tid: u32,
    pub comm: Comm,
    /// 0, or the negative errno of the walk.
    pub kernel_error: i32,
    /// 0, or the negative errno of the walk.
    pub user_error: i32,
    kernel: &'a [u8],
    user: &'a [u8],
    runs: &'a [u8],
    bytes: usize,
}

/// Where the program's side of a stack was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserFrame {
    InFile {
        build_id: BuildId,
        /// From the begin of the file.
        offset: u64,
    },
    /// In memory without a file, in a file without a build id, or where the kernel could not look.
    Address(u64),
}

impl<'a> Sample<'a> {
    /// # Errors
    /// The record is shorter than its header says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        const NAME: &str = "cpu_profile_sample";
        let size = layout::CPU_PROFILE__SAMPLE__SIZE;
        let fields = Fields::new(NAME, bytes, size)?;
        let length = |offset, unit| {
            let found = fields.u32(offset) as usize;
            if found > MAX_FRAMES * unit || !found.is_multiple_of(unit) {
                Err(BadRecord::Stack { name: NAME, found })
            } else {
                Ok(found)
            }
        };
        let kernel = length(layout::CPU_PROFILE__SAMPLE__KERNEL_BYTES, 8)?;
        let user = length(layout::CPU_PROFILE__SAMPLE__USER_BYTES, 8)?;
        let runs = length(layout::CPU_PROFILE__SAMPLE__RUN_BYTES, layout::CPU_PROFILE__RUN__SIZE)?;
        let stacks = &bytes[size..];
        let wanted = kernel + user + runs;
        // The ring hands out whole multiples of 8 bytes, so there may be more, never less.
        if stacks.len() < wanted {
            return Err(BadRecord::Short { name: NAME, found: bytes.len(), wanted: size + wanted });
        }
        let cgroup = |hierarchy: usize| fields.u64(layout::CPU_PROFILE__SAMPLE__CGROUPS + hierarchy * 8);
        Ok(Self {
            time: fields.u64(layout::CPU_PROFILE__SAMPLE__TIME),
            slots: fields.u64(layout::CPU_PROFILE__SAMPLE__SLOTS),
            address_space: fields.u64(layout::CPU_PROFILE__SAMPLE__ADDRESS_SPACE),
            cgroups: std::array::from_fn(cgroup),
            tgid: fields.u32(layout::CPU_PROFILE__SAMPLE__TGID),
            tid: fields.u32(layout::CPU_PROFILE__SAMPLE__TID),
            comm: fields.comm(layout::CPU_PROFILE__SAMPLE__COMM),
            kernel_error: fields.i32(layout::CPU_PROFILE__SAMPLE__KERNEL_ERROR),
            user_error: fields.i32(layout::CPU_PROFILE__SAMPLE__USER_ERROR),
            kernel: &stacks[..kernel],
            user: &stacks[kernel..kernel + user],
            runs: &stacks[kernel + user..wanted],
            bytes: size + wanted,
        })
    }

    /// Length of the record, which may be shorter than what it was read from.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Addresses of the kernel's side, the innermost first.
    pub fn kernel(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        words(self.kernel)
    }

    /// The program's side, the innermost first. What no run speaks of is an address.
    pub fn user(&self) -> impl ExactSizeIterator<Item = UserFrame> + use<'a> {
        let mut runs = self.runs.chunks_exact(layout::CPU_PROFILE__RUN__SIZE).map(run);
        let mut current = (BuildId::default(), 0);
        words(self.user).map(move |word| {
            while current.1 == 0
                && let Some(next) = runs.next()
            {
                current = next;
            }
            current.1 = current.1.saturating_sub(1);
            match current.0 {
                id if id == BuildId::default() => UserFrame::Address(word),
                build_id => UserFrame::InFile { build_id, offset: word },
            }
        })
    }
}

fn run(bytes: &[u8]) -> (BuildId, u32) {
    let mut build_id = BuildId::default();
    let (at, end) = (layout::CPU_PROFILE__RUN__BUILD_ID, layout::CPU_PROFILE__RUN__BUILD_ID + build_id.len());
    build_id.copy_from_slice(&bytes[at..end]);
    let mut frames = [0; 4];
    frames.copy_from_slice(&bytes[layout::CPU_PROFILE__RUN__FRAMES..][..4]);
    (build_id, u32::from_ne_bytes(frames))
}

fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + use<'_> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `runs`: the byte that the build id is made of, and how many frames.
    fn record(kernel: u32, user: u32, runs: &[(u8, u32)], frames: usize) -> Vec<u8> {
        let mut bytes = vec![0; layout::CPU_PROFILE__SAMPLE__SIZE];
        let mut set = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        set(layout::CPU_PROFILE__SAMPLE__KERNEL_BYTES, kernel);
        set(layout::CPU_PROFILE__SAMPLE__USER_BYTES, user);
        set(
            layout::CPU_PROFILE__SAMPLE__RUN_BYTES,
            u32::try_from(runs.len() * layout::CPU_PROFILE__RUN__SIZE).unwrap(),
        );
        let at = layout::CPU_PROFILE__SAMPLE__COMM;
        bytes[at..at + 4].copy_from_slice(b"spin");
        for frame in 0..frames as u64 {
            bytes.extend(frame.to_ne_bytes());
        }
        for (id, frames) in runs {
            bytes.extend([*id; 20]);
            bytes.extend(frames.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn stacks_of_both_sides_are_told_apart() {
        let bytes = record(16, 32, &[(7, 2), (0, 1)], 6);
        let sample = Sample::parse(&bytes).unwrap();
        assert_eq!(sample.kernel().collect::<Vec<_>>(), [0, 1]);
        let in_file = |offset| UserFrame::InFile { build_id: [7; 20], offset };
        let user = [in_file(2), in_file(3), UserFrame::Address(4), UserFrame::Address(5)];
        assert_eq!(sample.user().collect::<Vec<_>>(), user);
        assert_eq!((sample.comm.text().as_ref(), sample.bytes()), ("spin", bytes.len()));
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused() {
        let bytes = record(16, 8, &[(1, 1)], 3);
        for length in 0..bytes.len() {
            assert!(Sample::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_stack_that_cannot_be_is_refused() {
        for (kernel, user) in [(4096, 0), (0, u32::MAX), (7, 0)] {
            let bytes = record(kernel, user, &[], 600);
            assert!(matches!(Sample::parse(&bytes), Err(BadRecord::Stack { .. })), "{kernel} {user}");
        }
    }
}
