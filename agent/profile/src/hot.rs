//! The hottest stacks and functions of a profile.

use std::collections::{HashMap, HashSet};

use galen_bpf::Comm;

use crate::{collector::Stack, symbols::Symbols};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotStack {
    /// Name of the threads.
    pub comm: String,
    /// Functions, the innermost first.
    pub frames: Vec<String>,
    pub samples: u64,
}

impl HotStack {
    pub const LISTED: usize = 5;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotFunction {
    pub name: String,
    /// Samples in the function itself.
    pub own: u64,
    /// Samples in it or in what it called.
    pub total: u64,
}

impl HotFunction {
    pub const LISTED: usize = 10;
}

pub(crate) fn stacks(stacks: &[(Stack, u64)], symbols: &Symbols) -> Vec<HotStack> {
    let mut merged: HashMap<(Comm, Vec<u32>), u64> = HashMap::new();
    for (stack, samples) in stacks {
        let functions = stack.frames.iter().map(|place| symbols.function_of(*place)).collect();
        *merged.entry((stack.comm, functions)).or_default() += samples;
    }
    let mut merged: Vec<_> = merged.into_iter().collect();
    merged.sort_unstable_by(|(a, a_samples), (b, b_samples)| b_samples.cmp(a_samples).then_with(|| a.cmp(b)));
    merged.truncate(HotStack::LISTED);
    merged
        .into_iter()
        .map(|((comm, functions), samples)| HotStack {
            comm: comm.text().into_owned(),
            frames: functions.into_iter().map(|function| symbols.name(function).to_owned()).collect(),
            samples,
        })
        .collect()
}

pub(crate) fn functions(stacks: &[(Stack, u64)], symbols: &Symbols) -> Vec<HotFunction> {
    let mut counted: HashMap<u32, (u64, u64)> = HashMap::new();
    let mut seen = HashSet::new();
    for (stack, samples) in stacks {
        seen.clear();
        for (depth, place) in stack.frames.iter().enumerate() {
            let function = symbols.function_of(*place);
            let (own, total) = counted.entry(function).or_default();
            if depth == 0 {
                *own += samples;
            }
            // A function that calls itself counts once.
            if seen.insert(function) {
                *total += samples;
            }
        }
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_unstable_by_key(|(function, (own, total))| (std::cmp::Reverse((*own, *total)), *function));
    counted.truncate(HotFunction::LISTED);
    counted
        .into_iter()
        .map(|(function, (own, total))| HotFunction { name: symbols.name(function).to_owned(), own, total })
        .collect()
}
