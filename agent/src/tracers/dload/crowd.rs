//! The tasks that one look found in uninterruptible sleep, with their stacks, each stack once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    load::{Count, HOST},
    owners::Owner,
};

/// Tasks that are kept of one look. Those beyond count for the host only.
const LIMIT: usize = 16_384;

/// A kernel stack, the innermost frame first; empty if it could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stack {
    Addresses(Vec<u64>),
    Names(Vec<String>),
}

/// A task in uninterruptible sleep.
#[derive(Debug, Clone)]
pub(super) struct Blocked {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    pub owner: Owner,
    /// Since it last ran; at least, where that had to be found out by looking.
    pub waiting: Option<Duration>,
    pub iowait: bool,
    /// Index of [`Crowd::stacks`].
    pub stack: usize,
}

#[derive(Debug, Default)]
pub(super) struct Crowd {
    pub tasks: Vec<Blocked>,
    pub stacks: Vec<Arc<Stack>>,
    /// Tasks beyond the limit.
    pub more: u32,
    numbers: HashMap<Arc<Stack>, usize>,
}

impl Crowd {
    /// Whether there is room for another; if not, it is counted.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.tasks.len() < LIMIT;
        self.more += u32::from(!room);
        room
    }

    pub(super) fn stack(&mut self, stack: Stack) -> usize {
        if let Some(number) = self.numbers.get(&stack) {
            return *number;
        }
        let stack = Arc::new(stack);
        self.numbers.insert(Arc::clone(&stack), self.stacks.len());
        self.stacks.push(stack);
        self.stacks.len() - 1
    }

    /// How many tasks each entity has.
    pub(super) fn counts(&self) -> HashMap<Arc<str>, Count> {
        let mut counts: HashMap<Arc<str>, Count> = HashMap::new();
        let host = Count { blocked: self.more, iowait: 0 };
        counts.insert(HOST.into(), host);
        for task in &self.tasks {
            for entity in task.owner.entities.iter() {
                let count = counts.entry(Arc::clone(entity)).or_default();
                count.blocked += 1;
                count.iowait += u32::from(task.iowait);
            }
        }
        counts
    }
}
