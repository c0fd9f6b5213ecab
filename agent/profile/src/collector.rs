//! The samples of one capture, put together as they arrive: equal stacks of one thread name are one entry.
//!
//! Bounded by the number of frames it holds; a new stack beyond that is dropped and counted, a known one still counts.

use std::collections::HashMap;

use galen_bpf::{Comm, cpu_profile::Sample};

use crate::{processes::Place, profile::Busy};

/// Frames of all different stacks together; 4 bytes each.
const MAX_FRAMES: usize = 2_000_000;
/// Different places; some 64 bytes each.
const MAX_PLACES: usize = 100_000;
/// Processes that are told apart; the samples of more are in the stacks only.
const MAX_PROCESSES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stack {
    pub(crate) tgid: u32,
    pub(crate) comm: Comm,
    /// Numbers of places, the innermost first.
    pub(crate) frames: Box<[u32]>,
    /// How many of them, from the first, are of the kernel.
    pub(crate) kernel: u32,
    pub(crate) user: UserSide,
}

/// What the program's side of a stack is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum UserSide {
    Walked,
    /// The walk left the code of the program: what followed was nonsense and is left out.
    Cut,
    /// The process was gone before its mappings could be read, and nobody else had its file.
    Gone,
    /// The stack could not be read.
    Unreadable,
    /// A kernel thread.
    None,
}

#[derive(Debug, Default)]
pub(crate) struct Collector {
    places: HashMap<Place, u32>,
    stacks: HashMap<Stack, u64>,
    processes: HashMap<u32, Busy>,
    frames: usize,
    /// Samples that came.
    pub(crate) samples: u64,
    /// Of these, dropped since the tables were full.
    pub(crate) table_full: u64,
    /// Records that were not understood, of any capture of the time.
    pub(crate) bad_records: u64,
    /// Samples whose kernel side could not be read.
    pub(crate) kernel_unreadable: u64,
}

/// What a capture has at its end.
pub(crate) struct Collected {
    pub(crate) places: Vec<Place>,
    pub(crate) stacks: Vec<(Stack, u64)>,
    pub(crate) processes: Vec<Busy>,
}

impl Collector {
    /// `places` are those of the sample's frames: `kernel` of the kernel, then the program's.
    pub(crate) fn add(&mut self, sample: &Sample<'_>, kernel: usize, places: &[Place]) {
        self.samples += 1;
        self.kernel_unreadable += u64::from(sample.kernel_error != 0);
        self.count(sample, kernel > 0);
        let (kernel_places, user_places) = places.split_at(kernel.min(places.len()));
        let (user, kept) = judge(sample, user_places);
        let wanted = kernel_places.len() + kept;
        if self.frames + wanted > MAX_FRAMES || self.places.len() + wanted > MAX_PLACES {
            self.table_full += 1;
            return;
        }
        let mut frames = Vec::with_capacity(wanted);
        for place in kernel_places.iter().chain(&user_places[..kept]) {
            frames.push(self.number(place));
        }
        let stack = Stack {
            tgid: sample.tgid,
            comm: sample.comm,
            frames: frames.into_boxed_slice(),
            kernel: u32::try_from(kernel_places.len()).unwrap_or(u32::MAX),
            user,
        };
        let count = self.stacks.entry(stack).or_insert_with(|| {
            self.frames += wanted;
            0
        });
        *count += 1;
    }

    fn count(&mut self, sample: &Sample<'_>, in_kernel: bool) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&sample.tgid) {
            return;
        }
        let busy = self.processes.entry(sample.tgid).or_insert_with(|| Busy {
            pid: sample.tgid,
            comm: sample.comm.text().into_owned(),
            cgroups: sample.cgroups,
            samples: 0,
            kernel_samples: 0,
        });
        busy.samples += 1;
        busy.kernel_samples += u64::from(in_kernel);
    }

    pub(crate) fn finish(self) -> Collected {
        let mut places: Vec<_> = self.places.into_iter().collect();
        places.sort_unstable_by_key(|(_, number)| *number);
        Collected {
            places: places.into_iter().map(|(place, _)| place).collect(),
            stacks: self.stacks.into_iter().collect(),
            processes: self.processes.into_values().collect(),
        }
    }

    fn number(&mut self, place: &Place) -> u32 {
        if let Some(number) = self.places.get(place) {
            return *number;
        }
        let number = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.insert(place.clone(), number);
        number
    }
}

/// What the program's side is worth, and how many of its frames to keep.
fn judge(sample: &Sample<'_>, user: &[Place]) -> (UserSide, usize) {
    match user.first() {
        None if sample.address_space == 0 => (UserSide::None, 0),
        None => (UserSide::Unreadable, 0),
        // One frame says it: the addresses of each such process differ, their stacks are one.
        Some(Place::Gone) => (UserSide::Gone, 1),
        // Its stack is kept: whoever has the file can name it by build id and offset.
        Some(Place::File { file, .. }) if file.is_unseen() => (UserSide::Gone, user.len()),
        Some(_) => match user.iter().skip(1).position(|place| matches!(place, Place::Unknown | Place::Gone)) {
            Some(position) => (UserSide::Cut, position + 1),
            None => (UserSide::Walked, user.len()),
        },
    }
}
